//! What a pod says of its worker before the worker is asked, and whose answer it was. Pure.

use millrace_contract::status::{RouteStatus, Status};
use millrace_operator::observed::PodSeen;

use super::error::AskError;

/// Why nothing can be asked of it.
pub(crate) fn unable(pod: &PodSeen) -> Option<String> {
    if let Some((reason, message)) = &pod.waiting {
        return Some(format!("{reason}: {message}; {}", pod.way_out()));
    }
    if let Some(why) = &pod.unschedulable {
        return Some(format!("no node takes it: {why}"));
    }
    if pod.finished {
        return Some("it has come to an end".to_owned());
    }
    pod.ip.is_none().then(|| "its pod is being started".to_owned())
}

/// What an answer says of a route.
pub(crate) fn own(status: Status, namespace: &str, route: &str) -> Result<RouteStatus, AskError> {
    let is_own = |status: &RouteStatus| status.namespace == namespace && status.name == route;
    let own = status.routes.into_iter().find(is_own);
    own.ok_or_else(|| AskError::Failed("the process there runs another route".to_owned()))
}
