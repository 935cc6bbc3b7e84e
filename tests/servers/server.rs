//! One `redis-server` or `redis-sentinel`.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::thread;

use redis::{Client, Connection, FromRedisValue};
use tempfile::TempDir;

/// A free port on loopback. Somebody else may take it before it is used: then whoever wanted it tries another one.
fn free_port() -> u16 {
    TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port()
}

/// A running `redis-server` or `redis-sentinel`.
#[derive(Debug)]
pub struct Server {
    /// Its port.
    pub port: u16,
    /// Its port for TLS, where its config says `tls-port {tls}`.
    pub tls_port: u16,
    pub(super) process: Option<Child>,
    folder: TempDir,
    pub(super) config: Vec<String>,
    sentinel: bool,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Server {
    /// Starts one that keeps everything (`appendfsync always`), with `config` lines besides.
    pub fn start(config: &[&str]) -> Server {
        let lines = ["appendonly yes", "appendfsync always", "save \"\""].iter().chain(config);
        Server::on_any_port(lines.map(|line| (*line).to_owned()).collect(), false)
    }

    /// Starts a node of a cluster.
    pub(super) fn start_node(config: &[String]) -> Server {
        let (bus, timeout) = (format!("cluster-port {}", free_port()), "cluster-node-timeout 1000");
        let mut lines = vec!["cluster-enabled yes", &bus, timeout, "repl-ping-replica-period 1", "repl-timeout 5"];
        lines.extend(config.iter().map(String::as_str));
        Server::start(&lines)
    }

    pub(super) fn start_sentinel(primary: u16, quorum: usize, config: &[String]) -> Server {
        let lines = [
            format!("sentinel monitor tmcp 127.0.0.1 {primary} {quorum}"),
            "sentinel down-after-milliseconds tmcp 1000".to_owned(),
            "sentinel failover-timeout tmcp 5000".to_owned(),
        ];
        Server::on_any_port([config, &lines].concat(), true)
    }

    fn on_any_port(config: Vec<String>, sentinel: bool) -> Server {
        loop {
            let (port, tls_port) = (free_port(), free_port());
            let (folder, config) = (tempfile::tempdir().unwrap(), config.clone());
            let mut server = Server { port, tls_port, process: None, folder, config, sentinel };
            server.write_config();
            if server.run() {
                return server;
            }
        }
    }

    fn write_config(&self) {
        let mut text = format!("bind 127.0.0.1\ndir {}\nlogfile \"\"\n", self.folder.path().display());
        text += &format!("port {}\n", self.port);
        for line in &self.config {
            text += &line.replace("{tls}", &self.tls_port.to_string());
            text.push('\n');
        }
        fs::write(self.folder.path().join("server.conf"), text).unwrap();
    }

    /// Starts the process and reads its log until it serves; false when it ends instead.
    fn run(&mut self) -> bool {
        let program = if self.sentinel { "redis-sentinel" } else { "redis-server" };
        let mut process = Command::new(program)
            .arg(self.folder.path().join("server.conf"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| panic!("{program}: {error}; ./test installs it"));
        let mut log = BufReader::new(process.stdout.take().unwrap()).lines();
        let ready = |line: &String| line.contains("Ready to accept connections") || line.contains("Sentinel ID is");
        let serves = log.by_ref().map_while(Result::ok).any(|line| ready(&line));
        if !serves {
            process.wait().unwrap();
            return false;
        }
        // A full pipe would stop the server.
        thread::spawn(move || log.for_each(drop));
        self.process = Some(process);
        true
    }

    /// Ends it without a word, as a power cut does to the process.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().unwrap();
            process.wait().unwrap();
        }
    }

    /// Starts it again on its port with what its disk holds.
    pub fn start_again(&mut self) {
        assert!(self.process.is_none() && self.run(), "the server does not start again");
    }

    /// Stops it from answering, with its connections open; [`Server::thaw`] lets it go on.
    pub fn freeze(&self) {
        self.signal("-STOP");
    }

    /// Lets a frozen server go on.
    pub fn thaw(&self) {
        self.signal("-CONT");
    }

    fn signal(&self, signal: &str) {
        let pid = self.process.as_ref().unwrap().id().to_string();
        assert!(Command::new("kill").args([signal, &pid]).status().unwrap().success());
    }

    /// Its address as a config says it.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// The same, for TLS.
    pub fn tls_url(&self) -> String {
        format!("rediss://127.0.0.1:{}", self.tls_port)
    }

    /// A connection of the test's own.
    pub fn connection(&self) -> Connection {
        Client::open(self.url()).unwrap().get_connection().unwrap()
    }

    /// One command of the test's own.
    pub fn ask<T: FromRedisValue>(&self, command: &str) -> T {
        let mut words = command.split(' ');
        let mut sent = redis::cmd(words.next().unwrap());
        words.for_each(|word| {
            sent.arg(word);
        });
        sent.query(&mut self.connection()).unwrap_or_else(|error| panic!("{command}: {error}"))
    }

    pub(super) fn is_primary(&self) -> bool {
        self.ask::<String>("INFO replication").contains("role:master")
    }

    /// Whether it is a replica in touch with its primary.
    pub fn follows(&self) -> bool {
        self.ask::<String>("INFO replication").contains("master_link_status:up")
    }
}
