//! Nothing fails: ordinary requests, uploads that take 30 s and HTTP/2 streams, through reloads and upgrades.
//!
//! Nothing is tried again, with the one exception that HTTP/2 has itself: a stream that the server has said it has not
//! looked at (GOAWAY, REFUSED_STREAM) goes to the next connection, as every client does it. Those are counted too.

use std::cell::{Cell, RefCell};
use std::fs;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use serde_json::json;
use tokio::task::spawn_local;
use tokio::time::{Instant, sleep};

use super::connection::{Connection, Target};
use super::process::{Process, free_port};
use super::proxies::{EdgeSetup, Starter};
use super::requests::{Order, Picker, Requests, transfer_body};

const REQUESTS: u64 = 200_000;
const RELOADS: usize = 20;
const UPGRADES: usize = 3;
const CLIENTS: usize = 32;
const UPLOADS: usize = 6;
const UPLOAD_TIME: Duration = Duration::from_secs(30);
const H2_CONNECTIONS: usize = 4;
const H2_STREAMS: usize = 8;
/// Whatever happens, it ends after this.
const AT_MOST: Duration = Duration::from_secs(15 * 60);

/// What happened so far.
#[derive(Default)]
struct Tally {
    ordinary: Cell<u64>,
    uploads: Cell<u64>,
    streams: Cell<u64>,
    unprocessed: Cell<u64>,
    failed: Cell<u64>,
    told: RefCell<Vec<String>>,
    over: Cell<bool>,
}

impl Tally {
    fn sum(&self) -> u64 {
        self.ordinary.get() + self.uploads.get() + self.streams.get()
    }

    fn fail(&self, why: String) {
        self.failed.set(self.failed.get() + 1);
        let mut told = self.told.borrow_mut();
        if told.len() < 20 {
            told.push(why);
        }
    }
}

fn add(to: &Cell<u64>) {
    to.set(to.get() + 1);
}

/// Runs it all and prints. Returns the JSON; an error when anything failed.
pub async fn run(starter: &Starter<'_>) -> Result<serde_json::Value, String> {
    let folder = tempfile::Builder::new().prefix("tmcp-soak-").tempdir().map_err(|e| e.to_string())?;
    let setup = EdgeSetup {
        port: free_port()?,
        admin: free_port()?,
        upstream: starter.upstream,
        tls: free_port()?,
        upgradable: true,
        routes: 1,
        ..EdgeSetup::default()
    };
    certificate(folder.path())?;
    let config = setup.write(folder.path(), starter.tokens)?;
    let mut stage = Stage { starter, setup, folder: folder.path(), config, generation: 0 };
    let mut edge = stage.start(&[])?;
    edge.wait_for(stage.setup.port).await?;
    edge.wait_for(stage.setup.tls).await?;

    let tally = Rc::new(Tally::default());
    let tokens: Rc<[String]> = starter.tokens.list.get(..1000).unwrap_or(&starter.tokens.list).into();
    let plain = Target::local(stage.setup.port);
    let tls = Target { tls: true, ..Target::local(stage.setup.tls) };
    let mut tasks = Vec::new();
    for at in 0..CLIENTS {
        tasks.push(spawn_local(ordinary(at, plain.clone(), tokens.clone(), tally.clone())));
    }
    for at in 0..UPLOADS {
        tasks.push(spawn_local(uploads(at, plain.clone(), tokens.clone(), tally.clone())));
    }
    for at in 0..H2_CONNECTIONS {
        tasks.push(spawn_local(streams(at, tls.clone(), tokens.clone(), tally.clone())));
    }
    let begin = Instant::now();
    let script = async {
        // Uploads are under way when the first change comes.
        sleep(Duration::from_secs(3)).await;
        let (mut reloads, mut upgrades) = (0, 0);
        while reloads < RELOADS || upgrades < UPGRADES {
            for _ in 0..RELOADS.div_ceil(UPGRADES + 1) {
                if reloads < RELOADS {
                    stage.reload(&edge).await?;
                    reloads += 1;
                    progress(&tally, reloads, upgrades);
                    sleep(Duration::from_secs(1)).await;
                }
            }
            if upgrades < UPGRADES {
                stage.upgrade(&mut edge).await?;
                upgrades += 1;
                progress(&tally, reloads, upgrades);
            }
        }
        while tally.sum() < REQUESTS {
            sleep(Duration::from_secs(1)).await;
            progress(&tally, reloads, upgrades);
        }
        Ok::<_, String>(())
    };
    let scripted = tokio::time::timeout(AT_MOST, script).await;
    let elapsed = begin.elapsed();
    tally.over.set(true);
    // Uploads under way are part of it.
    let all = futures::future::join_all(tasks);
    if tokio::time::timeout(UPLOAD_TIME + Duration::from_secs(30), all).await.is_err() {
        tally.fail("some requests were never answered".to_owned());
    }
    eprintln!();
    let said = edge.said();
    scripted
        .map_err(|_| format!("not done within {AT_MOST:?}"))?
        .map_err(|e| format!("{e}\nThe edge said:\n{said}"))?;
    report(&tally, elapsed)
}

