//! A real `bridge-worker`, killed, ended and started again at will.

use super::http;
use super::{MEMORY, SOON};
use millrace_contract::Document;
use millrace_contract::status::{LaneState, Ledger, Problem, RouteStatus, Status};
use millrace_testkit::{Port, Process, wait_until};
use serde::Serialize;
use std::process::Command;
use tempfile::TempDir;

/// A worker with a document and an admin port that it keeps over restarts.
#[derive(Debug)]
pub struct Worker {
    folder: TempDir,
    /// What the process is told on its command line, besides where to listen.
    arguments: Vec<String>,
    /// Its number among the workers of the route, when it has one.
    ordinal: Option<u32>,
    admin: Port,
    process: Option<Process>,
    /// The most resident memory any of its processes has had, in bytes.
    peak: u64,
}

impl Worker {
    /// The only one of its route. Not started yet.
    #[track_caller]
    pub fn new<L: Serialize>(document: &Document<L>) -> Worker {
        Self::with(None, &[("--document", &serde_json::to_value(document))])
    }

    /// One of several of its route, as in a pod with that number. Not started yet.
    #[track_caller]
    pub fn numbered<L: Serialize>(document: &Document<L>, ordinal: u32) -> Worker {
        let nothing = Ok(serde_json::Value::Null);
        Self::with(
            Some(ordinal),
            &[
                ("--settings", &serde_json::to_value(&document.settings)),
                ("--live", &serde_json::to_value(&document.live)),
                ("--record", &nothing),
                ("--assignment", &nothing),
            ],
        )
    }

    fn with(ordinal: Option<u32>, files: &[(&str, &serde_json::Result<serde_json::Value>)]) -> Worker {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut arguments = Vec::new();
        for (option, content) in files {
            let path = folder
                .path()
                .join(option.trim_start_matches('-'))
                .with_extension("json");
            let content = content.as_ref().expect("a part of a document as JSON");
            if !content.is_null() {
                std::fs::write(&path, content.to_string()).expect("writing a part of the document");
            }
            arguments.extend([(*option).to_owned(), path.to_str().expect("a path").to_owned()]);
        }
        Worker {
            folder,
            arguments,
            ordinal,
            admin: Port::free(),
            process: None,
            peak: 0,
        }
    }

    /// Starts a process, and does not wait for it.
    #[track_caller]
    pub fn start(&mut self) {
        assert!(self.process.is_none(), "the worker is already running");
        let mut command = Command::new(env!("CARGO_BIN_EXE_bridge-worker"));
        command
            .arg("run")
            .args(&self.arguments)
            .arg("--admin")
            .arg(self.admin.address().to_string());
        if let Some(ordinal) = self.ordinal {
            command
                .env("POD_NAME", format!("tests-worker-{ordinal}"))
                .env("POD_UID", format!("uid-{ordinal}"));
        }
        self.process = Some(Process::spawn("bridge-worker", command));
    }

    /// [`Worker::start`], and waits until all lanes are subscribed.
    #[track_caller]
    pub fn start_and_wait(&mut self) {
        self.start();
        self.wait_up();
    }

    /// Waits until all lanes are subscribed.
    #[track_caller]
    pub fn wait_up(&self) {
        wait_until(SOON, "all lanes of the worker to be subscribed", || {
            self.try_status().is_some_and(|status| {
                status
                    .lanes
                    .iter()
                    .all(|lane| matches!(lane.state, LaneState::Up | LaneState::Idle))
            })
        });
    }

    /// SIGKILL.
    #[track_caller]
    pub fn kill(&mut self) {
        self.look_at_memory();
        self.process.take().expect("a running worker").kill();
    }

    /// SIGSTOP.
    #[track_caller]
    pub fn pause(&mut self) {
        self.process.as_mut().expect("a running worker").pause();
    }

    /// Lets it go on after [`Worker::pause`].
    #[track_caller]
    pub fn resume(&mut self) {
        self.process.as_mut().expect("a running worker").resume();
    }

