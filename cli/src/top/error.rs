use std::time::Duration;

/// Why nothing can be shown.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TopError {
    /// No API server to ask.
    #[error(
        "no cluster is known: {0}. Name a kubeconfig with --kubeconfig or KUBECONFIG, or the admin address of a \
         `millrace run` with --admin"
    )]
    NoCluster(String),
    /// It does not answer.
    #[error(
        "the API server {url} cannot be asked: {why}. Does `kubectl --context` with the same context reach it?"
    )]
    Unreachable {
        /// Where it is.
        url: String,
        /// What came of it.
        why: String,
    },
    /// It does not allow something.
    #[error(
        "{resource} {scope} may not be read by this user: a Role needs the rule {{apiGroups: [{group:?}], resources: \
         [{resource}], verbs: [{verb}]}}{hint} (the API server: {said})"
    )]
    Forbidden {
        /// The API group.
        group: &'static str,
        /// The resource, as rules name it.
        resource: &'static str,
        /// The verb.
        verb: &'static str,
        /// In a namespace, or in all.
        scope: String,
        /// Where the rule comes from usually.
        hint: &'static str,
        /// What the API server said.
        said: String,
    },
    /// The cluster does not know routes.
    #[error(
        "the cluster has no TopicRoutes: is Millrace installed there? `kubectl apply -f crds/` brings the kinds"
    )]
    NoKind,
    /// It refuses for another reason.
    #[error("the API server does not list {resource}: {said}")]
    Refused {
        /// What.
        resource: &'static str,
        /// What it said.
        said: String,
    },
    /// A process without Kubernetes does not answer.
    #[error("http://{address}/status: {why}. Is it the address that `millrace run --admin` was given?")]
    Admin {
        /// Where.
        address: String,
        /// What came of it.
        why: String,
    },
}

/// Why a process did not tell its status.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AskError {
    /// The API server does not allow it.
    #[error("the API server does not allow it: {0}")]
    Forbidden(String),
    /// It took too long.
    #[error("no answer within {} s", .0.as_secs())]
    Late(Duration),
    /// It answered something else.
    #[error("{0}")]
    Failed(String),
}
