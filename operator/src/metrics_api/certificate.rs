//! Certificates that this process makes for itself. Their keys exist in its memory only: the API server learns whom to
//! trust from the APIService, so nothing secret is written anywhere.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, KeyPair, KeyUsagePurpose};
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;

use super::front_proxy::FrontProxy;

/// Clocks of other machines may be behind.
const SKEW: Duration = Duration::from_secs(300);

/// A certificate with its key.
#[derive(Debug)]
pub(super) struct Certificate {
    der: CertificateDer<'static>,
    key: KeyPair,
    made: SystemTime,
}

impl Certificate {
    /// One for a host, made by a process of this name.
    pub(super) fn new(
        host: &str,
        maker: &str,
        now: SystemTime,
        life: Duration,
    ) -> Result<Self, rcgen::Error> {
        let mut params = CertificateParams::new([host.to_owned()])?;
        params.distinguished_name.push(DnType::CommonName, maker);
        params.not_before = (now - SKEW).into();
        params.not_after = (now + life).into();
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let key = KeyPair::generate()?;
        let certificate = params.self_signed(&key)?;
        Ok(Self {
            der: certificate.der().clone(),
            key,
            made: now,
        })
    }

    /// As an APIService has it, within PEM.
    pub(super) fn der(&self) -> &[u8] {
        &self.der
    }

    /// How long ago it was made.
    pub(super) fn age(&self, now: SystemTime) -> Duration {
        now.duration_since(self.made).unwrap_or_default()
    }

    /// How to serve with it those whom the front proxy's authority has signed, and nobody else.
    pub(super) fn server(&self, proxy: &FrontProxy) -> Result<ServerConfig, rustls::Error> {
        let provider = Arc::new(ring::default_provider());
        let verifier =
            WebPkiClientVerifier::builder_with_provider(Arc::new(proxy.roots.clone()), Arc::clone(&provider));
        let verifier = verifier
            .build()
            .map_err(|error| rustls::Error::General(error.to_string()))?;
        let key = PrivateKeyDer::Pkcs8(self.key.serialize_der().into());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_client_cert_verifier(verifier)
            .with_single_cert(vec![self.der.clone()], key)?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(config)
    }
}
