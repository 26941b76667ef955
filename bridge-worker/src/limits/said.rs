//! What is said of limits: which it is, what it allows, and what to change. The figures are coarse, so that they are the
//! same on all workers, or nearly.

use millrace_contract::status::{Problem, Reason};

use super::{Full, Held};

/// The broker holds messages back.
pub(crate) fn window_full(full: Full) -> Problem {
    let Full {
        messages,
        receive_maximum,
        per_second,
    } = full;
    let per_second = per_second.max(f64::MIN_POSITIVE);
    let pace = format!(
        "with about {} from receipt to ack a lane takes about {} messages/s",
        time(messages as f64 / per_second),
        coarse(per_second)
    );
    let lanes = "spec.from.mqtt.lanes (with ordering PerTopic also the number of filters), or look for what makes Kafka slow \
                 to confirm";
    let message = match receive_maximum {
        Some(most) if most == messages => format!(
            "the window is full: {messages} messages of a lane are unacknowledged, as many as the MqttBroker's \
             spec.session.receiveMaximum allows, and the broker holds the others back; {pace}: raise that, or {lanes}"
        ),
        Some(_) => format!(
            "the window is full: at {messages} unacknowledged messages of a lane the broker holds the others back, by a limit \
             that it does not announce; {pace}: raise mqtt.max_inflight of EMQX, max_inflight_messages of mosquitto (0: no \
             limit) or VerneMQ, or what the broker calls it, or {lanes}"
        ),
        None => format!(
            "the window is full: at {messages} unacknowledged messages of a lane the broker holds the others back, by a limit \
             that MQTT 3.1.1 cannot announce; {pace}: raise max_inflight_messages of mosquitto (0: no limit) or VerneMQ, \
             mqtt.max_inflight of EMQX, or what the broker calls it, use MQTT 5 (the MqttBroker's spec.protocolVersion), in \
             which most go by spec.session.receiveMaximum, or raise {lanes}"
        ),
    };
    Problem {
        reason: Reason::WindowLimited,
        message,
    }
}

/// Kafka confirms slower than MQTT delivers. `most` is what a worker may have in its producer, in bytes.
pub(crate) fn saturated(held: Held, most: usize) -> Problem {
    let limit = match held {
        Held::Bytes => format!(
            "the {} MiB that a worker holds for it at most, divided among its lanes, are full, and no field raises them",
            most >> 20
        ),
        Held::Messages(most) => {
            format!(
                "the {most} messages that a lane holds for it at most are there, and no field raises that"
            )
        }
    };
    Problem {
        reason: Reason::SinkSaturated,
        message: format!(
            "Kafka confirms records slower than MQTT delivers them: {limit}; the broker collects the rest: add partitions to \
             the topic or brokers to Kafka, set spec.to.kafka.producer.compression, or raise spec.to.kafka.producer.linger \
             for larger batches; more workers do not help"
        ),
    }
}

fn time(seconds: f64) -> String {
    if seconds < 0.95 {
        format!("{} ms", coarse(seconds * 1e3).max(1))
    } else {
        format!("{} s", coarse(seconds))
    }
}

/// One digit that counts.
fn coarse(value: f64) -> u64 {
    let unit = 10_f64.powf(value.max(1.0).log10().floor());
    ((value / unit).round() * unit) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_have_one_digit_that_counts() {
        let given = [0.0, 0.4, 1.0, 9.7, 44.0, 382.0, 950.0, 12_345.0];
        assert_eq!(given.map(coarse), [0, 0, 1, 10, 40, 400, 1_000, 10_000]);
        let given = [0.0, 0.0524, 0.97, 2.4];
        assert_eq!(given.map(time), ["1 ms", "50 ms", "1 s", "2 s"]);
    }

    #[test]
    fn each_limit_is_named_with_the_way_out() {
        let full = |messages, receive_maximum| {
            window_full(Full {
                messages,
                receive_maximum,
                per_second: 381.0,
            })
            .message
        };
        let ours = full(100, Some(100));
        assert!(
            ours.contains("100 messages") && ours.contains("spec.session.receiveMaximum"),
            "{ours}"
        );
        assert!(
            ours.contains("about 300 ms") && ours.contains("about 400 messages/s"),
            "{ours}"
        );
        let broker = full(20, Some(10_000));
        assert!(
            broker.contains("at 20 ") && broker.contains("max_inflight_messages of mosquitto (0: no limit)")
        );
        let old = full(20, None);
        assert!(
            old.contains("at 20 ") && old.contains("spec.protocolVersion"),
            "{old}"
        );
        let bytes = saturated(Held::Bytes, 64 << 20).message;
        assert!(
            bytes.contains("64 MiB") && bytes.contains("add partitions"),
            "{bytes}"
        );
    }
}
