//! Ways into a real mosquitto: with what is right messages flow, and of what is wrong a person learns the cause and the fix.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use crate::harness::{DEADLINE, MockKafka, WorkerProcess, Written, commands, route};
use millrace_contract::status::{CertificateOf, Reason};
use millrace_contract::{ClientCertificate, Credentials, Document, ProtocolVersion, Tls, Value};
use millrace_testkit::{Authority, Issued, Mosquitto, Publisher, ScriptedBroker};

/// In no text may it be found.
const PASSWORD: &str = "canary-of-a-password";
const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);

/// Everything that is needed to be let in, and more that is not good enough.
struct Site {
    mosquitto: Mosquitto,
    kafka: MockKafka,
    authority: Authority,
    /// Of a client that may come in.
    client: Issued,
    /// Of one that nobody knows.
    stranger: Issued,
    /// Of one that could.
    expired: Issued,
    /// Of one that may for nine and a half more days.
    ending: Issued,
    folder: tempfile::TempDir,
}

/// The listeners, in their order.
#[derive(Clone, Copy)]
enum Listener {
    Tls,
    MutualTls,
    Password,
    WebSocket,
    WebSocketTls,
    Expired,
    OtherName,
    /// The user may read `in/a/#`, and write `devices/ok`.
    Rules,
}

impl Site {
    fn new() -> Self {
        let authority = Authority::new("plant");
        let clients = Authority::new("devices");
        let names = ["localhost", "127.0.0.1"];
        let server = authority.issue("broker", &names);
        let other = authority.issue("broker", &["elsewhere.example"]);
        let now = SystemTime::now();
        let old = authority.issue_for("broker", &names, now - 2 * YEAR, now - YEAR);
        let folder = tempfile::tempdir().expect("a temporary folder");
        std::fs::write(folder.path().join("password"), PASSWORD).expect("a file");
        let shown = |issued: &Issued| {
            [
                format!("certfile {}", issued.certificate().display()),
                format!("keyfile {}", issued.key().display()),
            ]
        };
        let anybody = "allow_anonymous true".to_owned();
        let asked = [
            format!("cafile {}", clients.certificate().display()),
            "require_certificate true".to_owned(),
        ];
        let passwords = folder.path().join("users");
        Mosquitto::write_passwords(&passwords, &[("plant", PASSWORD)]);
        let login = [
            "allow_anonymous false".to_owned(),
            format!("password_file {}", passwords.display()),
        ];
        let rules = folder.path().join("rules");
        std::fs::write(&rules, "user plant\ntopic read in/a/#\ntopic write devices/ok\n").expect("a file");
        let rules = [format!("acl_file {}", rules.display())];
        let websockets = ["protocol websockets".to_owned()];
        let with = |lines: &[&[String]]| lines.concat();
        let mosquitto = Mosquitto::builder()
            .listener(&with(&[std::slice::from_ref(&anybody), &shown(&server)]))
            .listener(&with(&[std::slice::from_ref(&anybody), &shown(&server), &asked]))
            .listener(&with(&[&login, &shown(&server)]))
            .listener(&with(&[std::slice::from_ref(&anybody), &websockets]))
            .listener(&with(&[
                std::slice::from_ref(&anybody),
                &websockets,
                &shown(&server),
            ]))
            .listener(&with(&[std::slice::from_ref(&anybody), &shown(&old)]))
            .listener(&with(&[std::slice::from_ref(&anybody), &shown(&other)]))
            .listener(&with(&[&login, &shown(&server), &rules]))
            .start();
        let issue = |name, from, until| clients.issue_for(name, &[], from, until);
        Self {
            client: issue("line-1", now - YEAR, now + YEAR),
            ending: issue("line-1", now - YEAR, now + Duration::from_secs(228 * 3600)),
            expired: issue("line-1", now - 2 * YEAR, now - YEAR),
            stranger: Authority::new("others").issue("line-1", &[]),
            kafka: MockKafka::start(&["out.a"]),
            mosquitto,
            authority,
            folder,
        }
    }

