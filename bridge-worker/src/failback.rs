//! While a later url of a broker is in use, it is looked now and then whether an earlier one works again.

use std::time::Duration;

use millrace_contract::{Broker, ProtocolVersion};

use crate::backoff::Backoff;
use crate::credentials::Credentials;
use crate::mqtt::{Goodbye, SessionOptions, negotiate};

/// Looks at the urls before the one in use.
pub(crate) struct Failback {
    /// One that the route has.
    session: SessionOptions,
    protocol: ProtocolVersion,
    pace: Duration,
}

impl Failback {
    /// Nothing, where there is one url only.
    pub(crate) fn of(broker: &Broker, session: &SessionOptions) -> Option<Self> {
        (session.addresses.len() > 1).then(|| Self {
            session: session.clone(),
            protocol: broker.protocol_version,
            pace: Duration::from_millis(broker.failback_ms),
        })
    }

    /// Waits until it is time to look. Workers that have lost a url at one moment do not come back to it at one.
    pub(crate) async fn pause(&self) {
        tokio::time::sleep(Backoff::jitter(self.pace)).await;
    }

    /// The first url before this `place` that lets a client in, all the way to CONNACK, on a connection that does nothing
    /// else.
    pub(crate) async fn look(&self, place: usize, credentials: &Credentials) -> Option<usize> {
        let mut session = self.session.for_trial();
        session.addresses.truncate(place);
        let access = credentials.known().good()?;
        match negotiate(&session, &access, self.protocol).await {
            Ok((connection, granted)) => {
                connection.disconnect(Goodbye::End).await;
                tracing::info!(
                    address = granted.address,
                    "an earlier url of the MQTT broker works again: connections go back to it one by one"
                );
                Some(granted.place)
            }
            Err(error) => {
                tracing::debug!("no earlier url of the MQTT broker works: {error}");
                None
            }
        }
    }
}
