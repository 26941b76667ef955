//! What went over a connection, for people to read when a test has failed.

use crate::wire::{Ack, Packet, Publish};
use std::collections::VecDeque;
use std::fmt;
use std::time::{Duration, Instant};

/// Lines kept.
const LINES: usize = 200;

#[derive(Debug)]
struct Line {
    at: Duration,
    arrow: &'static str,
    kind: String,
    first: String,
    last: String,
    count: u64,
}

/// Follow-ups of the same kind share a line.
#[derive(Debug)]
pub(super) struct Transcript {
    name: String,
    start: Instant,
    lines: VecDeque<Line>,
    forgotten: u64,
}

impl Transcript {
    pub(super) fn new(name: String) -> Transcript {
        Transcript {
            name,
            start: Instant::now(),
            lines: VecDeque::new(),
            forgotten: 0,
        }
    }

    /// The client has sent, or done, something.
    pub(super) fn received(&mut self, kind: &str, detail: String) {
        self.add("<-", kind, detail);
    }

    /// The test has sent, or done, something.
    pub(super) fn sent(&mut self, kind: &str, detail: String) {
        self.add("->", kind, detail);
    }

    fn add(&mut self, arrow: &'static str, kind: &str, detail: String) {
        if let Some(line) = self
            .lines
            .back_mut()
            .filter(|line| line.arrow == arrow && line.kind == kind)
        {
            line.last = detail;
            line.count += 1;
            return;
        }
        if self.lines.len() == LINES {
            self.lines.pop_front();
            self.forgotten += 1;
        }
        let at = self.start.elapsed();
        let first = detail.clone();
        self.lines.push_back(Line {
            at,
            arrow,
            kind: kind.into(),
            first,
            last: detail,
            count: 1,
        });
    }
}

impl fmt::Display for Transcript {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} (<- from the client, -> to the client)", self.name)?;
        if self.forgotten > 0 {
            writeln!(f, "    ... {} lines before", self.forgotten)?;
        }
        for Line {
            at,
            arrow,
            kind,
            first,
            last,
            count,
        } in &self.lines
        {
            write!(f, "    {:9.3} s {arrow} {kind} {first}", at.as_secs_f64())?;
            match count {
                1 => writeln!(f)?,
                _ => writeln!(f, " ... {last} ({count} times)")?,
            }
        }
        Ok(())
    }
}

/// The packet's name and what matters of the rest.
pub(super) fn describe(packet: &Packet) -> (&'static str, String) {
    let ack = |ack: &Ack| match ack.reason {
        0 => ack.packet_id.to_string(),
        reason => format!("{} reason {reason:#04x}", ack.packet_id),
    };
    match packet {
        Packet::Connect(connect) => ("CONNECT", format!("{connect:?}")),
        Packet::Connack {
            session_present,
            reason,
            ..
        } => (
            "CONNACK",
            format!("session present {session_present} reason {reason:#04x}"),
        ),
        Packet::Publish(publish) => ("PUBLISH", describe_publish(publish)),
        Packet::Puback(own) => ("PUBACK", ack(own)),
        Packet::Pubrec(own) => ("PUBREC", ack(own)),
        Packet::Pubrel(own) => ("PUBREL", ack(own)),
        Packet::Pubcomp(own) => ("PUBCOMP", ack(own)),
        Packet::Subscribe(subscribe) => ("SUBSCRIBE", format!("{subscribe:?}")),
        Packet::Suback { packet_id, reasons } => ("SUBACK", format!("{packet_id} {reasons:?}")),
        Packet::Unsubscribe { packet_id, filters } => ("UNSUBSCRIBE", format!("{packet_id} {filters:?}")),
        Packet::Pingreq => ("PINGREQ", String::new()),
        Packet::Pingresp => ("PINGRESP", String::new()),
        Packet::Disconnect { reason, .. } => ("DISCONNECT", format!("reason {reason:#04x}")),
    }
}

pub(super) fn describe_publish(publish: &Publish) -> String {
    let Publish {
        qos,
        packet_id,
        dup,
        retain,
        topic,
        payload,
        ..
    } = publish;
    let flag = |set: &bool, name| if *set { name } else { "" };
    let flags = [flag(dup, " dup"), flag(retain, " retain")].concat();
    format!("{packet_id} qos {qos}{flags} {topic:?} {} bytes", payload.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn follow_ups_share_a_line_and_old_lines_are_forgotten() {
        let mut transcript = Transcript::new("connection 1".into());
        for id in 1..=1_000 {
            transcript.sent("PUBLISH", id.to_string());
        }
        let text = transcript.to_string();
        assert!(text.contains("-> PUBLISH 1 ... 1000 (1000 times)"), "{text}");
        for _ in 0..LINES {
            transcript.received("PUBACK", "1".into());
            transcript.sent("PUBREL", "1".into());
        }
        assert!(
            transcript
                .to_string()
                .contains(&format!("... {} lines before", LINES + 1))
        );
    }
}
