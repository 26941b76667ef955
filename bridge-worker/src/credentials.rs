//! What a route comes in with at both ends: what works, and what the files say now.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use millrace_contract::status::{CertificateOf, CertificateStatus, Problem, Reason};
use millrace_contract::{Broker, ProtocolVersion};

use crate::backoff::Backoff;
use crate::certificates::{Validity, statuses};
use crate::mqtt::{Access, ConnectError, Goodbye, Read, SessionOptions, negotiate, shown_certificate};

/// What connections to one end of a route are made with.
pub(crate) trait Presented: Clone {
    /// What the certificates there are called: the server's, the client's and the authority's.
    const CERTIFICATES: [CertificateOf; 3];

    /// Until when the client's and the authority's are valid.
    fn validities(&self) -> (Option<Validity>, Option<Validity>);
}

/// What has worked, and what came of what was to take its place.
#[derive(Debug)]
pub(crate) struct Known<A> {
    /// For a person: whose they are.
    of: &'static str,
    inner: Mutex<Inner<A>>,
}

#[derive(Debug)]
struct Inner<A> {
    /// The last that has worked, kept in memory: files may change to what does not.
    good: Option<A>,
    /// Grows with every other that works.
    revision: u64,
    taken_over: u64,
    refused: u64,
    problem: Option<Problem>,
    /// The certificate that the server has shown last.
    server: Option<Validity>,
}

impl<A: Presented> Known<A> {
    /// Nothing has worked yet.
    pub(crate) fn nothing(of: &'static str) -> Self {
        Self::with(of, None)
    }

    /// What is used until something else has worked.
    pub(crate) fn with(of: &'static str, good: Option<A>) -> Self {
        let inner = Inner {
            good,
            revision: 0,
            taken_over: 0,
            refused: 0,
            problem: None,
            server: None,
        };
        Self {
            of,
            inner: Mutex::new(inner),
        }
    }

    /// The last that has worked.
    pub(crate) fn good(&self) -> Option<A> {
        self.lock().good.clone()
    }

    /// This has worked, which `is_new` unless it is what has worked last. Returns its revision.
    pub(crate) fn has_worked(&self, access: A, is_new: impl FnOnce(&A, &A) -> bool) -> u64 {
        let mut inner = self.lock();
        if inner.good.as_ref().is_none_or(|good| is_new(good, &access)) {
            inner.taken_over += u64::from(inner.good.is_some());
            inner.good = Some(access);
            inner.revision += 1;
            inner.problem = None;
        }
        inner.revision
    }

    /// Whether the last that has worked `is_current`: then what has changed has changed back. Nothing before one has worked.
    pub(crate) fn is_as_before(&self, is_current: impl FnOnce(&A) -> bool) -> Option<bool> {
        let mut inner = self.lock();
        let is_current = is_current(inner.good.as_ref()?);
        if is_current {
            inner.problem = None;
        }
        Some(is_current)
    }

    /// The server has shown this certificate.
    pub(crate) fn has_seen(&self, server: Option<Validity>) {
        self.lock().server = server;
    }

    fn server(&self) -> Option<Validity> {
        self.lock().server
    }

    /// The certificates in use.
    pub(crate) fn certificates(&self) -> Vec<CertificateStatus> {
        let inner = self.lock();
        let (client, authority) = inner.good.as_ref().map(A::validities).unwrap_or_default();
        statuses(A::CERTIFICATES, [inner.server, client, authority])
    }

