//! The parts of the benchmark that are this binary in a process of its own.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use anyhow::Context as _;
use serde::de::DeserializeOwned;

/// How long a part may take to answer.
const ANSWER: Duration = Duration::from_secs(20);

/// A part: takes commands, answers with one JSON object a line. Dropping it ends it.
#[derive(Debug)]
pub struct Part {
    name: String,
    child: Child,
    commands: ChildStdin,
    answers: Receiver<String>,
}

impl Part {
    /// Starts `bench` (this binary) with `arguments`, the first of which is the part's name.
    pub fn start(bench: &Path, arguments: &[String], logs: &Path) -> anyhow::Result<Self> {
        let name = arguments.first().cloned().unwrap_or_default();
        let mut child = Command::new(bench)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(File::create(logs.join(format!("{name}.log")))?)
            .spawn()
            .with_context(|| format!("cannot start the {name} part"))?;
        let commands = child.stdin.take().context("standard input is piped")?;
        let output = BufReader::new(child.stdout.take().context("standard output is piped")?);
        let (lines, answers) = channel();
        std::thread::spawn(move || {
            output
                .lines()
                .map_while(Result::ok)
                .try_for_each(|line| lines.send(line))
        });
        Ok(Self {
            name,
            child,
            commands,
            answers,
        })
    }

    /// The next line it prints.
    pub fn answer<T: DeserializeOwned>(&self) -> anyhow::Result<T> {
        let line = self.answers.recv_timeout(ANSWER);
        let line = line.with_context(|| format!("the {} part did not answer; see its log", self.name))?;
        serde_json::from_str(&line).with_context(|| format!("the {} part answered {line:?}", self.name))
    }

    /// Gives a command and reads the answer.
    pub fn ask<T: DeserializeOwned>(&mut self, command: &str) -> anyhow::Result<T> {
        writeln!(self.commands, "{command}").with_context(|| format!("the {} part has ended", self.name))?;
        self.answer()
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        // Both fail only for a process that has ended and been waited for.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
