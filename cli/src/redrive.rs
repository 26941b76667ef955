//! `millrace redrive`: dead letters through their route again, once what was wrong is corrected.
//!
//! Letters stay in their topic; how far each reason has been redriven is kept in Kafka, as the offsets of a consumer group
//! `millrace.redrive.<namespace>.<route>.<reason>`, with those that were passed over. Nothing is written to the topic of dead
//! letters, and what is added to it meanwhile is not read: it ends. Kafka forgets the offsets of a group that nobody uses
//! after `offsets.retention.minutes`, 7 days by default.

mod again;
mod letter;
mod letters;
mod mqtt;
mod outlet;
mod progress;
mod tally;

use anyhow::{Context as _, bail};
use millrace_contract::{AnyDocument, Sasl};

use crate::app::{self, Redrive};
use crate::exit::Exit;
use crate::plan;
use crate::secrets::Secrets;
use crate::validate;
use again::{Again, Verdict};
use letters::Letters;
use outlet::Outlet;
use tally::Tally;

/// Letters that are delivered together: after them it is kept how far it is.
const BATCH: usize = 100;

/// Looks at dead letters, and delivers them if that was asked for.
pub(crate) fn main(args: &Redrive) -> anyhow::Result<Exit> {
    let Some(objects) = validate::objects(&args.files)? else {
        return Ok(Exit::Failed);
    };
    let secrets = Secrets {
        directory: args.secret_dir.clone(),
    };
    let is_set = |variable: &str| std::env::var_os(variable).is_some();
    let plan = plan::plan(&objects, "redrive", &secrets, &is_set)?;
    let document = choose(plan.documents, &args.route)?;
    let route = &document.settings().route;
    let name = format!("{}/{}", route.namespace, route.name);
    if let Some(Sasl::Token(_) | Sasl::ClientCredentials(_)) = document.settings().sink.sasl {
        bail!(
            "TopicRoute {name} comes to Kafka with tokens (OAUTHBEARER), which redrive cannot renew while it works: give it \
             manifests whose KafkaSink logs in with a password or a certificate"
        );
    }
    let topic = dead_letters(&document).with_context(|| {
        format!("TopicRoute {name} has no dead letters: spec.onError.action is not DeadLetter")
    })?;
    let mut letters = Letters::open(&document, &topic, &args.reasons)?;
    let again = Again::new(&document)?;
    let mut outlet = match args.execute {
        true => Some(Outlet::open(&document, args.rate)?),
        false => None,
    };
    let mut tally = Tally::default();
    let mut batch = Vec::new();
    while let Some(letter) = letters.next()? {
        let verdict = again.judge(&letter, now_ms());
        tally.add(&letter, &verdict);
        if !verdict.passes() && args.execute && !args.skip_failing {
            deliver(&mut batch, outlet.as_mut(), &letters)?;
            app::print(tally.text(args.execute).as_bytes())?;
            bail!(
                "stopped at {topic}[{}]@{}: {verdict}; correct the route, or pass such letters over with --skip-failing",
                letter.partition,
                letter.offset
            );
        }
        batch.push((letter, verdict));
        if batch.len() >= BATCH {
            deliver(&mut batch, outlet.as_mut(), &letters)?;
        }
        if args.limit.is_some_and(|limit| tally.letters() >= limit) {
            break;
        }
    }
    deliver(&mut batch, outlet.as_mut(), &letters)?;
    app::print(tally.text(args.execute).as_bytes())?;
    Ok(match tally.all_pass() {
        true => Exit::Success,
        false => Exit::Failed,
    })
}

/// Delivers letters, and keeps how far it is with those that have arrived.
fn deliver(
    batch: &mut Vec<(letter::Letter, Verdict)>,
    outlet: Option<&mut Outlet>,
    letters: &Letters,
) -> anyhow::Result<()> {
    let Some(outlet) = outlet.filter(|_| !batch.is_empty()) else {
        batch.clear();
        return Ok(());
    };
    let made = batch.iter().map(|(_, verdict)| match verdict {
        Verdict::Goes(made) => Some(made),
        _ => None,
    });
    let (arrived, outcome) = outlet.deliver(made);
    let arrived = batch.iter().take(arrived);
    let kept = letters.keep(arrived.map(|(letter, verdict)| (letter, !verdict.passes())));
    batch.clear();
    outcome.and(kept)
}

/// Milliseconds since the epoch.
fn now_ms() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| since.as_millis() as i64)
}

fn choose(documents: Vec<AnyDocument>, route: &str) -> anyhow::Result<AnyDocument> {
    let (namespace, name) = route.split_once('/').unwrap_or(("default", route));
    let mut known = Vec::new();
    for document in documents {
        let id = &document.settings().route;
        if (id.namespace.as_str(), id.name.as_str()) == (namespace, name) {
            return Ok(document);
        }
        known.push(format!("{}/{}", id.namespace, id.name));
    }
    bail!(
        "the manifests have no TopicRoute {namespace}/{name}; they have {}",
        known.join(", ")
    )
}

fn dead_letters(document: &AnyDocument) -> Option<String> {
    match document {
        AnyDocument::ToKafka(document) => document.live.on_error.dead_letter_topic.clone(),
        AnyDocument::ToMqtt(document) => document.live.on_error.dead_letter_topic.clone(),
    }
}
