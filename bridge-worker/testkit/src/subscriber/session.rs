//! One client of a subscriber, over as many connections as it takes.

use super::Shared;
use crate::address::Address;
use crate::client::Connection;
use crate::wire::{Packet, Properties, Publish, Value, id};
use std::collections::HashSet;
use std::io::Error;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::sleep;

/// Before a broker that is away is tried again.
const PAUSE: Duration = Duration::from_millis(100);

pub(super) struct Session {
    pub(super) broker: Address,
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
                Packet::Publish(publish) => self.publish(&publish, received, &mut connection),
                Packet::Pubrel(ack) => {
                    received.unreleased.remove(&ack.packet_id);
                    connection.answer(0x70, ack.packet_id);
                }
                other => return Err(Error::other(format!("nobody asked for {other:?}"))),
            }
        }
    }

    async fn connect(&self, received: &mut Received) -> Result<Connection, Error> {
        let _turn = self.shared.connecting.acquire().await.map_err(Error::other)?;
        let expiry = Properties::new().with(id::SESSION_EXPIRY_INTERVAL, Value::Long(3_600));
        let (mut connection, session_present) =
            Connection::open(self.broker, &self.client_id, false, expiry).await?;
        if !session_present {
            received.unreleased.clear();
            connection.subscribe(&self.filter, self.qos).await?;
            self.shared.subscribed.fetch_add(1, Ordering::Relaxed);
        }
        Ok(connection)
    }

    fn publish(&self, publish: &Publish, received: &mut Received, connection: &mut Connection) {
        let packet_id = publish.packet_id;
        let is_new = publish.qos < 2 || received.unreleased.insert(packet_id);
        if is_new {
            self.shared.came(&publish.payload);
        }
        match publish.qos {
            1 => connection.answer(0x40, packet_id),
            2 => connection.answer(0x50, packet_id),
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
