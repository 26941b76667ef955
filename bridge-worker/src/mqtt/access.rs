//! What a broker wants to see of a client, and what the client wants to see of it, read from where the document says.

use std::fmt;
use std::sync::Arc;

use millrace_contract::status::CertificateOf;
use millrace_contract::{Broker, Credentials, Value};
use rustls::ClientConfig;

use super::session::ConnectError;
use crate::certificates::{Certificates, Validity};
use crate::credentials::Presented;
use crate::value::text;

/// User name, password and certificates. Nothing of it is ever printed.
#[derive(Clone)]
pub(crate) struct Access {
    read: Read,
    tls: Option<Arc<ClientConfig>>,
    validities: (Option<Validity>, Option<Validity>),
}

/// What was read for an [`Access`].
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Read {
    login: Option<Login>,
    certificates: Option<Certificates>,
}

/// User name and password.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Login {
    pub(crate) username: String,
    pub(crate) password: String,
}

impl Access {
    /// Reads what the document names.
    ///
    /// # Errors
    /// When a file or an environment variable cannot be read, or holds no certificate or key.
    pub(crate) fn read(broker: &Broker) -> Result<Self, ConnectError> {
        Self::of(Read::now(broker)?)
    }

    /// # Errors
    /// When what was read is no certificate or key.
    pub(crate) fn of(read: Read) -> Result<Self, ConnectError> {
        let certificates = read.certificates.as_ref();
        let tls = certificates.map(Certificates::client_config).transpose()?;
        Ok(Self {
            tls: tls.map(Arc::new),
            validities: certificates.map(Certificates::validities).unwrap_or_default(),
            read,
        })
    }

    /// Whether both were made of the same.
    pub(crate) fn is_as(&self, other: &Self) -> bool {
        self.read == other.read
    }

    /// Whether it was made of this.
    pub(crate) fn is_of(&self, read: &Read) -> bool {
        self.read == *read
    }

    pub(super) fn login(&self) -> Option<&Login> {
        self.read.login.as_ref()
    }

    /// For a url with TLS.
    pub(super) fn tls(&self) -> Option<&Arc<ClientConfig>> {
        self.tls.as_ref()
    }

    /// Whether a certificate is shown to a broker that asks for it.
    pub(super) fn shows_certificate(&self) -> bool {
        let certificates = self.read.certificates.as_ref();
        certificates.is_some_and(Certificates::has_client)
    }
}

impl Presented for Access {
    const CERTIFICATES: [CertificateOf; 3] = [
        CertificateOf::BrokerServer,
        CertificateOf::BrokerClient,
        CertificateOf::BrokerAuthority,
    ];

    fn validities(&self) -> (Option<Validity>, Option<Validity>) {
        self.validities
    }
}

impl Read {
    /// # Errors
    /// When a file or an environment variable cannot be read.
    pub(crate) fn now(broker: &Broker) -> Result<Self, ConnectError> {
        let login = broker.credentials.as_ref().map(Login::read).transpose()?;
        let certificates = Self::has_tls(broker).then(|| {
            let tls = broker.tls.clone().unwrap_or_default();
            Certificates::read(&tls)
        });
        Ok(Self {
            login,
            certificates: certificates.transpose()?,
        })
    }

    /// Whether a url has TLS.
    pub(crate) fn has_tls(broker: &Broker) -> bool {
        let has_tls = |url: &String| url.starts_with("mqtts://") || url.starts_with("wss://");
        broker.urls.iter().any(has_tls)
    }

    /// Whether it can be other than it is while the process runs.
    pub(crate) fn can_change(broker: &Broker) -> bool {
        let login = broker.credentials.iter();
        let login = login.flat_map(|credentials| [&credentials.username, &credentials.password]);
        let tls = broker.tls.iter().flat_map(Certificates::values);
        login.chain(tls).any(|value| matches!(value, Value::File(_)))
    }
}

impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Access(..)")
    }
}

impl fmt::Debug for Read {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Read(..)")
    }
}

impl Login {
    fn read(credentials: &Credentials) -> Result<Self, ConnectError> {
        Ok(Self {
            username: text(&credentials.username).map_err(ConnectError::Credentials)?,
            password: text(&credentials.password).map_err(ConnectError::Credentials)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_login_is_read_without_the_newline_at_the_end_and_is_never_printed() {
        let folder = tempfile::tempdir().unwrap();
        let password = folder.path().join("password");
        std::fs::write(&password, "canary\r\n").unwrap();
        let login = Login::read(&Credentials {
            username: Value::Literal("plant".into()),
            password: Value::File(password),
        })
        .unwrap();
        assert_eq!(
            (login.username.as_str(), login.password.as_str()),
            ("plant", "canary")
        );
        let read = Read {
            login: Some(login),
            certificates: None,
        };
        assert!(!format!("{read:?}").contains("canary"));
        assert!(!format!("{:?}", Access::of(read).unwrap()).contains("canary"));
    }
}
