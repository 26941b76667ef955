//! Ways into a real Kafka: with what is right messages flow, and of what is wrong a person learns the cause and the fix.

use std::path::Path;
use std::sync::LazyLock;
use std::time::{Duration, Instant, SystemTime};

use crate::bearer::token;
use crate::harness::{WorkerProcess, commands, route};
use millrace_contract::status::{Problem, Reason, RouteStatus};
use millrace_contract::survey::{GroupSurvey, Survey, TopicSurvey, WatchedGroup};
use millrace_contract::{ClientCertificate, Credentials, Document, Sasl, Tls, Value};
use millrace_testkit::{
    Authority, Issued, Kafka, Mosquitto, Publisher, ScriptedBroker, Writer, consume, partition_ends,
    wait_until,
};

/// In no text may it be found.
const PASSWORD: &str = "canary-of-a-password";
const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);
/// Kafka's clients take their time: an answer, a pause, the next broker.
const SOON: Duration = Duration::from_secs(60);

/// Everything that is needed to be let in, and more that is not good enough.
struct Site {
    mosquitto: Mosquitto,
    kafka: Kafka,
    authority: Authority,
    /// Of a client that may come in.
    client: Issued,
    /// Of one that nobody knows.
    stranger: Issued,
    /// Of one that could.
    expired: Issued,
    folder: tempfile::TempDir,
}

/// What a Kafka is told of a listener: the certificate it shows.
fn shown(
    builder: millrace_testkit::KafkaBuilder,
    name: &str,
    issued: &Issued,
) -> millrace_testkit::KafkaBuilder {
    let prefix = format!("listener.name.{}.ssl", name.to_lowercase());
    builder
        .property(&format!("{prefix}.keystore.type"), "PEM")
        .property(&format!("{prefix}.keystore.location"), &path(&issued.both()))
}

fn path(path: &Path) -> String {
    path.to_str().expect("a path").to_owned()
}

