//! Trying what a route will do, before it does it: what the MQTT broker can, and what is in Kafka.

mod broker;
mod fit;
mod sink;

use std::time::{Duration, Instant};

use millrace_contract::probe::{Failure, Outcome, Report, Request};
use tokio::sync::oneshot;

pub(crate) use fit::{cut, fit};

/// Asks both sides at once, each for as long as `timeout` at most.
pub(crate) async fn probe(request: Request, timeout: Duration) -> Report {
    let deadline = Instant::now() + timeout;
    let (answer, answered) = oneshot::channel();
    if let Some(sink) = request.sink {
        // A thread, because librdkafka's calls block.
        std::thread::spawn(move || answer.send(sink::ask(&sink, deadline)));
    } else {
        drop(answer);
    }
    let broker = async {
        let asked = request.broker.as_ref()?;
        Some(broker::ask(asked, deadline).await)
    };
    let (broker, sink) = tokio::join!(broker, answered);
    Report {
        broker: broker.map(outcome),
        sink: sink.ok().map(outcome),
    }
}

/// Whether everything that was asked for is there.
pub(crate) fn all_well(report: &Report) -> bool {
    let broker = matches!(&report.broker, None | Some(Outcome::Found(_)));
    let sink = match &report.sink {
        None => true,
        Some(Outcome::Found(found)) => found.topics.iter().all(|topic| topic.problem.is_none()),
        Some(Outcome::Failed(_)) => false,
    };
    broker && sink
}

fn outcome<T>(result: Result<T, Failure>) -> Outcome<T> {
    match result {
        Ok(found) => Outcome::Found(found),
        Err(failure) => Outcome::Failed(failure),
    }
}
