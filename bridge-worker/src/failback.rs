//! While a later url of a broker is in use, it is looked now and then whether an earlier one works again.

use std::time::Duration;

use millrace_contract::{Broker, ProtocolVersion};

use crate::backoff::Backoff;
use crate::credentials::Credentials;
use crate::mqtt::{Goodbye, SessionOptions, negotiate};

/// However often a return has been in vain, it is looked again after this time.
const LONGEST: Duration = Duration::from_secs(3_600);

/// Looks at the urls before the one in use.
pub(crate) struct Failback {
    /// One that the route has.
    session: SessionOptions,
    protocol: ProtocolVersion,
    pace: Duration,
    /// Returns in a row that have not ended where a look said that they would.
    in_vain: u32,
}

impl Failback {
    /// Nothing, where there is one url only.
    pub(crate) fn of(broker: &Broker, session: &SessionOptions) -> Option<Self> {
        (session.addresses.len() > 1).then(|| Self {
            session: session.clone(),
            protocol: broker.protocol_version,
            pace: Duration::from_millis(broker.failback_ms),
            in_vain: 0,
        })
    }

    /// Waits until it is time to look. Workers that have lost a url at one moment do not come back to it at one.
    pub(crate) async fn pause(&self) {
        tokio::time::sleep(Backoff::jitter(self.wait())).await;
    }

    /// Says whether a return has ended at the url that was found. A url may let in who looks, and not a lane: every
    /// return costs a connection, so after one in vain the next takes longer.
    pub(crate) fn returned(&mut self, is_back: bool) {
        self.in_vain = match is_back {
            true => 0,
            false => self.in_vain.saturating_add(1),
        };
    }

    fn wait(&self) -> Duration {
        let pace = self.pace.saturating_mul(2_u32.saturating_pow(self.in_vain));
        pace.min(LONGEST.max(self.pace))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_return_in_vain_doubles_the_time_to_the_next_look() {
        let session = SessionOptions {
            addresses: Vec::new(),
            server_name: None,
            client_id: String::new(),
            clean_start: false,
            session_expiry_seconds: 0,
            keep_alive_seconds: 0,
            receive_maximum: 1,
            max_message_bytes: 1,
        };
        let mut failback = Failback {
            session,
            protocol: ProtocolVersion::Auto,
            pace: Duration::from_secs(60),
            in_vain: 0,
        };
        let waits = |failback: &mut Failback| {
            let wait = failback.wait();
            failback.returned(false);
            wait.as_secs() / 60
        };
        assert_eq!([0; 8].map(|_| waits(&mut failback)), [1, 2, 4, 8, 16, 32, 60, 60]);
        failback.returned(true);
        assert_eq!(failback.wait(), Duration::from_secs(60));
    }
}
