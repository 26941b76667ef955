//! The termination message: what a pod that has ended leaves for whoever started it.

use std::io;
use std::path::{Path, PathBuf};

use anyhow::Context as _;

/// Where Kubernetes looks for it.
const TERMINATION_LOG: &str = "/dev/termination-log";

/// Where a report goes.
#[derive(Debug, clap::Args)]
pub(super) struct Destination {
    /// Where the report is written, beside standard output. Default: /dev/termination-log, if it exists.
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
}

impl Destination {
    /// Writes the report.
    pub(super) fn write(&self, json: &str) -> anyhow::Result<()> {
        use io::Write as _;
        writeln!(io::stdout(), "{json}").context("cannot write to standard output")?;
        let file = match &self.report {
            Some(file) => file,
            None if Path::new(TERMINATION_LOG).exists() => Path::new(TERMINATION_LOG),
            None => return Ok(()),
        };
        std::fs::write(file, json).with_context(|| format!("cannot write the report {}", file.display()))
    }
}
