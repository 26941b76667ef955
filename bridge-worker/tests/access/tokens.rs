//! Tokens of an identity provider (OAUTHBEARER by client credentials) into a real Kafka that checks them: signature, issuer,
//! audience and time.

use std::path::Path;
use std::process::Command;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant, SystemTime};

use crate::harness::{WorkerProcess, commands, route};
use crate::provider::{AUDIENCE, Does, ISSUER, Provider, SCOPE, Signer};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use millrace_contract::probe::{Outcome, Report, Request, SinkRequest};
use millrace_contract::status::{CertificateOf, Problem, Reason};
use millrace_contract::survey::WatchedGroup;
use millrace_contract::{ClientCredentials, Create, Document, Sasl, Tls, TopicPolicy, Value};
use millrace_testkit::{
    Authority, Issued, Kafka, Mosquitto, Observer, Port, Process, Publisher, ScriptedBroker, Subscriber,
    Writer, check, wait_until,
};

/// In no text may it be found, nor what is made of it.
const SECRET: &str = "canary-of-a-client";
/// How long a token is valid.
const LIFE: Duration = Duration::from_secs(6);
const HOUR: Duration = Duration::from_secs(3_600);
const YEAR: Duration = Duration::from_secs(365 * 24 * 3_600);
const SOON: Duration = Duration::from_secs(60);

/// A Kafka that takes the tokens of one signer.
struct Site {
    kafka: Kafka,
    authority: Authority,
    /// Of an endpoint whose certificate is as it should be.
    server: Issued,
    signer: Arc<Signer>,
    folder: tempfile::TempDir,
}

static SITE: LazyLock<Site> = LazyLock::new(|| {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let authority = Authority::new("plant");
    let server = authority.issue("server", &["localhost", "127.0.0.1"]);
    let signer = Signer::new();
    let keys = folder.path().join("keys.json");
    signer.publish(&keys);
    let keys = format!("file://{}", keys.display());
    let handler = "org.apache.kafka.common.security.oauthbearer.OAuthBearerValidatorCallbackHandler";
    let kafka = Kafka::builder()
        .jvm(&format!(
            "-Dorg.apache.kafka.sasl.oauthbearer.allowed.urls={keys}"
        ))
        .listener("OIDC", "SASL_SSL")
        .property("listener.name.oidc.ssl.keystore.type", "PEM")
        .property("listener.name.oidc.ssl.keystore.location", text(&server.both()))
        .property("listener.name.oidc.sasl.enabled.mechanisms", "OAUTHBEARER")
        .property(
            "listener.name.oidc.oauthbearer.sasl.jaas.config",
            "org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule required \
             unsecuredLoginStringClaim_sub=\"kafka\";",
        )
        .property(
            "listener.name.oidc.oauthbearer.sasl.server.callback.handler.class",
            handler,
        )
        .property("listener.name.oidc.sasl.oauthbearer.jwks.endpoint.url", &keys)
        .property("listener.name.oidc.sasl.oauthbearer.expected.audience", AUDIENCE)
        .property("listener.name.oidc.sasl.oauthbearer.expected.issuer", ISSUER)
        .property("listener.name.oidc.sasl.oauthbearer.clock.skew.seconds", "0")
        // By itself Kafka 4.1.1 takes the check that is meant for clients, and with it tokens for others.
        .property(
            "listener.name.oidc.sasl.oauthbearer.jwt.validator.class",
            "org.apache.kafka.common.security.oauthbearer.BrokerJwtValidator",
        )
        // A client has to show another token before the first one expires.
        .property(
            "listener.name.oidc.oauthbearer.connections.max.reauth.ms",
            "3600000",
        )
        .start();
    for topic in ["out.a", "dead"] {
        kafka.create_topic(topic, 2, &[]);
    }
    Site {
        kafka,
        authority,
        server,
        signer,
        folder,
    }
});

fn text(path: &Path) -> &str {
    path.to_str().expect("a path")
}

impl Site {
    fn provider(&self, life: Duration) -> Provider {
        Provider::start(&self.server, &self.signer, SECRET, life)
    }

    fn write(&self, name: &str, text: &str) -> Value {
        let path = self.folder.path().join(name);
        let new = path.with_extension("new");
        std::fs::write(&new, text).expect("a file");
        std::fs::rename(new, &path).expect("a file in place");
        Value::File(path)
    }

    fn trust(&self) -> Tls {
        Tls {
            ca: Some(Value::File(self.authority.certificate())),
            ..Tls::default()
        }
    }

