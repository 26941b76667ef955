use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use millrace_contract::probe::Request;

use super::read_json;
use super::report::Destination;
use crate::probe::{all_well, fit, probe};

/// Arguments of `bridge-worker probe`.
#[derive(Debug, clap::Args)]
pub(super) struct Probe {
    /// What is to be tried (JSON).
    #[arg(long, value_name = "FILE")]
    request: PathBuf,
    /// How long each side may take: `20s`.
    #[arg(long, value_name = "TIME", default_value = "20s", value_parser = super::time)]
    timeout: Duration,
    #[command(flatten)]
    destination: Destination,
}

impl Probe {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        let request: Request = read_json(&self.request, "the request of a probe")?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let report = runtime.block_on(probe(request, self.timeout));
        let is_well = all_well(&report);
        self.destination.write(&fit(report))?;
        Ok(if is_well {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        })
    }
}
