//! A synthetic MQTT 5 broker that takes what is published with QoS 1 and confirms it: the fastest honest one there is.
//!
//! All that a read has brought is confirmed with one write.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use anyhow::{Context as _, bail};
use bytes::{Buf as _, BufMut as _, BytesMut};
use rumqttc::v5::mqttbytes::v5::{ConnAck, ConnectReturnCode, Packet, PingResp};
use serde::{Deserialize, Serialize};

use crate::broker::Listening;

/// The answer to `stats`.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Taken {
    /// Messages confirmed since the start.
    pub messages: u64,
    /// Nanoseconds since the start.
    pub at_ns: u64,
}

/// Serves until standard input ends. The command `stats` is answered with [`Taken`].
pub fn run() -> anyhow::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").context("cannot listen on loopback")?;
    let port = listener.local_addr()?.port();
    println!("{}", serde_json::to_string(&Listening { port })?);
    let (start, messages) = (Instant::now(), Arc::new(AtomicU64::new(0)));
    let counted = Arc::clone(&messages);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let counted = Arc::clone(&counted);
            std::thread::spawn(move || {
                if let Err(error) = take(stream, &counted) {
                    eprintln!("connection: {error:#}");
                }
            });
        }
    });
    for line in std::io::stdin().lines() {
        match line?.as_str() {
            "stats" => {
                let taken = Taken {
                    messages: messages.load(Ordering::Relaxed),
                    at_ns: u64::try_from(start.elapsed().as_nanos())?,
                };
                println!("{}", serde_json::to_string(&taken)?);
            }
            other => bail!("unknown command {other:?}; known: stats"),
        }
    }
    Ok(())
}

/// Serves one client until it goes.
fn take(mut stream: TcpStream, counted: &AtomicU64) -> anyhow::Result<()> {
    stream.set_nodelay(true)?;
    let mut chunk = vec![0; 256 * 1024];
    let (mut input, mut output) = (BytesMut::new(), BytesMut::new());
    loop {
        let read = stream.read(&mut chunk)?;
        if read == 0 {
            return Ok(());
        }
        input.extend_from_slice(&chunk[..read]);
        let messages = answer(&mut input, &mut output)?;
        stream.write_all(&output)?;
        output.clear();
        counted.fetch_add(messages, Ordering::Relaxed);
    }
}

/// Answers every whole packet of `input`. Returns how many of them were messages.
fn answer(input: &mut BytesMut, output: &mut BytesMut) -> anyhow::Result<u64> {
    let mut messages = 0;
    while let Some((head, length)) = whole(input)? {
        if input[0] & 0xf6 == 0x32 {
            let topic = usize::from(u16::from_be_bytes([input[head], input[head + 1]]));
            let id = head + 2 + topic;
            output.put_slice(&[0x40, 2, input[id], input[id + 1]]);
            messages += 1;
            input.advance(head + length);
            continue;
        }
        let answer = match Packet::read(input, None).context("the client sent a malformed packet")? {
            Packet::Connect(..) => Packet::ConnAck(ConnAck {
                session_present: false,
                code: ConnectReturnCode::Success,
                properties: None,
            }),
            Packet::PingReq(_) => Packet::PingResp(PingResp),
            Packet::Disconnect(_) => continue,
            other => bail!("the client sent what is not expected here: {other:?}"),
        };
        answer.write(output, None).context("cannot encode a reply")?;
    }
    Ok(messages)
}

/// The lengths of the fixed header and of what follows, if the first packet is there as a whole.
fn whole(input: &[u8]) -> anyhow::Result<Option<(usize, usize)>> {
    let mut length = 0;
    for at in 0..4 {
        let Some(byte) = input.get(1 + at) else {
            return Ok(None);
        };
        length |= usize::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            let head = 2 + at;
            return Ok((input.len() >= head + length).then_some((head, length)));
        }
    }
    bail!("a remaining length of more than four bytes")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_messages_are_confirmed_and_half_ones_wait() {
        let message = |id: u8| [0x32, 7, 0, 1, b'a', 0, id, 0, b'x'];
        let mut input = BytesMut::new();
        input.put_slice(&message(1));
        input.put_slice(&message(2));
        input.put_slice(&message(3)[..5]);
        let mut output = BytesMut::new();
        assert_eq!(answer(&mut input, &mut output).unwrap(), 2);
        assert_eq!(output[..], [0x40, 2, 0, 1, 0x40, 2, 0, 2]);
        input.put_slice(&message(3)[5..]);
        assert_eq!(answer(&mut input, &mut output).unwrap(), 1);
        assert!(input.is_empty());
    }
}
