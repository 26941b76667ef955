//! A worker in a process of its own, for tests of its memory and its signals.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;

use millrace_contract::status::{Reason, RouteStatus, Status};
use millrace_contract::{Assignment, Document, LaneRecord, Live};
use millrace_testkit::{Port, Process, Usage, wait_until};
use serde::Serialize;
use sha2::Digest as _;

use super::DEADLINE;

/// `bridge-worker run` in a process of its own.
pub(crate) struct WorkerProcess {
    pub(crate) process: Process,
    admin: Port,
    folder: tempfile::TempDir,
}

/// The same program in a folder, where it may leave its memory behind when it crashes.
pub(crate) fn keeping_cores(command: &Command, folder: &Path) -> Command {
    let mut shell = Command::new("sh");
    shell
        .args(["-c", "ulimit -c unlimited && cd \"$0\" && exec \"$@\""])
        .arg(folder)
        .arg(command.get_program())
        .args(command.get_args());
    shell
}

/// The uid of the pod of a worker that an operator runs.
pub(crate) const POD_UID: &str = "6a1f";

impl WorkerProcess {
    #[track_caller]
    pub(crate) fn start<L: Serialize>(document: &Document<L>) -> Self {
        let (folder, command) = Self::whole(document);
        Self::spawn(folder, command)
    }

    fn whole<L: Serialize>(document: &Document<L>) -> (tempfile::TempDir, Command) {
        let folder = tempfile::tempdir().expect("a temporary folder");
        put(&folder, "document.json", &json(document));
        let mut command = Command::new(env!("CARGO_BIN_EXE_bridge-worker"));
        command
            .arg("run")
            .arg("--document")
            .arg(folder.path().join("document.json"));
        (folder, command)
    }

    /// In a pod that requests so many thousandths of a core.
    #[track_caller]
    pub(crate) fn with_cpu_request(document: &Document, millicores: u32) -> Self {
        let (folder, mut command) = Self::whole(document);
        command.env("MILLRACE_CPU_REQUEST", millicores.to_string());
        Self::spawn(folder, command)
    }

    /// Where processes that crash may leave their memory behind.
    #[track_caller]
    pub(crate) fn where_cores_are_kept(document: &Document) -> Self {
        let (folder, command) = Self::whole(document);
        let command = keeping_cores(&command, folder.path());
        Self::spawn(folder, command)
    }

    /// As an operator runs it: the document in parts, and no word yet of lanes.
    #[track_caller]
    pub(crate) fn operated(document: &Document, ordinal: u16) -> Self {
        Self::operated_with(document, ordinal, "info")
    }

    /// The same, and it logs all there is.
    #[track_caller]
    pub(crate) fn traced(document: &Document) -> Self {
        Self::operated_with(document, 0, "trace,librdkafka=trace,rdkafka=trace")
    }

