//! Certificates for tests: good ones, and those that nobody should accept.

use crate::process::temp_folder;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime};
use tempfile::TempDir;

const DAY: Duration = Duration::from_secs(24 * 3600);

/// An authority that issues certificates, as files in PEM in a folder of its own.
///
/// ```
/// use millrace_testkit::Authority;
///
/// let authority = Authority::new("plant");
/// let server = authority.issue("broker", &["localhost", "127.0.0.1"]);
/// assert!(std::fs::read_to_string(server.key()).unwrap().contains("PRIVATE KEY"));
/// ```
#[derive(Debug)]
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    folder: Arc<TempDir>,
}

/// A certificate and its key.
#[derive(Clone, Debug)]
pub struct Issued {
    path: PathBuf,
    _folder: Arc<TempDir>,
}

impl Authority {
    /// With a key of its own.
    ///
    /// # Panics
    /// When nothing can be written.
    pub fn new(name: &str) -> Authority {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().expect("a key");
        let issuer = CertifiedIssuer::self_signed(params, key).expect("a certificate");
        let folder = temp_folder("authority");
        std::fs::write(folder.path().join("ca.crt"), issuer.pem()).expect("writing a certificate");
        Authority { issuer, folder }
    }

    /// Its own certificate.
    pub fn certificate(&self) -> PathBuf {
        self.folder.path().join("ca.crt")
    }

    /// A certificate that is valid for a day, for a server with these names or for a client with this common name.
    ///
    /// # Panics
    /// When nothing can be written.
    pub fn issue(&self, common_name: &str, names: &[&str]) -> Issued {
        let now = SystemTime::now();
        self.issue_for(common_name, names, now - DAY, now + DAY)
    }

    /// One that is valid at other times.
    ///
    /// # Panics
    /// When nothing can be written.
    pub fn issue_for(
        &self,
        common_name: &str,
        names: &[&str],
        from: SystemTime,
        until: SystemTime,
    ) -> Issued {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).expect("names");
        params.distinguished_name.push(DnType::CommonName, common_name);
        (params.not_before, params.not_after) = (from.into(), until.into());
        params.use_authority_key_identifier_extension = true;
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let issued = Issued {
            path: self.folder.path().join(number.to_string()),
            _folder: self.folder.clone(),
        };
        std::fs::create_dir(&issued.path).expect("a folder");
        issued.write(&certificate.pem(), &key.serialize_pem());
        issued
    }
}

impl Issued {
    fn write(&self, certificate: &str, key: &str) {
        for (path, text) in [
            (self.certificate(), certificate.to_owned()),
            (self.key(), key.to_owned()),
            (self.both(), format!("{key}{certificate}")),
        ] {
            std::fs::write(path, text).expect("writing a certificate");
        }
    }

    /// The certificate.
    pub fn certificate(&self) -> PathBuf {
        self.path.join("tls.crt")
    }

    /// The key.
    pub fn key(&self) -> PathBuf {
        self.path.join("tls.key")
    }

    /// The key, and the certificate behind it, as Kafka takes a keystore in PEM.
    pub fn both(&self) -> PathBuf {
        self.path.join("tls.pem")
    }

    /// The folder with `tls.crt` and `tls.key`.
    pub fn folder(&self) -> &Path {
        &self.path
    }
}
