//! A worker in a process of its own, for tests of its memory and its signals.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;

use millrace_contract::Document;
use millrace_contract::status::{RouteStatus, Status};
use millrace_testkit::{Port, Process, Usage, wait_until};

use super::DEADLINE;

/// `bridge-worker run` in a process of its own.
pub(crate) struct WorkerProcess {
    pub(crate) process: Process,
    admin: Port,
    _folder: tempfile::TempDir,
}

impl WorkerProcess {
    #[track_caller]
    pub(crate) fn start(document: &Document) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let file = folder.path().join("document.json");
        std::fs::write(&file, serde_json::to_vec(document).expect("JSON")).expect("a file");
        let admin = Port::free();
        let mut command = Command::new(env!("CARGO_BIN_EXE_bridge-worker"));
        command.arg("run").arg("--document").arg(&file);
        command.args(["--admin", &admin.address().to_string()]);
        Self {
            process: Process::spawn("bridge-worker", command),
            admin,
            _folder: folder,
        }
    }

    /// CPU time and memory so far.
    #[track_caller]
    pub(crate) fn usage(&self) -> Usage {
        self.process.usage().expect("a running worker")
    }

    /// What `/status` says; `None` while it does not answer.
    pub(crate) fn try_status(&self) -> Option<RouteStatus> {
        let mut stream = TcpStream::connect(self.admin.address()).ok()?;
        stream.set_read_timeout(Some(DEADLINE)).ok()?;
        stream
            .write_all(b"GET /status HTTP/1.1\r\nHost: worker\r\nConnection: close\r\n\r\n")
            .ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        let (_, body) = answer.split_once("\r\n\r\n")?;
        let status: Status = serde_json::from_str(body).expect("the contract's status");
        status.routes.into_iter().next()
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
