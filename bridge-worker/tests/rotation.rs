//! Certificates that live for a minute, tokens that live for less, and passwords that change, while messages flow: nothing is lost, nothing comes
//! twice, nothing waits long, and no process is started again.
//!
//! `MILLRACE_CAMPAIGN=long` (`make campaign`) takes a quarter of an hour; without it two rounds.

#[path = "harness/bearer.rs"]
mod bearer;
mod harness;

use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime};

use bearer::token;
use harness::{DEADLINE, WorkerProcess, commands, route};
use millrace_contract::status::Reason;
use millrace_contract::{ClientCertificate, Credentials, Document, LiveToMqtt, Sasl, Tls, Value};
use millrace_testkit::{
    Authority, Kafka, KafkaBuilder, Mosquitto, Observer, Publisher, Records, ScriptedBroker, Subscriber,
    Writer, check, wait_until,
};

/// How long a certificate is valid.
const LIFE: Duration = Duration::from_secs(60);
/// How long a token is valid: for ten minutes that take a quarter of one. It is renewed by itself.
const TOKEN_LIFE: Duration = Duration::from_secs(15);
/// How often everything else changes.
const ROUND: Duration = Duration::from_secs(15);
/// Messages a second, for three routes together.
const RATE: f64 = 2_000.0;
/// What 99 of 100 messages take at most in the worst second.
const MOST: Duration = Duration::from_millis(500);
const SOON: Duration = Duration::from_secs(60);
const NAMES: [&str; 2] = ["localhost", "127.0.0.1"];

/// One test at a time: each starts a Kafka and its tools, and one measures how long messages take.
static ALONE: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A mounted Secret: a folder behind a link that is swapped, so that all keys change at once.
struct Secret {
    folder: tempfile::TempDir,
    versions: u32,
}

impl Secret {
    fn of(files: &[(&str, &str)]) -> Self {
        let mut secret = Self {
            folder: tempfile::tempdir().expect("a temporary folder"),
            versions: 0,
        };
        secret.set(files);
        secret
    }

    /// A certificate and its key, valid for [`LIFE`].
    fn of_client(authority: &Authority) -> Self {
        let mut secret = Self::of(&[]);
        secret.renew(authority);
        secret
    }

    fn renew(&mut self, authority: &Authority) {
        let issued = short(authority, "line-1", &[]);
        let read = |path| std::fs::read_to_string(path).expect("a certificate");
        self.set(&[
            ("tls.crt", &read(issued.certificate())),
            ("tls.key", &read(issued.key())),
        ]);
    }

    fn set(&mut self, files: &[(&str, &str)]) {
        self.versions += 1;
        let version = self.folder.path().join(self.versions.to_string());
        std::fs::create_dir(&version).expect("a folder");
        for (name, text) in files {
            std::fs::write(version.join(name), text).expect("a file");
        }
        let new = self.folder.path().join("new");
        std::os::unix::fs::symlink(&version, &new).expect("a link");
        std::fs::rename(new, self.folder.path().join("data")).expect("a link in place");
    }

    fn file(&self, name: &str) -> Value {
        Value::File(self.folder.path().join("data").join(name))
    }

    fn client(&self) -> ClientCertificate {
        ClientCertificate {
            certificate: self.file("tls.crt"),
            private_key: self.file("tls.key"),
        }
    }

    fn login(&self) -> Credentials {
        Credentials {
            username: self.file("username"),
            password: self.file("password"),
        }
    }
}

/// A mounted token, renewed when four fifths of its life are over, as Kubernetes does.
struct Renewed {
    file: Value,
    end: Sender<()>,
    times: JoinHandle<u32>,
}

