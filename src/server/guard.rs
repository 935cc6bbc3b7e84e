//! Who may be connected: a cap in all, a cap per address, and the list of open connections that draining works through.
//!
//! The total is checked the moment a connection is accepted, the address later: behind PROXY protocol it is known only
//! once the header was read. A [`Slot`] gives everything back when it is dropped, however its connection ends.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering};
use std::task::{Context, Poll};

use futures::task::AtomicWaker;
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::config::IpNet;

/// What shares one allowance: an IPv4 address, or an IPv6 /64, the smallest network a customer gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum IpKey {
    V4(u32),
    V6(u64),
}

impl IpKey {
    fn of(ip: IpAddr) -> Self {
        match ip.to_canonical() {
            IpAddr::V4(v4) => IpKey::V4(v4.to_bits()),
            IpAddr::V6(v6) => IpKey::V6(u64::try_from(v6.to_bits() >> 64).unwrap_or_default()),
        }
    }
}

/// Whether one of `nets` holds `ip`; IPv4-mapped addresses count as IPv4.
pub(super) fn covered(nets: &[IpNet], ip: IpAddr) -> bool {
    let ip = ip.to_canonical();
    nets.iter().any(|net| match (net.address.to_canonical(), ip) {
        (IpAddr::V4(net_ip), IpAddr::V4(ip)) => {
            let ignored = 32u32.saturating_sub(u32::from(net.prefix));
            (net_ip.to_bits() ^ ip.to_bits()).checked_shr(ignored).unwrap_or(0) == 0
        }
        (IpAddr::V6(net_ip), IpAddr::V6(ip)) => {
            let ignored = 128u32.saturating_sub(u32::from(net.prefix));
            (net_ip.to_bits() ^ ip.to_bits()).checked_shr(ignored).unwrap_or(0) == 0
        }
        _ => false,
    })
}

/// Where a connection stands between two requests. Written by its task, read by its byte meter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Stage {
    /// No byte of the next request has come.
    Idle = 0,
    /// Some of a request's header has come.
    Header = 1,
    /// The header is whole; body, answer or tunnel.
    Rest = 2,
}

/// An open connection, as others see it.
#[derive(Debug, Default)]
pub(super) struct Live {
    stage: AtomicU8,
    end_when_idle: AtomicBool,
    waker: AtomicWaker,
}

impl Live {
    pub(super) fn stage(&self) -> Stage {
        match self.stage.load(Ordering::Relaxed) {
            0 => Stage::Idle,
            1 => Stage::Header,
            _ => Stage::Rest,
        }
    }

    pub(super) fn enter(&self, stage: Stage) {
        self.stage.store(stage as u8, Ordering::Relaxed);
    }

    /// Ready once an idle connection is to end; the task is woken then.
    pub(super) fn poll_end(&self, cx: &Context<'_>) -> Poll<()> {
        self.waker.register(cx.waker());
        if self.end_when_idle.load(Ordering::Acquire) { Poll::Ready(()) } else { Poll::Pending }
    }

    fn end_when_idle(&self) {
        self.end_when_idle.store(true, Ordering::Release);
        self.waker.wake();
    }
}

/// The open connections and their caps.
#[derive(Debug)]
pub(super) struct Guard {
    /// Connections allowed in all, after the descriptor limit was looked at.
    max_total: AtomicUsize,
    max_per_ip: AtomicUsize,
    /// As many as `table.live`; apart from it, so that every request can look without the lock.
    open: AtomicUsize,
    table: Mutex<Table>,
    emptied: Notify,
}

#[derive(Debug, Default)]
struct Table {
    next: u64,
    live: HashMap<u64, Arc<Live>, foldhash::fast::RandomState>,
    per_ip: HashMap<IpKey, usize, foldhash::fast::RandomState>,
    ending: bool,
}

impl Guard {
    pub(super) fn new(max_total: usize, max_per_ip: usize) -> Arc<Self> {
        Arc::new(Guard {
            max_total: AtomicUsize::new(max_total),
            max_per_ip: AtomicUsize::new(max_per_ip),
            open: AtomicUsize::new(0),
            table: Mutex::default(),
            emptied: Notify::new(),
        })
    }

    pub(super) fn set_caps(&self, max_total: usize, max_per_ip: usize) {
        self.max_total.store(max_total, Ordering::Relaxed);
        self.max_per_ip.store(max_per_ip, Ordering::Relaxed);
    }

    /// Connections open now.
    pub(super) fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    /// Whether nine tenths of the cap are taken. Answers then end their connection, so that clients which only keep a
    /// connection warm make room before others have to be refused.
    pub(super) fn is_crowded(&self) -> bool {
        let max = self.max_total.load(Ordering::Relaxed);
        self.open() >= max.saturating_sub(max / 10)
    }

    /// Room for one more connection; `None` when the cap is reached.
    pub(super) fn enter(self: &Arc<Self>) -> Option<Slot> {
        let mut table = self.table.lock();
        if table.live.len() >= self.max_total.load(Ordering::Relaxed) {
            return None;
        }
        let id = table.next;
        table.next = id.wrapping_add(1);
        let live = Arc::new(Live::default());
        live.end_when_idle.store(table.ending, Ordering::Relaxed);
        table.live.insert(id, live.clone());
        self.open.store(table.live.len(), Ordering::Relaxed);
        drop(table);
        Some(Slot { guard: self.clone(), id, ip: None, live })
    }

