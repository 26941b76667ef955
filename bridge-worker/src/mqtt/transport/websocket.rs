//! MQTT in WebSocket frames (section 6 of both versions of MQTT). A packet may begin in one frame and end in another, and
//! one frame may hold many; so bytes go through as they come, and no frame is ever held whole.

use std::io::{self, Cursor, Read, Write};

use bytes::{Buf, BufMut, BytesMut};
use tungstenite::client::{ClientRequestBuilder, client};
use tungstenite::handshake::HandshakeError as Handshake;
use tungstenite::http::Uri;
use tungstenite::protocol::frame::FrameHeader;
use tungstenite::protocol::frame::coding::{Control, Data, OpCode};

use super::Pipe;
use crate::random;

/// The largest frame that is written, in bytes of its payload.
const FRAME_BYTES: usize = 64 * 1024;
/// Frames that control the connection are no longer than this [RFC 6455, 5.5].
const CONTROL_BYTES: u64 = 125;
/// What the response to the handshake ends with.
const RESPONSE_END: &[u8] = b"\r\n\r\n";

/// Why the server does not speak WebSocket.
pub(in crate::mqtt) type HandshakeError = tungstenite::Error;

/// The client's end.
#[derive(Debug)]
pub(in crate::mqtt) struct WebSocket {
    pipe: Pipe,
    /// Read, and not looked at: the beginning of a header, or of a frame that controls the connection.
    inbound: BytesMut,
    /// Bytes of the frame that has begun which have not come.
    left: u64,
    /// In frames, and not written.
    out: BytesMut,
    has_ended: bool,
}

impl WebSocket {
    pub(super) async fn shake_hands(pipe: Pipe, host: &str, path: &str) -> Result<Self, HandshakeError> {
        let uri: Uri = format!("ws://{host}{path}").parse().map_err(io::Error::other)?;
        let request = ClientRequestBuilder::new(uri).with_sub_protocol("mqtt");
        let mut progress = client(request, Response::to(pipe));
        let response = loop {
            progress = match progress {
                Ok((websocket, _)) => break websocket.into_inner(),
                Err(Handshake::Failure(error)) => return Err(error),
                Err(Handshake::Interrupted(mut handshake)) => {
                    handshake.get_mut().get_mut().pipe.ready().await?;
                    handshake.handshake()
                }
            };
        };
        Ok(Self {
            pipe: response.pipe,
            inbound: response.read,
            left: 0,
            out: BytesMut::new(),
            has_ended: false,
        })
    }

    pub(super) fn try_read(&mut self, into: &mut BytesMut) -> io::Result<usize> {
        let before = into.len();
        self.unpack(into)?;
        while into.len() == before && !self.has_ended {
            self.inbound.reserve(FRAME_BYTES);
            if self.pipe.try_read(&mut self.inbound)? == 0 {
                break;
            }
            self.unpack(into)?;
        }
        Ok(into.len() - before)
    }

    /// Takes payloads out of frames, and answers those that ask for it.
    fn unpack(&mut self, into: &mut BytesMut) -> io::Result<()> {
        loop {
            let here = self
                .inbound
                .len()
                .min(usize::try_from(self.left).unwrap_or(usize::MAX));
            into.extend_from_slice(&self.inbound[..here]);
            self.inbound.advance(here);
            self.left -= here as u64;
            if self.left > 0 || self.has_ended {
                return Ok(());
            }
            let mut cursor = Cursor::new(&self.inbound[..]);
            let Some((header, length)) = FrameHeader::parse(&mut cursor).map_err(io::Error::other)? else {
                return Ok(());
            };
            let begin = usize::try_from(cursor.position()).unwrap_or(usize::MAX);
            match header.opcode {
                OpCode::Data(Data::Binary | Data::Continue) if header.mask.is_none() => {
                    self.inbound.advance(begin);
                    self.left = length;
                }
                OpCode::Control(control) if length <= CONTROL_BYTES && header.mask.is_none() => {
                    let end = begin + length as usize;
                    if self.inbound.len() < end {
                        return Ok(());
                    }
                    let payload = self.inbound.split_to(end).split_off(begin);
                    match control {
                        // One of many will do for a server that does not read.
                        Control::Ping if self.out.len() < FRAME_BYTES => {
                            self.pack(OpCode::Control(Control::Pong), &payload)?;
                        }
                        Control::Close => self.has_ended = true,
                        Control::Ping | Control::Pong | Control::Reserved(_) => {}
                    }
                }
                other => {
                    let why =
                        format!("a WebSocket frame of {other} with {length} bytes, where MQTT has none");
                    return Err(io::Error::new(io::ErrorKind::InvalidData, why));
                }
            }
        }
    }

