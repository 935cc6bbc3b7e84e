//! A wallet, a homeserver and a mini-app to develop against, in process.
//!
//! They answer with the protocol's own bodies from real state (money moves, rooms have members, signatures are
//! checked), so that what works here works for the same reasons elsewhere. Each can be started alone.
//!
//! | file | what it is |
//! |---|---|
//! | `wallet/` over `ledger/`, `money.rs` | the wallet service, protocol sections 4 and 5 |
//! | `homeserver/` | as much of a Matrix homeserver as the edge asks of one |
//! | `miniapp.rs`, `signature.rs` | a receiver of webhooks that checks their signatures |
//! | `serve.rs` | listening; each request is recorded, met by faults, answered |
//! | `recorder.rs`, `faults.rs` | `/_sandbox/requests` and `/_sandbox/faults`, at all three |
//! | `time.rs`, `random.rs` | what is not in their hands |
//!
//! Nothing here is secret: the demo users' password is [`DEMO_PASSWORD`], their PIN [`DEMO_PIN`].

pub mod faults;
pub mod homeserver;
pub mod ledger;
pub mod miniapp;
pub mod money;
pub mod random;
pub mod recorder;
pub mod serve;
pub mod signature;
pub mod time;
pub mod wallet;

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;

use crate::model::{MiniAppId, UserId};

pub use homeserver::DEMO_PASSWORD;
use homeserver::Homeserver;
pub use ledger::DEMO_PIN;
use ledger::{Ledger, Rules};
use recorder::Recorder;
use serve::{Desk, Server};
use time::Now;
use wallet::Wallet;

/// What the sandbox is started with.
pub struct SandboxConfig {
    /// Where the wallet listens; port 0 takes a free one; `None` starts none.
    pub wallet: Option<SocketAddr>,
    /// Where the homeserver listens, likewise.
    pub homeserver: Option<SocketAddr>,
    /// Where the mini-app listens, likewise.
    pub miniapp: Option<SocketAddr>,
    /// The homeserver's name.
    pub server_name: String,
    /// Demo users of the homeserver, all of them in `!chat:<server_name>`.
    pub users: Vec<UserId>,
    /// Mini-apps by id, with the name that payments show.
    pub merchants: HashMap<MiniAppId, String>,
    /// What webhooks are signed with ([`random::webhook_secret`]).
    pub webhook_secret: String,
    /// What the homeserver calls the edge with.
    pub hs_token: String,
    /// What the edge calls the homeserver with.
    pub as_token: String,
    /// Whether the edge's bot may use the homeserver's admin API.
    pub bot_is_admin: bool,
    /// Tells the time.
    pub now: Now,
}

impl SandboxConfig {
    /// The demo: users `@alice` and `@bob` of `tween.example`, mini-app `ma_shop_001`, fresh secrets, and all three
    /// servers on free ports of the loopback address.
    pub fn demo(now: Now) -> io::Result<SandboxConfig> {
        let malformed = |error: crate::model::ids::Malformed| io::Error::other(error.to_string());
        let anywhere = Some(SocketAddr::from(([127, 0, 0, 1], 0)));
        let users = ["@alice:tween.example", "@bob:tween.example"].map(|user| UserId::parse(user).map_err(malformed));
        let shop = MiniAppId::parse("ma_shop_001").map_err(malformed)?;
        Ok(SandboxConfig {
            wallet: anywhere,
            homeserver: anywhere,
            miniapp: anywhere,
            server_name: "tween.example".to_owned(),
            users: users.into_iter().collect::<io::Result<_>>()?,
            merchants: HashMap::from([(shop, "Demo Shop".to_owned())]),
            webhook_secret: random::webhook_secret()?,
            hs_token: random::token("hs_")?,
            as_token: random::token("as_")?,
            bot_is_admin: false,
            now,
        })
    }
}

/// Starts the sandbox.
pub struct Sandbox;

impl Sandbox {
    /// Binds and starts what the config asks for.
    ///
    /// # Errors
    /// An address that cannot be bound, a server name that is none, or no randomness.
    pub async fn start(config: SandboxConfig) -> io::Result<Running> {
        let users = homeserver::Setup {
            server_name: config.server_name.clone(),
            users: config.users,
            as_token: config.as_token,
            hs_token: config.hs_token,
            bot_is_admin: config.bot_is_admin,
            now: config.now.clone(),
        };
        let homeserver = Homeserver::new(users)?;
        let ledger = Ledger::new(Rules::demo(&config.server_name), random::Sequence::unpredictable()?);
        let wallet = Wallet::new(ledger, config.now, config.merchants);

        let wallet = start(config.wallet, Recorder::default(), |desk| desk.around(wallet::routes(wallet))).await?;
        let homeserver_server = start(config.homeserver, Recorder::default(), |desk| {
            desk.around(homeserver::routes(homeserver.clone())).merge(homeserver::controls(homeserver.clone()))
        })
        .await?;
        let recorder = Recorder::verifying(&config.webhook_secret);
        let miniapp =
            start(config.miniapp, recorder, |desk| desk.around(miniapp::routes(&config.webhook_secret))).await?;
        Ok(Running { wallet, homeserver: homeserver_server, miniapp, matrix: homeserver })
    }
}

async fn start(
    address: Option<SocketAddr>,
    recorder: Recorder,
    app: impl FnOnce(&Desk) -> axum::Router,
) -> io::Result<Option<Served>> {
    let Some(address) = address else { return Ok(None) };
    let desk = Desk { recorder, ..Desk::default() };
    let server = Server::start(address, app(&desk)).await?;
    Ok(Some(Served { server, desk }))
}

/// One server under way, with its recording and its faults.
pub struct Served {
    server: Server,
    /// What has reached it, and how it is told to misbehave.
    pub desk: Desk,
}

impl Served {
    /// The URL that its paths are appended to, such as `http://127.0.0.1:8081`.
    pub fn base_url(&self) -> String {
        self.server.base_url()
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.server.address
    }
}

/// The sandbox under way. Dropping it stops it as well, without waiting.
pub struct Running {
    /// The wallet, if it was asked for.
    pub wallet: Option<Served>,
    /// The homeserver, if it was asked for.
    pub homeserver: Option<Served>,
    /// The mini-app, if it was asked for.
    pub miniapp: Option<Served>,
    matrix: Homeserver,
}

impl Running {
    /// The demo users and a Matrix access token of each.
    pub fn matrix_tokens(&self) -> Vec<(UserId, String)> {
        self.matrix.tokens()
    }

    /// Tells the homeserver where the edge is, so that it can push to it (`POST /_sandbox/push`).
    pub fn edge_is_at(&self, base_url: &str) {
        self.matrix.edge().at(base_url);
    }

    /// Stops listening, and waits two seconds at most for requests under way.
    pub async fn shutdown(self) {
        for served in [self.wallet, self.homeserver, self.miniapp].into_iter().flatten() {
            served.server.stop().await;
        }
    }
}

#[cfg(test)]
mod tests;
