//! Making a report fit into a termination message.

use millrace_contract::probe::{MAX_BYTES, Outcome, Report};

/// Bytes that a message in a report has at most.
const MESSAGE: usize = 600;

/// The report as JSON of at most [`MAX_BYTES`]: long messages are cut, then topics left out, those that are well first.
pub(crate) fn fit(mut report: Report) -> String {
    if let Some(Outcome::Failed(failure)) = &mut report.broker {
        cut(&mut failure.message, MESSAGE);
    }
    match &mut report.sink {
        Some(Outcome::Failed(failure)) => cut(&mut failure.message, MESSAGE),
        Some(Outcome::Found(found)) => {
            let problems = found.topics.iter_mut().filter_map(|topic| topic.problem.as_mut());
            problems.for_each(|problem| cut(&mut problem.message, MESSAGE));
        }
        None => {}
    }
    loop {
        let json = serde_json::to_string(&report).unwrap_or_default();
        if json.len() <= MAX_BYTES || !leave_out(&mut report, json.len() - MAX_BYTES) {
            return json;
        }
    }
}

/// Leaves out topics, at least `bytes` of them if there are; false when none is left.
fn leave_out(report: &mut Report, bytes: usize) -> bool {
    let Some(Outcome::Found(found)) = &mut report.sink else {
        return false;
    };
    let mut gone = 0;
    while gone < bytes {
        let well = found.topics.iter().rposition(|topic| topic.problem.is_none());
        let Some(index) = well.or_else(|| found.topics.len().checked_sub(1)) else {
            break;
        };
        let topic = found.topics.remove(index);
        gone += serde_json::to_string(&topic).map_or(0, |json| json.len()) + 1;
    }
    gone > 0
}

/// Cuts a text to so many bytes, at a character, and marks it.
pub(crate) fn cut(text: &mut String, bytes: usize) {
    if text.len() <= bytes {
        return;
    }
    let mut end = bytes.saturating_sub(3);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.truncate(end);
    text.push_str("...");
}

#[cfg(test)]
mod tests {
    use millrace_contract::probe::{Failure, SinkFound, TopicFound};
    use millrace_contract::status::Reason;

    use super::*;

    fn topic(index: usize, problem: bool) -> TopicFound {
        TopicFound {
            name: format!("telemetry.{index}"),
            partitions: 6,
            created: false,
            problem: problem.then(|| Failure {
                reason: Reason::TopicMissing,
                message: "\u{fc}".repeat(2_000),
            }),
        }
    }

    #[test]
    fn a_report_fits_and_keeps_what_is_wrong_before_what_is_well() {
        let mut topics: Vec<_> = (0..500).map(|index| topic(index, false)).collect();
        topics.push(topic(500, true));
        let json = fit(Report {
            broker: None,
            sink: Some(Outcome::Found(SinkFound {
                cluster_id: Some("abc".into()),
                brokers: 3,
                topics,
            })),
        });
        assert!(
            json.len() <= MAX_BYTES && json.len() > MAX_BYTES - 200,
            "{}",
            json.len()
        );
        let report: Report = serde_json::from_str(&json).unwrap();
        let Some(Outcome::Found(found)) = report.sink else {
            panic!("{json}")
        };
        assert_eq!(found.topics[0].name, "telemetry.0");
        assert_eq!(found.topics.last().unwrap().name, "telemetry.500");
    }
}