static SITE: LazyLock<Site> = LazyLock::new(|| {
    let authority = Authority::new("plant");
    let clients = Authority::new("devices");
    let names = ["localhost", "127.0.0.1"];
    let server = authority.issue("kafka", &names);
    let other = authority.issue("kafka", &["elsewhere.example"]);
    let now = SystemTime::now();
    let old = authority.issue_for("kafka", &names, now - 2 * YEAR, now - YEAR);
    let scram = "org.apache.kafka.common.security.scram.ScramLoginModule required;";
    let plain = format!(
        "org.apache.kafka.common.security.plain.PlainLoginModule required user_plant=\"{PASSWORD}\";"
    );
    let mut builder = Kafka::builder()
        .listener("TLS", "SSL")
        .listener("MUTUAL", "SSL")
        .listener("EXPIRED", "SSL")
        .listener("OTHER", "SSL")
        .listener("LOGIN", "SASL_SSL")
        .listener("BARE", "SASL_PLAINTEXT")
        .unsigned_tokens("BEARER")
        .property("listener.name.mutual.ssl.client.auth", "required")
        .property("listener.name.mutual.ssl.truststore.type", "PEM")
        .property(
            "listener.name.mutual.ssl.truststore.location",
            &path(&clients.certificate()),
        )
        .property(
            "authorizer.class.name",
            "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        )
        .property("super.users", "User:ANONYMOUS;User:CN=line-1");
    for (name, issued) in [
        ("TLS", &server),
        ("MUTUAL", &server),
        ("EXPIRED", &old),
        ("OTHER", &other),
        ("LOGIN", &server),
        ("BEARER", &server),
    ] {
        builder = shown(builder, name, issued);
    }
    for listener in ["login", "bare"] {
        let prefix = format!("listener.name.{listener}");
        let mechanisms = match listener {
            "login" => "PLAIN,SCRAM-SHA-256,SCRAM-SHA-512",
            _ => "SCRAM-SHA-512",
        };
        builder = builder
            .property(&format!("{prefix}.sasl.enabled.mechanisms"), mechanisms)
            .property(&format!("{prefix}.plain.sasl.jaas.config"), &plain)
            .property(&format!("{prefix}.scram-sha-256.sasl.jaas.config"), scram)
            .property(&format!("{prefix}.scram-sha-512.sasl.jaas.config"), scram);
    }
    for mechanism in ["SCRAM-SHA-256", "SCRAM-SHA-512"] {
        builder = builder.scram(mechanism, "plant", PASSWORD);
    }
    let kafka = builder.start();
    for topic in ["out.a", "out.secret", "dead", "commands"] {
        kafka.create_topic(topic, 2, &[]);
    }
    for topic in ["out.a", "dead"] {
        allow(&kafka, &["Write", "Describe"], ["--topic", topic]);
    }
    let issue = |from, until| clients.issue_for("line-1", &[], from, until);
    Site {
        client: issue(now - YEAR, now + YEAR),
        expired: issue(now - 2 * YEAR, now - YEAR),
        stranger: Authority::new("others").issue("line-1", &[]),
        mosquitto: Mosquitto::builder().start(),
        kafka,
        authority,
        folder: tempfile::tempdir().expect("a temporary folder"),
    }
});

/// Grants the user rights on something.
fn allow(kafka: &Kafka, operations: &[&str], on: [&str; 2]) {
    let operations = operations.iter().flat_map(|operation| ["--operation", operation]);
    let arguments = ["--add", "--allow-principal", "User:plant"].into_iter();
    let arguments: Vec<&str> = arguments.chain(operations).chain(on).collect();
    kafka.tool("org.apache.kafka.tools.AclCommand", &arguments);
}

impl Site {
    /// A route into Kafka by a listener, trusting whom it should.
    fn route(&self, listener: &str) -> Document {
        let mut document = route(&ScriptedBroker::start(), &self.kafka.listener(listener));
        document.settings.broker.urls = vec![format!("mqtt://127.0.0.1:{}", self.mosquitto.port())];
        document.settings.sink.tls = Some(Tls {
            ca: Some(Value::File(self.authority.certificate())),
            ..Tls::default()
        });
        document
    }

    fn write(&self, name: &str, text: &str) -> Value {
        let path = self.folder.path().join(name);
        let new = path.with_extension("new");
        std::fs::write(&new, text).expect("a file");
        std::fs::rename(new, &path).expect("a file in place");
        Value::File(path)
    }

    /// With a token that is valid for so long.
    fn bearer(&self, file: &str, valid: Duration) -> Document {
        let mut document = self.route("BEARER");
        document.settings.sink.sasl = Some(Sasl::Token(self.write(file, &token(valid))));
        document
    }

    fn login(&self, document: &mut Document, mechanism: &str, user: &str, password: &str) {
        document.settings.sink.sasl = Some(Sasl::Basic {
            mechanism: mechanism.into(),
            credentials: Credentials {
                username: Value::Literal(user.into()),
                password: self.write(password, password),
            },
        });
    }
}

fn shows(document: &mut Document, issued: &Issued) {
    let tls = document.settings.sink.tls.get_or_insert_default();
    tls.client = Some(ClientCertificate {
        certificate: Value::File(issued.certificate()),
        private_key: Value::File(issued.key()),
    });
}

/// Waits for as long as Kafka's clients take.
#[track_caller]
fn patiently(worker: &WorkerProcess, what: &str, is: &dyn Fn(&RouteStatus) -> bool) {
    wait_until(SOON, what, || {
        worker.try_status().is_some_and(|status| is(&status))
    });
}

/// The same, with sessions of its own.
fn apart(mut document: Document, index: usize, prefix: &str) -> Document {
    document.settings.route.session_id = format!("{prefix}{index}");
    document
}

#[test]
fn messages_flow_by_every_way_in_that_is_right() {
    let site = &*SITE;
    let mut ways = vec![("TLS", site.route("TLS"))];
    let mut document = site.route("MUTUAL");
    shows(&mut document, &site.client);
    ways.push(("mutual TLS", document));
    for mechanism in ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] {
        let mut document = site.route("LOGIN");
        site.login(&mut document, mechanism, "plant", PASSWORD);
        ways.push((mechanism, document));
    }
    let mut document = site.route("BARE");
    document.settings.sink.tls = None;
    site.login(&mut document, "SCRAM-SHA-512", "plant", PASSWORD);
    ways.push(("SCRAM-SHA-512 without TLS", document));
    ways.push(("OAUTHBEARER", site.bearer("token", YEAR)));
    let workers: Vec<_> = ways
        .into_iter()
        .enumerate()
        .map(|(index, (way, document))| (way, WorkerProcess::start(&apart(document, index, "right"))))
        .collect();
    for (way, worker) in &workers {
        worker.wait_for(&format!("a lane by {way}"), |status| status.ready);
    }
    let publisher = Publisher::builder(site.mosquitto.port())
        .messages(500)
        .topic_of(|key| format!("in/a/{key}"))
        .start();
    assert_eq!(publisher.finish(SOON).acknowledged(), 500);
    for (way, worker) in &workers {
        wait_until(SOON, &format!("all messages by {way}"), || {
            let ledger = worker.status().ledger;
            (ledger.written, ledger.received) == (500, 500)
        });
        assert_eq!(worker.status().problems, [], "{way}");
        assert!(!worker.process.stderr().contains("canary"), "{way}");
    }
}

