//! Reads and checks acks, and answers what is not one.

use std::io::Read as _;
use std::net::TcpStream;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::thread::Thread;
use std::time::Instant;

use anyhow::{Context as _, bail};
use bytes::{Buf as _, BytesMut};
use rumqttc::v5::mqttbytes::v5::{ConnAck, ConnectReturnCode, Packet, PingResp, SubAck, SubscribeReasonCode};

use super::{Shared, batch};
use crate::broker::window::{Ack, AckOrder};
use crate::broker::{Options, Tally, nanos};

/// The reading half of a connection.
pub(super) struct Receiver<'a> {
    pub(super) shared: &'a Shared,
    pub(super) tally: &'a Tally,
    pub(super) order: AckOrder,
    pub(super) start: Instant,
    pub(super) options: &'a Options,
}

impl Receiver<'_> {
    /// Reads until the client goes.
    pub(super) fn run(mut self, mut stream: &TcpStream, writer: &Thread) -> anyhow::Result<()> {
        let mut chunk = vec![0; 64 * 1024];
        let mut buffer = BytesMut::new();
        loop {
            let read = match stream.read(&mut chunk) {
                Ok(0) => return Ok(()),
                Ok(read) => read,
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return Ok(()),
                Err(error) => return Err(error.into()),
            };
            buffer.extend_from_slice(&chunk[..read]);
            let replied = self.take_acks(&mut buffer)?;
            let refill =
                self.options.rate.is_none() && self.shared.window.room() >= batch(&self.shared.window);
            if replied || refill {
                writer.unpark();
            }
        }
    }

    /// Handles every whole packet in `buffer`. Returns whether there are replies to write.
    fn take_acks(&mut self, buffer: &mut BytesMut) -> anyhow::Result<bool> {
        let now = nanos(self.start);
        let mut replied = false;
        let mut acks = self.tally.acks();
        acks.reads += 1;
        while let [kind, length, rest @ ..] = buffer.as_ref() {
            let length = usize::from(*length);
            let is_ack = matches!(kind >> 4, 4 | 5 | 7) && (2..128).contains(&length);
            if !is_ack {
                match Packet::read(buffer, None) {
                    Ok(packet) => replied |= self.reply(packet)?,
                    Err(rumqttc::v5::mqttbytes::Error::InsufficientBytes(_)) => break,
                    Err(error) => return Err(error).context("the client sent a malformed packet"),
                }
                continue;
            }
            if rest.len() < length {
                break;
            }
            let id = u16::from_be_bytes([rest[0], rest[1]]);
            let (kind, failed) = (kind >> 4, length > 2 && rest[2] >= 0x80);
            let ack = match kind {
                4 => self.shared.window.acknowledge(id),
                5 => self.shared.window.receive(id),
                _ => self.shared.window.complete(id),
            };
            match ack {
                Ack::Sent(time) => {
                    acks.acked += 1;
                    acks.out_of_order += u64::from(!self.order.follows(id));
                    acks.latency_us
                        .saturating_record((now.saturating_sub(time)) / 1000);
                }
                Ack::Released => {}
                Ack::Unknown => acks.unknown += 1,
            }
            if kind == 5 && !failed {
                let [high, low] = id.to_be_bytes();
                self.push(&[0x62, 2, high, low]);
                replied = true;
            }
            buffer.advance(2 + length);
        }
        Ok(replied)
    }

    /// Answers a packet that is not an ack. Returns whether there is a reply to write.
    fn reply(&self, packet: Packet) -> anyhow::Result<bool> {
        let answer = match packet {
            Packet::Connect(connect, _, _) => {
                if let (Some(properties), None) = (connect.properties, self.options.overrun) {
                    self.shared
                        .window
                        .set_limit(properties.receive_maximum.unwrap_or(u16::MAX));
                }
                Packet::ConnAck(ConnAck {
                    session_present: false,
                    code: ConnectReturnCode::Success,
                    properties: None,
                })
            }
            Packet::Subscribe(subscribe) => Packet::SubAck(SubAck {
                pkid: subscribe.pkid,
                return_codes: subscribe
                    .filters
                    .iter()
                    .map(|f| SubscribeReasonCode::Success(f.qos))
                    .collect(),
                properties: None,
            }),
            Packet::PingReq(_) => Packet::PingResp(PingResp),
            Packet::Disconnect(_) => return Ok(false),
            other => bail!("the client sent what a broker does not expect here: {other:?}"),
        };
        let mut bytes = BytesMut::new();
        answer.write(&mut bytes, None).context("cannot encode a reply")?;
        self.push(&bytes);
        if matches!(answer, Packet::SubAck(_)) {
            self.shared.subscribed.store(true, Ordering::Release);
            self.tally.subscribed.store(true, Ordering::Relaxed);
        }
        Ok(true)
    }

    fn push(&self, bytes: &[u8]) {
        self.shared
            .replies
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .extend_from_slice(bytes);
    }
}
