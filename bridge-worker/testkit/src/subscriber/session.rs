//! One client of a subscriber, over as many connections as it takes.

use super::Shared;
use crate::wire::{
    Connect, Packet, Properties, Publish, Value, Version, id, put_connect, put_packet, put_subscribe,
};
use bytes::{BufMut, BytesMut};
use std::collections::HashSet;
use std::io::{Error, ErrorKind};
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::sleep;

/// Before a broker that is away is tried again.
const PAUSE: Duration = Duration::from_millis(100);
const SUBSCRIBE_ID: u16 = 1;

pub(super) struct Session {
    pub(super) port: u16,
    pub(super) client_id: String,
    pub(super) filter: String,
    pub(super) qos: u8,
    pub(super) shared: Arc<Shared>,
    pub(super) stopped: watch::Receiver<bool>,
}

impl Session {
    pub(super) async fn run(self) {
        let mut stopped = self.stopped.clone();
        let serving = async {
            let mut session = Received::default();
            loop {
                // A lost connection is what this is made for: the next one takes over.
                self.serve(&mut session).await.err();
                sleep(PAUSE).await;
            }
        };
        tokio::select! {
            () = serving => {}
            // The sender is there for as long as the thread is.
            _ = stopped.wait_for(|stopped| *stopped) => {}
        }
    }

    /// One connection, from CONNECT to its end.
    async fn serve(&self, received: &mut Received) -> Result<(), Error> {
        let mut connection = self.connect(received).await?;
        loop {
            let packet = connection.next().await?;
            match packet {
                Packet::Publish(publish) => self.publish(publish, received, &mut connection.output),
                Packet::Pubrel(ack) => {
                    received.unreleased.remove(&ack.packet_id);
                    answer(&mut connection.output, 0x70, ack.packet_id);
                }
                other => return Err(Error::other(format!("nobody asked for {other:?}"))),
            }
        }
    }

    async fn connect(&self, received: &mut Received) -> Result<Connection, Error> {
        let _turn = self.shared.connecting.acquire().await.map_err(Error::other)?;
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).await?;
        stream.set_nodelay(true)?;
        let mut connection = Connection {
            stream,
            input: BytesMut::new(),
            output: BytesMut::new(),
        };
        put_connect(
            &mut connection.output,
            &Connect {
                version: Version::V5,
                client_id: self.client_id.clone(),
                clean_start: false,
                keep_alive: 0,
                username: None,
                password: None,
                has_will: false,
                properties: Properties::new().with(id::SESSION_EXPIRY_INTERVAL, Value::Long(3_600)),
            },
        );
        match connection.next().await? {
            Packet::Connack {
                session_present,
                reason: 0,
                ..
            } => {
                if !session_present {
                    received.unreleased.clear();
                    self.subscribe(&mut connection).await?;
                }
                Ok(connection)
            }
            other => Err(Error::other(format!("refused: {other:?}"))),
        }
    }

    async fn subscribe(&self, connection: &mut Connection) -> Result<(), Error> {
        put_subscribe(&mut connection.output, SUBSCRIBE_ID, &self.filter, self.qos);
        match connection.next().await? {
            Packet::Suback { reasons, .. } if reasons[..] == [self.qos] => {
                self.shared.subscribed.fetch_add(1, Ordering::Relaxed);
                Ok(())
            }
            other => panic!("{} is not subscribed to: {other:?}", self.filter),
        }
    }

    fn publish(&self, publish: Publish, received: &mut Received, output: &mut BytesMut) {
        let packet_id = publish.packet_id;
        let is_new = publish.qos < 2 || received.unreleased.insert(packet_id);
        if is_new {
            self.shared.came(&publish.payload);
        }
        match publish.qos {
            1 => answer(output, 0x40, packet_id),
            2 => answer(output, 0x50, packet_id),
            _ => {}
        }
    }
}

/// What the client keeps of its session.
#[derive(Debug, Default)]
struct Received {
    /// Messages of QoS 2 that the broker has not released.
    unreleased: HashSet<u16>,
}

struct Connection {
    stream: TcpStream,
    input: BytesMut,
    output: BytesMut,
}

impl Connection {
    /// The next packet. What is to be said is said before it is waited for.
    async fn next(&mut self) -> Result<Packet, Error> {
        loop {
            if let Some(packet) = Packet::take(Version::V5, &mut self.input).map_err(Error::other)? {
                return Ok(packet);
            }
            if !self.output.is_empty() {
                self.stream.write_all(&self.output).await?;
                self.output.clear();
            }
            if self.stream.read_buf(&mut self.input).await? == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
        }
    }
}

fn answer(output: &mut BytesMut, first: u8, packet_id: u16) {
    let mut body = BytesMut::new();
    body.put_u16(packet_id);
    put_packet(output, first, &body);
}
