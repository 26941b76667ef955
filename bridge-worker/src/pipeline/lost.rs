use std::collections::HashMap;

/// What the broker will send again because its ack never left: messages of earlier connections of this session.
///
/// Only these can be recognised as repeats. Once a PUBACK has been written the broker may have processed it and
/// given the identifier to another message of equal content, so a PUBLISH under it is written to Kafka, whatever
/// its DUP flag says. A QoS 2 identifier stays the same message's until the broker's PUBREL.
#[derive(Debug, Default)]
pub(crate) struct Lost {
    /// Records in the producer whose connection is gone, by sequence number.
    in_producer: HashMap<u64, Orphan>,
    /// Sequence numbers in `in_producer`, by packet identifier.
    by_id: HashMap<u16, u64>,
    /// Confirmed by Kafka: digests by packet identifier.
    confirmed: HashMap<u16, u64>,
}

/// A record in the producer whose connection is gone.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Orphan {
    pub(crate) id: u16,
    pub(crate) digest: u64,
    pub(crate) qos0: bool,
    /// It is a dead letter.
    pub(crate) dead_letter: bool,
    /// The broker has ended the session it came in: the broker will not send it again.
    pub(crate) forgotten: bool,
    /// Bytes still charged to the lane's buffer for it.
    pub(crate) charged: u32,
    /// The message was received again and waits for this record instead of being written twice.
    pub(crate) adopted_by: Option<u64>,
}

/// What is known of a message that comes with DUP set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Known {
    /// Not known: it is written.
    No,
    /// Kafka has it.
    Confirmed,
    /// It is in the producer under this sequence number.
    InProducer(u64),
}

impl Lost {
    /// Remembers a record that is in the producer while its connection is gone.
    pub(crate) fn orphan(&mut self, sequence: u64, orphan: Orphan) {
        if !orphan.qos0 {
            self.by_id.insert(orphan.id, sequence);
        }
        self.in_producer.insert(sequence, orphan);
    }

    /// Remembers that Kafka has the message that the broker holds under this identifier.
    pub(crate) fn confirm(&mut self, id: u16, digest: u64) {
        self.confirmed.insert(id, digest);
    }

    /// What is known of a message received with DUP set. A confirmation is used up by a QoS 1 message, whose ack
    /// leaves now; a QoS 2 identifier is kept until [`Lost::release`].
    pub(crate) fn recognise(&mut self, id: u16, digest: u64, qos2: bool) -> Known {
        if self.confirmed.get(&id) == Some(&digest) {
            if !qos2 {
                self.confirmed.remove(&id);
            }
            return Known::Confirmed;
        }
        match self
            .by_id
            .get(&id)
            .and_then(|sequence| Some((*sequence, self.in_producer.get(sequence)?)))
        {
            Some((sequence, orphan)) if orphan.digest == digest && orphan.adopted_by.is_none() => {
                Known::InProducer(sequence)
            }
            _ => Known::No,
        }
    }

    /// Lets the message of sequence number `by` wait for an orphan's report.
    pub(crate) fn adopt(&mut self, orphan: u64, by: u64) {
        if let Some(orphan) = self.in_producer.get_mut(&orphan) {
            orphan.adopted_by = Some(by);
            self.by_id.remove(&orphan.id);
        }
    }

    /// Takes the orphan of that number: its final report has come.
    pub(crate) fn take(&mut self, sequence: u64) -> Option<Orphan> {
        let orphan = self.in_producer.remove(&sequence)?;
        if self.by_id.get(&orphan.id) == Some(&sequence) {
            self.by_id.remove(&orphan.id);
        }
        Some(orphan)
    }

    /// The orphan of that number.
    pub(crate) fn in_producer(&self, sequence: u64) -> Option<&Orphan> {
        self.in_producer.get(&sequence)
    }

    /// An adopting message whose connection is lost too gives its orphan free again.
    pub(crate) fn unadopt(&mut self, orphan: u64) {
        if let Some(found) = self.in_producer.get_mut(&orphan) {
            found.adopted_by = None;
            self.by_id.insert(found.id, orphan);
        }
    }

    /// The broker has released a QoS 2 identifier.
    pub(crate) fn release(&mut self, id: u16) {
        self.confirmed.remove(&id);
    }

    /// A new message came under this identifier: what was confirmed under it is over.
    pub(crate) fn supersede(&mut self, id: u16) {
        if !self.confirmed.is_empty() {
            self.confirmed.remove(&id);
        }
        if !self.by_id.is_empty() {
            self.by_id.remove(&id);
        }
    }

    /// The broker has no session: nothing will be sent again.
    pub(crate) fn forget_session(&mut self) {
        self.confirmed.clear();
        self.by_id.clear();
        for orphan in self.in_producer.values_mut() {
            orphan.forgotten = true;
        }
    }

    /// Records in the producer whose connection is gone.
    pub(crate) fn orphans(&self) -> usize {
        self.in_producer.len()
    }
}