/// What is wrong with a way in, and what is to be said of it.
struct Wrong {
    what: &'static str,
    document: Document,
    reason: Reason,
    says: &'static [&'static str],
}

impl Wrong {
    /// Waits until a worker says it, and returns how.
    #[track_caller]
    fn wait_for(&self, worker: &WorkerProcess) -> String {
        let deadline = Instant::now() + SOON;
        loop {
            let problems = worker
                .try_status()
                .map(|status| status.problems)
                .unwrap_or_default();
            let is_said = |problem: &&Problem| {
                problem.reason == self.reason && self.says.iter().all(|part| problem.message.contains(part))
            };
            if let Some(problem) = problems.iter().find(is_said) {
                return problem.message.clone();
            }
            assert!(Instant::now() < deadline, "{}: {problems:#?}", self.what);
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

fn wrong_ways(site: &Site) -> Vec<Wrong> {
    let mut wrong = Vec::new();
    let mut add = |what, document, reason, says| {
        wrong.push(Wrong {
            what,
            document,
            reason,
            says,
        });
    };
    let tls = Reason::KafkaTlsFailed;
    add(
        "Kafka's certificate has expired",
        site.route("EXPIRED"),
        tls,
        &["certificate has expired, 365 days ago", "renew it at Kafka"],
    );
    let mut document = site.route("TLS");
    document.settings.sink.tls = Some(Tls::default());
    add(
        "an authority that is not known",
        document,
        tls,
        &["not trusted", "KafkaSink's spec.tls.ca"],
    );
    add(
        "a certificate for another name",
        site.route("OTHER"),
        tls,
        &[
            "is for elsewhere.example, not for 127.0.0.1",
            "spec.bootstrapServers",
        ],
    );
    add(
        "no client certificate",
        site.route("MUTUAL"),
        tls,
        &["wants to see a client certificate", "spec.tls.clientCertificate"],
    );
    for (what, issued) in [
        ("a client certificate of others", &site.stranger),
        ("a client certificate that has expired", &site.expired),
    ] {
        let mut document = site.route("MUTUAL");
        shows(&mut document, issued);
        let says = &[
            "does not accept the client certificate",
            "spec.tls.clientCertificate",
        ];
        add(what, document, tls, says);
    }
    let login = Reason::KafkaRefused;
    for (what, mechanism, user, password) in [
        ("a wrong password", "SCRAM-SHA-512", "plant", "canary-of-another"),
        (
            "a wrong password, sent itself",
            "PLAIN",
            "plant",
            "canary-of-another",
        ),
        ("an unknown user", "SCRAM-SHA-256", "nobody", PASSWORD),
    ] {
        let mut document = site.route("LOGIN");
        site.login(&mut document, mechanism, user, password);
        add(
            what,
            document,
            login,
            &["uthentication", "spec.sasl", "the password"],
        );
    }
    let mut document = site.route("BARE");
    document.settings.sink.tls = None;
    site.login(&mut document, "PLAIN", "plant", PASSWORD);
    add(
        "a mechanism that Kafka does not have",
        document,
        login,
        &["SCRAM-SHA-512", "spec.sasl.mechanism"],
    );
    add(
        "a token that has expired",
        site.bearer("expired", Duration::ZERO),
        Reason::TokenUnavailable,
        &["OAUTHBEARER", "has expired", "spec.sasl.oauthBearer.token"],
    );
    let mut document = site.route("BEARER");
    document.settings.sink.sasl = Some(Sasl::Token(site.write("no-token", "canary")));
    add(
        "what is no token",
        document,
        Reason::TokenUnavailable,
        &["OAUTHBEARER", "no JWT", "spec.sasl.oauthBearer.token"],
    );
    let mut document = site.route("TLS");
    document.settings.sink.tls = None;
    add(
        "no TLS where it is wanted",
        document,
        tls,
        &["it speaks TLS", "spec.tls"],
    );
    let mut document = site.route("BARE");
    site.login(&mut document, "SCRAM-SHA-512", "plant", PASSWORD);
    add(
        "TLS where there is none",
        document,
        Reason::KafkaUnreachable,
        &["PLAINTEXT", "spec.tls"],
    );
    wrong
}

#[test]
fn of_every_way_in_that_is_wrong_the_cause_and_the_fix_are_said() {
    let site = &*SITE;
    let wrong = wrong_ways(site);
    let workers: Vec<_> = wrong
        .iter()
        .enumerate()
        .map(|(index, wrong)| {
            let worker = WorkerProcess::traced(&apart(wrong.document.clone(), index, "wrong"));
            worker.own(1, &[0]);
            worker
        })
        .collect();
    for (wrong, worker) in wrong.iter().zip(&workers) {
        let said = wrong.wait_for(worker);
        println!("{}:\n    {said}", wrong.what);
        let status = worker.status();
        assert!(!status.ready, "{}", wrong.what);
        assert_eq!(status.ledger.written, 0, "{}", wrong.what);
        for text in worker.texts() {
            for secret in ["canary", "PRIVATE KEY"] {
                assert!(!text.contains(secret), "{}: {secret} in {text}", wrong.what);
            }
        }
    }
}

#[test]
fn a_token_is_read_again_before_it_expires_and_nothing_is_lost() {
    let site = &*SITE;
    let life = Duration::from_secs(8);
    let mosquitto = Mosquitto::builder().start();
    let mut document = site.bearer("short", life);
    document.settings.broker.urls = vec![format!("mqtt://127.0.0.1:{}", mosquitto.port())];
    let worker = WorkerProcess::start(&document);
    worker.wait_for("both ends", |status| status.ready);
    let publisher = Publisher::builder(mosquitto.port())
        .rate(200.0)
        .topic_of(|key| format!("in/a/{key}"))
        .start();
    let begun = Instant::now();
    // Kubernetes renews a token when four fifths of its life are over.
    while begun.elapsed() < 4 * life {
        std::thread::sleep(life / 2);
        site.write("short", &token(life));
    }
    publisher.stop();
    let sent = publisher.finish(SOON).acknowledged();
    assert!(sent > 5_000, "{sent}");
    wait_until(SOON, "all messages", || worker.status().ledger.written == sent);
    assert_eq!(worker.status().problems, []);
    // The last one is not renewed: then Kafka does not let the client in any more.
    wait_until(SOON, "the token to have expired", || {
        let problems = worker.status().problems;
        problems
            .iter()
            .any(|problem| problem.reason == Reason::TokenUnavailable)
    });
}

#[test]
fn a_topic_that_the_user_may_not_write_is_said_and_others_are_written() {
    let site = &*SITE;
    let mosquitto = Mosquitto::builder().start();
    let mut document = site.route("LOGIN");
    site.login(&mut document, "SCRAM-SHA-512", "plant", PASSWORD);
    document.settings.broker.urls = vec![format!("mqtt://127.0.0.1:{}", mosquitto.port())];
    let worker = WorkerProcess::start(&document);
    worker.wait_for("both ends", |status| status.ready);
    let publisher = Publisher::builder(mosquitto.port())
        .messages(400)
        .keys(4)
        .topic_of(|key| match key {
            0 => "in/secret/0".into(),
            _ => format!("in/a/{key}"),
        })
        .start();
    assert_eq!(publisher.finish(SOON).acknowledged(), 400);
    wait_until(SOON, "every message to be somewhere", || {
        let ledger = worker.status().ledger;
        ledger.written + ledger.dead_lettered == 400 && ledger.in_flight == 0
    });
    let ledger = worker.status().ledger;
    assert_eq!((ledger.written, ledger.dead_lettered), (300, 100));
    let dead = consume(&site.kafka.bootstrap(), "dead", 100, SOON);
    for letter in dead {
        assert_eq!(letter.header("millrace.error.reason"), Some("TopicNotAuthorized"));
        let message = letter.header("millrace.error.message").unwrap_or_default();
        assert!(message.contains("out.secret"), "{message}");
    }
    assert_eq!(partition_ends(&site.kafka.bootstrap(), "out.secret"), [0, 0]);
}

#[test]
fn a_route_from_kafka_says_which_right_its_user_lacks_and_goes_on_when_it_has_it() {
    let site = &*SITE;
    let mosquitto = Mosquitto::builder().start();
    let mut document = site.route("LOGIN");
    site.login(&mut document, "SCRAM-SHA-512", "plant", PASSWORD);
    document.settings.broker.urls = vec![format!("mqtt://127.0.0.1:{}", mosquitto.port())];
    let worker = WorkerProcess::start(&commands(document));
    let wait_for = |what: &str, is: &dyn Fn(&RouteStatus) -> bool| patiently(&worker, what, is);
    let refused = |says: &str| {
        wait_for(says, &|status| {
            let mut problems = status.problems.iter();
            problems.any(|problem| problem.reason == Reason::KafkaRefused && problem.message.contains(says))
        });
    };
    refused("read commands: grant its user Read on the topics");
    allow(&site.kafka, &["Read"], ["--topic", "commands"]);
    refused("a member of the group commands: grant its user Read on the group");
    allow(&site.kafka, &["Read"], ["--group", "commands"]);
    wait_for("both ends", &|status| status.ready && status.problems.is_empty());
    let writer = Writer::start(&site.kafka.bootstrap(), "commands", 2, 10, 500.0);
    writer.wait_confirmed(100, SOON);
    let sent = writer.finish(SOON).sent();
    wait_for("all records", &|status| status.ledger.written == sent);
}

#[test]
fn a_route_from_kafka_that_was_never_let_in_is_when_its_password_is_corrected() {
    let site = &*SITE;
    let mosquitto = Mosquitto::builder().start();
    site.kafka.create_topic("orders", 2, &[]);
    allow(&site.kafka, &["Read"], ["--topic", "orders"]);
    allow(&site.kafka, &["Read"], ["--group", "orders"]);
    let mut document = site.route("LOGIN");
    site.login(&mut document, "SCRAM-SHA-512", "plant", PASSWORD);
    let Some(Sasl::Basic { credentials, .. }) = &mut document.settings.sink.sasl else {
        panic!("a login")
    };
    credentials.password = site.write("corrected", "not yet");
    document.settings.broker.urls = vec![format!("mqtt://127.0.0.1:{}", mosquitto.port())];
    let mut document = commands(document);
    if let Some(consumer) = &mut document.settings.consumer {
        (consumer.topics, consumer.group) = (vec!["orders".into()], "orders".into());
    }
    let worker = WorkerProcess::start(&document);
    let wait_for = |what: &str, is: &dyn Fn(&RouteStatus) -> bool| patiently(&worker, what, is);
    wait_for("it to be refused", &|status| {
        let mut problems = status.problems.iter();
        problems.any(|problem| problem.reason == Reason::KafkaRefused)
    });
    site.write("corrected", PASSWORD);
    wait_for("both ends", &|status| status.ready && status.problems.is_empty());
}

#[test]
fn of_what_a_route_watches_the_right_that_is_missing_is_named_until_it_is_granted() {
    let site = &*SITE;
    let mosquitto = Mosquitto::builder().start();
    site.kafka.create_topic("grown", 1, &[]);
    allow(&site.kafka, &["Describe"], ["--topic", "grown"]);
    let mut document = site.route("LOGIN");
    site.login(&mut document, "SCRAM-SHA-512", "plant", PASSWORD);
    document.settings.broker.urls = vec![format!("mqtt://127.0.0.1:{}", mosquitto.port())];
    document.live.survey = Survey {
        groups: vec![WatchedGroup {
            group: "analytics".into(),
            topics: Vec::new(),
        }],
        partitions: [("grown".to_owned(), 3)].into(),
    };
    let worker = WorkerProcess::start(&document);
    let wait_for = |what: &str, is: &dyn Fn(&TopicSurvey, &GroupSurvey) -> bool| {
        wait_until(SOON, what, || {
            let survey = worker.try_status().and_then(|status| status.survey);
            survey.is_some_and(|survey| {
                let topic = survey.topics.iter().find(|topic| topic.name == "grown");
                topic.is_some_and(|topic| is(topic, &survey.groups[0]))
            })
        });
    };
    let says = |problem: &Option<String>, what: &str| {
        let problem = problem.as_deref();
        problem.is_some_and(|problem| problem.contains(what))
    };
    wait_for("both rights to be named", &|topic, group| {
        says(&topic.problem, "grant its user Alter on the topic")
            && says(&group.problem, "grant this client's user Describe on the group")
    });
    assert_eq!(partition_ends(&site.kafka.bootstrap(), "grown").len(), 1);
    // What is not watched well is no reason to move nothing.
    worker.wait_for("both ends", |status| status.ready && status.problems.is_empty());
    allow(&site.kafka, &["Alter"], ["--topic", "grown"]);
    allow(&site.kafka, &["Describe"], ["--group", "analytics"]);
    wait_for("more partitions, and the group", &|topic, group| {
        topic.partitions == 3 && topic.problem.is_none() && group.problem.is_none()
    });
    assert_eq!(partition_ends(&site.kafka.bootstrap(), "grown").len(), 3);
}
