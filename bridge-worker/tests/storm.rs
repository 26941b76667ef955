//! A thousand lanes lose their connections at one moment, and all is well within seconds: they come back spread over a
//! second, so that the broker is not asked for all the handshakes at once.

mod harness;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use harness::{DEADLINE, MockKafka, WorkerProcess, route};
use millrace_contract::status::LaneState;
use millrace_contract::{Document, MAX_LANES, Ordering, Tls, Value};
use millrace_testkit::{Authority, Mosquitto, Port, Publisher, ScriptedBroker, open_files, wait_until};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// A route has 64 lanes at most, and a process one route.
const WORKERS: usize = 16;
const LANES: usize = WORKERS * MAX_LANES as usize;
/// All are back within this.
const BACK: Duration = Duration::from_secs(30);
/// What is looked at of the arrivals.
const INTERVAL: Duration = Duration::from_millis(100);
/// Of all that arrive, no interval has a larger part. Evenly spread over a second it is a tenth.
const MOST: f64 = 0.25;
/// To start them all.
const SOON: Duration = Duration::from_secs(60);

/// Before a broker: sees each connection come, and cuts them all.
struct Gate {
    port: Port,
    arrivals: Arc<Mutex<Vec<Instant>>>,
    cuts: watch::Sender<()>,
}

impl Gate {
    fn to(target: SocketAddr) -> Self {
        let port = Port::free();
        let listener = port.listen();
        listener
            .set_nonblocking(true)
            .expect("a listener that does not wait");
        let arrivals = Arc::new(Mutex::default());
        let (cuts, cut) = watch::channel(());
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        let seen = Arc::clone(&arrivals);
        std::thread::spawn(move || runtime.block_on(accept(listener, target, seen, cut)));
        Self { port, arrivals, cuts }
    }

    fn cut(&self) {
        self.cuts.send_replace(());
    }

    /// When connections have come, in order.
    fn arrivals(&self) -> MutexGuard<'_, Vec<Instant>> {
        self.arrivals.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Until the gate is gone.
async fn accept(
    listener: std::net::TcpListener,
    target: SocketAddr,
    arrivals: Arc<Mutex<Vec<Instant>>>,
    mut cut: watch::Receiver<()>,
) {
    let listener = TcpListener::from_std(listener).expect("a listener");
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            changed = cut.changed() => match changed {
                Ok(()) => continue,
                Err(_) => return,
            },
        };
        let Ok((mut client, _)) = accepted else {
            continue;
        };
        let mut seen = arrivals.lock().unwrap_or_else(PoisonError::into_inner);
        seen.push(Instant::now());
        drop(seen);
        let mut cut = cut.clone();
        tokio::spawn(async move {
            let copied = async {
                let mut broker = TcpStream::connect(target).await?;
                tokio::io::copy_bidirectional(&mut client, &mut broker).await
            };
            tokio::select! {
                _ = copied => {}
                _ = cut.changed() => {}
            }
        });
    }
}

/// Which part of the arrivals is in the fullest interval.
fn peak(arrivals: &[Instant]) -> f64 {
    let counts = arrivals.iter().enumerate().map(|(first, begin)| {
        let within = arrivals[first..].iter().take_while(|at| **at - *begin < INTERVAL);
        within.count()
    });
    counts.max().expect("arrivals") as f64 / arrivals.len() as f64
}

fn document(number: usize, gate: &Gate, authority: &Authority, kafka: &MockKafka) -> Document {
    let mut document = route(&ScriptedBroker::start(), kafka.bootstrap());
    document.settings.route.session_id = format!("r{number}");
    document.settings.broker.urls = vec![format!("mqtts://localhost:{}", gate.port.number())];
    document.settings.broker.tls = Some(Tls {
        ca: Some(Value::File(authority.certificate())),
        ..Tls::default()
    });
    document.live.lanes.count = MAX_LANES;
    document.live.lanes.ordering = Ordering::Unordered;
    document.live.source.subscriptions[0].filter = format!("in/+stream/{number}/#");
    document
}

/// Whether all lanes are up, with their connection of this number.
fn is_up(worker: &WorkerProcess, connection: u64) -> bool {
    worker.try_status().is_some_and(|status| {
        let is_up = |lane: &millrace_contract::status::LaneStatus| {
            lane.state == LaneState::Up && lane.connections == connection
        };
        status.lanes.len() == usize::from(MAX_LANES) && status.lanes.iter().all(is_up)
    })
}

#[test]
fn a_thousand_lanes_that_are_cut_off_at_once_come_back_spread_over_a_second() {
    open_files(4 * LANES as u64);
    let authority = Authority::new("plant");
    let server = authority.issue("server", &["localhost"]);
    let mosquitto = Mosquitto::builder()
        .config("log_dest none")
        .listener(&[
            "allow_anonymous true".into(),
            format!("certfile {}", server.certificate().display()),
            format!("keyfile {}", server.key().display()),
        ])
        .start();
    let gate = Gate::to(SocketAddr::from(([127, 0, 0, 1], mosquitto.listener(0))));
    let kafka = MockKafka::start(&["out.a"]);
    let start = |number| WorkerProcess::start(&document(number, &gate, &authority, &kafka));
    let mut workers = vec![start(0)];
    wait_until(SOON, "the lanes of one worker", || is_up(&workers[0], 1));
    // The lanes of a worker start at once, so this is what a storm without jitter looks like.
    let without_jitter = peak(&gate.arrivals());
    assert!(without_jitter > MOST, "{without_jitter}");

    workers.extend((1..WORKERS).map(start));
    for worker in &workers {
        wait_until(SOON, "all lanes", || is_up(worker, 1));
    }
    let used =
        |workers: &[WorkerProcess]| -> u64 { workers.iter().map(|worker| worker.usage().cpu_micros).sum() };
    let before = (used(&workers), mosquitto.usage().expect("a process").cpu_micros);
    assert_eq!(gate.arrivals().len(), LANES);
    gate.arrivals().clear();
    let cut = Instant::now();
    gate.cut();
    for worker in &workers {
        let left = BACK.saturating_sub(cut.elapsed());
        wait_until(left, "all lanes to be back", || is_up(worker, 2));
    }
    let took = cut.elapsed();
    let after = (used(&workers), mosquitto.usage().expect("a process").cpu_micros);
    let arrivals = gate.arrivals().clone();
    let with_jitter = peak(&arrivals);
    let last = arrivals.iter().max().map(|at| *at - cut);
    println!(
        "{LANES} lanes were back after {took:.1?}, the last had come after {:.1?}; in the fullest {INTERVAL:?} came {:.0} % \
         of them, without jitter {:.0} %; CPU for each: worker {} us, mosquitto {} us",
        last.unwrap_or_default(),
        100.0 * with_jitter,
        100.0 * without_jitter,
        (after.0 - before.0) / LANES as u64,
        (after.1 - before.1) / LANES as u64,
    );
    assert_eq!(arrivals.len(), LANES, "each comes once");
    assert!(with_jitter <= MOST, "{with_jitter}");

    // mosquitto gives each lane of a route its share: none may be missing.
    let messages = 4 * LANES as u64;
    let publisher = Publisher::builder(mosquitto.port())
        .messages(messages)
        .topic_of(|key| format!("in/a/{}/x", key as usize % WORKERS))
        .start();
    assert_eq!(publisher.finish(DEADLINE).acknowledged(), messages);
    wait_until(SOON, "the messages", || {
        let written = workers.iter().map(|worker| worker.status().ledger.written);
        written.sum::<u64>() == messages
    });
}
