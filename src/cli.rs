//! Names, arguments and help of the commands.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use tmcp_edge::config::Registration;

/// The edge proxy for TMCP mini-app platforms.
#[derive(Parser)]
#[command(version, about, propagate_version = true, max_term_width = 110)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Subcommand)]
pub enum Command {
    /// Start an edge with sandbox upstreams, demo users and a ready token, to develop against
    Dev {
        /// Where the edge listens; port 0 picks a free one
        #[arg(long, default_value = "127.0.0.1:8080")]
        listen: SocketAddr,
        /// Where the admin address listens; port 0 picks a free one
        #[arg(long, default_value = "127.0.0.1:9090")]
        admin: SocketAddr,
        /// Folder for the config it writes, dev.json and the store
        #[arg(long, default_value = ".tmcp-dev")]
        state: PathBuf,
    },
    /// Serve; SIGHUP reloads, SIGTERM drains, SIGQUIT hands over to a new process
    Run {
        #[command(flatten)]
        config: ConfigFile,
        /// Take the listeners over from the running process, once that one gets SIGQUIT
        #[arg(long)]
        upgrade: bool,
    },
    /// Check a config: exit 0, or 1 with every error
    Check {
        /// The main config file
        #[arg(long, required_unless_present = "explain")]
        config: Option<PathBuf>,
        /// Print every key with its meaning and default instead
        #[arg(long)]
        explain: bool,
    },
    /// Print the route table
    Routes {
        #[command(flatten)]
        config: ConfigFile,
    },
    /// Mint a TEP token with the config's signing key
    Token {
        #[command(flatten)]
        config: ConfigFile,
        /// The user, such as @alice:tween.example
        #[arg(long)]
        user: String,
        /// The mini-app, such as ma_shop_001
        #[arg(long)]
        app: String,
        /// Scopes, separated by spaces
        #[arg(long)]
        scope: String,
        /// Life in seconds, at most 86400
        #[arg(long, default_value_t = 3600)]
        ttl: u64,
    },
    /// Look after the signing keys
    Keys {
        #[command(subcommand)]
        action: KeysAction,
    },
    /// Register mini-apps in the store, change them, switch them off
    App {
        #[command(subcommand)]
        action: AppAction,
    },
    /// Take back tokens: of a mini-app, a user, both together, one grant, one token; or call payments off
    Revoke {
        #[command(flatten)]
        config: ConfigFile,
        /// A mini-app's tokens; with --user those of this user for it
        #[arg(long)]
        app: Option<String>,
        /// A user's tokens; with --app those for this mini-app
        #[arg(long)]
        user: Option<String>,
        /// The tokens of one grant: their claim grant_id
        #[arg(long)]
        grant: Option<String>,
        /// One token: its claim jti
        // An id may begin with a hyphen.
        #[arg(long, value_name = "JTI", allow_hyphen_values = true)]
        token: Option<String>,
        /// The tokens signed with a key of a trusted issuer: its kid. For a key of our own: `keys revoke`
        #[arg(long, value_name = "KID", requires = "issuer", allow_hyphen_values = true)]
        key: Option<String>,
        /// Whose key it is: the claim iss of its tokens
        #[arg(long, value_name = "URL", requires = "key")]
        issuer: Option<String>,
        /// Call every payment off, or let them through again
        #[arg(long, value_enum, conflicts_with_all = ["app", "user", "grant", "token", "key", "issuer"])]
        payments: Option<Switch>,
    },
    /// Look after what is remembered
    Store {
        #[command(subcommand)]
        action: StoreAction,
    },
    /// Print the Application Service registration for the homeserver, without its tokens
    Registration {
        #[command(flatten)]
        config: ConfigFile,
    },
    /// Start the sandbox upstreams alone
    Sandbox {
        /// Where the wallet listens
        #[arg(long, default_value = "127.0.0.1:8081")]
        wallet: SocketAddr,
        /// Where the homeserver listens
        #[arg(long, default_value = "127.0.0.1:8082")]
        homeserver: SocketAddr,
        /// Where the mini-app listens
        #[arg(long, default_value = "127.0.0.1:8083")]
        miniapp: SocketAddr,
    },
}

#[derive(Clone, Copy, ValueEnum)]
pub enum Switch {
    On,
    Off,
}

#[derive(Args)]
pub struct ConfigFile {
    /// The main config file
    #[arg(long)]
    pub config: PathBuf,
}

#[derive(Subcommand)]
pub enum KeysAction {
    /// Make a new key and announce it: it is published, but does not sign yet
    New(ConfigFile),
    /// List the keys and what each may do
    List(ConfigFile),
    /// Let the announced key sign; the old one stays published until its last token has expired
    Rotate(ConfigFile),
    /// Seal every key and webhook secret under the config's master key, after that was changed
    Reseal(ConfigFile),
    /// Withdraw a key: every token that it signed is refused from now on
    Revoke {
        /// The key's id, as `keys list` prints it
        kid: String,
        #[command(flatten)]
        config: ConfigFile,
    },
}