fn progress(tally: &Tally, reloads: usize, upgrades: usize) {
    eprint!(
        "\r{} requests, {} uploads, {} HTTP/2 streams, {reloads}/{RELOADS} reloads, {upgrades}/{UPGRADES} upgrades, {} \
         failed  ",
        tally.ordinary.get(),
        tally.uploads.get(),
        tally.streams.get(),
        tally.failed.get()
    );
}

fn report(tally: &Tally, elapsed: Duration) -> Result<serde_json::Value, String> {
    println!(
        "{} requests in {:.0} s through {RELOADS} reloads and {UPGRADES} upgrades, {} of them uploads of 30 s, {} of them \
         HTTP/2 streams ({} moved to another connection as unprocessed): {} failed",
        tally.sum(),
        elapsed.as_secs_f64(),
        tally.uploads.get(),
        tally.streams.get(),
        tally.unprocessed.get(),
        tally.failed.get()
    );
    if tally.failed.get() > 0 {
        return Err(format!("the first failures:\n{}", tally.told.borrow().join("\n")));
    }
    Ok(json!({
        "requests": tally.sum(), "uploads": tally.uploads.get(), "http2_streams": tally.streams.get(),
        "http2_unprocessed": tally.unprocessed.get(), "reloads": RELOADS, "upgrades": UPGRADES,
        "seconds": elapsed.as_secs(), "failed": tally.failed.get(),
    }))
}

/// The edge that is changed while it serves.
struct Stage<'a> {
    starter: &'a Starter<'a>,
    setup: EdgeSetup,
    folder: &'a Path,
    config: std::path::PathBuf,
    generation: usize,
}

impl Stage<'_> {
    fn start(&mut self, more: &[&str]) -> Result<Process, String> {
        self.generation += 1;
        let mut arguments = vec!["run".to_owned(), "--config".to_owned(), self.config.display().to_string()];
        arguments.extend(more.iter().map(|argument| (*argument).to_owned()));
        let log = self.folder.join(format!("output{}", self.generation));
        Process::start(&self.starter.programs.edge, &arguments, self.starter.core, &log)
    }

    /// One route more, and proof that it is in force.
    async fn reload(&mut self, edge: &Process) -> Result<(), String> {
        self.setup.routes += 1;
        self.setup.write(self.folder, self.starter.tokens)?;
        edge.signal("HUP")?;
        let path = format!("/partner/v1/service{}/items/1", self.setup.routes - 1);
        let token = self.starter.tokens.list.first().map(String::as_str).unwrap_or_default();
        let mut request = Vec::new();
        Requests::get("tmcp.load.example", &path, &[token.to_owned()]).copy(0, 0, &mut request);
        let begin = Instant::now();
        while begin.elapsed() < Duration::from_secs(20) {
            let mut connection =
                Connection::open(&Target::local(self.setup.port)).await.map_err(|e| format!("while reloading: {e}"))?;
            match connection.exchange(&request).await {
                Ok(200) => return Ok(()),
                Ok(404) => sleep(Duration::from_millis(20)).await,
                Ok(_) => return Err(format!("while reloading: {}", connection.text())),
                Err(error) => return Err(format!("while reloading: {error}")),
            }
        }
        Err(format!("a reload is not in force after 20 s:\n{}", edge.said()))
    }

    /// Hands over to a new process; returns when the old one has ended by itself.
    async fn upgrade(&mut self, edge: &mut Process) -> Result<(), String> {
        let successor = self.start(&["--upgrade"])?;
        let socket = self.folder.join("upgrade.sock");
        let begin = Instant::now();
        while !socket.exists() {
            if begin.elapsed() > Duration::from_secs(20) {
                return Err(format!("the successor does not wait at its socket:\n{}", successor.said()));
            }
            sleep(Duration::from_millis(10)).await;
        }
        edge.signal("QUIT")?;
        let mut predecessor = std::mem::replace(edge, successor);
        predecessor.end(Duration::from_secs(90)).await
    }
}

/// GET and POST in turn over one connection that is kept, with a pause now and then.
async fn ordinary(at: usize, target: Target, tokens: Rc<[String]>, tally: Rc<Tally>) {
    let reads = Requests::get(&target.host, "/api/v1/wallet/balance", &tokens);
    let writes = Requests::transfer(&target.host, "/api/v1/wallet/p2p/initiate", &tokens);
    let picker = Picker::new(Order::InTurn, tokens.len(), at as u64 + 1);
    let mut connection: Option<Connection> = None;
    let mut request = Vec::new();
    while !tally.over.get() {
        let (token, number) = picker.pick();
        let requests = if number % 4 == 0 { &writes } else { &reads };
        requests.copy(token, number, &mut request);
        let mut current = match connection.take() {
            Some(kept) => kept,
            None => match Connection::open(&target).await {
                Ok(new) => new,
                Err(error) => {
                    tally.fail(format!("connecting: {error}"));
                    continue;
                }
            },
        };
        match current.exchange(&request).await {
            Ok(200) => add(&tally.ordinary),
            Ok(_) => tally.fail(current.text()),
            Err(error) => {
                tally.fail(format!("request {number} of client {at}: {error}"));
                continue;
            }
        }
        if !current.closing {
            connection = Some(current);
        }
        sleep(Duration::from_millis(15)).await;
    }
}