    /// From now on connections end as soon as they wait for a request.
    pub(super) fn end_idle(&self) {
        let mut table = self.table.lock();
        table.ending = true;
        for live in table.live.values() {
            live.end_when_idle();
        }
    }

    /// Waits until no connection is open.
    pub(super) async fn emptied(&self) {
        loop {
            let notified = self.emptied.notified();
            if self.open() == 0 {
                return;
            }
            notified.await;
        }
    }
}

/// One connection's place.
#[derive(Debug)]
pub(super) struct Slot {
    guard: Arc<Guard>,
    /// Unique among the connections of this process.
    pub(super) id: u64,
    ip: Option<IpKey>,
    /// What the connection shares with the guard.
    pub(super) live: Arc<Live>,
}

impl Slot {
    /// Counts the connection for its client's address; false when that one has as many as it may.
    pub(super) fn claim(&mut self, ip: IpAddr) -> bool {
        let key = IpKey::of(ip);
        let mut table = self.guard.table.lock();
        let count = table.per_ip.entry(key).or_insert(0);
        if *count >= self.guard.max_per_ip.load(Ordering::Relaxed) {
            return false;
        }
        *count += 1;
        self.ip = Some(key);
        true
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut table = self.guard.table.lock();
        table.live.remove(&self.id);
        let open = table.live.len();
        self.guard.open.store(open, Ordering::Relaxed);
        if let Some(key) = self.ip {
            let left = table.per_ip.get_mut(&key).map(|count| {
                *count = count.saturating_sub(1);
                *count
            });
            if left == Some(0) {
                table.per_ip.remove(&key);
            }
        }
        drop(table);
        if open == 0 {
            self.guard.emptied.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn net(text: &str, prefix: u8) -> IpNet {
        IpNet { address: text.parse().unwrap(), prefix }
    }

    #[test]
    fn refuses_over_either_cap_and_gives_back() {
        let guard = Guard::new(3, 2);
        let ip: IpAddr = "192.0.2.1".parse().unwrap();
        let mut first = guard.enter().unwrap();
        let mut second = guard.enter().unwrap();
        let mut third = guard.enter().unwrap();
        assert!(guard.enter().is_none());
        assert!(first.claim(ip) && second.claim(ip));
        assert!(!third.claim(ip));
        assert!(third.claim("192.0.2.2".parse().unwrap()));
        drop(first);
        assert_eq!(guard.open(), 2);
        let mut fourth = guard.enter().unwrap();
        assert!(fourth.claim(ip));
        drop((second, third, fourth));
        assert_eq!(guard.open(), 0);
        assert!(guard.table.lock().per_ip.is_empty());
    }

    #[test]
    fn one_ipv6_network_shares_one_allowance() {
        let guard = Guard::new(10, 1);
        let mut first = guard.enter().unwrap();
        let mut second = guard.enter().unwrap();
        let mut third = guard.enter().unwrap();
        assert!(first.claim("2001:db8:0:1::1".parse().unwrap()));
        assert!(!second.claim("2001:db8:0:1:ffff::9".parse().unwrap()));
        assert!(second.claim("2001:db8:0:2::1".parse().unwrap()));
        assert!(third.claim("::ffff:192.0.2.7".parse().unwrap()));
    }

    #[tokio::test]
    async fn tells_when_the_last_one_left() {
        let guard = Guard::new(10, 10);
        let slot = guard.enter().unwrap();
        let waiting = tokio::spawn({
            let guard = guard.clone();
            async move { guard.emptied().await }
        });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        drop(slot);
        waiting.await.unwrap();
    }

    #[test]
    fn networks_cover_what_their_prefix_says() {
        let nets = [net("10.0.0.0", 8), net("2001:db8::", 32), net("203.0.113.7", 32)];
        for inside in ["10.255.0.1", "::ffff:10.1.2.3", "2001:db8:9::1", "203.0.113.7"] {
            assert!(covered(&nets, inside.parse().unwrap()), "{inside}");
        }
        for outside in ["11.0.0.1", "2001:db9::1", "203.0.113.8", "::a00:1"] {
            assert!(!covered(&nets, outside.parse().unwrap()), "{outside}");
        }
        assert!(covered(&[net("0.0.0.0", 0)], "8.8.8.8".parse().unwrap()));
        assert!(!covered(&[net("0.0.0.0", 0)], "::1".parse().unwrap()));
    }

    proptest! {
        #[test]
        fn a_network_covers_itself_and_never_panics(bits: u128, prefix: u8, other: u128) {
            let address = IpAddr::V6(bits.into());
            let nets = [IpNet { address, prefix }];
            prop_assert!(covered(&nets, address));
            covered(&nets, IpAddr::V6(other.into()));
            covered(&nets, IpAddr::V4((other as u32).into()));
        }
    }
}
