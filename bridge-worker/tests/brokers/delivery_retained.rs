//! Device shadows: the records of a Kafka topic become messages that a real mosquitto keeps, the last of each topic, and
//! a tombstone takes one away.

use crate::support::{Route, SOON, Worker};
use bytes::BytesMut;
use millrace_contract::{NoMatchingSubscribers, ProtocolVersion};
use millrace_testkit::wire::{Packet, Publish, Version};
use millrace_testkit::{Kafka, Mosquitto, wait_until};
use rdkafka::ClientConfig;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};

#[test]
fn a_shadow_is_there_for_those_who_come_later_until_a_tombstone_clears_it() {
    for version in [ProtocolVersion::V5, ProtocolVersion::V311] {
        let mut shadows = Shadows::start(version, true);
        let mut early = shadows.device();
        assert_eq!(early.heard(), []);

        shadows.write(&[("north", Some("1")), ("south", Some("1")), ("north", Some("2"))]);
        assert_eq!(shadows.kept(), ["north: 2", "south: 1"], "{version:?}");
        shadows.write(&[("south", None)]);
        assert_eq!(shadows.kept(), ["north: 2"], "{version:?}");
        shadows.write(&[("south", Some("3"))]);
        assert_eq!(shadows.kept(), ["north: 2", "south: 3"], "{version:?}");

        // Who is there hears of each as it comes, and of the one that goes.
        let heard = early.heard();
        assert!(heard.iter().all(|publish| !publish.retain), "{heard:?}");
        let heard: Vec<String> = heard.iter().map(text).collect();
        let all = ["north: 1", "south: 1", "north: 2", "south: ", "south: 3"];
        assert_eq!(heard, all, "{version:?}");
        shadows.worker.terminate();
    }
}

#[test]
fn without_retain_nothing_is_there_for_those_who_come_later() {
    let mut shadows = Shadows::start(ProtocolVersion::V5, false);
    let mut early = shadows.device();
    assert_eq!(early.heard(), []);
    shadows.write(&[("north", Some("1"))]);
    assert_eq!(early.heard().len(), 1);
    assert_eq!(shadows.kept(), [""; 0]);
    shadows.worker.terminate();
}

/// A route from a Kafka topic of one partition to `<its name>/<key>` at a mosquitto.
struct Shadows {
    name: String,
    mosquitto: Mosquitto,
    worker: Worker,
    producer: BaseProducer,
    /// Records that were written.
    written: u64,
}

impl Shadows {
    #[track_caller]
    fn start(version: ProtocolVersion, retain: bool) -> Shadows {
        let mosquitto = Mosquitto::builder().start();
        let kafka = Kafka::shared();
        let name = kafka.unique_topic("shadows", 1);
        let route = Route::new(&name, mosquitto.port(), &kafka.bootstrap(), &name);
        let mut document = route.delivery();
        document.settings.broker.protocol_version = version;
        document.live.publishing.retain = retain;
        // Those who are to have it come later.
        document.live.publishing.no_matching_subscribers = NoMatchingSubscribers::Ignore;
        let mut worker = Worker::new(&document);
        worker.start();
        worker.wait_ready();
        let producer: BaseProducer = ClientConfig::new()
            .set("bootstrap.servers", kafka.bootstrap())
            .set("linger.ms", "0")
            .create()
            .expect("a producer");
        Shadows {
            name,
            mosquitto,
            worker,
            producer,
            written: 0,
        }
    }

    /// Writes records, with a key each, and a value or none, and waits until the broker has confirmed their messages.
    #[track_caller]
    fn write(&mut self, records: &[(&str, Option<&str>)]) {
        for (key, value) in records {
            let mut record = BaseRecord::<str, str>::to(&self.name).key(key);
            record.payload = *value;
            self.producer
                .send(record)
                .map_err(|(error, _)| error)
                .expect("room");
            self.written += 1;
        }
        self.producer.flush(SOON).expect("records are taken");
        wait_until(SOON, "all messages to be confirmed", || {
            self.worker.status().ledger.written == self.written
        });
    }

    /// A device that subscribes to all shadows.
    #[track_caller]
    fn device(&self) -> Device {
        Device::subscribe(self.mosquitto.port(), &self.name)
    }

    /// What a device is told that comes now: key and payload of each shadow, by key.
    #[track_caller]
    fn kept(&self) -> Vec<String> {
        let heard = self.device().heard();
        assert!(heard.iter().all(|publish| publish.retain), "{heard:?}");
        let mut kept: Vec<String> = heard.iter().map(text).collect();
        kept.sort_unstable();
        kept
    }
}

/// The last level of a message's topic, and its payload.
fn text(publish: &Publish) -> String {
    let (_, key) = publish.topic.split_once('/').expect("two levels");
    format!("{key}: {}", String::from_utf8_lossy(&publish.payload))
}

/// A client of MQTT 3.1.1 with a subscription of QoS 0 to `<name>/+`, and to a topic of its own.
struct Device {
    end: String,
    stream: TcpStream,
    input: BytesMut,
}

impl Device {
    #[track_caller]
    fn subscribe(port: u16, name: &str) -> Device {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).expect("a connection");
        stream.set_read_timeout(Some(SOON)).expect("a socket");
        let own = stream.local_addr().expect("a socket").port();
        let end = format!("{name}-end/{own}");
        let filters = [string(&format!("{name}/+")), string(&end)];
        let mut device = Device {
            end,
            stream,
            input: BytesMut::new(),
        };
        // CONNECT: a clean session, no keep-alive, and the broker makes up the client id.
        device.send(0x10, &[b"\x00\x04MQTT\x04", b"\x02", b"\x00\x00", b"\x00\x00"]);
        device.send(0x82, &[b"\x00\x01", &filters[0], b"\x00", &filters[1], b"\x00"]);
        device
    }

    /// What has come since the last call. The device sends something to itself: the broker handles the packets of a
    /// connection in order, so all that it had for the device by now comes before that.
    #[track_caller]
    fn heard(&mut self) -> Vec<Publish> {
        self.send(0x30, &[&string(&self.end)]);
        let mut heard = Vec::new();
        loop {
            while let Some(packet) = Packet::take(Version::V311, &mut self.input).expect("MQTT") {
                match packet {
                    Packet::Publish(publish) if publish.topic == self.end => return heard,
                    Packet::Publish(publish) => heard.push(publish),
                    _ => {}
                }
            }
            let mut piece = [0; 4096];
            let read = self.stream.read(&mut piece).expect("an open connection");
            assert!(read > 0, "mosquitto has closed the connection");
            self.input.extend_from_slice(&piece[..read]);
        }
    }

    /// Sends a packet, which is shorter than 128 bytes.
    #[track_caller]
    fn send(&mut self, first: u8, parts: &[&[u8]]) {
        let body = parts.concat();
        assert!(body.len() < 128, "a length of one byte");
        let packet = [&[first, body.len() as u8][..], &body[..]].concat();
        self.stream.write_all(&packet).expect("an open connection");
    }
}

/// A string of MQTT.
fn string(text: &str) -> Vec<u8> {
    [&(text.len() as u16).to_be_bytes()[..], text.as_bytes()].concat()
}
