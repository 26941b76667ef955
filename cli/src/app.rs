//! The command line.

use std::ffi::OsString;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{CommandFactory, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use millrace_crds::units::GepDuration;

use crate::check_route::HostPort;
use crate::exit::{self, Exit};
use crate::top::choose::Sort;
use crate::view::output::OutputFormat;
use crate::{check_route, demo, redrive, run, sizing, top, validate};

/// Moves messages from MQTT to Kafka, and acknowledges only what Kafka has.
#[derive(Debug, Parser)]
#[command(name = "millrace", version, after_help = exit::HELP, subcommand_required = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Check manifests without a cluster, as the API server would and then what it cannot.
    Validate(Validate),
    /// Say what routes will be like before they are applied: lanes per worker, windows, memory, partitions. Needs no cluster.
    Plan(Plan),
    /// Run the routes of manifests on this machine, without Kubernetes.
    Run(Run),
    /// See how routes do now: in a cluster, or in a process of this machine.
    Top(Top),
    /// Send dead letters of a route through it again, once what was wrong is corrected. Looks only, unless --execute is
    /// given.
    Redrive(Redrive),
    /// See it work: broker, Kafka and plants in one process, and a count that shows that nothing is lost.
    Demo(Demo),
    /// Be MQTT broker and Kafka for a route that runs elsewhere, and see whether a message gets through it. What
    /// `helm test` runs.
    #[command(hide = true)]
    CheckRoute(CheckRoute),
    /// Print the CustomResourceDefinitions as YAML, for `kubectl apply -f -`.
    Crds,
    /// Print a completion script for a shell.
    Completions {
        /// The shell.
        shell: Shell,
    },
}

/// Arguments of `millrace validate`.
#[derive(Debug, clap::Args)]
pub(crate) struct Validate {
    /// Manifests: files, directories (their *.yaml, *.yml and *.json), or `-` for standard input.
    #[arg(required = true, value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,
    /// How findings are printed.
    #[arg(long, value_enum, default_value_t)]
    pub(crate) output: ReportFormat,
}

/// Arguments of `millrace plan`.
#[derive(Debug, clap::Args)]
pub(crate) struct Plan {
    /// Manifests: files, directories (their *.yaml, *.yml and *.json), or `-` for standard input.
    #[arg(required = true, value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,
    /// Messages per second of each route.
    #[arg(long, value_name = "N")]
    pub(crate) rate: Option<u32>,
    /// How it is printed.
    #[arg(long, value_enum, default_value_t)]
    pub(crate) output: ReportFormat,
}

/// Arguments of `millrace run`.
#[derive(Debug, clap::Args)]
pub(crate) struct Run {
    /// Manifests: files, directories (their *.yaml, *.yml and *.json), or `-` for standard input.
    #[arg(short = 'f', long = "file", required = true, value_name = "FILE", num_args = 1..)]
    pub(crate) files: Vec<PathBuf>,
    /// Tells this machine's MQTT sessions from those of another one that runs the same manifests. Keep it: sessions
    /// are found again by it.
    #[arg(long, default_value = "default", value_name = "NAME")]
    pub(crate) instance: String,
    /// Where Secrets are: a file DIR/<secret>/<key> per value, as Kubernetes mounts them. A value that is not there
    /// is taken from the environment variable MILLRACE_SECRET_<SECRET>_<KEY>.
    #[arg(long, value_name = "DIR")]
    pub(crate) secret_dir: Option<PathBuf>,
    /// Serve /livez, /readyz, /status and /metrics at this address, such as 127.0.0.1:9090.
    #[arg(long, value_name = "ADDR")]
    pub(crate) admin: Option<SocketAddr>,
    /// How the state of routes is shown.
    #[arg(long, value_enum, default_value_t)]
    pub(crate) output: OutputFormat,
}

/// Arguments of `millrace redrive`.
#[derive(Debug, clap::Args)]
pub(crate) struct Redrive {
    /// Manifests: files, directories (their *.yaml, *.yml and *.json), or `-` for standard input.
    #[arg(required = true, value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,
    /// The route whose dead letters these are.
    #[arg(long, value_name = "[NAMESPACE/]NAME")]
    pub(crate) route: String,
    /// Only letters with this reason (header millrace.error.reason). May be given several times.
    #[arg(long = "reason", value_name = "REASON")]
    pub(crate) reasons: Vec<String>,
    /// Deliver them. Letters that were delivered are passed over the next time.
    #[arg(long)]
    pub(crate) execute: bool,
    /// Pass over letters that still fail, instead of stopping at the first.
    #[arg(long)]
    pub(crate) skip_failing: bool,
    /// Letters per second.
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) rate: u32,
    /// At most so many letters.
    #[arg(long, value_name = "N")]
    pub(crate) limit: Option<u64>,
    /// Where Secrets are, as for `millrace run`.
    #[arg(long, value_name = "DIR")]
    pub(crate) secret_dir: Option<PathBuf>,
}

