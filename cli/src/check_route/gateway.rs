use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;
use std::sync::Arc;

use anyhow::Context;
use tokio::io::{self, AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// A larger answer is not one of Kafka's.
const MAX_ANSWER_BYTES: usize = 16 << 20;

/// Where clients are sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HostPort {
    host: String,
    port: u16,
}

impl FromStr for HostPort {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is not host:port");
        let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
        match port.parse() {
            Ok(port) if !host.is_empty() && host.len() <= 253 => Ok(Self {
                host: host.to_owned(),
                port,
            }),
            _ => Err(wrong()),
        }
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

impl From<SocketAddr> for HostPort {
    fn from(address: SocketAddr) -> Self {
        Self {
            host: address.ip().to_string(),
            port: address.port(),
        }
    }
}

/// Makes a Kafka of one broker on the loopback interface reachable from elsewhere.
///
/// librdkafka's mock cluster listens on 127.0.0.1 only, and tells its clients to come there. So this stands in front of
/// it and writes another address into its answers.
pub(crate) struct Gateway {
    /// Where it listens.
    pub(crate) address: SocketAddr,
    /// Where it tells clients to come.
    pub(crate) advertised: HostPort,
    // Dropping ends it, and its connections with it.
    _tasks: JoinSet<()>,
}

impl Gateway {
    /// Starts it. Port 0 takes a free one; `advertise` is where it listens if not given.
    pub(crate) async fn start(
        listen: SocketAddr,
        kafka: SocketAddr,
        advertise: Option<HostPort>,
    ) -> anyhow::Result<Self> {
        let listener = TcpListener::bind(listen)
            .await
            .with_context(|| format!("cannot listen on {listen}"))?;
        let address = listener.local_addr()?;
        let advertised = advertise.unwrap_or_else(|| address.into());
        let readdress = Arc::new(Readdress::new(&kafka.into(), &advertised));
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, kafka, readdress));
        Ok(Self {
            address,
            advertised,
            _tasks: tasks,
        })
    }
}

async fn accept(listener: TcpListener, kafka: SocketAddr, readdress: Arc<Readdress>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((client, _)) => {
                    let readdress = readdress.clone();
                    connections.spawn(async move {
                        if let Err(error) = pass(client, kafka, &readdress).await {
                            tracing::debug!(%error, "a connection to Kafka has ended");
                        }
                    });
                }
                Err(error) => tracing::warn!(%error, "cannot accept a connection to Kafka"),
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn pass(client: TcpStream, kafka: SocketAddr, readdress: &Readdress) -> io::Result<()> {
    let (mut from_kafka, mut to_kafka) = TcpStream::connect(kafka).await?.into_split();
    let (mut from_client, mut to_client) = client.into_split();
    tokio::select! {
        copied = io::copy(&mut from_client, &mut to_kafka) => copied.map(|_| ()),
        ended = answers(&mut from_kafka, &mut to_client, readdress) => ended,
    }
}

/// Every answer is its length and so many bytes.
async fn answers(from: &mut OwnedReadHalf, to: &mut OwnedWriteHalf, readdress: &Readdress) -> io::Result<()> {
    loop {
        let length = usize::try_from(from.read_u32().await?).unwrap_or(usize::MAX);
        if length > MAX_ANSWER_BYTES {
            return Err(io::Error::other("an answer that is too long"));
        }
        let mut answer = vec![0; length];
        from.read_exact(&mut answer).await?;
        let answer = readdress.apply(&answer);
        to.write_u32(u32::try_from(answer.len()).map_err(io::Error::other)?)
            .await?;
        to.write_all(&answer).await?;
    }
}

/// Replaces one broker's address by another in an answer.
///
/// Wherever the protocol names a broker, its host (a string) is followed by its port (4 bytes). Strings have their length
/// in front: 2 bytes, or in later versions of a message one more than the length as a varint.
struct Readdress([(Vec<u8>, Vec<u8>); 2]);

impl Readdress {
    fn new(from: &HostPort, to: &HostPort) -> Self {
        Self([(fixed(from), fixed(to)), (compact(from), compact(to))])
    }

    fn apply(&self, answer: &[u8]) -> Vec<u8> {
        let mut result = Vec::with_capacity(answer.len());
        let mut rest = answer;
        while let Some(first) = rest.first() {
            match self.0.iter().find(|(from, _)| rest.starts_with(from)) {
                Some((from, to)) => {
                    result.extend_from_slice(to);
                    rest = &rest[from.len()..];
                }
                None => {
                    result.push(*first);
                    rest = &rest[1..];
                }
            }
        }
        result
    }
}

fn fixed(address: &HostPort) -> Vec<u8> {
    let length = address.host.len() as u16;
    [&length.to_be_bytes(), address.host.as_bytes(), &port(address)].concat()
}

fn compact(address: &HostPort) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut length = address.host.len() + 1;
    while length >= 0x80 {
        bytes.push((length & 0x7f) as u8 | 0x80);
        length >>= 7;
    }
    bytes.push(length as u8);
    bytes.extend_from_slice(address.host.as_bytes());
    bytes.extend(port(address));
    bytes
}