    /// A route that reads by this url, trusting whom it should.
    fn route(&self, scheme: &str, listener: Listener) -> Document {
        let mut document = route(&ScriptedBroker::start(), self.kafka.bootstrap());
        let port = self.mosquitto.listener(listener as usize);
        document.settings.route.session_id = format!("s{port}");
        document.settings.broker.urls = vec![format!("{scheme}://localhost:{port}")];
        document.settings.broker.tls = Some(Tls {
            ca: Some(Value::File(self.authority.certificate())),
            ..Tls::default()
        });
        document
    }

    fn login(&self, user: &str, file: &str) -> Option<Credentials> {
        Some(Credentials {
            username: Value::Literal(user.into()),
            password: Value::File(self.folder.path().join(file)),
        })
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::write(&path, text).expect("a file");
        path
    }
}

fn shows(document: &mut Document, certificate: &Path, key: &Path) {
    let tls = document.settings.broker.tls.get_or_insert_default();
    tls.client = Some(ClientCertificate {
        certificate: Value::File(certificate.to_owned()),
        private_key: Value::File(key.to_owned()),
    });
}

#[test]
fn messages_flow_by_every_way_in_that_is_right() {
    let site = Site::new();
    let mut ways = Vec::new();
    for version in [ProtocolVersion::V5, ProtocolVersion::V311] {
        for (scheme, listener) in [
            ("mqtts", Listener::Tls),
            ("mqtts", Listener::MutualTls),
            ("mqtts", Listener::Password),
            ("ws", Listener::WebSocket),
            ("wss", Listener::WebSocketTls),
            ("mqtts", Listener::OtherName),
        ] {
            let mut document = site.route(scheme, listener);
            document.settings.broker.protocol_version = version;
            document.settings.route.session_id += if version == ProtocolVersion::V5 { "5" } else { "3" };
            match listener {
                Listener::MutualTls => {
                    shows(&mut document, &site.client.certificate(), &site.client.key());
                }
                Listener::Password => document.settings.broker.credentials = site.login("plant", "password"),
                Listener::OtherName => {
                    let tls = document.settings.broker.tls.as_mut();
                    tls.expect("TLS").server_name = Some("elsewhere.example".into());
                }
                _ => {}
            }
            if scheme == "ws" {
                document.settings.broker.tls = None;
            }
            ways.push((scheme, WorkerProcess::start(&document)));
        }
    }
    for (scheme, worker) in &ways {
        worker.wait_for(&format!("a lane by {scheme}"), |status| {
            status.lanes.iter().all(|lane| lane.protocol_version.is_some())
                && status.problems.is_empty()
                && status.ready
        });
    }
    let publisher = Publisher::builder(site.mosquitto.port())
        .messages(2_000)
        .topic_of(|key| format!("in/a/{key}"))
        .size(3_000)
        .start();
    assert_eq!(publisher.finish(6 * DEADLINE).acknowledged(), 2_000);
    for (scheme, worker) in &ways {
        worker.wait_for(&format!("all messages by {scheme}"), |status| {
            status.ledger.written == 2_000 && status.ledger.received == 2_000
        });
        assert!(!worker.process.stderr().contains(PASSWORD));
        let mut shown: Vec<_> = worker.status().certificates.iter().map(|one| one.of).collect();
        shown.sort();
        let (server, client) = (CertificateOf::BrokerServer, CertificateOf::BrokerClient);
        match *scheme {
            "ws" => assert_eq!(shown, []),
            _ if shown.contains(&client) => {
                assert_eq!(shown, [server, client, CertificateOf::BrokerAuthority])
            }
            _ => assert_eq!(shown, [server, CertificateOf::BrokerAuthority]),
        }
    }
}

/// It grants the subscription all the same, so nobody can say that messages are kept back.
#[test]
fn what_the_rules_of_mosquitto_let_the_user_read_comes_and_nothing_else() {
    let site = Site::new();
    let mut document = site.route("mqtts", Listener::Rules);
    document.settings.broker.credentials = site.login("plant", "password");
    let worker = WorkerProcess::start(&document);
    worker.wait_for("both ends", |status| status.ready);
    let publisher = Publisher::builder(site.mosquitto.port())
        .messages(1_000)
        .topic_of(|key| match key % 2 {
            0 => format!("in/b/{key}"),
            _ => format!("in/a/{key}"),
        })
        .start();
    // The last may be read: all that comes comes before it.
    assert_eq!(publisher.finish(DEADLINE).acknowledged(), 1_000);
    worker.wait_for("what may be read", |status| status.ledger.written == 500);
    let status = worker.status();
    assert_eq!((status.ledger.received, status.problems), (500, Vec::new()));
}