    #[track_caller]
    fn operated_with(document: &Document, ordinal: u16, log: &str) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        put(&folder, "settings.json", &json(&document.settings));
        put(&folder, "live.json", &json(&document.live));
        let mut command = Command::new(env!("CARGO_BIN_EXE_bridge-worker"));
        command.arg("run");
        for (flag, file) in [
            ("--settings", "settings.json"),
            ("--live", "live.json"),
            ("--record", "lanes.json"),
            ("--assignment", "assignment.json"),
        ] {
            command.arg(flag).arg(folder.path().join(file));
        }
        command
            .env("POD_NAME", format!("test-worker-{ordinal}"))
            .env("POD_UID", POD_UID)
            .env("MILLRACE_LOG", log);
        Self::spawn(folder, command)
    }

    #[track_caller]
    fn spawn(folder: tempfile::TempDir, mut command: Command) -> Self {
        let admin = Port::free();
        command.args(["--admin", &admin.address().to_string()]);
        Self {
            process: Process::spawn("bridge-worker", command),
            admin,
            folder,
        }
    }

    /// Another live configuration; returns its hash.
    pub(crate) fn reload(&self, live: &Live) -> String {
        self.reload_text(&json(live))
    }

    pub(crate) fn reload_text(&self, text: &str) -> String {
        put(&self.folder, "live.json", text);
        hash(text)
    }

    /// The record that all workers have.
    pub(crate) fn record(&self, record: &LaneRecord) {
        put(&self.folder, "lanes.json", &json(record));
    }

    /// What the pod's annotation says.
    pub(crate) fn assign(&self, assignment: &Assignment) {
        put(&self.folder, "assignment.json", &json(assignment));
    }

    /// These lanes for this pod.
    pub(crate) fn own(&self, generation: u64, lanes: &[u16]) {
        self.assign(&Assignment {
            generation,
            pod_uid: Some(POD_UID.into()),
            lanes: lanes.into(),
            leaving: Vec::new(),
        });
    }

    /// The status code of `/readyz`.
    #[track_caller]
    pub(crate) fn readyz(&self) -> u16 {
        let answer = self.ask("/readyz").expect("an answer");
        let code = answer.split_whitespace().nth(1);
        code.and_then(|code| code.parse().ok()).expect("a status code")
    }

    /// CPU time and memory so far.
    #[track_caller]
    pub(crate) fn usage(&self) -> Usage {
        self.process.usage().expect("a running worker")
    }

    /// What `/status` says; `None` while it does not answer.
    pub(crate) fn try_status(&self) -> Option<RouteStatus> {
        let answer = self.ask("/status")?;
        let (_, body) = answer.split_once("\r\n\r\n")?;
        let status: Status = serde_json::from_str(body).expect("the contract's status");
        status.routes.into_iter().next()
    }

    #[track_caller]
    pub(crate) fn status(&self) -> RouteStatus {
        self.try_status().expect("an answer of /status")
    }

    /// The value of a metric that has one series.
    #[track_caller]
    pub(crate) fn metric(&self, name: &str) -> f64 {
        let page = self.ask("/metrics").expect("an answer of /metrics");
        let line = page.lines().find(|line| line.starts_with(&format!("{name}{{")));
        let value = line.and_then(|line| line.rsplit(' ').next()?.parse().ok());
        value.unwrap_or_else(|| panic!("no {name} in {page}"))
    }

    /// A page as it is, headers included.
    #[track_caller]
    pub(crate) fn text(&self, path: &str) -> String {
        self.ask(path).expect("an answer")
    }

    /// All that it says to anybody.
    #[track_caller]
    pub(crate) fn texts(&self) -> [String; 4] {
        [
            self.process.stderr(),
            self.process.stdout(),
            self.text("/status"),
            self.text("/metrics"),
        ]
    }

    fn ask(&self, path: &str) -> Option<String> {
        let mut stream = TcpStream::connect(self.admin.address()).ok()?;
        stream.set_read_timeout(Some(DEADLINE)).ok()?;
        write!(
            stream,
            "GET {path} HTTP/1.1\r\nHost: worker\r\nConnection: close\r\n\r\n"
        )
        .ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        Some(answer)
    }

    /// Waits for a problem and returns its message.
    #[track_caller]
    pub(crate) fn wait_for_problem(&self, reason: Reason) -> String {
        let mut message = None;
        self.wait_for(&format!("the problem {reason:?}"), |status| {
            let mut problems = status.problems.iter();
            message = problems
                .find(|problem| problem.reason == reason)
                .map(|problem| problem.message.clone());
            message.is_some()
        });
        message.expect("it has been waited for")
    }

    #[track_caller]
    pub(crate) fn wait_for(&self, what: &str, mut condition: impl FnMut(&RouteStatus) -> bool) {
        let mut last = None;
        wait_until(DEADLINE, what, || {
            last = self.try_status();
            last.as_ref().is_some_and(&mut condition)
        });
    }
}

/// Puts a file in the place of another at once, as Kubernetes does.
fn put(folder: &tempfile::TempDir, name: &str, text: &str) {
    let new = folder.path().join(format!("{name}.new"));
    std::fs::write(&new, text).expect("a file");
    std::fs::rename(new, folder.path().join(name)).expect("a file in place");
}

fn json(value: &impl serde::Serialize) -> String {
    serde_json::to_string(value).expect("JSON")
}

fn hash(text: &str) -> String {
    let digest = sha2::Sha256::digest(text);
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}