#[derive(Subcommand)]
pub enum AppAction {
    /// Register a mini-app; prints the secrets that it is given, this once
    Add {
        #[command(flatten)]
        config: ConfigFile,
        #[command(flatten)]
        entry: Box<Entry>,
        /// Take mini-apps from a file in the form of miniapps.yaml instead; `-` is standard input
        #[arg(long)]
        file: Option<PathBuf>,
        /// Put it in the place of the one with the same id, whose secrets it keeps
        #[arg(long)]
        replace: bool,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// List the mini-apps of the config and of the store
    List {
        #[command(flatten)]
        config: ConfigFile,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Show what a mini-app is registered as
    Show {
        /// The mini-app's id
        id: String,
        #[command(flatten)]
        config: ConfigFile,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Give a mini-app another client secret, and let the old one be good for a while
    RotateSecret {
        /// The mini-app's id
        id: String,
        #[command(flatten)]
        config: ConfigFile,
        /// How long the old secret is good besides, such as 24h or 30m; 0 ends it at once
        #[arg(long, default_value = "24h", value_name = "DURATION", conflicts_with = "webhook")]
        old_valid_for: String,
        /// Another webhook secret instead, which takes the place of the old one at once
        #[arg(long)]
        webhook: bool,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Switch a mini-app off: its tokens are void within a second, and it gets no others
    Suspend {
        /// The mini-app's id
        id: String,
        #[command(flatten)]
        config: ConfigFile,
        /// Why, in one line for `app show`
        #[arg(long)]
        reason: Option<String>,
    },
    /// Switch a mini-app on again; tokens of before stay void
    Resume {
        /// The mini-app's id
        id: String,
        #[command(flatten)]
        config: ConfigFile,
    },
    /// Remove a mini-app; its tokens are void within a second, its id stays taken
    Remove {
        /// The mini-app's id
        id: String,
        #[command(flatten)]
        config: ConfigFile,
    },
}

/// The keys of an entry of miniapps.yaml.
#[derive(Args)]
pub struct Entry {
    /// Its id, also its OAuth client id, such as ma_shop_001
    #[arg(long, requires = "name", conflicts_with = "file")]
    pub id: Option<String>,
    /// Its name for people
    #[arg(long, requires = "id")]
    name: Option<String>,
    /// public (keeps no secret), confidential (has a secret) or hybrid (both)
    #[arg(long = "type", value_name = "TYPE", requires = "id")]
    client_type: Option<String>,
    /// Where its codes may be sent; may be given several times
    #[arg(long = "redirect-uri", value_name = "URI", requires = "id")]
    redirect_uris: Vec<String>,
    /// What it may ask users for: scopes, separated by spaces or given one by one
    #[arg(long = "scope", value_name = "SCOPES", requires = "id")]
    scopes: Vec<String>,
    /// Scopes among those that users of an official mini-app need not approve
    #[arg(long = "preapproved-scope", value_name = "SCOPES", requires = "id")]
    preapproved_scopes: Vec<String>,
    /// official, verified, community or beta
    #[arg(long, requires = "id")]
    classification: Option<String>,
    /// Who makes it, for people
    #[arg(long, requires = "id")]
    developer: Option<String>,
    /// The https URL of its picture
    #[arg(long, value_name = "URL", requires = "id")]
    icon_url: Option<String>,
    /// Where its webhooks go
    #[arg(long, value_name = "URL", requires = "id")]
    webhook_url: Option<String>,
}

impl From<Entry> for Registration {
    fn from(entry: Entry) -> Registration {
        let words = |lists: Vec<String>| {
            lists.iter().flat_map(|list| list.split_whitespace()).map(str::to_owned).collect::<Vec<_>>()
        };
        Registration {
            id: entry.id.unwrap_or_default(),
            name: entry.name.unwrap_or_default(),
            developer: entry.developer,
            icon_url: entry.icon_url,
            classification: entry.classification,
            client_type: entry.client_type,
            redirect_uris: entry.redirect_uris,
            scopes: words(entry.scopes),
            preapproved_scopes: words(entry.preapproved_scopes),
            webhook_url: entry.webhook_url,
        }
    }
}

#[derive(Subcommand)]
pub enum StoreAction {
    /// Write everything to a file; an edge may be serving
    Backup {
        #[command(flatten)]
        config: ConfigFile,
        /// The file to write
        file: PathBuf,
    },
    /// Read a backup into an empty store; no edge may be serving
    Restore {
        #[command(flatten)]
        config: ConfigFile,
        /// Remove everything that is in the store first; what was revoked in it stays revoked
        #[arg(long)]
        force: bool,
        /// No edge is using the Redis, although one has said lately that it does
        #[arg(long)]
        stopped: bool,
        /// The backup
        file: PathBuf,
    },
    /// Copy everything into the store of another config, such as from the data folder to Redis
    Copy {
        #[command(flatten)]
        config: ConfigFile,
        /// The config whose store is written
        #[arg(long)]
        to: PathBuf,
        /// Remove everything that is in that store first
        #[arg(long)]
        force: bool,
        /// No edge is using either store: take permissions and refresh tokens along too
        #[arg(long)]
        stopped: bool,
    },
}