#[test]
fn what_the_rules_of_mosquitto_forbid_to_publish_is_undeliverable_where_it_can_say_so() {
    for (version, dead_lettered) in [(ProtocolVersion::V5, 1), (ProtocolVersion::V311, 0)] {
        let site = Site::new();
        for topic in ["commands", "dead"] {
            site.kafka.topic(topic, 1);
        }
        let mut document = site.route("mqtts", Listener::Rules);
        document.settings.broker.credentials = site.login("plant", "password");
        document.settings.broker.protocol_version = version;
        let worker = WorkerProcess::start(&commands(document));
        let record = |key| Written {
            key: Some(key),
            value: Some("open"),
            ..Written::default()
        };
        site.kafka
            .write("commands", 0, &[record("ok"), record("forbidden"), record("ok")]);
        worker.wait_for("all three", |status| {
            status.ledger.received == 3 && status.ledger.in_flight == 0
        });
        let ledger = worker.status().ledger;
        // A broker of MQTT 3.1.1 can only confirm: mosquitto drops the message and says that it has it.
        assert_eq!(
            (ledger.written, ledger.dead_lettered),
            (3 - dead_lettered, dead_lettered),
            "{version:?}"
        );
        let dead = site.kafka.records("dead");
        assert_eq!(dead.len() as u64, dead_lettered);
        for letter in dead {
            assert_eq!(letter.key_text(), "forbidden");
            assert_eq!(letter.header("millrace.error.reason"), Some("PublishRefused"));
            let message = letter.header("millrace.error.message").expect("a message");
            assert!(
                message.contains("devices/forbidden") && message.contains("not authorized (0x87)"),
                "{message}"
            );
        }
        assert!(!worker.process.stderr().contains(PASSWORD));
    }
}

#[test]
fn a_certificate_that_expires_soon_is_said_while_messages_flow() {
    let site = Site::new();
    let mut document = site.route("mqtts", Listener::MutualTls);
    shows(&mut document, &site.ending.certificate(), &site.ending.key());
    let worker = WorkerProcess::start(&document);
    let message = worker.wait_for_problem(Reason::CertificateExpires);
    assert!(
        message.contains("the client certificate for the MQTT broker expires in 9 days")
            && message.contains("MqttBroker's spec.tls.clientCertificate"),
        "{message}"
    );
    worker.wait_for("the route to be ready", |status| {
        status.ready && status.problems.len() == 1
    });
    let page = worker.text("/metrics");
    let is_of_client = |line: &&str| {
        line.starts_with("millrace_certificate_expiry_timestamp_seconds{") && line.contains("BrokerClient")
    };
    let line = page.lines().find(is_of_client).expect("the metric");
    let value: f64 = line
        .rsplit(' ')
        .next()
        .and_then(|text| text.parse().ok())
        .expect("a number");
    let now = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    let days = (value - now.as_secs_f64()) / (24.0 * 3600.0);
    assert!((9.4..9.6).contains(&days), "{line}");
}