/// Transfers whose body takes half a minute to arrive.
async fn uploads(at: usize, target: Target, tokens: Rc<[String]>, tally: Rc<Tally>) {
    sleep(Duration::from_secs(at as u64 * 5)).await;
    let token = tokens.get(at).cloned().unwrap_or_default();
    while !tally.over.get() {
        match upload(&target, &token).await {
            Ok(200) => add(&tally.uploads),
            Ok(status) => tally.fail(format!("an upload was answered with {status}")),
            Err(error) => tally.fail(format!("an upload broke: {error}")),
        }
    }
}

async fn upload(target: &Target, token: &str) -> std::io::Result<u16> {
    let body = transfer_body(true);
    let head = format!(
        "POST /api/v1/wallet/p2p/initiate HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {token}\r\nContent-Type: \
         application/json\r\nContent-Length: {}\r\n\r\n",
        target.host,
        body.len()
    );
    let mut connection = Connection::open(target).await?;
    connection.send(head.as_bytes()).await?;
    let parts = 60;
    let pause = UPLOAD_TIME / parts;
    for part in body.as_bytes().chunks(body.len().div_ceil(parts as usize)) {
        sleep(pause).await;
        connection.send(part).await?;
    }
    connection.answer().await
}

/// Streams over connections that are kept for as long as the server keeps them.
async fn streams(at: usize, target: Target, tokens: Rc<[String]>, tally: Rc<Tally>) {
    while !tally.over.get() {
        if let Err(error) = h2_connection(at, &target, &tokens, &tally).await {
            tally.fail(format!("HTTP/2: {error}"));
        }
    }
}

async fn h2_connection(at: usize, target: &Target, tokens: &[String], tally: &Rc<Tally>) -> Result<(), String> {
    let stream = target.connect(b"\x02h2").await.map_err(|e| format!("connecting: {e}"))?;
    let (client, connection) = h2::client::handshake(stream).await.map_err(|e| format!("greeting: {e}"))?;
    let driver = spawn_local(async move {
        // How a connection ends shows in its streams.
        let _ended = connection.await;
    });
    let mut number = at;
    'connection: while !tally.over.get() {
        let mut answers = Vec::new();
        for _ in 0..H2_STREAMS {
            number += 1;
            let token = tokens.get(number % tokens.len().max(1)).map(String::as_str).unwrap_or_default();
            let request = http::Request::get(format!("https://{}/api/v1/wallet/balance", target.host))
                .header("authorization", format!("Bearer {token}"))
                .body(())
                .map_err(|e| e.to_string())?;
            // A connection that takes no more streams has refused nothing yet.
            let Ok(mut ready) = client.clone().ready().await else { break };
            match ready.send_request(request, true) {
                Ok((answer, _)) => answers.push(answer),
                Err(error) if unprocessed(&error) => break,
                Err(error) => tally.fail(format!("HTTP/2: {error}")),
            }
        }
        let none = answers.is_empty();
        for answer in futures::future::join_all(answers.into_iter().map(whole)).await {
            match answer {
                Ok(200) => add(&tally.streams),
                Ok(status) => tally.fail(format!("a stream was answered with {status}")),
                Err(error) if unprocessed(&error) => add(&tally.unprocessed),
                Err(error) => tally.fail(format!("a stream broke: {error}")),
            }
        }
        if none {
            break 'connection;
        }
        sleep(Duration::from_millis(100)).await;
    }
    drop(client);
    driver.abort();
    Ok(())
}

async fn whole(answer: h2::client::ResponseFuture) -> Result<u16, h2::Error> {
    let (head, mut body) = answer.await?.into_parts();
    while let Some(part) = body.data().await {
        let part: Bytes = part?;
        body.flow_control().release_capacity(part.len())?;
    }
    Ok(head.status.as_u16())
}

/// Whether the server has said that it has not looked at the stream (RFC 9113 section 8.7).
fn unprocessed(error: &h2::Error) -> bool {
    let reason = error.reason();
    (error.is_remote() && reason == Some(h2::Reason::REFUSED_STREAM))
        || (error.is_go_away() && error.is_remote() && reason == Some(h2::Reason::NO_ERROR))
}

fn certificate(folder: &Path) -> Result<(), String> {
    let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).map_err(|e| e.to_string())?;
    let told = |e: std::io::Error| e.to_string();
    fs::write(folder.join("tls.crt"), made.cert.pem()).map_err(told)?;
    fs::write(folder.join("tls.key"), made.signing_key.serialize_pem()).map_err(told)
}
