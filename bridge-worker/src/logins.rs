//! The user name and password of a route's lanes: the one that works, and what the files say now.

use std::sync::{Mutex, MutexGuard, PoisonError};

use millrace_contract::status::{Problem, Reason};
use millrace_contract::{Credentials, Value};

use crate::mqtt::{ConnectError, Login};

/// The user name and password of a route's lanes.
#[derive(Debug)]
pub(crate) struct Logins {
    credentials: Option<Credentials>,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    /// The last that has worked, kept in memory: files may change to what does not.
    good: Option<Login>,
    /// Grows with every other login that works.
    revision: u64,
    taken_over: u64,
    refused: u64,
    problem: Option<Problem>,
}

/// What a connection is attempted with. `None`: the broker asks for nothing.
#[derive(Clone, Debug)]
pub(crate) struct Attempt(pub(crate) Option<Login>);

impl Logins {
    pub(crate) fn new(credentials: Option<Credentials>) -> Self {
        Self {
            credentials,
            inner: Mutex::default(),
        }
    }

    /// Whether they can change while the process runs.
    pub(crate) fn can_change(&self) -> bool {
        let credentials = self.credentials.iter();
        credentials
            .flat_map(|credentials| [&credentials.username, &credentials.password])
            .any(|value| matches!(value, Value::File(_)))
    }

    /// What to connect with: the login that has worked last, or when there is none or the broker has refused it, what
    /// the files and variables say now.
    ///
    /// # Errors
    /// When they cannot be read.
    pub(crate) fn for_attempt(&self, good_was_refused: bool) -> Result<Attempt, ConnectError> {
        let Some(credentials) = &self.credentials else {
            return Ok(Attempt(None));
        };
        let good = self.lock().good.clone().filter(|_| !good_was_refused);
        Ok(Attempt(Some(match good {
            Some(login) => login,
            None => Login::read(credentials)?,
        })))
    }

    /// An attempt has succeeded. Returns the revision of its login.
    pub(crate) fn has_worked(&self, attempt: Attempt) -> u64 {
        let mut inner = self.lock();
        if inner.good != attempt.0 {
            inner.taken_over += u64::from(inner.good.is_some());
            inner.good = attempt.0;
            inner.revision += 1;
            inner.problem = None;
        }
        inner.revision
    }

    /// What the files say now, if that is another login than the one in use. Files that cannot be read are as they
    /// were: they may be gone for the moment in which they are replaced.
    pub(crate) fn changed(&self) -> Option<Login> {
        let now = Login::read(self.credentials.as_ref()?).ok()?;
        let mut inner = self.lock();
        // Before one has worked, every attempt reads the files.
        let good = inner.good.as_ref()?;
        if *good == now {
            inner.problem = None;
            return None;
        }
        Some(now)
    }

    /// The broker has refused a changed login; `why` names no secret.
    pub(crate) fn was_refused(&self, why: &str) {
        let message = format!(
            "the changed credentials do not work: {why}; connections go on with the ones before, and the new ones are \
             tried again: correct the Secret, or the user at the broker"
        );
        let mut inner = self.lock();
        inner.refused += 1;
        if inner.problem.is_none() {
            tracing::error!("{message}");
        }
        inner.problem = Some(Problem {
            reason: Reason::CredentialsRefused,
            message,
        });
    }

    /// The revision of the login in use.
    pub(crate) fn revision(&self) -> u64 {
        self.lock().revision
    }

    /// How often changed credentials were taken over, how often refused, and what is wrong now.
    pub(crate) fn seen(&self) -> (u64, u64, Option<Problem>) {
        let inner = self.lock();
        (inner.taken_over, inner.refused, inner.problem.clone())
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