impl Renewed {
    fn start() -> Self {
        let mut secret = Secret::of(&[("token", &token(TOKEN_LIFE))]);
        let (end, ended) = mpsc::channel();
        Self {
            file: secret.file("token"),
            end,
            times: thread::spawn(move || {
                let mut times = 0;
                while ended.recv_timeout(TOKEN_LIFE * 4 / 5) == Err(RecvTimeoutError::Timeout) {
                    secret.set(&[("token", &token(TOKEN_LIFE))]);
                    times += 1;
                }
                times
            }),
        }
    }

    /// Renews it no more. Returns how often it was.
    fn end(self) -> u32 {
        drop(self.end);
        self.times.join().expect("a thread that renews")
    }
}

fn short(authority: &Authority, name: &str, names: &[&str]) -> millrace_testkit::Issued {
    let now = SystemTime::now();
    authority.issue_for(name, names, now - Duration::from_secs(5), now + LIFE)
}

/// A server's certificate, at a place that stays.
struct Shown {
    folder: tempfile::TempDir,
}

impl Shown {
    fn new(authority: &Authority) -> Self {
        let shown = Self {
            folder: tempfile::tempdir().expect("a temporary folder"),
        };
        shown.renew(authority);
        shown
    }

    fn renew(&self, authority: &Authority) {
        let issued = short(authority, "server", &NAMES);
        for file in ["tls.crt", "tls.key", "tls.pem"] {
            let new = self.path("new");
            std::fs::copy(issued.folder().join(file), &new).expect("a copy");
            std::fs::rename(new, self.path(file)).expect("a file in place");
        }
    }

    fn path(&self, file: &str) -> PathBuf {
        self.folder.path().join(file)
    }
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a path")
}

/// Servers, their secrets, and those of their clients.
struct Site {
    mosquitto: Mosquitto,
    kafka: Kafka,
    authority: Authority,
    clients: Authority,
    of_mosquitto: Shown,
    of_kafka: Shown,
    /// Shown to mosquitto, and to Kafka.
    client: Secret,
    client_of_kafka: Secret,
    /// User name and password for mosquitto, and for Kafka.
    login: Secret,
    login_of_kafka: Secret,
}

/// Kafka's. The first two have one of mosquitto of the same kind.
const LISTENERS: [&str; 3] = ["mutual", "login", "token"];

impl Site {
    fn new() -> Self {
        let (authority, clients) = (Authority::new("plant"), Authority::new("devices"));
        let (of_mosquitto, of_kafka) = (Shown::new(&authority), Shown::new(&authority));
        let shown = [
            format!("certfile {}", of_mosquitto.path("tls.crt").display()),
            format!("keyfile {}", of_mosquitto.path("tls.key").display()),
        ];
        let mutual = [
            format!("cafile {}", clients.certificate().display()),
            "require_certificate true".into(),
            "allow_anonymous true".into(),
        ];
        let users = of_mosquitto.path("users");
        Mosquitto::write_passwords(&users, &[("plant-0", "0"), ("plant-1", "1")]);
        let login = [
            "allow_anonymous false".into(),
            format!("password_file {}", users.display()),
        ];
        let mosquitto = Mosquitto::builder()
            .listener(&[&shown[..], &mutual].concat())
            .listener(&[&shown[..], &login].concat())
            .start();
        let scram = "org.apache.kafka.common.security.scram.ScramLoginModule required;";
        let trusted = clients.certificate();
        let mut builder = Kafka::builder()
            .listener("MUTUAL", "SSL")
            .listener("LOGIN", "SASL_SSL")
            .unsigned_tokens("TOKEN")
            .property("listener.name.mutual.ssl.client.auth", "required")
            .property("listener.name.mutual.ssl.truststore.type", "PEM")
            .property("listener.name.mutual.ssl.truststore.location", text(&trusted))
            .property("listener.name.login.sasl.enabled.mechanisms", "SCRAM-SHA-512")
            .property("listener.name.login.scram-sha-512.sasl.jaas.config", scram)
            .scram("SCRAM-SHA-512", "plant", "0");
        for listener in LISTENERS {
            let set = |builder: KafkaBuilder, name, value: &str| {
                builder.property(&format!("listener.name.{listener}.ssl.keystore.{name}"), value)
            };
            builder = set(builder, "type", "PEM");
            builder = set(builder, "location", text(&of_kafka.path("tls.pem")));
        }
        let kafka = builder.start();
        for topic in ["out.a", "out.b", "out.c", "dead", "commands"] {
            kafka.create_topic(topic, 4, &[]);
        }
        Self {
            client: Secret::of_client(&clients),
            client_of_kafka: Secret::of_client(&clients),
            login: Secret::of(&[("username", "plant-0"), ("password", "0")]),
            login_of_kafka: Secret::of(&[("username", "plant"), ("password", "0")]),
            mosquitto,
            kafka,
            authority,
            clients,
            of_mosquitto,
            of_kafka,
        }
    }

