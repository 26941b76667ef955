//! A publisher for a real MQTT broker: QoS 1 over a few connections, packets encoded once, the time of sending in
//! each payload. A thread per connection writes within a window of its own, another reads PUBACKs.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use bytes::{Buf as _, BytesMut};
use rumqttc::v5::mqttbytes::v5::{Connect, ConnectReturnCode, Packet};
use serde::{Deserialize, Serialize};

use crate::broker::{Ack, Block, Window, topics};
use crate::pace::Pacer;
use crate::payload;

/// What is published, and where.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// Port of the MQTT broker on 127.0.0.1.
    #[arg(long)]
    pub port: u16,
    /// Bytes of a payload.
    #[arg(long, default_value_t = 100)]
    pub size: usize,
    /// Messages per second over all connections. Absent: as many as the windows allow.
    #[arg(long)]
    pub rate: Option<u64>,
    /// Connections; each has topics of its own.
    #[arg(long, default_value_t = 4)]
    pub connections: u16,
    /// Messages a connection may have unacknowledged.
    #[arg(long, default_value_t = 500)]
    pub window: u16,
    /// Number of MQTT topics.
    #[arg(long, default_value_t = 100)]
    pub topics: usize,
    /// Number of sites, each a Kafka topic.
    #[arg(long, default_value_t = 2)]
    pub sites: usize,
}

/// The first line the generator prints, and its answer to `stats`.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Published {
    /// Messages written.
    pub sent: u64,
    /// Messages the broker has acknowledged.
    pub acked: u64,
}

#[derive(Debug, Default)]
struct Counts {
    sent: AtomicU64,
    acked: AtomicU64,
}

/// Publishes until standard input ends.
pub fn run(options: &Options) -> anyhow::Result<()> {
    let counts = Arc::new(Counts::default());
    let topics = topics(options.sites, options.topics);
    for connection in 0..options.connections {
        let own: Vec<String> = topics
            .iter()
            .skip(usize::from(connection))
            .step_by(usize::from(options.connections))
            .cloned()
            .collect();
        let block = Block::new(&own, 1, |n| {
            payload::telemetry(options.size, n ^ u64::from(connection) << 32)
        });
        let stream = connect(options.port, connection)?;
        let pacer = options
            .rate
            .map(|rate| Pacer::new(rate / u64::from(options.connections)));
        publish(stream, options.window, block, pacer, &counts)?;
    }
    let print = || -> anyhow::Result<()> {
        let (sent, acked) = (
            counts.sent.load(Ordering::Relaxed),
            counts.acked.load(Ordering::Relaxed),
        );
        println!("{}", serde_json::to_string(&Published { sent, acked })?);
        Ok(())
    };
    print()?;
    for line in std::io::stdin().lines() {
        match line?.as_str() {
            "stats" => print()?,
            other => bail!("unknown command {other:?}; known: stats"),
        }
    }
    Ok(())
}

/// Connects and waits for CONNACK.
fn connect(port: u16, number: u16) -> anyhow::Result<TcpStream> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).context("cannot reach the MQTT broker")?;
    stream.set_nodelay(true)?;
    let connect = Connect {
        keep_alive: 0,
        client_id: format!("load-{number}"),
        clean_start: true,
        properties: None,
    };
    let mut bytes = BytesMut::new();
    Packet::Connect(connect, None, None)
        .write(&mut bytes, None)
        .context("cannot encode CONNECT")?;
    stream.write_all(&bytes)?;
    bytes.clear();
    let mut chunk = [0; 1024];
    loop {
        match Packet::read(&mut bytes, None) {
            Ok(Packet::ConnAck(answer)) if answer.code == ConnectReturnCode::Success => return Ok(stream),
            Ok(other) => bail!("the MQTT broker answered CONNECT with {other:?}"),
            Err(rumqttc::v5::mqttbytes::Error::InsufficientBytes(_)) => {}
            Err(error) => return Err(error).context("the MQTT broker sent a malformed packet"),
        }
        let read = stream.read(&mut chunk)?;
        if read == 0 {
            bail!("the MQTT broker closed the connection after CONNECT");
        }
        bytes.extend_from_slice(&chunk[..read]);
    }
}

/// Starts the two threads of a connection. They end with the process.
fn publish(
    stream: TcpStream,
    limit: u16,
    block: Block,
    pacer: Option<Pacer>,
    counts: &Arc<Counts>,
) -> anyhow::Result<()> {
    let window = Arc::new(Window::new(limit));
    let acks = stream.try_clone()?;
    let (shared, counted) = (Arc::clone(&window), Arc::clone(counts));
    let writer = std::thread::spawn(move || {
        if let Err(error) = write(stream, &shared, block, pacer, &counted.sent) {
            eprintln!("publisher: {error}");
        }
    });
    let counts = Arc::clone(counts);
    std::thread::spawn(move || {
        if let Err(error) = read(acks, &window, writer.thread(), &counts.acked) {
            eprintln!("publisher: {error}");
        }
    });
    Ok(())
}

fn write(
    mut stream: TcpStream,
    window: &Window,
    mut block: Block,
    mut pacer: Option<Pacer>,
    sent: &AtomicU64,
) -> std::io::Result<()> {
    let start = Instant::now();
    let mut next = 1;
    loop {
        let elapsed = start.elapsed();
        let due = pacer.as_ref().map_or(u64::MAX, |pacer| pacer.due(elapsed));
        let wanted = usize::try_from(window.room().min(due))
            .unwrap_or(usize::MAX)
            .min(block.available());
        let count = window.free_ids(next, wanted);
        if count > 0 {
            window.send(next, count, 0);
            let now = payload::now();
            stream.write_all(block.take(count, &mut next, |payload| payload::stamp(payload, now)))?;
            sent.fetch_add(count as u64, Ordering::Relaxed);
        }
        match &mut pacer {
            Some(pacer) => {
                pacer.take(count as u64);
                std::thread::sleep(Pacer::until_next_tick(elapsed));
            }
            // A PUBACK wakes it.
            None if count == 0 => std::thread::park_timeout(Duration::from_millis(100)),
            None => {}
        }
    }
}

fn read(
    mut stream: TcpStream,
    window: &Window,
    writer: &std::thread::Thread,
    acked: &AtomicU64,
) -> anyhow::Result<()> {
    let mut chunk = vec![0; 16 * 1024];
    let mut buffer = BytesMut::new();
    loop {
        let read = stream.read(&mut chunk)?;
        if read == 0 {
            bail!("the MQTT broker closed the connection");
        }
        buffer.extend_from_slice(&chunk[..read]);
        // The only packets that come are PUBACKs, with or without a reason code.
        while buffer.len() >= 2 && buffer.len() >= 2 + usize::from(buffer[1]) {
            let length = 2 + usize::from(buffer[1]);
            if buffer[0] != 0x40 || length < 4 {
                bail!("the MQTT broker sent packet type {:#x}, not PUBACK", buffer[0]);
            }
            if window.acknowledge(u16::from_be_bytes([buffer[2], buffer[3]])) == Ack::Unknown {
                bail!("the MQTT broker acknowledged an id that is not outstanding");
            }
            acked.fetch_add(1, Ordering::Relaxed);
            buffer.advance(length);
        }
        writer.unpark();
    }
}