    pub(super) fn try_write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.try_flush()?;
        let bytes = &bytes[..bytes.len().min(FRAME_BYTES)];
        self.pack(OpCode::Data(Data::Binary), bytes)?;
        match self.try_flush() {
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(error),
            _ => Ok(bytes.len()),
        }
    }

    /// Puts a frame where it is written from.
    fn pack(&mut self, opcode: OpCode, payload: &[u8]) -> io::Result<()> {
        let mask = (random::number() as u32).to_ne_bytes();
        let header = FrameHeader {
            opcode,
            mask: Some(mask),
            ..FrameHeader::default()
        };
        let mut out = (&mut self.out).writer();
        header
            .format(payload.len() as u64, &mut out)
            .map_err(io::Error::other)?;
        let begin = self.out.len();
        self.out.extend_from_slice(payload);
        for piece in self.out[begin..].chunks_mut(mask.len()) {
            piece.iter_mut().zip(mask).for_each(|(byte, mask)| *byte ^= mask);
        }
        Ok(())
    }

    pub(super) fn try_flush(&mut self) -> io::Result<()> {
        while !self.out.is_empty() {
            let count = self.pipe.write(&self.out)?;
            self.out.advance(count);
        }
        self.pipe.flush()
    }

    pub(super) fn has_unsent(&self) -> bool {
        !self.out.is_empty() || self.pipe.has_unsent()
    }

    /// Queues the frame that says it.
    pub(super) fn say_end(&mut self) -> io::Result<()> {
        self.pack(OpCode::Control(Control::Close), &[])
    }

    pub(super) fn pipe(&self) -> &Pipe {
        &self.pipe
    }

    pub(super) fn pipe_mut(&mut self) -> &mut Pipe {
        &mut self.pipe
    }
}

/// Gives the handshake its response, and nothing that comes behind it.
struct Response {
    pipe: Pipe,
    read: BytesMut,
    /// Of [`RESPONSE_END`].
    seen: usize,
}

impl Response {
    fn to(pipe: Pipe) -> Self {
        Self {
            pipe,
            read: BytesMut::new(),
            seen: 0,
        }
    }
}

impl Read for Response {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.read.is_empty() && self.pipe.try_read(&mut self.read)? == 0 {
            return Ok(0);
        }
        let mut count = 0;
        while count < buffer.len().min(self.read.len()) && self.seen < RESPONSE_END.len() {
            let byte = self.read[count];
            self.seen = match byte == RESPONSE_END[self.seen] {
                true => self.seen + 1,
                false => usize::from(byte == RESPONSE_END[0]),
            };
            count += 1;
        }
        self.read.copy_to_slice(&mut buffer[..count]);
        Ok(count)
    }
}

impl Write for Response {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.pipe.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.pipe.flush()
    }
}