    /// What has changed is refused; `why` names no secret.
    pub(crate) fn was_refused(&self, why: &str) {
        let message = format!(
            "the changed credentials for {} do not work: {why}; connections go on with the ones before, and the new ones \
             are tried again: correct the Secret, or {}",
            self.of, self.of
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

    /// The revision of what is in use.
    pub(crate) fn revision(&self) -> u64 {
        self.lock().revision
    }

    /// How often changed credentials were taken over, how often refused, and what is wrong now.
    pub(crate) fn seen(&self) -> (u64, u64, Option<Problem>) {
        let inner = self.lock();
        (inner.taken_over, inner.refused, inner.problem.clone())
    }

    fn lock(&self) -> MutexGuard<'_, Inner<A>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a route's connections to its broker are made with.
#[derive(Debug)]
pub(crate) struct Credentials {
    broker: Broker,
    known: Known<Access>,
    /// What was read last before any had worked: lanes that begin at once share what was made of it.
    read: Mutex<Option<Access>>,
}

impl Credentials {
    pub(crate) fn new(broker: Broker) -> Self {
        Self {
            broker,
            known: Known::nothing("the MQTT broker"),
            read: Mutex::default(),
        }
    }

    /// What has worked so far.
    pub(crate) fn known(&self) -> &Known<Access> {
        &self.known
    }

    /// Whether there is anything to look at while the process runs: files, or what the broker shows.
    pub(crate) fn are_to_be_watched(&self) -> bool {
        Read::can_change(&self.broker) || Read::has_tls(&self.broker)
    }

    /// What to connect with: what has worked last, or when there is none or the broker has refused it, what the files
    /// and variables say now.
    ///
    /// # Errors
    /// When they cannot be read.
    pub(crate) fn for_attempt(&self, good_was_refused: bool) -> Result<Access, ConnectError> {
        let good = self.known.good().filter(|_| !good_was_refused);
        if let Some(good) = good {
            return Ok(good);
        }
        let now = Read::now(&self.broker)?;
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        match &*read {
            Some(access) if access.is_of(&now) => Ok(access.clone()),
            _ => Ok(read.insert(Access::of(now)?).clone()),
        }
    }

    /// An attempt has succeeded, at a broker that has shown this certificate. Returns the revision of what it was made with.
    pub(crate) fn has_worked(&self, access: Access, server: Option<Validity>) -> u64 {
        self.known.has_seen(server);
        self.known.has_worked(access, |good, access| !good.is_as(access))
    }

    /// What the files say now, if that is other than what is in use. Files that cannot be read are as they were: they
    /// may be gone for the moment in which they are replaced.
    pub(crate) fn changed(&self) -> Option<Read> {
        let now = Read::now(&self.broker).ok()?;
        // Before one has worked, every attempt reads the files.
        let is_as_before = self.known.is_as_before(|good| good.is_of(&now))?;
        (!is_as_before).then_some(now)
    }
}

/// Tries what has changed on a connection of its own, again and again until it works.
#[derive(Default)]
pub(crate) struct Trial {
    tried: Option<Read>,
    again: Option<Instant>,
    backoff: Backoff,
    /// When the certificate that the broker shows is to be looked at again.
    look_at: Option<Instant>,
}

impl Trial {
    /// How often files are looked at.
    pub(crate) const PACE: Duration = Duration::from_secs(1);

    /// Looks at the files, and tries what they say if it is due. `session` is one that the route has.
    pub(crate) async fn look(
        &mut self,
        credentials: &Credentials,
        session: &SessionOptions,
        protocol: ProtocolVersion,
    ) {
        self.look_at_server(credentials, session).await;
        let Some(read) = credentials.changed() else {
            self.tried = None;
            return;
        };
        if self.tried.as_ref() != Some(&read) {
            (self.tried, self.again) = (Some(read.clone()), None);
            self.backoff.reset();
        }
        if self.again.is_some_and(|again| Instant::now() < again) {
            return;
        }
        let attempt = async {
            let access = Access::of(read)?;
            let (connection, granted) = negotiate(&session.for_trial(), &access, protocol).await?;
            Ok::<_, ConnectError>((connection, granted, access))
        };
        match attempt.await {
            Ok((connection, granted, access)) => {
                connection.disconnect(Goodbye::End).await;
                credentials.has_worked(access, granted.certificate);
                tracing::info!(
                    "changed credentials for the MQTT broker work: connections take them over one by one"
                );
            }
            Err(error) => {
                if error.is_refusal() {
                    credentials.known.was_refused(&error.to_string());
                }
                // A broker that is away says nothing of credentials.
                self.again = Some(Instant::now() + Self::PACE + self.backoff.next());
            }
        }
    }

    /// A connection that lasts began with what the broker showed then: before it is said that this expires, and as long as
    /// it is, it is looked at again.
    async fn look_at_server(&mut self, credentials: &Credentials, session: &SessionOptions) {
        let Some(shown) = credentials.known.server().filter(|shown| shown.expires()) else {
            self.look_at = None;
            return;
        };
        let now = Instant::now();
        if self.look_at.is_some_and(|at| now < at) {
            return;
        }
        if let Some(access) = credentials.known.good()
            && let Some(shown) = shown_certificate(session, &access).await
        {
            credentials.known.has_seen(Some(shown));
        }
        self.look_at = Some(shown.next_look(now));
    }
}
