//! Numbers that are unique, not secret: trace ids, span ids, request ids.
//!
//! xoshiro256++, a generator per thread: no lock, a few nanoseconds a number. Never for tokens, codes or nonces.

use std::cell::Cell;
use std::hash::{BuildHasher, RandomState};

thread_local! {
    static STATE: Cell<[u64; 4]> = Cell::new(seed());
}

/// 256 bits from the operating system's generator. The standard library keys its hashers from there and leaves no way
/// for that to fail quietly; hashing four numbers with such a key yields four words that nobody else has.
fn seed() -> [u64; 4] {
    let keyed = RandomState::new();
    // A state of nothing but zeros would stay there for ever.
    [keyed.hash_one(0), keyed.hash_one(1), keyed.hash_one(2), keyed.hash_one(3) | 1]
}

/// The next number of this thread's generator.
pub fn next() -> u64 {
    STATE.with(|state| {
        let [mut a, mut b, mut c, mut d] = state.get();
        let result = a.wrapping_add(d).rotate_left(23).wrapping_add(a);
        let shifted = b << 17;
        c ^= a;
        d ^= b;
        b ^= c;
        a ^= d;
        c ^= shifted;
        d = d.rotate_left(45);
        state.set([a, b, c, d]);
        result
    })
}

/// Writes `bytes` in lower-case hex over the beginning of `to`.
pub(super) fn write_hex(bytes: &[u8], to: &mut [u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for (pair, byte) in to.chunks_exact_mut(2).zip(bytes) {
        if let [high, low] = pair {
            *high = *DIGITS.get(usize::from(byte >> 4)).unwrap_or(&b'0');
            *low = *DIGITS.get(usize::from(byte & 15)).unwrap_or(&b'0');
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn threads_do_not_repeat_each_other() {
        let numbers = || (0..1000).map(|_| next()).collect::<Vec<_>>();
        let threads: Vec<_> = (0..4).map(|_| std::thread::spawn(numbers)).collect();
        let all: HashSet<u64> = threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect();
        assert_eq!(all.len(), 4000);
    }
}