/// What a failure of the handshake means and what to do about it.
pub(in crate::mqtt) fn explain(error: &HandshakeError) -> String {
    use tungstenite::Error;
    match error {
        Error::Http(response) => format!(
            "it answers HTTP {}; correct the path in the MqttBroker's spec.urls (brokers often have /mqtt)",
            response.status()
        ),
        Error::Io(error) => format!("{error}; use the port of its WebSocket listener"),
        other => format!("{other}; use the port of its WebSocket listener"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a server does with a frame of a client: the header, and the payload without its mask.
    fn read_frame(bytes: &[u8]) -> (FrameHeader, Vec<u8>, usize) {
        let mut cursor = Cursor::new(bytes);
        let (header, length) = FrameHeader::parse(&mut cursor).unwrap().unwrap();
        let begin = cursor.position() as usize;
        let end = begin + length as usize;
        let mask = header.mask.unwrap().into_iter().cycle();
        let payload = bytes[begin..end].iter().zip(mask).map(|(byte, mask)| byte ^ mask);
        let payload = payload.collect();
        (header, payload, end)
    }

    fn frame(opcode: OpCode, payload: &[u8]) -> Vec<u8> {
        let header = FrameHeader {
            opcode,
            ..FrameHeader::default()
        };
        let mut out = Vec::new();
        header.format(payload.len() as u64, &mut out).unwrap();
        out.extend_from_slice(payload);
        out
    }

    async fn pair() -> (WebSocket, tokio::net::TcpStream) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = tokio::net::TcpStream::connect(listener.local_addr().unwrap());
        let (client, server) = tokio::join!(client, listener.accept());
        let websocket = WebSocket {
            pipe: Pipe {
                socket: client.unwrap(),
                tls: None,
            },
            inbound: BytesMut::new(),
            left: 0,
            out: BytesMut::new(),
            has_ended: false,
        };
        (websocket, server.unwrap().0)
    }

    #[tokio::test]
    async fn bytes_go_through_frames_however_they_are_cut_and_pings_are_answered() {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let (mut websocket, mut server) = pair().await;
        let payload: Vec<u8> = (0..70_000_u32).map(|n| n as u8).collect();
        let mut wire = frame(OpCode::Data(Data::Binary), &payload[..3]);
        wire.extend(frame(OpCode::Control(Control::Ping), b"here?"));
        wire.extend(frame(OpCode::Data(Data::Continue), &payload[3..200]));
        wire.extend(frame(OpCode::Data(Data::Binary), &payload[200..]));
        let (mut got, mut sent) = (BytesMut::new(), 0);
        while got.len() < payload.len() {
            if sent < wire.len() {
                // One byte at first, so that headers come in pieces.
                let size = if sent < 300 { 1 } else { 10_000 };
                let end = wire.len().min(sent + size);
                server.write_all(&wire[sent..end]).await.unwrap();
                sent = end;
            }
            websocket.pipe.socket.readable().await.unwrap();
            match websocket.try_read(&mut got) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                read => assert!(read.unwrap() > 0),
            }
        }
        assert_eq!(got, payload);
        websocket.try_flush().unwrap();
        assert_eq!(websocket.try_write(&payload[..10]).unwrap(), 10);
        let mut written = vec![0; 6 + 5 + 6 + 10];
        server.read_exact(&mut written).await.unwrap();
        let (header, payload_of_pong, end) = read_frame(&written);
        assert_eq!(header.opcode, OpCode::Control(Control::Pong));
        assert_eq!(payload_of_pong, b"here?");
        let (header, written, _) = read_frame(&written[end..]);
        assert_eq!(header.opcode, OpCode::Data(Data::Binary));
        assert_eq!(written, &payload[..10]);
    }

    #[tokio::test]
    async fn a_close_is_the_end_and_text_is_no_mqtt() {
        use tokio::io::AsyncWriteExt;
        for (opcode, is_end) in [
            (OpCode::Control(Control::Close), true),
            (OpCode::Data(Data::Text), false),
        ] {
            let (mut websocket, mut server) = pair().await;
            server.write_all(&frame(opcode, b"no")).await.unwrap();
            websocket.pipe.socket.readable().await.unwrap();
            let read = websocket.try_read(&mut BytesMut::new());
            match is_end {
                true => assert_eq!(read.unwrap(), 0),
                false => assert_eq!(read.unwrap_err().kind(), io::ErrorKind::InvalidData),
            }
        }
    }
}