/// Arguments of `millrace top`.
#[derive(Debug, clap::Args)]
pub(crate) struct Top {
    /// The routes to show. Default: all.
    #[arg(value_name = "ROUTE")]
    pub(crate) routes: Vec<String>,
    /// Routes of this namespace. Default: the namespace of the kubeconfig's context.
    #[arg(short, long, value_name = "NAME")]
    pub(crate) namespace: Option<String>,
    /// Routes of all namespaces.
    #[arg(short = 'A', long, conflicts_with = "namespace")]
    pub(crate) all_namespaces: bool,
    /// The context of the kubeconfig. Default: the current one.
    #[arg(long, value_name = "NAME")]
    pub(crate) context: Option<String>,
    /// The kubeconfig. Default: as kubectl finds it.
    #[arg(long, value_name = "FILE")]
    pub(crate) kubeconfig: Option<PathBuf>,
    /// Ask the process at this admin address instead of a cluster: a `millrace run --admin`, or a worker whose port is
    /// forwarded.
    #[arg(
        long,
        value_name = "HOST:PORT",
        conflicts_with_all = ["namespace", "all_namespaces", "context", "kubeconfig"]
    )]
    pub(crate) admin: Option<HostPort>,
    /// Which routes come first.
    #[arg(long, value_enum, default_value_t)]
    pub(crate) sort: Sort,
    /// How often a terminal's table is painted anew.
    #[arg(long, value_name = "TIME", default_value = "2s", value_parser = interval)]
    pub(crate) interval: Duration,
    /// Print the table once, also on a terminal. Elsewhere it is always printed once.
    #[arg(long)]
    pub(crate) once: bool,
    /// How routes are shown.
    #[arg(long, value_enum, default_value_t)]
    pub(crate) output: TopFormat,
}

/// How `millrace top` shows routes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum TopFormat {
    /// A table, live on a terminal.
    #[default]
    Table,
    /// A JSON object for each route, once.
    Json,
}

/// Arguments of `millrace demo`.
#[derive(Debug, clap::Args)]
pub(crate) struct Demo {
    /// How long the plants publish.
    #[arg(long, default_value = "20s", value_name = "TIME", value_parser = duration)]
    pub(crate) duration: Duration,
    /// Messages per second, of all plants together.
    #[arg(long, default_value_t = 2_000, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=50_000))]
    pub(crate) rate: u64,
    /// How many plants publish, each with an MQTT connection of its own.
    #[arg(long, default_value_t = 3, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=50))]
    pub(crate) plants: u32,
    /// Serve /livez, /readyz, /status and /metrics at this address. Default: a free port of 127.0.0.1.
    #[arg(long, value_name = "ADDR")]
    pub(crate) admin: Option<SocketAddr>,
    /// How the state of routes is shown.
    #[arg(long, value_enum, default_value_t)]
    pub(crate) output: OutputFormat,
    /// Overlook one record when reading back: the verdict must see it.
    #[arg(long, hide = true)]
    pub(crate) lose_one: bool,
}

/// Arguments of `millrace check-route`.
#[derive(Debug, clap::Args)]
pub(crate) struct CheckRoute {
    /// Where the MQTT broker listens.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:1883")]
    pub(crate) mqtt: SocketAddr,
    /// Where Kafka listens.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:9092")]
    pub(crate) kafka: SocketAddr,
    /// How the route's workers reach Kafka. Default: where it listens.
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) advertise: Option<HostPort>,
    /// Where messages are published.
    #[arg(long, value_name = "TOPIC", default_value = "millrace/test")]
    pub(crate) mqtt_topic: String,
    /// Where they must arrive.
    #[arg(long, value_name = "TOPIC", default_value = "millrace-test")]
    pub(crate) kafka_topic: String,
    /// How long to wait for the first message that gets through.
    #[arg(long, value_name = "TIME", default_value = "3m", value_parser = duration)]
    pub(crate) timeout: Duration,
}

/// A duration as manifests write it.
fn duration(text: &str) -> Result<Duration, String> {
    GepDuration::new(text).parse().map_err(|error| error.to_string())
}

/// An interval that leaves workers time for their work.
fn interval(text: &str) -> Result<Duration, String> {
    let interval = duration(text)?;
    if interval < Duration::from_millis(500) {
        return Err("at least 500ms: every worker that is shown is asked each time".to_owned());
    }
    Ok(interval)
}

/// How findings are printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum ReportFormat {
    /// A line per finding, as compilers do.
    #[default]
    Text,
    /// One JSON object.
    Json,
}

/// Parses the command line and does what it says.
pub(crate) fn main(args: impl IntoIterator<Item = OsString>) -> anyhow::Result<Exit> {
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(error) => {
            error.print()?;
            return Ok(if error.use_stderr() {
                Exit::Usage
            } else {
                Exit::Success
            });
        }
    };
    match cli.command {
        Command::Validate(args) => validate::main(&args),
        Command::Plan(args) => sizing::main(&args),
        Command::Run(args) => run::main(&args),
        Command::Redrive(args) => redrive::main(&args),
        Command::Top(args) => top::main(&args),
        Command::Demo(args) => demo::main(&args),
        Command::CheckRoute(args) => check_route::main(&args),
        Command::Crds => print(millrace_crds::crd_yaml()?.as_bytes()),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "millrace", &mut script);
            print(&script)
        }
    }
}

/// Writes to standard output; a reader that has read enough (`| head`) is no error.
pub(crate) fn print(text: &[u8]) -> anyhow::Result<Exit> {
    let mut out = io::stdout().lock();
    match out.write_all(text).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(Exit::Success),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_help_lists_every_exit_code() {
        let all = [
            Exit::Success,
            Exit::Failed,
            Exit::MessagesLeft,
            Exit::RouteStopped,
            Exit::Usage,
        ];
        for exit in all {
            assert!(
                exit::HELP.contains(&format!("\n{:>4}  ", exit.code())),
                "{exit:?}"
            );
        }
    }
}
