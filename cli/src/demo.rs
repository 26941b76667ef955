//! `millrace demo`: the whole product in one process, and a count that shows that nothing is lost.
//!
//! Real MQTT and real Kafka protocol on sockets of the loopback interface, real manifests, the same view as `run`.
//! Plants publish; a consumer of its own reads the records back while they are written. At the end every message
//! published is looked up.

mod audit;
mod books;
mod index;
mod kafka;
mod plant;
mod script;
mod show;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::Context;
use millrace_contract::Ledger;
use millrace_crds::{ManifestFile, Objects};
use tokio::sync::watch::Sender;
use tokio::time::Instant;

use self::audit::Audit;
use self::books::Books;
use self::index::Index;
use self::kafka::{Kafka, Reader};
use self::plant::Plant;
use self::script::{Routes, Script};
use self::show::{Show, Step};
use crate::app::Demo;
use crate::broker::Broker;
use crate::exit::Exit;
use crate::fleet::Fleet;
use crate::live::{drain, watch};
use crate::plan::{self, Plan};
use crate::run::{Admin, bind, logs, runtime};
use crate::secrets::Secrets;
use crate::signals::Signals;
use crate::view::output::Output;

/// The manifests that are run, as they are in the repository.
const MANIFESTS: &str = include_str!("../../examples/plant.yaml");
/// Where the user finds them.
const PATH: &str = "examples/plant.yaml";
/// How long the routes may take to connect.
const START: Duration = Duration::from_secs(30);
/// How long the last messages may take into Kafka and back.
const SETTLE: Duration = Duration::from_secs(30);
/// When so long nothing was read back, nothing more will come.
const QUIET: Duration = Duration::from_secs(3);
const LOOK: Duration = Duration::from_millis(20);

/// Runs the demonstration and returns success if not one message is missing.
pub(crate) fn main(args: &Demo) -> anyhow::Result<Exit> {
    runtime()?.block_on(demo(args))
}

async fn demo(args: &Demo) -> anyhow::Result<Exit> {
    let mut output = Output::new(args.output);
    logs(&output)?;
    let mut signals = Signals::listen()?;
    let broker = Broker::start(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), None).await?;
    let kafka = Kafka::start()?;
    let plan = plan_for(broker.address, &kafka.bootstrap_servers())?;
    let names: Vec<String> = plan
        .documents
        .iter()
        .map(|document| document.settings().route.name.clone())
        .collect();
    let routes =
        Routes::new(&names).context("the plants publish for other routes than the manifests have")?;
    let index = Index::new(&plan.documents);

    let listener = bind(args.admin.unwrap_or(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))).await?;
    let fleet = Fleet::start(plan.documents)?;
    let admin = Admin::serve(listener, &fleet)?;
    let audit = Arc::new(Mutex::new(Audit::default()));
    let reader = Reader::start(
        &kafka.bootstrap_servers(),
        index,
        audit.clone(),
        u64::from(args.lose_one),
    )?;

    let show = Show::new(args, broker.address, &kafka, admin.address, audit.clone());
    let caption = |stage| show.caption(stage);
    let until = perform(args, routes, broker.address, &fleet, &audit, &show, &mut signals);
    watch(&fleet, &mut output, &caption, until).await;
    let outcome = drain(&fleet, &mut output, &caption, &mut signals).await;
    // What the drain wrote last is on its way back.
    looked_up(&audit).await;
    reader.stop()?;

    let books = Books::new(&audit::lock(&audit), &names, &outcome);
    let exit = if books.passed() {
        Exit::Success
    } else {
        Exit::Failed
    };
    output.end(&books.lines(PATH), &outcome, exit.code())?;
    if matches!(output, Output::Json(_)) {
        books.write_json()?;
    }
    admin.stop().await;
    broker.stop().await;
    Ok(exit)
}

/// The example's routes, with only the addresses of broker and Kafka replaced.
fn plan_for(broker: SocketAddr, bootstrap_servers: &[String]) -> anyhow::Result<Plan> {
    let file = ManifestFile {
        path: PATH.to_owned(),
        text: MANIFESTS.to_owned(),
    };
    let report = millrace_crds::validate(&[file]);
    anyhow::ensure!(!report.has_errors(), "{}", crate::report::text(&report, false));
    let objects = readdressed(report.objects, broker, bootstrap_servers);
    Ok(plan::plan(&objects, "demo", &Secrets::default(), &|_| false)?)
}

fn readdressed(mut objects: Objects, broker: SocketAddr, bootstrap_servers: &[String]) -> Objects {
    for object in &mut objects.brokers {
        object.spec.urls = vec![format!("mqtt://{broker}")];
    }
    for object in &mut objects.sinks {
        object.spec.bootstrap_servers = bootstrap_servers.to_vec();
    }
    objects
}

/// Lets the plants publish, then lets the routes catch up. The first signal ends the publishing, the second the
/// catching up.
async fn perform(
    args: &Demo,
    routes: Routes,
    broker: SocketAddr,
    fleet: &Fleet,
    audit: &Arc<Mutex<Audit>>,
    show: &Show,
    signals: &mut Signals,
) {
    let ready = settled(START, || fleet.statuses().iter().all(|route| route.ready));
    tokio::select! {
        ready = ready => if !ready { return },
        () = signals.next() => return,
    }

    show.step(Step::Publishing(Instant::now()));
    let stop = Sender::new(false);
    let rate = args.rate as f64 / f64::from(args.plants);
    let plants: Vec<Plant> = (1..=args.plants)
        .map(|number| {
            Plant::start(
                broker,
                rate,
                Script::new(routes, number),
                audit.clone(),
                stop.subscribe(),
            )
        })
        .collect();
    tokio::select! {
        () = tokio::time::sleep(args.duration) => {}
        () = signals.next() => {}
    }
    stop.send_replace(true);

    show.step(Step::CatchingUp);
    let caught_up = async {
        for plant in plants {
            plant.ended().await;
        }
        settled(SETTLE, || {
            let expected = audit::lock(audit).expected();
            fleet
                .statuses()
                .iter()
                .map(|route| ended(&route.ledger))
                .sum::<u64>()
                >= expected
        })
        .await;
        looked_up(audit).await;
    };
    tokio::select! {
        () = caught_up => {}
        () = signals.next() => {}
    }
}

/// Messages whose way has ended.
fn ended(ledger: &Ledger) -> u64 {
    ledger.received - ledger.repeats - ledger.returned - ledger.in_flight
}

/// Waits until everything that should be in Kafka is found there, or nothing more is found.
async fn looked_up(audit: &Mutex<Audit>) {
    let mut last = (audit::lock(audit).found(), Instant::now());
    settled(SETTLE, || {
        let audit = audit::lock(audit);
        if audit.found() != last.0 {
            last = (audit.found(), Instant::now());
        }
        audit.complete() || last.1.elapsed() >= QUIET
    })
    .await;
}

/// Waits until `condition` holds, at most `limit`. Returns whether it holds.
async fn settled(limit: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + limit;
    while !condition() {
        if Instant::now() >= deadline {
            return false;
        }
        tokio::time::sleep(LOOK).await;
    }
    true
}
