//! Certificates and keys in PEM, for both libraries that speak TLS.

mod validity;
mod words;

use std::fmt;
use std::sync::{Arc, LazyLock};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use millrace_contract::{Tls, Value};
use rustls::client::Resumption;
use rustls::pki_types::pem::{Error as PemError, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};
use thiserror::Error;

use crate::value::{self, Unreadable};
pub(crate) use validity::{Validity, expiring, statuses};
pub(crate) use words::{Peer, explain};

/// Why no TLS can be made of what was read.
#[derive(Debug, Error)]
pub enum CertificatesError {
    /// Nothing was read.
    #[error("cannot read a certificate or its key: {0}; check what spec.tls names")]
    Unreadable(#[from] Unreadable),
    /// What was read is no certificate, or no key.
    #[error("{place}: {why}; correct what spec.tls names, in PEM")]
    Wrong {
        /// Where it is.
        place: String,
        /// What is wrong.
        why: String,
    },
}

/// Who is trusted, and what is shown. No key is ever printed.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Certificates {
    ca: Option<Pem>,
    and_system: bool,
    client: Option<(Pem, Pem)>,
}

/// Text with certificates or a key in it, and where it is from.
#[derive(Clone, PartialEq, Eq)]
struct Pem {
    place: String,
    bytes: Vec<u8>,
}

impl fmt::Debug for Certificates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Certificates(..)")
    }
}

impl Pem {
    fn read(value: &Value) -> Result<Self, CertificatesError> {
        Ok(Self {
            place: value::place(value),
            bytes: value::bytes(value)?,
        })
    }

    fn certificates(&self) -> Result<Vec<CertificateDer<'static>>, CertificatesError> {
        let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&self.bytes).collect();
        match certificates {
            Ok(certificates) if certificates.is_empty() => Err(self.wrong("there is no certificate in it")),
            Ok(certificates) => Ok(certificates),
            Err(error) => Err(self.wrong(&error.to_string())),
        }
    }

    fn key(&self) -> Result<PrivateKeyDer<'static>, CertificatesError> {
        PrivateKeyDer::from_pem_slice(&self.bytes).map_err(|error| match error {
            PemError::NoItemsFound => self.wrong("there is no private key in it that is not encrypted"),
            other => self.wrong(&other.to_string()),
        })
    }

    fn text(&self) -> Result<&str, CertificatesError> {
        std::str::from_utf8(&self.bytes).map_err(|_| self.wrong("it is not text"))
    }

    fn wrong(&self, why: &str) -> CertificatesError {
        CertificatesError::Wrong {
            place: self.place.clone(),
            why: why.to_owned(),
        }
    }
}

impl Certificates {
    pub(crate) fn read(tls: &Tls) -> Result<Self, CertificatesError> {
        let client = tls.client.as_ref().map(|client| {
            let certificate = Pem::read(&client.certificate)?;
            Ok::<_, CertificatesError>((certificate, Pem::read(&client.private_key)?))
        });
        Ok(Self {
            ca: tls.ca.as_ref().map(Pem::read).transpose()?,
            and_system: tls.and_system,
            client: client.transpose()?,
        })
    }

    /// The values that it is read from.
    pub(crate) fn values(tls: &Tls) -> impl Iterator<Item = &Value> {
        let client = tls.client.iter();
        let client = client.flat_map(|client| [&client.certificate, &client.private_key]);
        tls.ca.iter().chain(client)
    }

    pub(crate) fn has_client(&self) -> bool {
        self.client.is_some()
    }

    /// Until when what is shown is valid, and the first to expire of those who are trusted. The system's are the system's
    /// affair.
    pub(crate) fn validities(&self) -> (Option<Validity>, Option<Validity>) {
        let of = |pem: Option<&Pem>| {
            let certificates = pem.and_then(|pem| pem.certificates().ok()).unwrap_or_default();
            Validity::of_first(certificates.iter().map(|certificate| certificate.as_ref()))
        };
        (
            of(self.client.as_ref().map(|(certificate, _)| certificate)),
            of(self.ca.as_ref()),
        )
    }

    fn trusts_system(&self) -> bool {
        self.ca.is_none() || self.and_system
    }

    /// For rustls.
    pub(crate) fn client_config(&self) -> Result<ClientConfig, CertificatesError> {
        let mut roots = RootCertStore::empty();
        if let Some(ca) = &self.ca {
            for certificate in ca.certificates()? {
                roots
                    .add(certificate)
                    .map_err(|error| ca.wrong(&error.to_string()))?;
            }
        }
        if self.trusts_system() {
            // Some of them may be of a kind that is not known here.
            roots.add_parsable_certificates(SYSTEM.iter().cloned());
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| CertificatesError::Wrong {
                place: "TLS".into(),
                why: error.to_string(),
            })?
            .with_root_certificates(roots);
        let mut config = match &self.client {
            None => config.with_no_client_auth(),
            Some((certificate, key)) => config
                .with_client_auth_cert(certificate.certificates()?, key.key()?)
                .map_err(|error| match error {
                    rustls::Error::InconsistentKeys(_) => {
                        key.wrong("it is not the key of the certificate that is shown")
                    }
                    other => certificate.wrong(&other.to_string()),
                })?,
        };
        // Each connection is shown the certificate that the server has by now, and checks it: a resumed session is trusted for
        // what another connection was shown, days ago perhaps.
        config.resumption = Resumption::disabled();
        Ok(config)
    }

    /// For librdkafka: its settings by name. What it would only refuse without a word of where it is from is found here.
    pub(crate) fn librdkafka(&self) -> Result<Vec<(&'static str, String)>, CertificatesError> {
        self.client_config()?;
        let mut trusted = String::new();
        if let Some(ca) = &self.ca {
            trusted.push_str(ca.text()?);
        }
        if self.trusts_system() {
            trusted.push_str(&SYSTEM_PEM);
        }
        let mut settings = vec![("ssl.ca.pem", trusted)];
        if let Some((certificate, key)) = &self.client {
            settings.push(("ssl.certificate.pem", certificate.text()?.to_owned()));
            settings.push(("ssl.key.pem", key.text()?.to_owned()));
        }
        Ok(settings)
    }
}

/// The system's authorities. They change with its packages only, so they are read once.
static SYSTEM: LazyLock<Vec<CertificateDer<'static>>> = LazyLock::new(|| {
    let found = rustls_native_certs::load_native_certs();
    for error in &found.errors {
        tracing::warn!("some of the system's authorities are not trusted: {error}");
    }
    found.certs
});

/// The same as text.
static SYSTEM_PEM: LazyLock<String> = LazyLock::new(|| {
    let mut text = String::new();
    for certificate in SYSTEM.iter() {
        text.push_str("\n-----BEGIN CERTIFICATE-----\n");
        for line in STANDARD.encode(certificate).as_bytes().chunks(64) {
            text.push_str(&String::from_utf8_lossy(line));
            text.push('\n');
        }
        text.push_str("-----END CERTIFICATE-----\n");
    }
    text
});
