use super::DEADLINE;

/// The API server did not do what was asked of it.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// It refused, or could not be reached.
    #[error("{verb}: {}", said(error))]
    Call {
        /// What was asked.
        verb: &'static str,
        /// What came of it.
        error: Box<kube::Error>,
    },
    /// It did not answer in time.
    #[error("{verb}: no answer from the API server within {} s", DEADLINE.as_secs())]
    Late {
        /// What was asked.
        verb: &'static str,
    },
    /// An object of another owner has the name.
    #[error(
        "{kind} {name} exists and belongs to somebody else: rename or remove it, or give the route another name"
    )]
    NameTaken {
        /// Its kind.
        kind: &'static str,
        /// Its name.
        name: String,
    },
}

/// What a person can use of it: kube prints an answer of the API server with all its fields.
fn said(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => format!("{} ({} {})", status.message, status.code, status.reason),
        other => other.to_string(),
    }
}

impl ClusterError {
    /// The object is not there (any more).
    pub fn is_gone(&self) -> bool {
        self.code() == Some(404)
    }

    /// Somebody else has written the object meanwhile, or it is another one.
    pub fn is_conflict(&self) -> bool {
        self.code() == Some(409)
    }

    /// Nothing can be made in a namespace that is being deleted.
    pub fn is_namespace_terminating(&self) -> bool {
        match self {
            Self::Call { error, .. } => match error.as_ref() {
                kube::Error::Api(status) => {
                    status.code == 403
                        && (status.message.contains("being terminated")
                            || status.details.as_ref().is_some_and(|details| {
                                details
                                    .causes
                                    .iter()
                                    .any(|cause| cause.reason == "NamespaceTerminating")
                            }))
                }
                _ => false,
            },
            _ => false,
        }
    }

    /// What was asked is forbidden or invalid, and will be until somebody changes something: in the API server's words.
    pub fn refusal(&self) -> Option<&str> {
        match self {
            _ if self.is_namespace_terminating() => None,
            Self::Call { error, .. } => match error.as_ref() {
                kube::Error::Api(status) if matches!(status.code, 400 | 403 | 422) => Some(&status.message),
                _ => None,
            },
            _ => None,
        }
    }

    /// One word for metrics: of a small, fixed set.
    pub fn category(&self) -> &'static str {
        match (self, self.code()) {
            (Self::Late { .. }, _) => "timeout",
            (Self::NameTaken { .. }, _) => "name_taken",
            (_, Some(404)) => "not_found",
            (_, Some(409)) => "conflict",
            (_, Some(401 | 403)) => "forbidden",
            (_, Some(400 | 422)) => "invalid",
            (_, Some(429)) => "throttled",
            (_, Some(_)) => "server_error",
            (_, None) => "connection",
        }
    }

    fn code(&self) -> Option<u16> {
        match self {
            Self::Call { error, .. } => match error.as_ref() {
                kube::Error::Api(status) => Some(status.code),
                _ => None,
            },
            _ => None,
        }
    }
}

/// The innermost cause: "connection refused" says more than "client error".
pub fn source_of(error: &dyn std::error::Error) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}
