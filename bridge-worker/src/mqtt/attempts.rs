//! What a client that is to stay connected learns from an attempt, or from the end of a connection, for the next attempt.

use std::time::Duration;

use millrace_contract::ProtocolVersion;

use super::connection::Ended;
use super::packet::Version;
use super::session::ConnectError;
use crate::backoff::Backoff;

/// A connection closed so soon after CONNACK counts towards a takeover: MQTT 3.1.1 brokers do not say it.
const SUSPICIOUSLY_SHORT: Duration = Duration::from_secs(5);
/// A lane cannot know how many others have lost their connection at the same moment, in this process and in others: each
/// comes back at a time of its own within this. A thousand then ask a broker for a hundred handshakes in a tenth of a
/// second, and one that is alone waits half of it on average.
const SPREAD: Duration = Duration::from_secs(1);
/// Session taken over [MQTT-3.14.2.1].
const SESSION_TAKEN_OVER: u8 = 0x8E;

/// How the next attempt is made, and when.
#[derive(Debug)]
pub(crate) struct Attempts {
    protocol: ProtocolVersion,
    version: Version,
    /// MQTT 5 has worked once: a closed socket is then no sign of an older broker.
    v5_has_worked: bool,
    /// The broker did not take the login that has worked before: the next attempt reads it anew.
    login_refused: bool,
    backoff: Backoff,
    short_connections: u32,
    takeovers: u32,
}

/// What follows from the end of a connection: how long to wait before the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum After {
    /// The broker or the network ended it.
    Failed(Duration),
    /// Another client has the session.
    TakenOver(Duration),
}

impl Attempts {
    pub(crate) fn new(protocol: ProtocolVersion) -> Self {
        Self {
            protocol,
            version: Version::first(protocol),
            v5_has_worked: false,
            login_refused: false,
            backoff: Backoff::default(),
            short_connections: 0,
            takeovers: 0,
        }
    }

    /// Nothing of what made it wait counts any more.
    pub(crate) fn begin_anew(&mut self) {
        self.backoff.reset();
        (self.takeovers, self.short_connections) = (0, 0);
    }

    /// The version to speak.
    pub(crate) fn version(&self) -> Version {
        self.version
    }

    /// Whether the login is to be read anew.
    pub(crate) fn login_refused(&self) -> bool {
        self.login_refused
    }

    /// A broker has granted a connection of that version.
    pub(crate) fn connected(&mut self, version: Version) {
        self.login_refused = false;
        self.v5_has_worked |= version == Version::V5;
    }

    /// An attempt has failed. Returns how long to wait before the next.
    pub(crate) fn failed(&mut self, error: &ConnectError) -> Duration {
        let automatic = self.protocol == ProtocolVersion::Auto;
        if automatic && error.suggests_other_version(self.v5_has_worked) {
            self.version = match self.version {
                Version::V5 => Version::V311,
                Version::V311 => Version::V5,
            };
        } else if automatic && self.v5_has_worked {
            self.version = Version::V5;
        }
        // In turns: the login that has worked before, and what the files say now.
        self.login_refused = error.is_refusal() && !self.login_refused;
        self.backoff.next()
    }

    /// A connection that nobody here wanted to end has ended. `failover` is how long another client that has taken the
    /// session over is left in peace at first.
    pub(crate) fn ended(&mut self, ended: &Ended, lasted: Duration, failover: Duration) -> After {
        // A broker of MQTT 5 says so, one of 3.1.1 only closes.
        let says_nothing = self.version == Version::V311 && matches!(ended, Ended::Closed | Ended::Broken(_));
        self.short_connections = match says_nothing && lasted < SUSPICIOUSLY_SHORT {
            true => self.short_connections + 1,
            false => 0,
        };
        let is_said = matches!(
            ended,
            Ended::Disconnected {
                reason: SESSION_TAKEN_OVER,
                ..
            }
        );
        if is_said || self.short_connections >= 2 {
            self.short_connections = 0;
            let least = failover * 2_u32.saturating_pow(self.takeovers.min(6));
            self.takeovers += 1;
            // Never earlier: the other client has that long to be told that the session is not its own.
            return After::TakenOver(least + Backoff::jitter(least) / 4);
        }
        if lasted >= SUSPICIOUSLY_SHORT {
            self.takeovers = 0;
            self.backoff.reset();
        }
        After::Failed(self.backoff.next() + Backoff::spread(SPREAD))
    }
}
