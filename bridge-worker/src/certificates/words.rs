//! What a failure of TLS means, and what to do about it.

use std::io;

use rustls::{AlertDescription, CertificateError, Error};

use super::validity::{now, span};

/// Who is at the other end, for a person.
#[derive(Debug)]
pub(crate) struct Peer {
    /// Who it is.
    pub(crate) who: &'static str,
    /// The kind of the object that says how to reach it.
    pub(crate) kind: &'static str,
    /// The field that holds its addresses.
    pub(crate) addresses: &'static str,
    /// The field that says whom to trust there.
    pub(crate) tls: &'static str,
    /// What to write for a name in its certificate that is not its address.
    pub(crate) other_name: &'static str,
}

/// What a failure of TLS means and what to do about it, if `error` is one. `shows` says whether a client certificate is
/// configured.
pub(crate) fn explain(error: &io::Error, shows: bool, peer: &Peer) -> Option<String> {
    let error = error.get_ref()?.downcast_ref::<Error>()?;
    Some(match error {
        Error::InvalidCertificate(certificate) => of_server(certificate, peer),
        Error::AlertReceived(alert) => of_client(*alert, shows, peer),
        Error::InvalidMessage(_) => {
            let Peer { kind, addresses, .. } = peer;
            format!(
                "what it answers is no TLS; use the port of its TLS listener in the {kind}'s {addresses}, or no TLS"
            )
        }
        Error::PeerIncompatible(why) => format!(
            "it has no version of TLS, or no cipher, in common with this client ({why:?}); it must offer TLS 1.2 or 1.3"
        ),
        other => format!("{other}; see the log of {}", peer.who),
    })
}

fn of_server(error: &CertificateError, peer: &Peer) -> String {
    let Peer {
        who,
        kind,
        addresses,
        tls,
        other_name,
    } = peer;
    match error {
        CertificateError::Expired => format!("its certificate has expired; renew it at {who}"),
        CertificateError::ExpiredContext { not_after, .. } => format!(
            "its certificate has expired, {} ago; renew it at {who}",
            age(not_after.as_secs())
        ),
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            format!("its certificate is not valid yet; compare the clocks of {who} and of this machine")
        }
        CertificateError::UnknownIssuer => format!(
            "its certificate comes from an authority that is not trusted; put that authority's certificate where the \
             {kind}'s {tls}.ca says"
        ),
        CertificateError::NotValidForName => format!(
            "its certificate is for another name; use a name in it in the {kind}'s {addresses}, or {other_name}"
        ),
        CertificateError::NotValidForNameContext { expected, presented } => format!(
            "its certificate is for {}, not for {}; use a name in it in the {kind}'s {addresses}, or {other_name}",
            names(presented),
            expected.to_str()
        ),
        CertificateError::Revoked => format!("its certificate was revoked; replace it at {who}"),
        other => format!("its certificate is not accepted: {other}; replace it at {who}"),
    }
}

fn of_client(alert: AlertDescription, shows: bool, peer: &Peer) -> String {
    use AlertDescription as Alert;
    let Peer {
        who,
        kind,
        addresses,
        tls,
        other_name,
    } = peer;
    match alert {
        // What Java says is that the one it did not get is bad.
        Alert::CertificateRequired | Alert::HandshakeFailure | Alert::BadCertificate if !shows => {
            format!("it wants to see a client certificate; name one in the {kind}'s {tls}.clientCertificate")
        }
        Alert::CertificateExpired => format!(
            "it says that the client certificate has expired; renew the one that the {kind}'s \
             {tls}.clientCertificate names"
        ),
        Alert::UnknownCA
        | Alert::BadCertificate
        | Alert::CertificateUnknown
        | Alert::UnsupportedCertificate
        | Alert::CertificateRevoked
        | Alert::DecryptError
        | Alert::AccessDenied
        | Alert::CertificateRequired => format!(
            "it does not accept the client certificate ({alert:?}); check the one that the {kind}'s \
             {tls}.clientCertificate names, and the authorities that {who} trusts"
        ),
        Alert::ProtocolVersion => {
            "it has no version of TLS in common with this client; it must offer TLS 1.2 or 1.3".into()
        }
        Alert::UnrecognisedName => {
            format!("it has no certificate for this name; correct the {kind}'s {addresses}, or {other_name}")
        }
        other => format!("it ended the TLS handshake ({other:?}); see the log of {who}"),
    }
}

/// The names of a certificate, which come as `DnsName("...")`.
fn names(presented: &[String]) -> String {
    if presented.is_empty() {
        return "no name".into();
    }
    let bare = |name: &String| name.split('"').nth(1).unwrap_or(name).to_owned();
    presented.iter().map(bare).collect::<Vec<_>>().join(", ")
}

/// How long ago a moment was, in seconds since the epoch.
fn age(moment: u64) -> String {
    span(now().saturating_sub(moment))
}
