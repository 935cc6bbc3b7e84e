//! Listeners, TLS, connection guard, reload, upgrade and drain: all that surrounds the gateway.
//!
//! | file | what it is for |
//! |---|---|
//! | `listeners`, `descriptors` | sockets, bound or inherited; how many connections the process may hold |
//! | `accept` | from an accepted socket to the gateway |
//! | `guard`, `meter`, `framing` | caps and ages of connections; the time in which a header must be whole |
//! | `conn`, `proxy_protocol`, `tls` | the layers of one connection |
//! | `control`, `lifecycle`, `notify` | signals; where the process stands; telling systemd |
//! | `upgrade` | handing over to a successor |
//! | `reload`, `fingerprint` | when the config is read again |
//! | `loops` | tasks that must not end before the process does |
//!
//! [`serve`] is given a gateway and blocks until the process is to end.

mod accept;
mod conn;
mod control;
mod counters;
mod descriptors;
mod fingerprint;
mod framing;
mod guard;
mod lifecycle;
mod listeners;
mod loops;
mod meter;
mod notify;
mod proxy_protocol;
mod reload;
mod run;
#[cfg(test)]
mod tests;
mod tls;
mod upgrade;

pub use control::Ended;
pub use counters::{Counter, Counters};
pub use lifecycle::{Lifecycle, Phase};
pub use loops::Loops;
pub use reload::{ConfigFiles, FailedReload, Prompt, ReloadHook, ReloadStatus, Reloads};
pub use run::{Handle, Hooks, ServerSpec, Started, serve};
