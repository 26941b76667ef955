//! Why TLS with Kafka fails. OpenSSL tells librdkafka little more than that it did: the same handshake by rustls tells the
//! cause.

use std::io::{self, Read};
use std::net::{TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::time::Duration;

use millrace_contract::Sink;
use rustls::ClientConnection;
use rustls::pki_types::ServerName;

use crate::certificates::{Certificates, Peer, Validity, explain};

/// How long each step may take.
const PATIENCE: Duration = Duration::from_secs(3);
/// With TLS 1.3 a server says after the handshake what it thinks of a client's certificate.
const AFTERTHOUGHT: Duration = Duration::from_secs(1);

const KAFKA: Peer = Peer {
    who: "Kafka",
    kind: "KafkaSink",
    addresses: "spec.bootstrapServers",
    tls: "spec.tls",
    other_name: "give Kafka a certificate with this one",
};

/// What is wrong with TLS at the first of a cluster's addresses that answers; nothing if it works, or nobody speaks it.
pub(crate) fn diagnose(sink: &Sink) -> Option<String> {
    let mut servers = sink.bootstrap_servers.iter();
    let (server, socket) = servers.find_map(|server| Some((server, connect(server).ok()?)))?;
    let certificates = Certificates::read(&sink.tls.clone().unwrap_or_default()).ok()?;
    let error = shake_hands(server, socket, &certificates).err()?;
    let why = match sink.tls {
        Some(_) => explain(&error, certificates.has_client(), &KAFKA)?,
        // Whether its certificate is trusted or not: it has shown one.
        None if is_about_certificates(&error) => {
            "it speaks TLS; write the KafkaSink's spec.tls, or use the port of a \
                                                  listener without TLS in spec.bootstrapServers"
                .into()
        }
        None => return None,
    };
    Some(format!("{server}: {why}"))
}

/// Until when the certificate is valid that the first of a cluster's addresses shows which answers.
pub(crate) fn server(sink: &Sink) -> Option<Validity> {
    let certificates = Certificates::read(sink.tls.as_ref()?).ok()?;
    let mut servers = sink.bootstrap_servers.iter();
    let (server, socket) = servers.find_map(|server| Some((server, connect(server).ok()?)))?;
    shake_hands(server, socket, &certificates).ok()?
}

fn is_about_certificates(error: &io::Error) -> bool {
    let error = error
        .get_ref()
        .and_then(|error| error.downcast_ref::<rustls::Error>());
    matches!(
        error,
        Some(rustls::Error::InvalidCertificate(_) | rustls::Error::AlertReceived(_))
    )
}

fn connect(server: &str) -> io::Result<TcpStream> {
    let mut last = io::ErrorKind::NotFound.into();
    for address in server.to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, PATIENCE) {
            Ok(socket) => return Ok(socket),
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn shake_hands(
    server: &str,
    mut socket: TcpStream,
    certificates: &Certificates,
) -> io::Result<Option<Validity>> {
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.set_write_timeout(Some(PATIENCE))?;
    let host = server.rsplit_once(':').map_or(server, |(host, _)| host);
    let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    let name = ServerName::try_from(host).map_err(io::Error::other)?;
    let config = certificates.client_config().map_err(io::Error::other)?;
    let mut session = ClientConnection::new(Arc::new(config), name).map_err(io::Error::other)?;
    while session.is_handshaking() {
        session.complete_io(&mut socket)?;
    }
    let shown = session
        .peer_certificates()
        .and_then(|shown| Validity::of(shown.first()?));
    socket.set_read_timeout(Some(AFTERTHOUGHT))?;
    match rustls::Stream::new(&mut session, &mut socket).read(&mut [0]) {
        // A Kafka that was asked nothing says nothing.
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(shown),
        read => read.map(|_| shown),
    }
}
