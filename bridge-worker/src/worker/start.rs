//! Starting a route: everything but its lanes.

use std::sync::atomic::AtomicBool;
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Instant;

use millrace_contract::{Document, MAX_LANES, RouteId};
use tokio::sync::watch;
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use super::lanes::Lanes;
use super::{Route, StartError, Worker, credentials, failback};
use crate::config::{self, LivePlan, RoutePlan};
use crate::credentials::Credentials;
use crate::failback::Failback;
use crate::kafka::{
    ClientSettings, KafkaState, Looker, MAX_BATCH_BYTES, Mailbox, Producer, TopicKeeper, TopicMaker, Topics,
    client_config, rotation,
};
use crate::survey::{Surveyor, Surveys};

impl Worker {
    pub(super) fn new(
        document: Document,
        hash: String,
        pod_uid: Option<String>,
        is_operated: bool,
    ) -> Result<Self, StartError> {
        let plan = RoutePlan::of(&document.settings)?;
        plan.check(document.live.lanes)?;
        let live = LivePlan::first(&document.live, hash)?;
        let policies = config::topic_policies(&document.settings.sink)?;
        let client = ClientSettings::of(&document)?;
        let topics = Arc::new(Topics::new(config::known_topics(&document.live)));
        let kafka = Arc::new(KafkaState::default());
        let mailboxes: Arc<[Mailbox]> = (0..MAX_LANES).map(|_| Mailbox::default()).collect();
        let producer = Producer::new(
            client.clone(),
            Arc::clone(&mailboxes),
            Arc::clone(&kafka),
            Arc::clone(&topics),
        )?;
        let config = client_config(&client, MAX_BATCH_BYTES, true)?;
        let maker = Arc::new(TopicMaker::new(
            policies,
            &config,
            Arc::clone(&client.credentials),
        )?);
        let keeper = TopicKeeper::new(
            Arc::clone(&topics),
            Arc::clone(&producer),
            Arc::clone(&kafka),
            Arc::clone(&maker),
        );
        let poll = producer.spawn()?;
        // Not waited for at the end: it may be in a request that takes seconds, and holds nothing of a message.
        keeper.spawn()?;
        let surveys = Arc::new(Surveys::new(document.live.survey.clone()));
        let known = Arc::clone(&topics);
        Surveyor::new(Arc::clone(&surveys), Looker::new(&client)?, maker, move || {
            known.names()
        })
        .spawn()?;
        rotation::spawn(client.clone(), Arc::clone(&producer), Arc::clone(&kafka))?;
        let seed = seed(&document.settings.route);
        let (threads, last) = channel();
        let ended = wait_for(last.into_iter().flatten(), poll, &producer, &topics, &surveys)?;
        let route = Route {
            credentials: Arc::new(Credentials::new(document.settings.broker.clone())),
            kafka_credentials: client.credentials,
            settings: document.settings,
            pod_uid,
            is_operated,
            plan,
            mailboxes,
            producer,
            topics,
            surveys,
            kafka,
            seed,
            started: Instant::now(),
            lanes: Mutex::new(Lanes::new(live, document.live, threads)),
            rates: Mutex::default(),
            load: Mutex::default(),
            has_been_ready: AtomicBool::new(false),
        };
        let route = Arc::new(route);
        watch_broker(&route)?;
        Ok(Self { route, ended })
    }
}

/// What digests of messages begin with: the same in all workers of a route, because a person names messages by them, and
/// nothing that devices know.
fn seed(route: &RouteId) -> u64 {
    let uid = route.uid.as_deref().unwrap_or_default();
    xxh3_64_with_seed(uid.as_bytes(), xxh3_64(route.session_id.as_bytes()))
}

/// Looks at what may change of the broker. Not waited for at the end either: it holds nothing of a message.
fn watch_broker(route: &Arc<Route>) -> std::io::Result<()> {
    let failback = Failback::of(&route.settings.broker, &route.plan.lane(0).session);
    let has_credentials = route.credentials.are_to_be_watched();
    if failback.is_none() && !has_credentials {
        return Ok(());
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let route = Arc::downgrade(route);
    std::thread::Builder::new().name("broker".into()).spawn(move || {
        runtime.block_on(async {
            let credentials = async {
                if has_credentials {
                    credentials::watch(route.clone()).await;
                }
            };
            let failback = async {
                if let Some(failback) = failback {
                    failback::watch(route.clone(), failback).await;
                }
            };
            tokio::join!(credentials, failback);
        });
    })?;
    Ok(())
}

/// Waits, in a thread of its own, for the threads that move messages, and then ends the rest.
pub(crate) fn wait_for(
    threads: impl Iterator<Item = JoinHandle<()>> + Send + 'static,
    poll: JoinHandle<()>,
    producer: &Arc<Producer>,
    topics: &Arc<Topics>,
    surveys: &Arc<Surveys>,
) -> std::io::Result<watch::Receiver<bool>> {
    let (producer, topics) = (Arc::clone(producer), Arc::clone(topics));
    let surveys = Arc::clone(surveys);
    let (sender, receiver) = watch::channel(false);
    std::thread::Builder::new()
        .name("worker-end".into())
        .spawn(move || {
            threads.for_each(join);
            topics.stop();
            surveys.stop();
            producer.stop();
            join(poll);
            sender.send_replace(true);
        })?;
    Ok(receiver)
}

pub(super) fn join(thread: JoinHandle<()>) {
    if thread.join().is_err() {
        tracing::error!("a thread of the worker panicked");
    }
}
