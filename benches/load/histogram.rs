//! Latencies in buckets that are at most 1/64 of their value wide.

const FINE: u32 = 6;

/// Counts of durations.
#[derive(Clone)]
pub struct Histogram {
    counts: Vec<u64>,
    total: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Histogram { counts: vec![0; (64 - FINE as usize + 1) << FINE], total: 0 }
    }
}

impl Histogram {
    /// Counts a duration of `nanos`.
    pub fn record(&mut self, nanos: u64) {
        if let Some(count) = self.counts.get_mut(bucket(nanos)) {
            *count += 1;
            self.total += 1;
        }
    }

    /// The duration that `share` of all (0 to 1) do not exceed, in microseconds.
    pub fn micros(&self, share: f64) -> f64 {
        let rank = ((self.total as f64 * share).ceil() as u64).max(1);
        let mut seen = 0;
        for (at, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= rank {
                return middle(at) / 1000.0;
            }
        }
        0.0
    }
}

fn bucket(nanos: u64) -> usize {
    let magnitude = (u64::BITS - (nanos >> FINE).leading_zeros()).saturating_sub(1);
    if nanos >> FINE == 0 {
        return nanos as usize;
    }
    (((magnitude as usize) + 1) << FINE) + ((nanos >> magnitude) as usize - (1 << FINE))
}

fn middle(bucket: usize) -> f64 {
    let magnitude = bucket >> FINE;
    if magnitude == 0 {
        return bucket as f64;
    }
    let fine = (bucket & ((1 << FINE) - 1)) + (1 << FINE);
    (fine as f64 + 0.5) * (1u64 << (magnitude - 1)) as f64
}
