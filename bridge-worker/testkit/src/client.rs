//! A connection of a client of MQTT 5.

use crate::address::Address;
use crate::wire::{
    Connect, Packet, Properties, Publish, Version, put_connect, put_packet, put_publish, put_subscribe,
};
use bytes::{BufMut, BytesMut};
use std::io::{Error, ErrorKind};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const SUBSCRIBE_ID: u16 = 1;

/// What is put is sent when the next packet is waited for, or on [`Connection::flush`].
pub(crate) struct Connection {
    stream: TcpStream,
    input: BytesMut,
    output: BytesMut,
}

impl Connection {
    /// Connects. Also returns whether the broker still had the session.
    pub(crate) async fn open(
        broker: Address,
        client_id: &str,
        clean_start: bool,
        properties: Properties,
    ) -> Result<(Connection, bool), Error> {
        let stream = TcpStream::connect(broker.0).await?;
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
                client_id: client_id.to_owned(),
                clean_start,
                keep_alive: 0,
                username: None,
                password: None,
                has_will: false,
                properties,
            },
        );
        match connection.next().await? {
            Packet::Connack {
                session_present,
                reason: 0,
                ..
            } => Ok((connection, session_present)),
            other => Err(Error::other(format!("refused: {other:?}"))),
        }
    }

    /// Subscribes, before anything else comes.
    ///
    /// # Panics
    /// When the broker grants something else.
    pub(crate) async fn subscribe(&mut self, filter: &str, qos: u8) -> Result<(), Error> {
        put_subscribe(&mut self.output, SUBSCRIBE_ID, filter, qos);
        match self.next().await? {
            Packet::Suback { reasons, .. } if reasons[..] == [qos] => Ok(()),
            other => panic!("{filter} is not subscribed to: {other:?}"),
        }
    }

    /// The next packet. What is to be said is said before it is waited for. May be cancelled.
    pub(crate) async fn next(&mut self) -> Result<Packet, Error> {
        loop {
            if let Some(packet) = Packet::take(Version::V5, &mut self.input).map_err(Error::other)? {
                return Ok(packet);
            }
            self.flush().await?;
            if self.stream.read_buf(&mut self.input).await? == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
        }
    }

    /// Sends what was put.
    pub(crate) async fn flush(&mut self) -> Result<(), Error> {
        while !self.output.is_empty() {
            // What has been written is gone from the buffer, also if this is cancelled.
            self.stream.write_buf(&mut self.output).await?;
        }
        Ok(())
    }

    /// Puts a message.
    pub(crate) fn publish(&mut self, publish: &Publish) {
        put_publish(&mut self.output, Version::V5, publish);
    }

    /// Puts an answer with a packet's first byte: PUBACK, PUBREC or PUBCOMP.
    pub(crate) fn answer(&mut self, first: u8, packet_id: u16) {
        let mut body = BytesMut::new();
        body.put_u16(packet_id);
        put_packet(&mut self.output, first, &body);
    }
}
