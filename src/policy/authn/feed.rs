//! From the log of revocations to the memory that every token is held against, and back.
//!
//! A revocation made here is in force here at once. Others' are told by a push, which may be lost, and found by looking,
//! which may not: often enough that two looks and a slow answer fit into the second after which money is withheld.
//!
//! A server that is cut off answers as well, and knows nothing of what is revoked on the other side. So each look asks for
//! a proof first, and only with one does it count as an agreement. What is found without is put in force all the same.

use std::sync::Arc;
use std::time::Duration;

use super::revocations::Revocations;
use crate::clock::Clock;
use crate::metrics::{Metrics, RevocationKind};
use crate::model::{Revocation, Revoked};
use crate::store::revocations::RevocationLog;
use crate::store::{StoreError, told_or_after};

/// How often the log is looked at when nobody tells anything.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// Keeps [`Revocations`] in step with the log.
#[derive(Debug)]
pub struct RevocationFeed {
    log: RevocationLog,
    revocations: Arc<Revocations>,
    /// Up to where the log has been applied; `None` before the first look. Held while looking, so that two looks happen one
    /// after the other.
    known: tokio::sync::Mutex<Option<u64>>,
    clock: Clock,
    metrics: Arc<Metrics>,
}

impl RevocationFeed {
    /// A feed that has not looked yet: [`RevocationFeed::look`] loads everything the first time, and before that
    /// `revocations` are not current.
    pub fn new(
        log: RevocationLog,
        revocations: Arc<Revocations>,
        clock: Clock,
        metrics: Arc<Metrics>,
    ) -> RevocationFeed {
        revocations.expect();
        RevocationFeed { log, revocations, known: tokio::sync::Mutex::new(None), clock, metrics }
    }

    /// Revokes: durably, here at once and everywhere within a second.
    ///
    /// # Errors
    /// When the store fails; nothing has been promised then, and it does no harm to revoke again.
    pub async fn revoke(&self, what: Revoked) -> Result<Revocation, StoreError> {
        // What was called off here alone has a number too, which a switch has to be later than.
        let known = self.revocations.known().max(self.revocations.payments_switched());
        let revocation = match self.log.append_after(known, what).await {
            Ok(revocation) => revocation,
            Err(error) => {
                // It may have broken off after it was written down.
                let _ = self.look().await;
                return Err(error);
            }
        };
        self.revocations.apply(&revocation);
        // Tokens issued from now on have to say that they know of it.
        if let Err(error) = self.look().await {
            log::warn!("a revocation is made, but the log cannot be read: {error}");
        }
        Ok(revocation)
    }

    /// Calls payments off at this edge alone, at once: the store, which tells the others, may take its time or fail. The next
    /// switch that the store takes counts again.
    pub fn call_payments_off_here(&self) {
        let now = u64::try_from(self.clock.unix().as_millis()).unwrap_or(u64::MAX);
        let number = now.max(self.revocations.payments_switched() + 1);
        self.revocations.apply(&Revocation { number, at: now / 1000, what: Revoked::Payments { off: true } });
    }

    /// The log that it follows.
    pub fn log(&self) -> &RevocationLog {
        &self.log
    }

    /// What has been revoked, in memory.
    pub fn revocations(&self) -> &Arc<Revocations> {
        &self.revocations
    }

    /// Reads what is new in the log and puts it in force.
    ///
    /// # Errors
    /// When the store fails. When it only cannot prove that it has everything ([`StoreError::NotDurable`] and
    /// [`StoreError::Full`]), what it has is in force.
    pub async fn look(&self) -> Result<(), StoreError> {
        let mut known = self.known.lock().await;
        // Before asking: what is revoked while the answer is on its way is not in it.
        let asked = self.clock.tick();
        let proof = match self.log.confirm().await {
            short @ Err(StoreError::NotDurable(_) | StoreError::Full(_)) => short,
            answered => Ok(answered?),
        };
        let before = known.unwrap_or_default();
        let (number, new) = match self.log.since(before).await? {
            Some(new) => (new.last().map_or(before, |last| last.number), new),
            None => self.log.all().await?,
        };
        let now = self.clock.unix();
        for revocation in &new {
            self.revocations.apply(revocation);
            let kind = RevocationKind::of(&revocation.what);
            self.metrics.revocations.inc(kind);
            // Numbers are times. What is found at the start is as old as it is.
            if known.is_some() {
                self.metrics.revocation_lag.observe(kind, now.saturating_sub(Duration::from_millis(revocation.number)));
            }
        }
        *known = Some(number);
        if proof? > number {
            return Err(StoreError::Unavailable("two servers answer, and one lags behind the other".to_owned()));
        }
        self.revocations.agree(number, asked);
        Ok(())
    }

