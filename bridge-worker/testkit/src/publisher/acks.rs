//! Reads the broker's acknowledgements.

use crate::wire::{Ack, Packet, Version};
use bytes::BytesMut;
use std::io::{Error, Read};
use std::net::TcpStream;
use std::sync::mpsc::Sender;
use std::thread;
use std::time::Duration;

/// What the reading thread has seen.
pub(super) enum Seen {
    Puback(Ack),
    Pubrec(Ack),
    Pubcomp(Ack),
}

/// Until the connection ends, or the other side of `sender` is gone.
pub(super) fn read(mut stream: TcpStream, mut input: BytesMut, nap: Duration, sender: &Sender<Vec<Seen>>) {
    loop {
        let mut batch = Vec::new();
        loop {
            match Packet::take(Version::V5, &mut input) {
                Ok(Some(Packet::Puback(ack))) => batch.push(Seen::Puback(ack)),
                Ok(Some(Packet::Pubrec(ack))) => batch.push(Seen::Pubrec(ack)),
                Ok(Some(Packet::Pubcomp(ack))) => batch.push(Seen::Pubcomp(ack)),
                Ok(Some(_)) => {}
                Ok(None) => break,
                // The stream has no meaning any more: the next connection sends again what is open.
                Err(_) => return,
            }
        }
        if !batch.is_empty() {
            if sender.send(batch).is_err() {
                return;
            }
            thread::sleep(nap);
        }
        if read_some(&mut stream, &mut input).is_err() {
            return;
        }
    }
}

/// Appends what has arrived; an error when the connection is over.
pub(super) fn read_some(stream: &mut TcpStream, input: &mut BytesMut) -> Result<(), Error> {
    let mut piece = [0; 16 * 1024];
    let read = stream.read(&mut piece)?;
    if read == 0 {
        return Err(Error::other("closed by the broker"));
    }
    input.extend_from_slice(&piece[..read]);
    Ok(())
}