    /// By certificates at both ends.
    fn by_certificates(&self) -> Document {
        let mut document = self.route("a", 0, 0);
        for (tls, secret) in [
            (&mut document.settings.broker.tls, &self.client),
            (&mut document.settings.sink.tls, &self.client_of_kafka),
        ] {
            tls.get_or_insert_default().client = Some(secret.client());
        }
        document
    }

    /// By a certificate at the broker, and a token at Kafka.
    fn by_tokens(&self, token: &Renewed) -> Document {
        let mut document = self.route("c", 0, 2);
        let tls = document.settings.broker.tls.get_or_insert_default();
        tls.client = Some(self.client.client());
        document.settings.sink.sasl = Some(Sasl::Token(token.file.clone()));
        document
    }

    /// From Kafka to devices, by certificates at both ends.
    fn commands(&self) -> Document<LiveToMqtt> {
        commands(self.by_certificates())
    }

    /// By passwords at both ends.
    fn by_passwords(&self) -> Document {
        let mut document = self.route("b", 1, 1);
        document.settings.broker.credentials = Some(self.login.login());
        document.settings.sink.sasl = Some(Sasl::Basic {
            mechanism: "SCRAM-SHA-512".into(),
            credentials: self.login_of_kafka.login(),
        });
        document
    }

    /// From a listener of mosquitto to one of Kafka.
    fn route(&self, stream: &str, mosquitto: usize, kafka: usize) -> Document {
        let bootstrap = self.kafka.listener(&LISTENERS[kafka].to_uppercase());
        let mut document = route(&ScriptedBroker::start(), &bootstrap);
        document.settings.route.session_id = format!("route-{stream}");
        document.live.source.subscriptions[0].filter = format!("in/+stream/{stream}/#");
        let port = self.mosquitto.listener(mosquitto);
        document.settings.broker.urls = vec![format!("mqtts://localhost:{port}")];
        let trust = || {
            Some(Tls {
                ca: Some(Value::File(self.authority.certificate())),
                ..Tls::default()
            })
        };
        (document.settings.broker.tls, document.settings.sink.tls) = (trust(), trust());
        document.settings.sink.producer.linger_ms = 5;
        document
    }

    /// Everything that lives for a minute is made anew: first what servers show, then what clients do.
    fn renew_certificates(&mut self) {
        self.of_mosquitto.renew(&self.authority);
        self.mosquitto.reload();
        self.of_kafka.renew(&self.authority);
        let shown = self.of_kafka.path("tls.pem");
        let settings =
            LISTENERS.map(|name| format!("listener.name.{name}.ssl.keystore.location={}", text(&shown)));
        self.alter("brokers", "1", &settings.join(","));
        self.client.renew(&self.clients);
        self.client_of_kafka.renew(&self.clients);
    }

    /// Another user at mosquitto, another password at Kafka: first there, then in the Secrets.
    fn change_passwords(&mut self, round: u32) {
        let password = round.to_string();
        let user = format!("plant-{}", round % 2);
        self.login
            .set(&[("username", &user), ("password", &(round % 2).to_string())]);
        self.alter("users", "plant", &format!("SCRAM-SHA-512=[password={password}]"));
        self.login_of_kafka
            .set(&[("username", "plant"), ("password", &password)]);
    }