fn port(address: &HostPort) -> [u8; 4] {
    u32::from(address.port).to_be_bytes()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rdkafka::ClientConfig;
    use rdkafka::mocking::MockCluster;
    use rdkafka::producer::{BaseProducer, Producer};

    use super::*;

    fn address(text: &str) -> HostPort {
        text.parse().expect("host:port")
    }

    #[test]
    fn an_address_is_a_host_and_a_port() {
        assert_eq!(address("kafka.ns.svc:9092").to_string(), "kafka.ns.svc:9092");
        for wrong in ["kafka", ":9092", "kafka:", "kafka:70000"] {
            assert!(wrong.parse::<HostPort>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn both_spellings_of_an_address_are_replaced_and_nothing_else() {
        let readdress = Readdress::new(&address("127.0.0.1:258"), &address("k:3"));
        let answer = [
            b"a\x00\x09127.0.0.1\x00\x00\x01\x02".as_slice(),
            b"b\x0a127.0.0.1\x00\x00\x01\x02",
            b"c\x00\x09127.0.0.1\x00\x00\x01\x03",
        ]
        .concat();
        assert_eq!(
            readdress.apply(&answer),
            [
                b"a\x00\x01k\x00\x00\x00\x03".as_slice(),
                b"b\x02k\x00\x00\x00\x03",
                b"c\x00\x09127.0.0.1\x00\x00\x01\x03",
            ]
            .concat()
        );
    }

    #[test]
    fn a_long_host_has_a_long_length() {
        let host = "h".repeat(200);
        let bytes = compact(&address(&format!("{host}:9092")));
        assert_eq!(bytes[..2], [0xc9, 0x01]);
        assert_eq!(bytes.len(), 2 + 200 + 4);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_client_is_told_the_advertised_address() {
        let kafka = MockCluster::new(1).expect("a mock cluster");
        let behind = kafka.bootstrap_servers().parse().expect("an address");
        let gateway = Gateway::start(
            SocketAddr::from(([127, 0, 0, 1], 0)),
            behind,
            Some(address("kafka.example:9092")),
        )
        .await
        .expect("a gateway");
        let metadata = tokio::task::spawn_blocking(move || {
            let producer: BaseProducer = ClientConfig::new()
                .set("bootstrap.servers", gateway.address.to_string())
                .create()
                .expect("a producer");
            let metadata = producer.client().fetch_metadata(None, Duration::from_secs(10));
            drop(gateway);
            metadata
        });
        let metadata = metadata.await.expect("no panic").expect("metadata");
        let broker = &metadata.brokers()[0];
        assert_eq!((broker.host(), broker.port()), ("kafka.example", 9092));
    }
}