    /// A client with the secret that file `name` holds.
    fn client(&self, url: String, name: &str) -> ClientCredentials {
        ClientCredentials {
            token_endpoint_url: url,
            client_id: Value::Literal("bridge".into()),
            client_secret: self.write(name, SECRET),
            scope: Some(SCOPE.into()),
            audience: None,
            extensions: [("logicalCluster".to_owned(), "lkc-1".to_owned())].into(),
            tls: self.trust(),
        }
    }

    fn route(&self, mosquitto: &Mosquitto, client: ClientCredentials) -> Document {
        let mut document = route(&ScriptedBroker::start(), &self.kafka.listener("OIDC"));
        document.settings.broker.urls = vec![format!("mqtt://127.0.0.1:{}", mosquitto.port())];
        document.settings.sink.tls = Some(self.trust());
        document.settings.sink.sasl = Some(Sasl::ClientCredentials(Box::new(client)));
        document.settings.sink.producer.linger_ms = 5;
        document
    }
}

/// The one of a document.
fn client(document: &mut Document) -> &mut ClientCredentials {
    match &mut document.settings.sink.sasl {
        Some(Sasl::ClientCredentials(client)) => client,
        other => panic!("{other:?}"),
    }
}

/// No secret, and no token, is in what a worker says.
#[track_caller]
fn says_no_secret(worker: &WorkerProcess, tokens: &[String]) {
    let login = STANDARD.encode(format!("bridge:{SECRET}"));
    for text in worker.texts() {
        assert!(!text.contains("canary"), "{text}");
        assert!(!text.contains(&login), "{text}");
        for token in tokens {
            let (_, signature) = token.rsplit_once('.').expect("a signature");
            assert!(!text.contains(signature), "{text}");
        }
    }
}

#[test]
fn tokens_that_live_for_seconds_are_renewed_while_messages_flow() {
    let site = &*SITE;
    let mosquitto = Mosquitto::builder().start();
    let provider = site.provider(LIFE);
    let document = site.route(&mosquitto, site.client(provider.url(), "renewed"));
    let worker = WorkerProcess::traced(&document);
    worker.own(1, &[0]);
    worker.wait_for("both ends", |status| status.ready);
    let publisher = Publisher::builder(mosquitto.port())
        .rate(200.0)
        .topic_of(|key| format!("in/a/{key}"))
        .start();
    wait_until(10 * LIFE, "ten tokens", || {
        assert_eq!(worker.status().problems, []);
        provider.tokens().len() >= 10
    });
    // Long before one expires, and no more often than that.
    let asked = provider.asked().len();
    assert!(asked <= 12, "{asked}");
    // An endpoint that gives none is said while messages flow on with the token there is, and when they do not any more.
    provider.does(Does::Answer(503, String::new()));
    let said = wait_for(&worker, Reason::CredentialsRefused, &["503", "valid until"]);
    println!("{said}");
    let said = wait_for(
        &worker,
        Reason::TokenUnavailable,
        &["503", "asked again", "nothing is lost"],
    );
    println!("{said}");
    provider.does(Does::Grant);
    wait_until(SOON, "a token again", || worker.status().problems.is_empty());
    publisher.stop();
    let sent = publisher.finish(SOON).acknowledged();
    assert!(sent > 5_000, "{sent}");
    wait_until(SOON, "all messages", || worker.status().ledger.written == sent);
    assert!(worker.text("/metrics").contains("millrace_"));
    says_no_secret(&worker, &provider.tokens());
}

#[test]
fn the_certificate_of_an_endpoint_is_watched_as_all_others_are() {
    const DAY: Duration = Duration::from_secs(24 * 3_600);
    let site = &*SITE;
    let mosquitto = Mosquitto::builder().start();
    let now = SystemTime::now();
    let until = now + 10 * DAY + HOUR;
    let server = site
        .authority
        .issue_for("provider", &["localhost"], now - YEAR, until);
    let provider = Provider::start(&server, &site.signer, SECRET, HOUR);
    let document = site.route(&mosquitto, site.client(provider.url(), "watched"));
    let worker = WorkerProcess::start(&document);
    worker.own(1, &[0]);
    let said = wait_for(&worker, Reason::CertificateExpires, &["the token endpoint's"]);
    assert_eq!(
        said,
        "the token endpoint's certificate expires in 10 days; renew it at what the KafkaSink's \
         spec.sasl.oauthBearer.clientCredentials.tokenEndpointUrl names"
    );
    let certificates = worker.status().certificates;
    let until_of = |of| {
        let certificate = certificates.iter().find(|certificate| certificate.of == of);
        certificate.map(|certificate| certificate.valid_until)
    };
    let until = until.duration_since(SystemTime::UNIX_EPOCH).expect("a time");
    assert_eq!(
        until_of(CertificateOf::TokenEndpointServer),
        Some(until.as_secs())
    );
    assert!(until_of(CertificateOf::TokenEndpointAuthority).is_some());
    // None is shown to it.
    assert_eq!(until_of(CertificateOf::TokenEndpointClient), None);
    let metrics = worker.text("/metrics");
    let line = metrics
        .lines()
        .find(|line| line.contains("certificate=\"TokenEndpointServer\""));
    let line = line.expect("a metric of the certificate");
    assert!(line.ends_with(&until.as_secs().to_string()), "{line}");
    assert_eq!(
        provider.tokens().len(),
        1,
        "the certificate comes with the token, and nothing else is asked"
    );
}

