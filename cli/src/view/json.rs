//! The state of routes as JSON lines, for whatever reads them: one object per line.

use millrace_contract::status::{Phase, Problem, RouteStatus};
use serde::Serialize;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};

/// Why a line was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Event {
    /// Time has passed.
    Status,
    /// A phase or a problem has changed.
    Changed,
    /// The routes are stopping.
    Draining,
    /// All routes have ended. The last line.
    Ended,
}

/// One line.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct JsonLine<'a> {
    /// RFC 3339, UTC.
    pub(crate) time: String,
    /// Why it was written.
    pub(crate) event: Event,
    /// Messages received and not yet accounted for, over all routes; in the last line those left at the broker.
    pub(crate) waiting: u64,
    /// The code that the process will return, in the last line.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) exit_code: Option<u8>,
    /// The routes, as `/status` shows them.
    pub(crate) routes: &'a [RouteStatus],
}

/// The time now, RFC 3339.
pub(crate) fn now() -> String {
    let mut time = String::new();
    // Writing to a string cannot fail; an empty time would be a visible gap, not a wrong one.
    SystemTime.format_time(&mut Writer::new(&mut time)).ok();
    time
}

/// What of the routes is worth a line of its own when it changes.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Remarkable(Vec<(Phase, Vec<Problem>)>);

impl Remarkable {
    /// Of these routes.
    pub(crate) fn of(routes: &[RouteStatus]) -> Self {
        Self(
            routes
                .iter()
                .map(|route| (route.phase, route.problems.clone()))
                .collect(),
        )
    }
}