    /// SIGTERM, and waits for the end, which must be one with nothing in flight. Returns the ledger it ended with.
    #[track_caller]
    pub fn terminate(&mut self) -> Ledger {
        self.look_at_memory();
        let mut process = self.process.take().expect("a running worker");
        process.terminate();
        let status = process.wait(SOON);
        let log = process.stderr();
        assert!(status.success(), "the worker ended with {status}:\n{log}");
        let ledger = last_ledger(&log).unwrap_or_else(|| panic!("no ledger at the end of\n{log}"));
        assert_eq!((ledger.balance(), ledger.in_flight), (0, 0), "{ledger:?}");
        ledger
    }

    /// What it says at `/status`.
    #[track_caller]
    pub fn status(&self) -> RouteStatus {
        self.try_status().expect("an answer from the worker's /status")
    }

    /// Of one that may have ended.
    pub fn try_status(&self) -> Option<RouteStatus> {
        let body = http::get(self.admin.address(), "/status").ok()?;
        let status: Status = serde_json::from_str(&body).expect("a status as the contract has it");
        status.routes.into_iter().next()
    }

    /// Waits until it is ready.
    #[track_caller]
    pub fn wait_ready(&self) {
        wait_until(SOON, "the worker to be ready", || {
            self.try_status().is_some_and(|status| status.ready)
        });
    }

    /// Partitions that it reads.
    pub fn partitions(&self) -> usize {
        let status = self.try_status().and_then(|status| status.delivery);
        status.map_or(0, |delivery| delivery.partitions.len())
    }

    /// Messages received and not yet acknowledged.
    #[track_caller]
    pub fn window(&self) -> u64 {
        self.status().lanes.iter().map(|lane| lane.window).sum()
    }

    /// Its problems.
    #[track_caller]
    pub fn problems(&self) -> Vec<Problem> {
        self.status().problems
    }

    /// Waits until nothing is in flight, checks that every message is accounted for, and returns where they went.
    #[track_caller]
    pub fn settled(&self) -> Ledger {
        wait_until(SOON, "nothing to be in flight", || {
            self.try_status().is_some_and(|status| {
                assert_eq!(status.ledger.balance(), 0, "{:?}", status.ledger);
                status.ledger.in_flight == 0
            })
        });
        self.status().ledger
    }

    /// The most resident memory any of its processes has had, in bytes.
    pub fn peak_memory(&mut self) -> u64 {
        self.look_at_memory();
        self.peak
    }

    /// # Panics
    /// When it has ever had more than [`MEMORY`].
    #[track_caller]
    pub fn assert_memory_in_bounds(&mut self) {
        let peak = self.peak_memory();
        assert!(peak <= MEMORY, "the worker took {} MiB", peak >> 20);
    }

    /// The id of the running process.
    #[track_caller]
    pub fn pid(&self) -> u32 {
        self.process.as_ref().expect("a running worker").pid()
    }

    /// What the running process has logged.
    pub fn log(&self) -> String {
        self.process.as_ref().map(Process::stderr).unwrap_or_default()
    }

    fn look_at_memory(&mut self) {
        if let Some(usage) = self.process.as_ref().and_then(Process::usage) {
            self.peak = self.peak.max(usage.peak_rss_bytes);
        }
    }
}

/// The ledger in the last line of a log: `"ledger":"Ledger { received: 1, ... }"`.
fn last_ledger(log: &str) -> Option<Ledger> {
    let line = log.lines().rfind(|line| line.contains("Ledger {"))?;
    let count = |name: &str| -> Option<u64> {
        let (_, rest) = line.split_once(&format!(" {name}: "))?;
        let digits = rest.split(|c: char| !c.is_ascii_digit()).next()?;
        digits.parse().ok()
    };
    Some(Ledger {
        received: count("received")?,
        written: count("written")?,
        filtered: count("filtered")?,
        dead_lettered: count("dead_lettered")?,
        discarded: count("discarded")?,
        expired: count("expired")?,
        repeats: count("repeats")?,
        returned: count("returned")?,
        dropped: count("dropped")?,
        in_flight: count("in_flight")?,
    })
}