/// Waits until a worker says it, and returns how.
#[track_caller]
fn wait_for(worker: &WorkerProcess, reason: Reason, says: &[&str]) -> String {
    let deadline = Instant::now() + SOON;
    loop {
        let status = worker.try_status();
        let problems = status.map(|status| status.problems).unwrap_or_default();
        let is_said = |problem: &&Problem| {
            problem.reason == reason && says.iter().all(|part| problem.message.contains(part))
        };
        if let Some(problem) = problems.iter().find(is_said) {
            return problem.message.clone();
        }
        assert!(
            Instant::now() < deadline,
            "no {reason:?} with {says:?}: {problems:#?}"
        );
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// What is wrong with a way in, and what is to be said of it.
struct Wrong {
    what: &'static str,
    document: Document,
    reason: Reason,
    says: &'static [&'static str],
    provider: Option<Provider>,
}

fn wrong_ways(site: &Site, mosquitto: &Mosquitto) -> Vec<Wrong> {
    let mut wrong = Vec::new();
    let none = Reason::TokenUnavailable;
    let mut add = |what, provider: Provider, reason, says, change: &dyn Fn(&mut ClientCredentials)| {
        let mut document = site.route(mosquitto, site.client(provider.url(), "wrong-ways"));
        change(client(&mut document));
        wrong.push(Wrong {
            what,
            document,
            reason,
            says,
            provider: Some(provider),
        });
    };
    let provider = || site.provider(HOUR);
    let does = |does| {
        let provider = provider();
        provider.does(does);
        provider
    };
    let as_it_is = |_: &mut ClientCredentials| {};
    add(
        "a wrong secret, at an endpoint that says more than it should",
        provider(),
        none,
        &[
            "401 Unauthorized",
            "has something of the client's Secret in it",
            "\"bridge\"",
            "clientCredentials.secretRef",
        ],
        &|client| client.client_secret = site.write("wrong-secret", "canary-of-another"),
    );
    let invalid =
        r#"{"error":"invalid_client","error_description":"Invalid client or Invalid client credentials"}"#;
    add(
        "a client that the endpoint does not know",
        does(Does::Answer(401, invalid.into())),
        none,
        &[
            "invalid_client: Invalid client or Invalid client credentials",
            "clientCredentials.secretRef",
        ],
        &as_it_is,
    );
    add(
        "a scope that there is not",
        provider(),
        none,
        &[
            "400 Bad Request, invalid_scope: there is no such scope",
            "clientCredentials.scope",
        ],
        &|client| client.scope = Some("everything".into()),
    );
    add(
        "an authority that is not known",
        provider(),
        none,
        &["not trusted", "spec.sasl.oauthBearer.clientCredentials.tls.ca"],
        &|client| client.tls = Tls::default(),
    );
    let other = site.authority.issue("provider", &["elsewhere.example"]);
    add(
        "a certificate for another name",
        Provider::start(&other, &site.signer, SECRET, HOUR),
        none,
        &[
            "is for elsewhere.example, not for localhost",
            "clientCredentials.tokenEndpointUrl",
        ],
        &as_it_is,
    );
    let now = SystemTime::now();
    let old = site
        .authority
        .issue_for("provider", &["localhost"], now - 2 * YEAR, now - YEAR);
    add(
        "a certificate that has expired",
        Provider::start(&old, &site.signer, SECRET, HOUR),
        none,
        &[
            "certificate has expired, 365 days ago",
            "renew it at the token endpoint",
        ],
        &as_it_is,
    );
    add(
        "an endpoint that is away",
        provider(),
        none,
        &[
            "cannot be reached",
            "refused",
            "clientCredentials.tokenEndpointUrl and the network",
        ],
        &|client| client.token_endpoint_url = format!("https://localhost:{}/token", Port::free().number()),
    );
    add(
        "an endpoint that does not answer",
        does(Does::Nothing),
        none,
        &["cannot be reached", "does not answer in time"],
        &as_it_is,
    );
    add(
        "another place than the endpoint",
        does(Does::Answer(404, "<html>".into())),
        none,
        &[
            "404 Not Found",
            "clientCredentials.tokenEndpointUrl",
            "openid-configuration",
        ],
        &as_it_is,
    );
    add(
        "an answer that is a page",
        does(Does::Answer(200, "<html>canary</html>".into())),
        none,
        &["is not JSON", "clientCredentials.tokenEndpointUrl"],
        &as_it_is,
    );
    add(
        "an answer without a token",
        does(Does::Answer(200, r#"{"id_token":"canary"}"#.into())),
        none,
        &["no access_token", "clientCredentials.tokenEndpointUrl"],
        &as_it_is,
    );
    add(
        "an answer that does not end",
        does(Does::Answer(200, "canary".repeat(100_000))),
        none,
        &["longer than 64 KiB"],
        &as_it_is,
    );
    add(
        "a token for others",
        provider(),
        Reason::KafkaRefused,
        &["invalid_token", "spec.sasl.oauthBearer", "audience"],
        &|client| client.audience = Some("others".into()),
    );
    let strangers = Provider::start(&site.server, &Signer::new(), SECRET, HOUR);
    add(
        "a token that somebody else has signed",
        strangers,
        Reason::KafkaRefused,
        &[
            "invalid_token",
            "spec.sasl.oauthBearer",
            "what Kafka expects of a token",
        ],
        &as_it_is,
    );
    wrong
}

#[test]
fn of_every_way_to_a_token_that_is_wrong_the_cause_and_the_fix_are_said() {
    let site = &*SITE;
    let mosquitto = Mosquitto::builder().start();
    let wrong = wrong_ways(site, &mosquitto);
    let workers: Vec<_> = wrong
        .iter()
        .enumerate()
        .map(|(index, wrong)| {
            let mut document = wrong.document.clone();
            document.settings.route.session_id = format!("wrong{index}");
            let worker = WorkerProcess::traced(&document);
            worker.own(1, &[0]);
            worker
        })
        .collect();
    for (wrong, worker) in wrong.iter().zip(&workers) {
        println!("{}:", wrong.what);
        println!("    {}", wait_for(worker, wrong.reason, wrong.says));
        // One without lanes waits for nothing, and is ready.
        worker.wait_for("its lane", |status| status.lanes.len() == 1);
        let status = worker.status();
        assert!(!status.ready, "{}", wrong.what);
        assert_eq!(status.ledger.written, 0, "{}", wrong.what);
        let tokens = wrong.provider.as_ref().map(Provider::tokens);
        says_no_secret(worker, &tokens.unwrap_or_default());
        // Whoever is asked in vain is not asked in a rush.
        let asked = wrong
            .provider
            .as_ref()
            .map_or(0, |provider| provider.asked().len());
        assert!(asked < 60, "{}: {asked}", wrong.what);
    }
}

#[test]
fn a_changed_secret_is_tried_first_and_taken_over_while_messages_flow() {
    let site = &*SITE;
    let mosquitto = Mosquitto::builder().start();
    let provider = site.provider(LIFE);
    let topic = "out.rotated";
    site.kafka.create_topic(topic, 2, &[]);
    let document = site.route(&mosquitto, site.client(provider.url(), "rotated"));
    let worker = WorkerProcess::start(&document);
    worker.wait_for("both ends", |status| status.ready);
    let observer = Observer::start(&site.kafka.bootstrap(), &[topic]);
    let publisher = Publisher::builder(mosquitto.port())
        .rate(1_000.0)
        .topic_of(|key| format!("in/rotated/{key}"))
        .start();
    // A secret that is wrong: the one before goes on to bring tokens.
    site.write("rotated", "canary-of-another");
    let said = wait_for(
        &worker,
        Reason::CredentialsRefused,
        &["changed credentials for Kafka", "401", "secretRef"],
    );
    println!("{said}");
    let before = provider.tokens().len();
    wait_until(SOON, "tokens by the secret of before", || {
        provider.tokens().len() >= before + 3
    });
    assert_eq!(worker.status().credentials_taken_over, 0);
    // Another at the provider, and then in the Secret.
    let next = "canary-of-the-next";
    provider.set_secret(next);
    site.write("rotated", next);
    worker.wait_for("the next secret", |status| {
        status.credentials_taken_over == 1 && status.problems.is_empty()
    });
    let before = provider.tokens().len();
    wait_until(SOON, "tokens by the next secret", || {
        provider.tokens().len() >= before + 3
    });
    let last = provider.asked().pop().expect("requests");
    assert!(last.granted && last.secret == next, "{last:?}");
    publisher.stop();
    let report = publisher.finish(SOON);
    observer.wait_for(report.acknowledged(), SOON);
    let verdict = check(&report, &observer.finish());
    println!("{verdict}");
    verdict.assert_nothing_lost().assert_duplicates_at_most(0);
    assert!(report.acknowledged() > 10_000, "{}", report.acknowledged());
    says_no_secret(&worker, &provider.tokens());
}

#[test]
fn a_route_from_kafka_shows_tokens_too_and_what_it_watches_is_seen() {
    const DEVICES: u32 = 20;
    const PARTITIONS: u32 = 4;
    let site = &*SITE;
    let mosquitto = Mosquitto::builder().start();
    let provider = site.provider(LIFE);
    site.kafka.create_topic("commands", PARTITIONS as i32, &[]);
    let mut document = commands(site.route(&mosquitto, site.client(provider.url(), "commands")));
    document.live.survey.groups = vec![WatchedGroup {
        group: "commands".into(),
        topics: Vec::new(),
    }];
    let devices = Subscriber::start(mosquitto.port(), DEVICES, 1, |device| format!("devices/{device}"));
    let worker = WorkerProcess::start(&document);
    worker.wait_for("both ends", |status| status.ready);
    let writer = Writer::start(&site.kafka.bootstrap(), "commands", PARTITIONS, DEVICES, 200.0);
    wait_until(10 * LIFE, "ten tokens", || {
        assert_eq!(worker.status().problems, []);
        provider.tokens().len() >= 10
    });
    wait_until(SOON, "the watched group to be seen", || {
        let seen = worker.status().survey.unwrap_or_default();
        seen.groups
            .iter()
            .any(|group| group.members == 1 && group.problem.is_none())
    });
    let report = writer.finish(SOON);
    devices.wait_for(report.sent(), SOON);
    let status = worker.status();
    // One connection to the broker, and the same membership of the group throughout.
    assert_eq!(
        status.delivery.map(|delivery| delivery.connection.connections),
        Some(1)
    );
    let verdict = check(&report, &devices.finish());
    println!("{verdict}");
    verdict.assert_nothing_lost().assert_duplicates_at_most(0);
}

#[test]
fn probes_and_topics_that_are_created_use_tokens_too() {
    let site = &*SITE;
    let mosquitto = Mosquitto::builder().start();
    let provider = site.provider(HOUR);
    let mut document = site.route(&mosquitto, site.client(provider.url(), "probed"));
    document.settings.sink.topics = vec![TopicPolicy {
        pattern: "out.*".into(),
        create: Create::IfMissing,
        max_topics: 10,
        partitions: 3,
        replication_factor: 1,
        config: Default::default(),
    }];
    let probe = |document: &Document| {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let (request, report) = (
            folder.path().join("request.json"),
            folder.path().join("report.json"),
        );
        let asked = Request {
            broker: None,
            sink: Some(SinkRequest {
                sink: document.settings.sink.clone(),
                topics: vec!["out.a".into()],
            }),
        };
        std::fs::write(&request, serde_json::to_vec(&asked).expect("JSON")).expect("a file");
        let mut command = Command::new(env!("CARGO_BIN_EXE_bridge-worker"));
        command
            .arg("probe")
            .arg("--request")
            .arg(&request)
            .arg("--report")
            .arg(&report);
        Process::spawn("probe", command).wait(SOON);
        let report: Report =
            serde_json::from_slice(&std::fs::read(report).expect("a report")).expect("the contract's report");
        report.sink
    };
    match probe(&document) {
        Some(Outcome::Found(found)) => assert_eq!(found.topics[0].partitions, 2),
        other => panic!("{other:?}"),
    }
    let worker = WorkerProcess::start(&document);
    worker.wait_for("both ends", |status| status.ready);
    let publisher = Publisher::builder(mosquitto.port())
        .messages(100)
        .topic_of(|key| format!("in/created/{key}"))
        .start();
    assert_eq!(publisher.finish(SOON).acknowledged(), 100);
    worker.wait_for("a topic made for them", |status| status.ledger.written == 100);
    provider.does(Does::Answer(401, String::new()));
    match probe(&document) {
        Some(Outcome::Failed(failure)) => {
            assert_eq!(failure.reason, Reason::TokenUnavailable);
            assert!(
                failure.message.contains("401 Unauthorized"),
                "{}",
                failure.message
            );
        }
        other => panic!("{other:?}"),
    }
}
