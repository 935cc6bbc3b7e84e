//! Tokens to call with: signed by the key ring that the edge under test is given, RS256 as in production.
//!
//! 100,000 signatures take a minute or two, so they are kept beside the build and used again while they are good.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tmcp_edge::clock::Clock;
use tmcp_edge::config::{Secret, Store};
use tmcp_edge::metrics::Metrics;
use tmcp_edge::model::{MiniAppId, Scope, ScopeSet, UserId};
use tmcp_edge::policy::authn::generation::Generation;
use tmcp_edge::policy::keyring::{Keyring, TokenRequest, issuer_of};
use url::Url;

/// The longest that an edge takes for its own tokens.
const LIFE: u64 = 24 * 3600;
/// Tokens that have less than this left are made anew.
const SPARE: u64 = 4 * 3600;

/// The address in whose name tokens are issued.
pub const PUBLIC_URL: &str = "https://tmcp.load.example";
/// The mini-app that calls.
pub const APP: &str = "ma_load_001";

/// A key ring, what seals it, and tokens that it signed.
pub struct Tokens {
    /// The folder that holds `master.key` and a store with the key ring.
    pub folder: PathBuf,
    /// One for each user, `tep.` included.
    pub list: Vec<String>,
}

/// The tokens in `folder`, at least `count` of them; made where they are missing or too old.
pub fn prepare(folder: &Path, count: usize) -> Result<Tokens, String> {
    let told = |what: &Path, error: std::io::Error| format!("{}: {error}", what.display());
    let now = Clock::system().unix_secs();
    let cache = folder.join("tokens.txt");
    if let Ok(text) = fs::read_to_string(&cache) {
        let mut lines = text.lines();
        let until = lines.next().and_then(|line| line.parse::<u64>().ok()).unwrap_or(0);
        let list: Vec<String> = lines.map(str::to_owned).take(count).collect();
        // An earlier release kept its keys elsewhere.
        let has_keys = folder.join("store.redb").exists();
        if has_keys && until > now + SPARE && list.len() >= count {
            return Ok(Tokens { folder: folder.to_owned(), list });
        }
    }
    if folder.exists() {
        fs::remove_dir_all(folder).map_err(|e| told(folder, e))?;
    }
    fs::create_dir_all(folder).map_err(|e| told(folder, e))?;
    let mut key = [0u8; 32];
    aws_lc_rs::rand::fill(&mut key).map_err(|_| "no random numbers".to_owned())?;
    let key: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
    let key_file = folder.join("master.key");
    fs::write(&key_file, &key).map_err(|e| told(&key_file, e))?;
    let metrics = Arc::new(Metrics::new(&[]).map_err(|e| e.to_string())?);
    let place = Store::Embedded { path: folder.to_owned() };
    let opened = tmcp_edge::store::open(&place, &Clock::system(), &metrics)?;
    let ring = Keyring::open(opened.store, &Secret::new(key), Generation::default()).map_err(|e| e.to_string())?;
    ring.ensure_signing_key(now).map_err(|e| e.to_string())?;
    let list = mint(&ring, count, now)?;
    let mut text = format!("{}\n", now + LIFE);
    list.iter().for_each(|token| {
        text.push_str(token);
        text.push('\n');
    });
    fs::write(&cache, text).map_err(|e| told(&cache, e))?;
    Ok(Tokens { folder: folder.to_owned(), list })
}

fn mint(ring: &Keyring, count: usize, now: u64) -> Result<Vec<String>, String> {
    let issuer = issuer_of(&Url::parse(PUBLIC_URL).map_err(|e| e.to_string())?);
    let app = MiniAppId::parse(APP).map_err(|e| e.to_string())?;
    let scopes: ScopeSet = [Scope::WalletBalance, Scope::WalletHistory, Scope::WalletPay].into_iter().collect();
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let done = AtomicUsize::new(0);
    let one = |at: usize| -> Result<String, String> {
        let user = UserId::parse(&format!("@user{at}:tween.example")).map_err(|e| e.to_string())?;
        let token = ring.mint(&issuer, &TokenRequest::new(user, app.clone(), scopes, LIFE), now);
        done.fetch_add(1, Ordering::Relaxed);
        token.map_err(|e| e.to_string())
    };
    let part = count.div_ceil(threads);
    std::thread::scope(|scope| {
        let parts: Vec<_> = (0..threads)
            .map(|thread| {
                let one = &one;
                let range = (thread * part)..((thread + 1) * part).min(count);
                scope.spawn(move || range.map(one).collect::<Result<Vec<_>, _>>())
            })
            .collect();
        while parts.iter().any(|part| !part.is_finished()) {
            eprint!("\rsigning tokens: {}/{count}  ", done.load(Ordering::Relaxed));
            let _shown = std::io::stderr().flush();
            std::thread::sleep(Duration::from_millis(250));
        }
        eprintln!("\rsigning tokens: {count}/{count}  ");
        let mut all = Vec::with_capacity(count);
        for part in parts {
            all.extend(part.join().map_err(|_| "a signing thread ended early".to_owned())??);
        }
        Ok(all)
    })
}
