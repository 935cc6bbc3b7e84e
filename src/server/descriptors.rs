//! Whether the process may open as many files as its connections need.
//!
//! Running out of descriptors fails anything at any time: a log, the store, the connection that would have freed one.
//! So the limit is looked at once, when starting, and the connection cap is what gives way.

/// Besides connections: listeners, logs, the store, idle upstream connections, DNS, timers.
const RESERVE: u64 = 512;
/// Fewer connections than this serve nobody.
const LEAST: u64 = 16;

/// Raises the soft descriptor limit to the hard one and returns how many of `wanted` connections fit, each with one to
/// an upstream. Fewer than asked for is said in the log.
///
/// # Errors
/// When the limit cannot be read, or leaves no room to serve at all.
pub(super) fn fitting(wanted: usize) -> Result<usize, String> {
    let nofile = rlimit::Resource::NOFILE;
    let (soft, hard) = nofile.get().map_err(|error| format!("cannot read the limit of open files: {error}"))?;
    let limit = match nofile.set(hard, hard) {
        Ok(()) => hard,
        Err(error) => {
            log::warn!("cannot raise the limit of open files from {soft} to {hard}: {error}");
            soft
        }
    };
    let fits = within(limit, wanted)?;
    if fits < wanted {
        log::warn!(
            "server.limits.connections is {wanted}, but at most {limit} files may be open: {fits} connections will be \
             taken. Raise the hard limit (ulimit -Hn, LimitNOFILE=) to {} or lower the setting",
            needed(wanted)
        );
    }
    Ok(fits)
}

fn needed(connections: usize) -> u64 {
    u64::try_from(connections).unwrap_or(u64::MAX).saturating_mul(2).saturating_add(RESERVE)
}

fn within(limit: u64, wanted: usize) -> Result<usize, String> {
    if needed(wanted) <= limit {
        return Ok(wanted);
    }
    let fits = limit.saturating_sub(RESERVE.min(limit / 2)) / 2;
    if fits < LEAST {
        return Err(format!(
            "at most {limit} files may be open, too few to serve: raise the hard limit (ulimit -Hn, LimitNOFILE=) to {}",
            needed(wanted)
        ));
    }
    Ok(usize::try_from(fits).unwrap_or(usize::MAX).min(wanted))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_give_way_to_the_limit() {
        assert_eq!(within(1_048_576, 20_000), Ok(20_000));
        assert_eq!(within(40_512, 20_000), Ok(20_000));
        assert_eq!(within(40_511, 20_000), Ok(19_999));
        assert_eq!(within(1024, 20_000), Ok(256));
        assert_eq!(within(256, 20_000), Ok(64));
        assert!(within(40, 20_000).unwrap_err().contains("LimitNOFILE"));
    }
}
