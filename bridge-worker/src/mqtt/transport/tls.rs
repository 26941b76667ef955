//! TLS by rustls, between a socket that does not wait and buffers that grow.

use std::io::{self, BufRead, IoSlice, Write};
use std::sync::Arc;

use bytes::{Buf, BytesMut};
use rustls::client::ClientConnection;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;

use crate::certificates::Validity;

/// Bytes asked of the socket at once. By itself rustls asks for 4 KiB.
const READ_BYTES: usize = 64 * 1024;

/// The client's end.
#[derive(Debug)]
pub(super) struct Tls {
    session: ClientConnection,
    /// Read from the socket, not decrypted.
    wire: BytesMut,
}

impl Tls {
    pub(super) async fn shake_hands(
        socket: &TcpStream,
        config: Arc<rustls::ClientConfig>,
        name: ServerName<'static>,
    ) -> io::Result<Self> {
        let session = ClientConnection::new(config, name).map_err(io::Error::other)?;
        let mut tls = Self {
            session,
            wire: BytesMut::new(),
        };
        // A broker says nothing before CONNECT.
        let mut early = BytesMut::new();
        while tls.session.is_handshaking() || tls.has_unsent() {
            match tls.try_flush(socket) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    socket.writable().await?;
                    continue;
                }
                flushed => flushed?,
            }
            if !tls.session.is_handshaking() {
                continue;
            }
            socket.readable().await?;
            match tls.try_read(socket, &mut early) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => {
                    // The server is told why.
                    tls.try_flush(socket).ok();
                    return Err(error);
                }
            }
        }
        Ok(tls)
    }

    pub(super) fn try_read(&mut self, socket: &TcpStream, into: &mut BytesMut) -> io::Result<usize> {
        let before = into.len();
        while into.len() == before {
            self.wire.reserve(READ_BYTES);
            if socket.try_read_buf(&mut self.wire)? == 0 {
                // MQTT says itself where a packet ends: nothing can have been cut off unseen.
                return Ok(0);
            }
            if !self.decrypt(into)? && into.len() == before {
                return Ok(0);
            }
        }
        Ok(into.len() - before)
    }

    /// False when the server has said that it sends nothing more. What follows is not from it, and is thrown away.
    fn decrypt(&mut self, into: &mut BytesMut) -> io::Result<bool> {
        while self.wire.has_remaining() {
            if self.session.read_tls(&mut (&mut self.wire).reader())? == 0 {
                self.wire.clear();
                return Ok(false);
            }
            let state = self.session.process_new_packets().map_err(io::Error::other)?;
            let mut ready = state.plaintext_bytes_to_read();
            let mut reader = self.session.reader();
            while ready > 0 {
                let chunk = reader.fill_buf()?;
                into.extend_from_slice(chunk);
                let length = chunk.len();
                reader.consume(length);
                ready -= length;
            }
        }
        Ok(true)
    }

    pub(super) fn try_write(&mut self, socket: &TcpStream, bytes: &[u8]) -> io::Result<usize> {
        self.try_flush(socket)?;
        let count = self.session.writer().write(bytes)?;
        match self.try_flush(socket) {
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(error),
            _ => Ok(count),
        }
    }

    pub(super) fn try_flush(&mut self, socket: &TcpStream) -> io::Result<()> {
        while self.session.wants_write() {
            self.session.write_tls(&mut Socket(socket))?;
        }
        Ok(())
    }

    pub(super) fn has_unsent(&self) -> bool {
        self.session.wants_write()
    }

    /// What the server has shown.
    pub(super) fn server(&self) -> Option<Validity> {
        Validity::of(self.session.peer_certificates()?.first()?)
    }

    /// Queues the alert that says it.
    pub(super) fn say_end(&mut self) {
        self.session.send_close_notify();
    }
}

/// Writes without waiting.
struct Socket<'a>(&'a TcpStream);

impl Write for Socket<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.try_write(bytes)
    }

    fn write_vectored(&mut self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        self.0.try_write_vectored(pieces)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
