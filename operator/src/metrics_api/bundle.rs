//! The certificates that an APIService trusts: one or two of each operator's process that serves it.

use pem::{EncodeConfig, LineEnding, Pem};
use x509_parser::prelude::{FromDer, X509Certificate};

/// Of other processes so many are kept at most, the newest: there are two operators at most, and those of before go when
/// they expire.
const MOST: usize = 8;

/// What is in `bundle`, with those of the process of the name `maker` being `own`, DER, and nothing that has expired at
/// `now`, in seconds since the epoch. The order does not depend on who writes, or two would write in turns.
pub(super) fn with(bundle: &[u8], maker: &str, own: &[&[u8]], now: i64) -> String {
    let mut others: Vec<(i64, Pem)> = pem::parse_many(bundle)
        .unwrap_or_default()
        .into_iter()
        .filter_map(|pem| {
            let (_, certificate) = X509Certificate::from_der(pem.contents()).ok()?;
            let validity = certificate.validity();
            let mut names = certificate.subject().iter_common_name();
            let is_own = names.any(|name| name.as_str() == Ok(maker));
            let is_kept = !is_own && validity.not_after.timestamp() > now;
            is_kept.then(|| (validity.not_before.timestamp(), pem.clone()))
        })
        .collect();
    others.sort_by_key(|(made, _)| *made);
    let newest = others.len().saturating_sub(MOST);
    let others = others.drain(newest..).map(|(_, pem)| encode(&pem));
    let own = own.iter().map(|der| encode(&Pem::new("CERTIFICATE", *der)));
    let mut all: Vec<String> = others.chain(own).collect();
    all.sort_unstable();
    all.concat()
}

fn encode(pem: &Pem) -> String {
    pem::encode_config(pem, EncodeConfig::new().set_line_ending(LineEnding::LF))
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::super::certificate::Certificate;
    use super::*;

    const LIFE: Duration = Duration::from_secs(1_000);

    fn certificate(maker: &str, made: u64) -> Certificate {
        let made = SystemTime::UNIX_EPOCH + Duration::from_secs(made);
        Certificate::new("millrace.example.svc", maker, made, LIFE).unwrap()
    }

    fn count(bundle: &str) -> usize {
        pem::parse_many(bundle).unwrap().len()
    }

    #[test]
    fn each_process_adds_its_own_and_leaves_those_of_others() {
        let (one, two) = (certificate("one", 1_000), certificate("two", 1_001));
        let first = with(b"", "one", &[one.der()], 1_100);
        let both = with(first.as_bytes(), "two", &[two.der()], 1_100);
        assert_eq!(count(&both), 2);
        // Neither has anything to write any more.
        assert_eq!(with(both.as_bytes(), "one", &[one.der()], 1_100), both);
        assert_eq!(with(both.as_bytes(), "two", &[two.der()], 1_100), both);
        // A new one of the first: both its certificates, then the new one alone.
        let next = certificate("one", 1_500);
        let three = with(both.as_bytes(), "one", &[one.der(), next.der()], 1_500);
        assert_eq!(count(&three), 3);
        let renewed = with(three.as_bytes(), "one", &[next.der()], 1_600);
        assert_eq!(count(&renewed), 2);
        assert!(!renewed.contains(&first));
        // The second has not been seen for long.
        assert_eq!(count(&with(renewed.as_bytes(), "one", &[next.der()], 2_002)), 1);
    }

    #[test]
    fn what_is_no_certificate_goes_and_the_list_is_bounded() {
        let own = certificate("own", 1_000);
        let nonsense = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        assert_eq!(count(&with(nonsense, "own", &[own.der()], 1_100)), 1);
        assert_eq!(count(&with(b"\xff nonsense", "own", &[own.der()], 1_100)), 1);
        let mut bundle = String::new();
        let others: Vec<Certificate> = (0..12)
            .map(|number| certificate(&number.to_string(), 1_000 + number))
            .collect();
        for (number, other) in others.iter().enumerate() {
            bundle = with(bundle.as_bytes(), &number.to_string(), &[other.der()], 1_100);
        }
        let bundle = with(bundle.as_bytes(), "own", &[own.der()], 1_100);
        assert_eq!(count(&bundle), 1 + MOST);
        let newest = with(b"", "11", &[others[11].der()], 1_100);
        assert!(bundle.contains(&newest), "the newest stay");
    }
}
