//! What librdkafka says of connections that fail: whose fault it is, and what to do about it.

use millrace_contract::Sink;
use millrace_contract::status::Reason;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use super::diagnose;
use super::tokens::NoToken;

/// Why there is no connection, by librdkafka's last word on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Trouble {
    kind: Kind,
    text: String,
}

/// From the vaguest to the clearest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    /// A question was not answered.
    Silence,
    /// Nobody is there, or does not answer as Kafka does.
    Network,
    /// One end does not accept the other's certificate.
    Tls,
    /// The same, and why.
    Diagnosed,
    /// Kafka does not accept the login.
    Login,
    /// There is no token to log in with, and why.
    Token,
}

impl Trouble {
    pub(crate) fn of(error: &KafkaError, text: &str) -> Self {
        let kind = match error.rdkafka_error_code() {
            Some(RDKafkaErrorCode::SSL) => Kind::Tls,
            Some(RDKafkaErrorCode::Authentication | RDKafkaErrorCode::SaslAuthenticationFailed) => {
                Kind::Login
            }
            _ => Kind::Network,
        };
        Self {
            kind,
            text: without_count(text).to_owned(),
        }
    }

    /// Of TLS, with the cause and what to do about it.
    pub(crate) fn diagnosed(text: String) -> Self {
        Self {
            kind: Kind::Diagnosed,
            text,
        }
    }

    /// Of a token that is not to be had, with the cause and what to do about it.
    pub(crate) fn of_token(why: &NoToken) -> Self {
        Self {
            kind: Kind::Token,
            text: why.text().to_owned(),
        }
    }

    /// Of an answer that did not come.
    pub(crate) fn silence(text: &str) -> Self {
        Self {
            kind: Kind::Silence,
            text: text.to_owned(),
        }
    }

    /// The one of two to tell: what is wrong in particular is not forgotten for what only says that there is no connection,
    /// and the cause not for its consequence.
    pub(crate) fn or_newer(old: Option<Self>, new: Self) -> Self {
        match old {
            Some(old) if old.kind > new.kind => old,
            _ => new,
        }
    }

    /// The word for it in status.
    pub(crate) fn reason(&self) -> Reason {
        match self.kind {
            Kind::Silence | Kind::Network => Reason::KafkaUnreachable,
            Kind::Tls | Kind::Diagnosed => Reason::KafkaTlsFailed,
            Kind::Login => Reason::KafkaRefused,
            Kind::Token => Reason::TokenUnavailable,
        }
    }

    /// What is wrong.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// The cause, if a look at TLS tells it.
    pub(crate) fn looked_into(self, sink: &Sink) -> Self {
        let cause = self.could_be_tls().then(|| diagnose(sink));
        cause.flatten().map_or(self, Self::diagnosed)
    }

    /// Whether a look at TLS could tell more.
    pub(crate) fn could_be_tls(&self) -> bool {
        self.kind <= Kind::Tls
    }

    /// What is wrong and what to do about it, with `between` before the latter.
    pub(crate) fn told(&self, between: &str) -> String {
        match self.advice() {
            Some(advice) => format!("{}{between}: {advice}", self.text),
            None => format!("{}{between}", self.text),
        }
    }

    /// As far as the text does not say it.
    fn advice(&self) -> Option<&'static str> {
        let says = |parts: &[&str]| parts.iter().any(|part| self.text.contains(part));
        Some(match self.kind {
            Kind::Diagnosed | Kind::Token => return None,
            Kind::Tls => {
                "check the authorities and the certificate that the KafkaSink's spec.tls names, and Kafka's own certificate"
            }
            // Kafka's answer to a token has no other words (RFC 7628, section 3.2.2).
            Kind::Login
                if says(&["OAUTHBEARER", "invalid_token", "insufficient_scope"])
                    && !says(&["nsupported"]) =>
            {
                "check what the KafkaSink's spec.sasl.oauthBearer asks for, the audience above all, and what Kafka expects of \
                 a token"
            }
            Kind::Login if says(&["mechanism"]) && says(&["nsupported", "not enabled", "handshake"]) => {
                "use one of Kafka's mechanisms in the KafkaSink's spec.sasl.mechanism, or enable this one there"
            }
            Kind::Login => {
                "check the user name, the password and the mechanism in the KafkaSink's spec.sasl, the keys of its \
                 Secret, and the user at Kafka"
            }
            Kind::Network if says(&["security.protocol", "SSL listener", "PLAINTEXT broker"]) => {
                "the listener may want TLS or SASL, or may have none: compare Kafka's listeners with the KafkaSink's \
                 spec.tls and spec.sasl"
            }
            Kind::Silence | Kind::Network => "check the KafkaSink's spec.bootstrapServers and the network",
        })
    }
}

/// librdkafka's words without what it adds: how long it took, and how often it was so.
fn without_count(text: &str) -> &str {
    match text.rfind(" (after ") {
        Some(at) if text.ends_with(')') => &text[..at],
        _ => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_of_an_error_does_not_change_with_its_number() {
        let refused = "localhost:9092/bootstrap: Connect to ipv4#127.0.0.1:9092 failed: Connection refused";
        for more in [
            "",
            " (after 0ms in state CONNECT)",
            " (after 12ms in state CONNECT, 1 identical error(s) suppressed)",
        ] {
            assert_eq!(without_count(&format!("{refused}{more}")), refused);
        }
        assert_eq!(without_count("(after all) it is so"), "(after all) it is so");
    }
}
