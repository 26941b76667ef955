//! Runs the matrix: starts the parts of each run, measures the bridge in the middle, judges the medians.

pub mod bridge;
pub mod cases;
mod delivery;
pub mod document;
pub mod part;
mod real;
pub mod report;
pub mod sample;
pub mod synthetic;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail};

use bridge::Lab;
use cases::{Case, Plan};
use real::Site;
use report::Outcome;
use sample::{Sample, Subject};

/// What is run.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// Only these cases.
    #[arg(long, value_delimiter = ',')]
    pub only: Vec<String>,
    /// Runs of each case; the median counts.
    #[arg(long, default_value_t = 5)]
    pub runs: usize,
    /// Seconds measured in a run.
    #[arg(long, default_value_t = 4)]
    pub secs: u64,
    /// One run of 2 s each, and a short outage.
    #[arg(long)]
    pub quick: bool,
    /// Which bridges are run.
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = [Subject::Worker, Subject::Contender])]
    pub subjects: Vec<Subject>,
    /// Exit with success when a target is missed.
    #[arg(long)]
    pub no_fail: bool,
    /// The worker. Default: `bridge-worker` beside this binary.
    #[arg(long)]
    pub worker: Option<PathBuf>,
    /// Where `results.json` and the logs go.
    #[arg(long, default_value = "target/bench")]
    pub output: PathBuf,
}

/// How long a run lasts.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// Before the measured interval.
    pub warm: Duration,
    /// The measured interval.
    pub measure: Duration,
}

/// Runs the matrix, prints the table, writes `results.json`. [`ExitCode::FAILURE`]: a target was missed.
pub fn run(options: &Options) -> anyhow::Result<ExitCode> {
    let selected = select(cases::all(options.quick), &options.only)?;
    let lab = lab(options)?;
    let mut outcomes = Vec::new();
    let mut site = None;
    for case in &selected {
        if !case.plan.needs_kafka() {
            site = None; // Kafka ends, and takes no CPU time from the others
        }
        outcomes.push(measure(case, &lab, &mut site, options)?);
    }
    println!("\n{}", report::render(&outcomes));
    let path = options.output.join("results.json");
    std::fs::write(&path, serde_json::to_vec_pretty(&outcomes)?)
        .with_context(|| format!("cannot write {}", path.display()))?;
    let held = outcomes.iter().all(Outcome::holds);
    Ok(if held || options.no_fail {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn select(cases: Vec<Case>, only: &[String]) -> anyhow::Result<Vec<Case>> {
    let names: Vec<&str> = cases.iter().map(|case| case.name).collect();
    if let Some(unknown) = only.iter().find(|name| !names.contains(&name.as_str())) {
        bail!("no case {unknown:?}; cases: {}", names.join(", "));
    }
    Ok(cases
        .into_iter()
        .filter(|case| only.is_empty() || only.iter().any(|name| name == case.name))
        .collect())
}

fn lab(options: &Options) -> anyhow::Result<Lab> {
    let bench = std::env::current_exe().context("cannot find this binary")?;
    let worker = options
        .worker
        .clone()
        .unwrap_or_else(|| bench.with_file_name("bridge-worker"));
    if options.subjects.contains(&Subject::Worker) && !worker.exists() {
        bail!(
            "there is no {}; build it with: cargo build --release -p bridge-worker",
            worker.display()
        );
    }
    let logs = options.output.join("logs");
    std::fs::create_dir_all(&logs).with_context(|| format!("cannot create {}", logs.display()))?;
    Ok(Lab { bench, worker, logs })
}

/// All runs of a case. Worker and contender take turns, and take turns at being first, so that both see the same machine.
fn measure(case: &Case, lab: &Lab, site: &mut Option<Site>, options: &Options) -> anyhow::Result<Outcome> {
    let runs = if case.once || options.quick {
        1
    } else {
        options.runs
    };
    let secs = if options.quick { 2 } else { options.secs };
    let timing = Timing {
        warm: Duration::from_millis(1500),
        measure: Duration::from_secs(secs),
    };
    let mut samples = Vec::new();
    for run in 1..=runs {
        let mut subjects = options.subjects.clone();
        if run % 2 == 0 {
            subjects.reverse();
        }
        for subject in subjects {
            if subject == Subject::Contender && !case.plan.has_contender() {
                continue;
            }
            let context = || {
                format!(
                    "case {}, run {run}, {subject:?}; logs: {}",
                    case.name,
                    lab.logs.display()
                )
            };
            let sample = match &case.plan {
                Plan::Synthetic(load) => synthetic::run(lab, load, subject, timing),
                Plan::Outage { load, down } => synthetic::run_outage(lab, load, subject, timing, *down),
                Plan::Real { rate } => site
                    .get_or_insert_with(Site::start)
                    .run(lab, *rate, subject, timing),
                Plan::Tls { rate } => site
                    .get_or_insert_with(Site::start)
                    .run_with_tls(lab, *rate, subject, timing),
                Plan::Delivery { real } => site
                    .get_or_insert_with(Site::start)
                    .deliver(lab, *real, subject, timing),
            }
            .with_context(context)?;
            eprintln!("{} {run}/{runs} {}", case.name, line(case, &sample));
            samples.push(sample);
        }
    }
    Ok(Outcome::new(case, samples))
}

/// A run on one line, so that one sees that it goes on.
fn line(case: &Case, sample: &Sample) -> String {
    let mut line = format!(
        "{}: {:.0}/s, {:.2} us/message, p50 {} p99 {} us, {:.1} MiB",
        case.columns.name(sample.subject),
        sample.messages as f64 / sample.seconds,
        sample.cpu_seconds * 1e6 / sample.messages.max(1) as f64,
        sample.latency_us.p50,
        sample.latency_us.p99,
        sample.peak_mib,
    );
    if let Some(acks) = sample.acks_per_read {
        line += &format!(", {acks:.1} acks per read");
    }
    if let Some(own) = sample.reported_latency {
        line += &format!(", receipt to report p50 {} p99 {} us", own.p50_us, own.p99_us);
    }
    for violation in &sample.violations {
        line += &format!("; {violation}");
    }
    line
}
