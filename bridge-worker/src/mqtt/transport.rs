//! The bytes of a connection, as the listener at the other end wants them: as they are, in TLS, in WebSocket frames, or
//! in both.
//!
//! Nothing here waits but [`Transport::readable`] and [`Transport::writable`]: a lane reads and writes as much as there is
//! in one turn, whatever is in between.

mod tls;
mod websocket;

use std::io::{self, Write};
use std::sync::Arc;

use bytes::BytesMut;
use rustls::pki_types::ServerName;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::certificates::Validity;
use tls::Tls;
use websocket::WebSocket;
pub(super) use websocket::{HandshakeError, explain as explain_websocket};

/// What bytes of MQTT are read from and written to.
#[derive(Debug)]
pub(super) enum Transport {
    Stream(Pipe),
    WebSocket(Box<WebSocket>),
}

impl Transport {
    pub(super) fn tcp(socket: TcpStream) -> Self {
        Self::Stream(Pipe { socket, tls: None })
    }

    /// TLS over TCP, once the server has shown who it is.
    pub(super) async fn tls(
        socket: TcpStream,
        config: Arc<rustls::ClientConfig>,
        name: ServerName<'static>,
    ) -> io::Result<Self> {
        let tls = Tls::shake_hands(&socket, config, name).await?;
        Ok(Self::Stream(Pipe {
            socket,
            tls: Some(Box::new(tls)),
        }))
    }

    /// WebSockets over what there is, once the server has agreed; `host` is what the url names, with its port.
    pub(super) async fn into_websocket(self, host: &str, path: &str) -> Result<Self, HandshakeError> {
        match self {
            Self::Stream(pipe) => {
                let websocket = WebSocket::shake_hands(pipe, host, path).await?;
                Ok(Self::WebSocket(Box::new(websocket)))
            }
            Self::WebSocket(_) => Ok(self),
        }
    }

    /// Reads what is there. Zero: the other end has closed; [`io::ErrorKind::WouldBlock`]: nothing is there.
    pub(super) fn try_read(&mut self, into: &mut BytesMut) -> io::Result<usize> {
        match self {
            Self::Stream(pipe) => pipe.try_read(into),
            Self::WebSocket(websocket) => websocket.try_read(into),
        }
    }

    /// Takes some of `bytes`, as many as the socket may soon.
    pub(super) fn try_write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Stream(pipe) => pipe.write(bytes),
            Self::WebSocket(websocket) => websocket.try_write(bytes),
        }
    }

    /// Writes what has been taken.
    pub(super) fn try_flush(&mut self) -> io::Result<()> {
        match self {
            Self::Stream(pipe) => pipe.flush(),
            Self::WebSocket(websocket) => websocket.try_flush(),
        }
    }

    /// Whether something that was taken has not been written.
    pub(super) fn has_unsent(&self) -> bool {
        match self {
            Self::Stream(pipe) => pipe.has_unsent(),
            Self::WebSocket(websocket) => websocket.has_unsent(),
        }
    }

    /// The certificate that the server has shown, if TLS is spoken.
    pub(super) fn server(&self) -> Option<Validity> {
        self.pipe().tls.as_ref()?.server()
    }

    pub(super) async fn readable(&self) -> io::Result<()> {
        self.pipe().socket.readable().await
    }

    pub(super) async fn writable(&self) -> io::Result<()> {
        self.pipe().socket.writable().await
    }

    /// Says that nothing more comes from this end, in each layer.
    pub(super) async fn say_end(&mut self) -> io::Result<()> {
        if let Self::WebSocket(websocket) = self {
            websocket.say_end()?;
        }
        if let Some(tls) = &mut self.pipe_mut().tls {
            tls.say_end();
        }
        while let Err(error) = self.try_flush() {
            if error.kind() != io::ErrorKind::WouldBlock {
                return Err(error);
            }
            self.writable().await?;
        }
        self.pipe_mut().socket.shutdown().await
    }

    fn pipe(&self) -> &Pipe {
        match self {
            Self::Stream(pipe) => pipe,
            Self::WebSocket(websocket) => websocket.pipe(),
        }
    }

    fn pipe_mut(&mut self) -> &mut Pipe {
        match self {
            Self::Stream(pipe) => pipe,
            Self::WebSocket(websocket) => websocket.pipe_mut(),
        }
    }
}

/// TCP, with TLS in it or without.
#[derive(Debug)]
pub(super) struct Pipe {
    socket: TcpStream,
    tls: Option<Box<Tls>>,
}

impl Pipe {
    fn try_read(&mut self, into: &mut BytesMut) -> io::Result<usize> {
        match &mut self.tls {
            None => self.socket.try_read_buf(into),
            Some(tls) => tls.try_read(&self.socket, into),
        }
    }

    fn has_unsent(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.has_unsent())
    }

    /// Waits until there may be something to read, or until some of what waits can be written.
    async fn ready(&mut self) -> io::Result<()> {
        if !self.has_unsent() {
            return self.socket.readable().await;
        }
        self.socket.writable().await?;
        match self.flush() {
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(error),
            _ => Ok(()),
        }
    }
}

impl Write for Pipe {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.tls {
            None => self.socket.try_write(bytes),
            Some(tls) => tls.try_write(&self.socket, bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match &mut self.tls {
            None => Ok(()),
            Some(tls) => tls.try_flush(&self.socket),
        }
    }
}