    /// Changes what Kafka has set for one of its brokers or users.
    fn alter(&self, kind: &str, name: &str, settings: &str) {
        let entity = ["--entity-type", kind, "--entity-name", name];
        let alter = ["--alter", "--add-config", settings];
        self.kafka
            .tool("kafka.admin.ConfigCommand", &[&entity[..], &alter].concat());
    }
}

/// The 99th percentile of how long messages took, in the worst second; all are printed.
fn worst_second(records: &Records) -> Duration {
    let mut seconds = std::collections::BTreeMap::<u64, Vec<u64>>::new();
    for seen in records.seen() {
        let second = seconds.entry(seen.sent_at / 1_000_000).or_default();
        second.push(seen.seen_at.saturating_sub(seen.sent_at));
    }
    let p99 = seconds.into_values().map(|mut micros| {
        micros.sort_unstable();
        micros[(micros.len() - 1) * 99 / 100]
    });
    let p99: Vec<u64> = p99.collect();
    println!(
        "p99 by second, in ms: {:?}",
        p99.iter().map(|us| us / 1_000).collect::<Vec<_>>()
    );
    Duration::from_micros(p99.into_iter().max().expect("records"))
}

#[test]
fn credentials_of_every_kind_rotate_while_messages_flow() {
    let _alone = alone();
    let is_long = std::env::var("MILLRACE_CAMPAIGN").is_ok_and(|form| form == "long");
    let rounds = if is_long { 60 } else { 2 };
    let mut site = Site::new();
    let token = Renewed::start();
    // And at how many ends what changes is tried before it is taken over.
    let workers = [
        (WorkerProcess::start(&site.by_certificates()), 2),
        (WorkerProcess::start(&site.by_passwords()), 2),
        (WorkerProcess::start(&site.by_tokens(&token)), 1),
    ];
    for (worker, _) in &workers {
        worker.wait_for("both ends", |status| status.ready);
    }
    let observer = Observer::start(&site.kafka.bootstrap(), &["out.a", "out.b", "out.c"]);
    let publisher = Publisher::builder(site.mosquitto.port())
        .rate(RATE)
        .connections(2)
        .topic_of(|key| {
            let stream = ["a", "b", "c"][(key % 3) as usize];
            format!("in/{stream}/{stream}/{key}")
        })
        .start();
    let begun = Instant::now();
    for round in 1..=rounds {
        let until = begun + ROUND * round;
        site.renew_certificates();
        site.change_passwords(round);
        for (worker, ends) in &workers {
            wait_until(SOON, &format!("both ends of round {round}"), || {
                let status = worker.status();
                status.credentials_taken_over == u64::from(ends * round) && status.problems.is_empty()
            });
        }
        println!(
            "round {round}: taken over after {:.1?}",
            until
                .checked_duration_since(Instant::now())
                .map_or(ROUND, |left| ROUND - left)
        );
        thread::sleep(until.saturating_duration_since(Instant::now()));
    }
    publisher.stop();
    let report = publisher.finish(SOON);
    observer.wait_for(report.acknowledged(), SOON);
    let records = observer.finish();
    let verdict = check(&report, &records);
    println!("{verdict}");
    verdict.assert_nothing_lost().assert_duplicates_at_most(0);
    assert_eq!(verdict.duplicates, 0);
    let worst = worst_second(&records);
    println!("the worst second has a p99 of {worst:.1?}");
    assert!(worst < MOST, "{worst:?}");
    for (worker, _) in &workers {
        let status = worker.status();
        assert_eq!(status.credentials_refused, 0);
        assert_eq!(status.lanes[0].connections, u64::from(rounds) + 1);
        assert!(
            worker
                .process
                .stderr()
                .lines()
                .all(|line| !line.contains("ERROR"))
        );
    }
    let renewed = token.end();
    println!("{renewed} tokens");
    assert!(renewed >= rounds, "{renewed}");
}

