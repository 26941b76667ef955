//! A client that has lost all its brokers, against a broker that says whatever it is told to.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use millrace_librdkafka::add_brokers;
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};

const ANSWER: Duration = Duration::from_secs(2);
const TOPIC: &str = "orders";

/// Answers two questions of Kafka's protocol: which others it answers, and what the cluster looks like.
struct Broker {
    port: u16,
    /// It says that the cluster has no brokers.
    is_fenced: AtomicBool,
}

impl Broker {
    fn start() -> Arc<Broker> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let broker = Arc::new(Broker {
            port: listener.local_addr().unwrap().port(),
            is_fenced: AtomicBool::new(false),
        });
        std::thread::spawn({
            let broker = Arc::clone(&broker);
            move || {
                for client in listener.incoming() {
                    let broker = Arc::clone(&broker);
                    // Until the client goes.
                    std::thread::spawn(move || broker.serve(client.unwrap()).err());
                }
            }
        });
        broker
    }

    fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    fn serve(&self, mut client: TcpStream) -> std::io::Result<()> {
        loop {
            let mut size = [0; 4];
            client.read_exact(&mut size)?;
            let mut request = vec![0; u32::from_be_bytes(size) as usize];
            client.read_exact(&mut request)?;
            let (key, version) = (&request[..2], &request[2..4]);
            let mut answer = request[4..8].to_vec();
            match (key, version) {
                ([0, 18], [0, 0]) => {
                    answer.extend([0, 0, 0, 0, 0, 2]);
                    // The key of a question, and from which version to which it is answered.
                    answer.extend([0, 18, 0, 0, 0, 0]);
                    answer.extend([0, 3, 0, 1, 0, 1]);
                }
                // In a version of before: librdkafka asks again.
                ([0, 18], _) => answer.extend([0, 35, 0, 0, 0, 0]),
                _ => answer.extend(self.metadata()),
            }
            client.write_all(&u32::try_from(answer.len()).unwrap().to_be_bytes())?;
            client.write_all(&answer)?;
        }
    }

    /// Version 1.
    fn metadata(&self) -> Vec<u8> {
        let is_fenced = self.is_fenced.load(Ordering::Acquire);
        let mut bytes = Vec::new();
        if is_fenced {
            bytes.extend([0, 0, 0, 0]);
        } else {
            bytes.extend([0, 0, 0, 1, 0, 0, 0, 1]);
            bytes.extend(text("127.0.0.1"));
            bytes.extend(u32::from(self.port).to_be_bytes());
            // No rack.
            bytes.extend([0xFF, 0xFF]);
        }
        let leader: i32 = if is_fenced { -1 } else { 1 };
        bytes.extend(leader.to_be_bytes());
        bytes.extend([0, 0, 0, 1, 0, 0]);
        bytes.extend(text(TOPIC));
        // Not an internal one; one partition, without or with a leader, number 0.
        bytes.extend([0, 0, 0, 0, 1, 0, if is_fenced { 5 } else { 0 }, 0, 0, 0, 0]);
        bytes.extend(leader.to_be_bytes());
        // Its replicas, and those in sync.
        bytes.extend([0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0]);
        bytes
    }
}

fn text(text: &str) -> Vec<u8> {
    let mut bytes = u16::try_from(text.len()).unwrap().to_be_bytes().to_vec();
    bytes.extend(text.bytes());
    bytes
}

#[test]
fn a_client_without_brokers_finds_them_when_it_is_told_of_them_again() {
    let broker = Broker::start();
    let client: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", broker.address())
        // What it comes to by chance otherwise, when it cancels its own return.
        .set("metadata.recovery.strategy", "none")
        .set("reconnect.backoff.max.ms", "100")
        .create()
        .unwrap();
    let leader = || {
        let metadata = client.fetch_metadata(Some(TOPIC), ANSWER).ok()?;
        Some(metadata.topics()[0].partitions()[0].leader())
    };
    assert_eq!(leader(), Some(1));
    broker.is_fenced.store(true, Ordering::Release);
    assert_eq!(leader(), Some(-1));
    broker.is_fenced.store(false, Ordering::Release);
    // It has nobody to ask any more.
    assert_eq!(leader(), None);
    add_brokers(client.client(), &broker.address()).unwrap();
    assert_eq!(leader(), Some(1));
    assert!(add_brokers(client.client(), "").is_err());
}