/// What is wrong with a way in, and what is to be said of it.
struct Wrong {
    what: &'static str,
    document: Document,
    reason: Reason,
    says: &'static [&'static str],
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
    let tls = Reason::BrokerTlsFailed;
    add(
        "the server's certificate has expired",
        site.route("mqtts", Listener::Expired),
        tls,
        &["certificate has expired, 365 days ago", "renew it at the broker"],
    );
    let mut document = site.route("mqtts", Listener::Tls);
    document.settings.broker.tls = None;
    add(
        "an authority that is not known",
        document,
        tls,
        &["not trusted", "spec.tls.ca"],
    );
    add(
        "a certificate for another name",
        site.route("mqtts", Listener::OtherName),
        tls,
        &[
            "is for",
            "elsewhere.example",
            "not for localhost",
            "spec.tls.serverName",
        ],
    );
    add(
        "no client certificate",
        site.route("mqtts", Listener::MutualTls),
        tls,
        &["wants to see a client certificate", "spec.tls.clientCertificate"],
    );
    let mut document = site.route("mqtts", Listener::MutualTls);
    shows(&mut document, &site.stranger.certificate(), &site.stranger.key());
    add(
        "a client certificate of others",
        document,
        tls,
        &[
            "does not accept the client certificate",
            "spec.tls.clientCertificate",
        ],
    );
    let mut document = site.route("mqtts", Listener::MutualTls);
    shows(&mut document, &site.expired.certificate(), &site.expired.key());
    add(
        "a client certificate that has expired",
        document,
        tls,
        &["client certificate has expired", "renew"],
    );
    let mut document = site.route("mqtts", Listener::MutualTls);
    shows(&mut document, &site.client.certificate(), &site.stranger.key());
    add(
        "the key of another certificate",
        document,
        tls,
        &["tls.key", "not the key of the certificate"],
    );
    let mut document = site.route("mqtts", Listener::MutualTls);
    let text = site.write("no-pem", "canary");
    shows(&mut document, &text, &site.client.key());
    add(
        "a file that holds no certificate",
        document,
        tls,
        &["no-pem", "no certificate in it", "spec.tls"],
    );
    let mut document = site.route("mqtts", Listener::MutualTls);
    shows(&mut document, Path::new("/nowhere/tls.crt"), &site.client.key());
    add(
        "a file that is not there",
        document,
        tls,
        &["/nowhere/tls.crt", "No such file", "spec.tls"],
    );
    site.write("wrong", "canary-of-another-password");
    let mut document = site.route("mqtts", Listener::Password);
    document.settings.broker.credentials = site.login("plant", "wrong");
    add(
        "a wrong password",
        document,
        Reason::BrokerRefused,
        &["not authorized", "spec.auth"],
    );
    let mut document = site.route("mqtts", Listener::Password);
    document.settings.broker.credentials = site.login("nobody", "password");
    add(
        "an unknown user",
        document,
        Reason::BrokerRefused,
        &["not authorized", "spec.auth"],
    );
    add(
        "no TLS where it is wanted",
        site.route("mqtt", Listener::Tls),
        Reason::BrokerUnreachable,
        &["closed the connection", "without TLS"],
    );
    add(
        "TLS where there is none",
        site.route("mqtts", Listener::WebSocket),
        tls,
        &["TLS"],
    );
    let mut document = site.route("ws", Listener::Tls);
    document.settings.broker.tls = None;
    add(
        "WebSockets where there are none",
        document,
        Reason::BrokerUnreachable,
        &["does not speak WebSocket", "WebSocket listener"],
    );
    wrong
}

#[test]
fn of_every_way_in_that_is_wrong_the_cause_and_the_fix_are_said_and_nothing_else_suffers() {
    let site = Site::new();
    let mut right = site.route("mqtts", Listener::Password);
    right.settings.broker.credentials = site.login("plant", "password");
    let right = WorkerProcess::traced(&right);
    right.own(1, &[0]);
    right.wait_for("the right way", |status| status.ready);
    let publisher = Publisher::builder(site.mosquitto.port())
        .messages(500)
        .topic_of(|key| format!("in/a/{key}"))
        .start();
    let wrong = wrong_ways(&site);
    let workers: Vec<_> = wrong
        .iter()
        .map(|wrong| {
            let worker = WorkerProcess::traced(&wrong.document);
            worker.own(1, &[0]);
            worker
        })
        .collect();
    for (wrong, worker) in wrong.iter().zip(&workers) {
        let message = worker.wait_for_problem(wrong.reason);
        println!("{}:\n    {message}", wrong.what);
        for part in wrong.says {
            assert!(message.contains(part), "{}: no {part:?} in {message}", wrong.what);
        }
        let status = worker.status();
        assert!(!status.ready, "{}", wrong.what);
        assert_eq!(status.ledger.received, 0, "{}", wrong.what);
    }
    assert_eq!(publisher.finish(6 * DEADLINE).acknowledged(), 500);
    right.wait_for("all messages", |status| status.ledger.written == 500);
    assert_eq!(right.status().problems, []);
    for worker in workers.iter().chain([&right]) {
        for text in worker.texts() {
            for secret in ["canary", "PRIVATE KEY"] {
                assert!(!text.contains(secret), "{secret} in {text}");
            }
        }
    }
}