#[test]
fn what_is_not_renewed_is_refused_and_what_is_broken_never_replaces_what_works() {
    let _alone = alone();
    let mut site = Site::new();
    let worker = WorkerProcess::start(&site.by_certificates());
    worker.wait_for("both ends", |status| status.ready);
    let publish = |site: &Site| {
        let publisher = Publisher::builder(site.mosquitto.port())
            .messages(200)
            .topic_of(|key| format!("in/a/a/{key}"))
            .start();
        assert_eq!(publisher.finish(DEADLINE).acknowledged(), 200);
    };
    publish(&site);
    // Of an authority that neither server knows.
    let strangers = Authority::new("others");
    site.client.renew(&strangers);
    site.client_of_kafka.renew(&strangers);
    wait_until(SOON, "both to be refused", || {
        let of = |problem: &millrace_contract::status::Problem| problem.reason == Reason::CredentialsRefused;
        worker
            .status()
            .problems
            .iter()
            .filter(|problem| of(problem))
            .count()
            == 2
    });
    publish(&site);
    worker.wait_for("the messages", |status| status.ledger.written == 400);
    assert_eq!(worker.status().lanes[0].connections, 1);
    // What is broken in itself.
    site.client
        .set(&[("tls.crt", "no certificate"), ("tls.key", "no key")]);
    site.client_of_kafka
        .set(&[("tls.crt", "no certificate"), ("tls.key", "no key")]);
    wait_until(SOON, "both to be told", || {
        let problems = worker.status().problems;
        let says = |of: &str| {
            let mut messages = problems.iter().map(|problem| problem.message.as_str());
            messages.any(|message| message.contains(of) && message.contains("no certificate in it"))
        };
        says("the MQTT broker") && says("Kafka")
    });
    site.client.renew(&site.clients);
    site.client_of_kafka.renew(&site.clients);
    worker.wait_for("what is right to be taken over", |status| {
        status.credentials_taken_over == 2 && status.problems.is_empty()
    });
    publish(&site);
    worker.wait_for("the messages", |status| status.ledger.written == 600);
}

#[test]
fn a_route_from_kafka_takes_over_what_changes_and_loses_nothing() {
    let _alone = alone();
    const DEVICES: u32 = 20;
    const PARTITIONS: u32 = 4;
    let mut site = Site::new();
    let devices = Subscriber::start(site.mosquitto.port(), DEVICES, 1, |device| {
        format!("devices/{device}")
    });
    let worker = WorkerProcess::start(&site.commands());
    let has_all = |worker: &WorkerProcess| {
        let status = worker.status();
        let partitions = status.delivery.map_or(0, |delivery| delivery.partitions.len());
        status.problems.is_empty() && partitions == PARTITIONS as usize
    };
    worker.wait_for("both ends", |status| status.ready);
    let writer = Writer::start(&site.kafka.bootstrap(), "commands", PARTITIONS, DEVICES, 500.0);
    for round in 1..=2 {
        site.renew_certificates();
        wait_until(SOON, &format!("both ends of round {round}"), || {
            worker.status().credentials_taken_over == 2 * round && has_all(&worker)
        });
        let goal = writer.confirmed() + 500;
        devices.wait_for(goal, SOON);
    }
    let report = writer.finish(SOON);
    devices.wait_for(report.sent(), SOON);
    let status = worker.status();
    assert_eq!(status.credentials_refused, 0);
    assert_eq!(
        status.delivery.map(|delivery| delivery.connection.connections),
        Some(3)
    );
    let verdict = check(&report, &devices.finish());
    println!("{verdict}");
    verdict.assert_nothing_lost().assert_duplicates_at_most(0);
}
