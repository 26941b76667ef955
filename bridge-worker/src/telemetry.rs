//! Logs: for people on a terminal, JSON lines for everything else, always on standard error.

use std::fmt;
use std::io::{self, IsTerminal};
use std::time::{SystemTime, UNIX_EPOCH};

use clap::ValueEnum;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::FormatTime;
use tracing_subscriber::util::SubscriberInitExt;

/// Environment variables that hold a filter, the first that is set wins.
const FILTER_VARIABLES: [&str; 2] = ["MILLRACE_LOG", "RUST_LOG"];

/// What libraries may say unless the filter names them: librdkafka reports each connection attempt at `info`.
const LIBRARIES: &str = "librdkafka=warn,rdkafka=warn,rumqttc=warn,mqtt5=warn,hyper=warn";

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// Pretty on a terminal, else JSON.
    #[default]
    Auto,
    /// One line of text for people.
    Pretty,
    /// One JSON object per line.
    Json,
}

/// Why logging could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The filter in the environment is not one.
    #[error("{variable} is not a log filter such as `info` or `warn,bridge_worker=debug`")]
    Filter {
        /// The variable that holds it.
        variable: &'static str,
        /// What is wrong with it.
        source: tracing_subscriber::filter::ParseError,
    },
    /// Something else has set up logging in this process.
    #[error("logging is already set up")]
    Taken(#[from] tracing_subscriber::util::TryInitError),
}

/// Sets up logging to standard error for this process. `default_level` is a filter (`info`) that applies when
/// neither `MILLRACE_LOG` nor `RUST_LOG` is set.
pub fn init(format: LogFormat, default_level: &str) -> Result<(), TelemetryError> {
    init_to(format, default_level, io::stderr().is_terminal(), io::stderr)
}

/// As [`init`], to another place than standard error: a live view, which has to redraw itself around each line.
pub fn init_to<W>(format: LogFormat, default_level: &str, terminal: bool, to: W) -> Result<(), TelemetryError>
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter(default_level)?)
        .with_writer(to);
    if is_json(format, terminal) {
        lines.json().flatten_event(true).finish().try_init()?;
    } else {
        lines
            .compact()
            .with_ansi(terminal)
            .with_timer(TimeOfDay)
            .with_target(false)
            .finish()
            .try_init()?;
    }
    Ok(())
}

fn is_json(format: LogFormat, terminal: bool) -> bool {
    match format {
        LogFormat::Auto => !terminal,
        LogFormat::Pretty => false,
        LogFormat::Json => true,
    }
}

fn filter(default_level: &str) -> Result<EnvFilter, TelemetryError> {
    let set = FILTER_VARIABLES
        .iter()
        .find_map(|variable| Some((*variable, std::env::var(variable).ok()?)));
    let (variable, wanted) = set.unwrap_or((FILTER_VARIABLES[0], default_level.to_owned()));
    // The last directive for a target wins, so a user can still ask for the libraries' lines.
    EnvFilter::try_new(format!("{LIBRARIES},{wanted}"))
        .map_err(|source| TelemetryError::Filter { variable, source })
}

/// `14:03:07.512`, in UTC: the date is of no use to someone who watches.
struct TimeOfDay;

impl FormatTime for TimeOfDay {
    fn format_time(&self, w: &mut Writer<'_>) -> fmt::Result {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        write!(w, "{}", time_of_day(now.as_secs(), now.subsec_millis()))
    }
}

fn time_of_day(unix_seconds: u64, millis: u32) -> String {
    let of_day = unix_seconds % 86_400;
    format!(
        "{:02}:{:02}:{:02}.{millis:03}",
        of_day / 3_600,
        of_day / 60 % 60,
        of_day % 60
    )
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use tracing_subscriber::util::SubscriberInitExt;

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn text_goes_to_terminals_and_json_elsewhere_unless_told() {
        assert!(is_json(LogFormat::Auto, false) && !is_json(LogFormat::Auto, true));
        assert!(is_json(LogFormat::Json, true) && !is_json(LogFormat::Pretty, false));
    }

    #[test]
    fn librdkafka_is_heard_from_warnings_on() {
        let lines = Lines::default();
        let to = lines.clone();
        let _guard = tracing_subscriber::fmt()
            .with_env_filter(EnvFilter::try_new(format!("{LIBRARIES},info")).unwrap())
            .with_writer(move || to.clone())
            .json()
            .finish()
            .set_default();
        tracing::info!(target: "librdkafka", "broker up");
        tracing::warn!(target: "librdkafka", "broker down");
        tracing::info!("lane up");
        let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
        assert!(text.contains("broker down") && text.contains("lane up"), "{text}");
        assert!(!text.contains("broker up"), "{text}");
    }

    #[test]
    fn the_time_is_the_time_of_day() {
        assert_eq!(
            time_of_day(86_400 * 20_000 + 3_600 * 14 + 3 * 60 + 7, 5),
            "14:03:07.005"
        );
    }
}
