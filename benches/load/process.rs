//! Processes under test: started on their core, measured, ended by their process id.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tokio::time::Instant;

/// Ticks a second in `/proc`; Linux has had it at 100 for user space for ever.
const TICKS: f64 = 100.0;

/// Which cores to use.
#[derive(Clone, Copy, Debug)]
pub struct Cores {
    /// For the process under test.
    pub proxy: usize,
    /// For the load generator and the upstream.
    pub load: usize,
}

impl Cores {
    /// The last core for the process under test, the one before it for everything else. `None` on a single core, or
    /// where `taskset` is missing.
    pub fn pick() -> Option<Cores> {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        (cores >= 2 && find("taskset").is_some()).then(|| Cores { proxy: cores - 1, load: cores - 2 })
    }

    /// Binds this process to its core.
    pub fn bind_self(self) -> Result<(), String> {
        let done = Command::new("taskset")
            .args(["-a", "-c", "-p", &self.load.to_string(), &std::process::id().to_string()])
            .stdout(Stdio::null())
            .status();
        match done {
            Ok(status) if status.success() => Ok(()),
            Ok(status) => Err(format!("taskset: {status}")),
            Err(error) => Err(format!("taskset: {error}")),
        }
    }
}

/// Where a program is, by `PATH` (and `/usr/sbin`, where proxies are).
pub fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let places = std::env::split_paths(&path).chain([PathBuf::from("/usr/sbin"), PathBuf::from("/usr/local/sbin")]);
    places.map(|place| place.join(program)).find(|file| file.is_file())
}

/// A port of the loopback interface that nobody listens on.
pub fn free_port() -> Result<u16, String> {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").map_err(|e| format!("no free port: {e}"))?;
    listener.local_addr().map(|address| address.port()).map_err(|e| e.to_string())
}

/// A running process. Ended when dropped.
pub struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts `command`, on `core` where given; what it says goes to `log`.
    pub fn start(program: &Path, arguments: &[String], core: Option<usize>, log: &Path) -> Result<Process, String> {
        let output = File::create(log).map_err(|e| format!("{}: {e}", log.display()))?;
        let errors = output.try_clone().map_err(|e| e.to_string())?;
        let mut command = match core {
            Some(core) => {
                let mut command = Command::new("taskset");
                command.args(["-c", &core.to_string()]).arg(program);
                command
            }
            None => Command::new(program),
        };
        let command = command.args(arguments).stdin(Stdio::null()).stdout(output).stderr(errors);
        let child = command.spawn().map_err(|e| format!("{}: {e}", program.display()))?;
        Ok(Process { child, log: log.to_owned() })
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits until something listens on `port`.
    pub async fn wait_for(&mut self, port: u16) -> Result<(), String> {
        let start = Instant::now();
        loop {
            if tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_ok() {
                return Ok(());
            }
            if let Ok(Some(status)) = self.child.try_wait() {
                return Err(format!("ended while starting ({status}):\n{}", self.said()));
            }
            if start.elapsed() > Duration::from_secs(20) {
                return Err(format!("does not listen after 20 s:\n{}", self.said()));
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// What it has said.
    pub fn said(&self) -> String {
        let text = fs::read_to_string(&self.log).unwrap_or_default();
        let from = text.len().saturating_sub(4000);
        text.get(from..).unwrap_or(&text).to_owned()
    }

    /// Processor time that it has used so far, seconds.
    pub fn cpu_seconds(&self) -> f64 {
        let text = fs::read_to_string(format!("/proc/{}/stat", self.pid())).unwrap_or_default();
        // The name in parentheses may hold spaces; what follows it does not.
        let after_name = text.rsplit_once(") ").map_or("", |(_, rest)| rest);
        let ticks = |at: usize| after_name.split(' ').nth(at).and_then(|text| text.parse::<f64>().ok()).unwrap_or(0.0);
        (ticks(11) + ticks(12)) / TICKS
    }

    /// Memory that it holds, MiB.
    pub fn resident_mib(&self) -> f64 {
        let text = fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
        line.trim().trim_end_matches("kB").trim().parse::<f64>().unwrap_or(0.0) / 1024.0
    }

    /// Sends it a signal by name, such as `HUP`.
    pub fn signal(&self, name: &str) -> Result<(), String> {
        let done = Command::new("kill").args([&format!("-{name}"), &self.pid().to_string()]).status();
        match done {
            Ok(status) if status.success() => Ok(()),
            Ok(status) => Err(format!("kill -{name}: {status}")),
            Err(error) => Err(format!("kill -{name}: {error}")),
        }
    }

    /// Waits until it has ended by itself; an error when it takes longer than `patience` or ends in failure.
    pub async fn end(&mut self, patience: Duration) -> Result<(), String> {
        let start = Instant::now();
        loop {
            match self.child.try_wait() {
                Ok(Some(status)) if status.success() => return Ok(()),
                Ok(Some(status)) => return Err(format!("ended with {status}:\n{}", self.said())),
                Ok(None) if start.elapsed() > patience => {
                    return Err(format!("still runs after {patience:?}:\n{}", self.said()));
                }
                Ok(None) => tokio::time::sleep(Duration::from_millis(10)).await,
                Err(error) => return Err(error.to_string()),
            }
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _reaped = self.child.wait();
    }
}
