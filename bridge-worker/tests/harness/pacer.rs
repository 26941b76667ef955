//! A broker that publishes at a steady pace and takes the time of every ack.

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::DEADLINE;

/// How often messages are sent: as many at once as the pace asks for.
const TICK: Duration = Duration::from_millis(1);

/// One connection of one worker, on a thread for each direction while [`Pacer::run`] runs.
pub(crate) struct Pacer {
    stream: TcpStream,
}

/// A message to be sent: its topic and its payload.
pub(crate) type Message = (String, Vec<u8>);

impl Pacer {
    /// Where a worker is to connect.
    pub(crate) fn listen() -> (TcpListener, String) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let url = format!("mqtt://{}", listener.local_addr().expect("an address"));
        (listener, url)
    }

    /// Takes a worker's connection (MQTT 5) and grants its one subscription QoS 1.
    pub(crate) fn accept(listener: &TcpListener) -> Self {
        let (mut stream, _) = listener.accept().expect("a connection");
        stream.set_nodelay(true).expect("a socket");
        stream.set_read_timeout(Some(DEADLINE)).expect("a socket");
        let mut buffer = [0; 4096];
        for answer in [&[0x20, 3, 0, 0, 0][..], &[0x90, 4, 0, 1, 0, 1]] {
            let count = stream.read(&mut buffer).expect("CONNECT and SUBSCRIBE");
            assert!(count > 0, "the worker closed the connection");
            stream.write_all(answer).expect("an open connection");
        }
        Self { stream }
    }

    /// Sends messages at so many per second, waits for all acks, and returns the time from each message to its ack.
    ///
    /// # Panics
    /// When acks come in another order, or not at all.
    pub(crate) fn run(&mut self, per_second: usize, messages: &[Message]) -> Vec<Duration> {
        assert!(
            messages.len() < usize::from(u16::MAX),
            "one packet identifier each"
        );
        let acks = self.read_acks(messages.len());
        let start = Instant::now();
        let mut sent = Vec::with_capacity(messages.len());
        let mut bytes = Vec::new();
        while sent.len() < messages.len() {
            let now = start.elapsed();
            let due = (now.as_secs_f64() * per_second as f64) as usize;
            bytes.clear();
            for (topic, payload) in &messages[sent.len()..due.min(messages.len())] {
                sent.push(now);
                publish(&mut bytes, sent.len() as u16, topic, payload);
            }
            self.stream.write_all(&bytes).expect("an open connection");
            std::thread::sleep(TICK);
        }
        let acked = acks.join().expect("acks");
        acked
            .iter()
            .zip(sent)
            .map(|(at, sent)| (*at - start).saturating_sub(sent))
            .collect()
    }

    /// The moments at which so many acks come, in the order of packet identifiers from 1.
    fn read_acks(&self, count: usize) -> JoinHandle<Vec<Instant>> {
        let mut stream = self.stream.try_clone().expect("a second handle");
        std::thread::spawn(move || {
            let (mut moments, mut bytes) = (Vec::with_capacity(count), Vec::new());
            let mut buffer = vec![0; 64 * 1024];
            while moments.len() < count {
                let read = match stream.read(&mut buffer) {
                    Ok(0) => panic!("the worker closed the connection"),
                    Ok(read) => read,
                    Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                    Err(error) => panic!("{} of {count} acks, then {error}", moments.len()),
                };
                let now = Instant::now();
                bytes.extend_from_slice(&buffer[..read]);
                let whole = bytes.len() / 4 * 4;
                for ack in bytes.drain(..whole).as_slice().chunks_exact(4) {
                    moments.push(now);
                    let id = moments.len() as u16;
                    assert_eq!(ack, [0x40, 2, (id >> 8) as u8, id as u8], "PUBACK {id}");
                }
            }
            moments
        })
    }
}

/// A PUBLISH of MQTT 5 with QoS 1 and no properties.
fn publish(bytes: &mut Vec<u8>, packet_id: u16, topic: &str, payload: &[u8]) {
    bytes.push(0x32);
    let mut remaining = 2 + topic.len() + 2 + 1 + payload.len();
    loop {
        let more = remaining > 127;
        bytes.push((remaining % 128) as u8 | if more { 0x80 } else { 0 });
        remaining /= 128;
        if !more {
            break;
        }
    }
    bytes.extend((topic.len() as u16).to_be_bytes());
    bytes.extend(topic.as_bytes());
    bytes.extend(packet_id.to_be_bytes());
    bytes.push(0);
    bytes.extend(payload);
}
