//! Until when certificates are valid, and what is said before that is over.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use millrace_contract::status::{CertificateOf, CertificateStatus, Problem, Reason};
use x509_parser::prelude::{FromDer as _, X509Certificate};

/// So long before a certificate expires it is said; of one that lives shorter than ten weeks, in the last fifth of its life.
const NOTICE: Duration = Duration::from_secs(14 * 24 * 3600);

/// A span of time, in seconds since the epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Validity {
    from: u64,
    until: u64,
}

impl Validity {
    /// Of a certificate in DER; nothing if it cannot be read.
    pub(crate) fn of(certificate: &[u8]) -> Option<Self> {
        let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
        let validity = certificate.validity();
        Some(Self {
            from: u64::try_from(validity.not_before.timestamp()).unwrap_or_default(),
            until: u64::try_from(validity.not_after.timestamp()).unwrap_or_default(),
        })
    }

    /// Of the one that expires first.
    pub(crate) fn of_first<'c>(certificates: impl IntoIterator<Item = &'c [u8]>) -> Option<Self> {
        let all = certificates.into_iter().filter_map(Self::of);
        all.min_by_key(|validity| validity.until)
    }

    /// When what a server shows is to be looked at again: it may have been renewed while a connection lasts that began with
    /// this. Before it is to be said that it expires there is no haste.
    pub(crate) fn next_look(self, at: Instant) -> Instant {
        let life = Duration::from_secs(self.until.saturating_sub(self.from));
        let pause = match self.expires() {
            true => (life / 20).min(Duration::from_secs(600)),
            false => (life / 20).min(Duration::from_secs(3_600)),
        };
        at + pause.max(Duration::from_secs(1))
    }

    /// Whether it is to be said now that it expires.
    pub(crate) fn expires(self) -> bool {
        self.notice(now())
    }

    fn notice(self, now: u64) -> bool {
        let life = self.until.saturating_sub(self.from);
        self.until.saturating_sub(now) < NOTICE.as_secs().min(life / 5)
    }

    fn status(self, of: CertificateOf) -> CertificateStatus {
        CertificateStatus {
            of,
            valid_from: self.from,
            valid_until: self.until,
        }
    }
}

/// Until when a server's certificate, a client's and an authority's are valid, of those that are known.
pub(crate) fn statuses(of: [CertificateOf; 3], validities: [Option<Validity>; 3]) -> Vec<CertificateStatus> {
    let all = of.into_iter().zip(validities);
    all.filter_map(|(of, validity)| Some(validity?.status(of)))
        .collect()
}

/// What is to be said of certificates that expire soon, or have.
pub(crate) fn expiring(certificates: &[CertificateStatus]) -> Vec<Problem> {
    let now = now();
    let problems = certificates
        .iter()
        .filter_map(|certificate| notice(certificate, now));
    problems.collect()
}

fn notice(certificate: &CertificateStatus, now: u64) -> Option<Problem> {
    let validity = Validity {
        from: certificate.valid_from,
        until: certificate.valid_until,
    };
    if !validity.notice(now) {
        return None;
    }
    let left = certificate.valid_until.saturating_sub(now);
    let (what, fix) = match certificate.of {
        CertificateOf::BrokerServer => ("the MQTT broker's certificate", "renew it at the broker"),
        CertificateOf::BrokerClient => (
            "the client certificate for the MQTT broker",
            "renew what the MqttBroker's spec.tls.clientCertificate names",
        ),
        CertificateOf::BrokerAuthority => (
            "an authority's certificate for the MQTT broker",
            "renew what the MqttBroker's spec.tls.ca names",
        ),
        CertificateOf::KafkaServer => ("Kafka's certificate", "renew it at Kafka"),
        CertificateOf::KafkaClient => (
            "the client certificate for Kafka",
            "renew what the KafkaSink's spec.tls.clientCertificate names",
        ),
        CertificateOf::KafkaAuthority => (
            "an authority's certificate for Kafka",
            "renew what the KafkaSink's spec.tls.ca names",
        ),
        CertificateOf::TokenEndpointServer => (
            "the token endpoint's certificate",
            "renew it at what the KafkaSink's spec.sasl.oauthBearer.clientCredentials.tokenEndpointUrl names",
        ),
        CertificateOf::TokenEndpointClient => (
            "the client certificate for the token endpoint",
            "renew what the KafkaSink's spec.sasl.oauthBearer.clientCredentials.tls.clientCertificate names",
        ),
        CertificateOf::TokenEndpointAuthority => (
            "an authority's certificate for the token endpoint",
            "renew what the KafkaSink's spec.sasl.oauthBearer.clientCredentials.tls.ca names",
        ),
    };
    let when = match left {
        0 => format!("has expired, {} ago", span(now - certificate.valid_until)),
        left => format!("expires in {}", span(left)),
    };
    Some(Problem {
        reason: Reason::CertificateExpires,
        message: format!("{what} {when}; {fix}"),
    })
}

/// In seconds since the epoch.
pub(super) fn now() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.unwrap_or_default().as_secs()
}

/// A number of seconds in the largest unit that leaves more than one.
pub(super) fn span(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds / 60),
        7_200..172_800 => format!("{} h", seconds / 3_600),
        _ => format!("{} days", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: u64 = 24 * 3600;

    fn said(life: u64, left: i64) -> Option<String> {
        let certificate = CertificateStatus {
            of: CertificateOf::KafkaClient,
            valid_from: 1_000 * DAY,
            valid_until: 1_000 * DAY + life,
        };
        let now = (certificate.valid_until as i64 - left) as u64;
        notice(&certificate, now).map(|problem| problem.message)
    }

    #[test]
    fn it_is_said_two_weeks_before_and_of_a_short_life_in_its_last_fifth() {
        let day = DAY as i64;
        assert_eq!(said(365 * DAY, 14 * day), None);
        assert_eq!(
            said(365 * DAY, 14 * day - 1).unwrap(),
            "the client certificate for Kafka expires in 13 days; renew what the KafkaSink's spec.tls.clientCertificate names"
        );
        assert_eq!(said(60, 12), None);
        assert!(said(60, 11).unwrap().contains("expires in 11 s"));
        assert!(
            said(365 * DAY, -2 * day)
                .unwrap()
                .contains("has expired, 2 days ago")
        );
    }
}
