//! The bridge under test: `bridge-worker` or the contender, with the same document.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use millrace_contract::Document;
use millrace_contract::status::{Reason, RouteStatus, Status};
use millrace_testkit::{Process, Usage};
use serde::Serialize;
use tempfile::NamedTempFile;

use super::sample::{Sample, Subject};

/// How long a bridge may take to connect.
const START: Duration = Duration::from_secs(20);

/// Where the binaries are, and where logs go.
#[derive(Clone, Debug)]
pub struct Lab {
    /// This binary.
    pub bench: PathBuf,
    /// `bridge-worker`.
    pub worker: PathBuf,
    /// A folder for the logs of all parts.
    pub logs: PathBuf,
}

/// A running bridge.
#[derive(Debug)]
pub struct Bridge {
    process: Process,
    /// Port of `/readyz` and `/status`, which only the worker has.
    admin: Option<u16>,
    _document: NamedTempFile,
}

impl Bridge {
    /// Starts it.
    pub fn start<L: Serialize>(lab: &Lab, subject: Subject, document: &Document<L>) -> anyhow::Result<Self> {
        let mut file = NamedTempFile::with_suffix(".json")?;
        file.write_all(&serde_json::to_vec_pretty(document)?)?;
        let (name, mut command, admin) = match subject {
            Subject::Worker => {
                let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
                let mut command = Command::new(&lab.worker);
                command.arg("run").arg("--admin").arg(format!("127.0.0.1:{port}"));
                ("worker", command, Some(port))
            }
            Subject::Contender => {
                let mut command = Command::new(&lab.bench);
                command.arg("contender");
                ("contender", command, None)
            }
        };
        command.arg("--document").arg(file.path());
        Ok(Self {
            process: Process::spawn(name, command),
            admin,
            _document: file,
        })
    }

    /// Waits until `flows` says that messages come through, and the worker says that it is ready.
    pub fn wait(&mut self, mut flows: impl FnMut() -> anyhow::Result<bool>) -> anyhow::Result<()> {
        let deadline = Instant::now() + START;
        while !(flows()? && self.is_ready()) {
            self.usage()?;
            if Instant::now() > deadline {
                bail!("not ready after {START:?}: {}", self.last_words());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    fn is_ready(&self) -> bool {
        self.admin.is_none_or(|port| get(port, "/readyz").is_ok())
    }

    /// Its CPU time and memory; an error with its last words if it has ended.
    pub fn usage(&self) -> anyhow::Result<Usage> {
        self.process
            .usage()
            .with_context(|| format!("the bridge has ended: {}", self.last_words()))
    }

    fn last_words(&self) -> String {
        let log = self.process.stderr() + &self.process.stdout();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(8)..].join("\n")
    }

    /// Messages that the worker says the other side has.
    pub fn written(&self) -> anyhow::Result<u64> {
        let status = self.status()?.context("only the worker says how it does")?;
        Ok(status.routes.iter().map(|route| route.ledger.written).sum())
    }

    /// What the worker says of itself.
    fn status(&self) -> anyhow::Result<Option<Status>> {
        let Some(port) = self.admin else { return Ok(None) };
        serde_json::from_str(&get(port, "/status")?).context("/status is not what the contract says")
    }

    /// Adds to `sample` what the worker says of itself: what is wrong, whether its ledger balances in the middle
    /// of everything, and the latency it has measured.
    pub fn add_status(&self, sample: &mut Sample) -> anyhow::Result<()> {
        let Some(status) = self.status()? else {
            return Ok(());
        };
        sample
            .violations
            .extend(status.routes.iter().flat_map(violations));
        sample.reported_latency = status.routes.first().map(|route| route.latency);
        Ok(())
    }
}

fn violations(route: &RouteStatus) -> Vec<String> {
    let problems = route
        .problems
        .iter()
        .filter(|problem| !is_of_the_lab(problem.reason));
    let problems = problems.map(|problem| format!("{:?}: {}", problem.reason, problem.message));
    let balance = route.ledger.balance();
    let off = (balance != 0).then(|| format!("the ledger is {balance} messages off: {:?}", route.ledger));
    problems.chain(off).collect()
}

/// Whether a problem is true here and says nothing about the worker: one Kafka broker has no second replica.
fn is_of_the_lab(reason: Reason) -> bool {
    matches!(reason, Reason::TopicUnsafe | Reason::SessionExpiryShort)
}

/// The body of `http://127.0.0.1:<port><path>`. An error if the answer is not 200.
fn get(port: u16, path: &str) -> anyhow::Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    // HTTP 1.0: one answer, not chunked, then the connection is closed.
    write!(stream, "GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").context("not an HTTP answer")?;
    match head.split(' ').nth(1) {
        Some("200") => Ok(body.to_owned()),
        status => bail!("{path} answered {status:?}: {body}"),
    }
}