    /// Follows the log; ends only by being dropped.
    pub async fn follow(&self) {
        self.follow_resting(LOOK_EVERY).await;
    }

    async fn follow_resting(&self, rest: Duration) {
        let mut told = self.log.subscribe();
        let mut failing = false;
        loop {
            let looked = self.look().await;
            let current = self.revocations.is_current(self.clock.tick());
            self.metrics.revocations_current.set(i64::from(current));
            match &looked {
                Err(error) if !failing => {
                    log::error!("the log of revocations cannot be read; wallet and payment calls are refused: {error}");
                }
                Ok(()) if failing => log::info!("the log of revocations is read again"),
                _ => {}
            }
            failing = looked.is_err();
            told_or_after(&mut told, rest).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::generation::Generation;
    use super::super::testing::tep_claims;
    use super::*;
    use crate::clock::ManualClock;
    use crate::model::UserId;
    use crate::model::token::TepClaims;
    use crate::store::Backend;
    use crate::store::embedded::Embedded;
    use crate::store::failing::Failing;

    use crate::config::{RedisMode, RedisNode, RedisStore, RedisTimeouts};
    use crate::store::redis::Redis;
    use crate::store::redis::testing::Server;

    const START: u64 = 1_800_000_000;

    /// A store, a log that somebody else writes to, and a feed that follows it.
    struct House {
        store: Arc<Failing>,
        other: RevocationLog,
        clock: Clock,
        time: ManualClock,
        generation: Generation,
        feed: RevocationFeed,
        _folder: tempfile::TempDir,
    }

    impl House {
        fn new() -> House {
            let (clock, time) = Clock::manual(START);
            let (folder, metrics) = (tempfile::tempdir().unwrap(), Arc::new(Metrics::new(&[]).unwrap()));
            let inner = Arc::new(Embedded::open(folder.path(), clock.clone(), metrics.clone()).unwrap());
            let store = Arc::new(Failing::new(inner));
            let log = || RevocationLog::new(store.clone() as Arc<dyn Backend>, clock.clone());
            let generation = Generation::default();
            let revocations = Arc::new(Revocations::new(generation.clone()));
            let feed = RevocationFeed::new(log(), revocations, clock.clone(), metrics);
            House { other: log(), store, clock, time, generation, feed, _folder: folder }
        }

        fn is_current(&self) -> bool {
            self.feed.revocations().is_current(self.clock.tick())
        }

        fn voids(&self, user: &str) -> bool {
            self.feed.revocations().voids(&token(user))
        }
    }

    fn user(name: &str) -> Revoked {
        Revoked::User(UserId::parse(name).unwrap())
    }

    /// A token from before anything was revoked.
    fn token(user: &str) -> TepClaims {
        TepClaims { user: UserId::parse(user).unwrap(), revocation: Some(0), ..tep_claims() }
    }

    #[tokio::test]
    async fn the_first_look_loads_everything_and_later_ones_what_is_new() {
        let house = House::new();
        house.other.append(user("@a:x")).await.unwrap();
        assert!(!house.voids("@a:x"));
        house.feed.look().await.unwrap();
        assert!(house.voids("@a:x") && !house.voids("@b:x"));
        let second = house.other.append(user("@b:x")).await.unwrap();
        house.feed.look().await.unwrap();
        assert!(house.voids("@b:x"));
        assert_eq!(house.generation.revocation(), second.number, "tokens issued now say that they know of it");
        // Away for so long that the entries in between have left the log.
        house.other.append(user("@c:x")).await.unwrap();
        house.time.advance(Duration::from_secs(2 * 3600));
        house.other.append(user("@d:x")).await.unwrap();
        house.feed.look().await.unwrap();
        assert!(house.voids("@c:x") && house.voids("@d:x"));
    }

    #[tokio::test]
    async fn what_is_revoked_here_is_in_force_here_even_when_the_log_is_lost_right_after() {
        let house = House::new();
        house.feed.look().await.unwrap();
        house.store.lose_after_next();
        house.feed.revoke(user("@a:x")).await.unwrap();
        assert!(house.feed.look().await.is_err() && house.voids("@a:x"));
        house.store.lose(false);
        house.store.fail(&["revocations"]);
        assert!(house.feed.revoke(user("@b:x")).await.is_err());
        assert!(!house.voids("@b:x"), "nothing was promised");
    }

    #[tokio::test]
    async fn cut_off_it_is_current_for_a_second_and_then_says_that_it_is_not() {
        let house = House::new();
        house.feed.look().await.unwrap();
        house.store.lose(true);
        house.other.append(user("@a:x")).await.unwrap_err();
        house.time.advance(Duration::from_millis(900));
        assert!(house.feed.look().await.is_err() && house.is_current());
        house.time.advance(Duration::from_millis(101));
        assert!(house.feed.look().await.is_err() && !house.is_current());
        house.store.lose(false);
        house.other.append(user("@a:x")).await.unwrap();
        house.feed.look().await.unwrap();
        assert!(house.is_current() && house.voids("@a:x"), "it has caught up");
    }

    /// Follows, resting so long between two looks, until what somebody else revokes is in force.
    async fn follows(house: &House, rest: Duration) {
        let revoked = async {
            // The first look finds everything.
            while !house.is_current() {
                tokio::task::yield_now().await;
            }
            house.other.append(user("@a:x")).await.unwrap();
            while !house.voids("@a:x") {
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            biased;
            () = house.feed.follow_resting(rest) => unreachable!("it never ends"),
            () = revoked => {}
        }
    }

    #[tokio::test]
    async fn following_is_told_of_what_others_revoke() {
        follows(&House::new(), Duration::MAX).await;
    }

    #[tokio::test]
    async fn following_finds_what_nobody_tells() {
        let house = House::new();
        house.store.silence();
        follows(&house, Duration::from_millis(1)).await;
    }

    /// The log on a server, for an instance that waits for so many replicas.
    fn log_on(server: &Server, replicas: u32) -> RevocationLog {
        let second = Duration::from_secs(1);
        let store = RedisStore {
            path: "unused".into(),
            nodes: vec![RedisNode { host: "127.0.0.1".to_owned(), port: server.port }],
            mode: RedisMode::Single,
            username: None,
            password: None,
            sentinel_username: None,
            sentinel_password: None,
            tls: None,
            replica_reads: false,
            timeouts: RedisTimeouts { connect: second, command: second, total: 30 * second, limits: second },
            wait_replicas: Some(replicas),
            require_durability: true,
        };
        let (clock, metrics) = (Clock::system(), Arc::new(Metrics::new(&[]).unwrap()));
        RevocationLog::new(Arc::new(Redis::new(&store, clock.clone(), metrics)), clock)
    }

    /// What a primary without replicas tells is put in force, and is not taken for all that there is.
    #[tokio::test]
    async fn a_log_without_a_proof_is_not_current() {
        let server = Server::start(&[]);
        let alice = UserId::parse("@alice:tween.example").unwrap();
        log_on(&server, 0).append(Revoked::User(alice.clone())).await.unwrap();
        let (clock, revocations) = (Clock::system(), Arc::new(Revocations::new(Generation::default())));
        let metrics = Arc::new(Metrics::new(&[]).unwrap());
        let feed = RevocationFeed::new(log_on(&server, 1), revocations.clone(), clock.clone(), metrics);
        assert!(matches!(feed.look().await, Err(StoreError::NotDurable(_))));
        let app = crate::model::MiniAppId::parse("ma_shop_001").unwrap();
        assert_eq!(revocations.taken_back(&alice, &app, 0), None, "it is in force");
        assert!(!revocations.is_current(clock.tick()));

        let _replica = Server::start(&[&format!("replicaof 127.0.0.1 {}", server.port)]);
        while feed.look().await.is_err() {}
        assert!(revocations.is_current(clock.tick()));
    }
}
