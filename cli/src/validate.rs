//! `millrace validate`.

use std::io::{self, IsTerminal};
use std::path::PathBuf;

use millrace_crds::Objects;

use crate::app::{self, ReportFormat, Validate};
use crate::exit::Exit;
use crate::{manifests, report};

/// Checks manifests and prints what it found.
pub(crate) fn main(args: &Validate) -> anyhow::Result<Exit> {
    let report = millrace_crds::validate(&manifests::read(&args.files)?);
    let text = match args.output {
        ReportFormat::Text => report::text(&report, colour(&io::stdout())),
        ReportFormat::Json => report::json(&report)?,
    };
    app::print(text.as_bytes())?;
    Ok(if report.has_errors() {
        Exit::Failed
    } else {
        Exit::Success
    })
}

/// Whether to print in colour: on a terminal, unless `NO_COLOR` is set (<https://no-color.org>).
pub(crate) fn colour(stream: &impl IsTerminal) -> bool {
    stream.is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// The objects of manifests, if they have no errors; else those are printed.
pub(crate) fn objects(files: &[PathBuf]) -> anyhow::Result<Option<Objects>> {
    let report = millrace_crds::validate(&manifests::read(files)?);
    if report.has_errors() {
        app::print(report::text(&report, false).as_bytes())?;
        return Ok(None);
    }
    Ok(Some(report.objects))
}
