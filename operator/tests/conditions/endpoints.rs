//! What happens to brokers and sinks.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Pod;
use millrace_contract::probe::{BrokerFound, Outcome, Report, Request, SinkFound, TopicFound};
use millrace_contract::status::Problem;
use millrace_crds::{KafkaSink, MqttBroker};
use millrace_operator::observed::{self, Child, ChildKind, Family};
use millrace_operator::plan::probe::{self, Standing};
use millrace_operator::plan::{self, Checks, Rejection};
use millrace_operator::status::{self, Asked, BrokerFacts, Reason, SinkFacts, Workers};
use millrace_operator::{Settings, names};
use serde_json::Value;

use crate::manifests::{json_of, object, typed};
use crate::pods;
use crate::said::Said;
use crate::worker;
use crate::world::failure;

/// What the probes of a broker or a sink are about.
const KEY: &str = "0123456789";

/// The probes of a broker or a sink, and what workers say.
struct World {
    now: Timestamp,
    probes: Family,
    workers: Workers,
}

impl World {
    fn new() -> Self {
        Self {
            now: "2026-03-01T03:00:10Z".parse().unwrap(),
            probes: Family::new(),
            workers: Workers::None,
        }
    }

    /// A probe's pod comes to this.
    fn probe(mut self, status: Value) -> Self {
        let Standing::Due { attempt, .. } = self.standing() else {
            panic!("no probe is due");
        };
        let sink: KafkaSink = typed(&object("KafkaSink"));
        let family = plan::Family::of(names::kind::SINK, &sink);
        let nothing = Request {
            broker: None,
            sink: None,
        };
        let made = probe::pod(&family, KEY, attempt, &nothing, [], None, &Settings::default());
        let mut body = json_of(&made);
        body["status"] = status;
        body["metadata"]["creationTimestamp"] = self.now.to_string().into();
        if let Some(end) = body.pointer_mut("/status/containerStatuses/0/state/terminated") {
            end["finishedAt"] = self.now.to_string().into();
        }
        let child = Child {
            uid: made.name.clone(),
            resource_version: "1".into(),
            deleting: false,
            seen: observed::pod(&typed::<Pod>(&body)),
        };
        self.probes.insert((ChildKind::Pod, made.name), child);
        self
    }

    fn reports(self, report: &Report) -> Self {
        let is_well = matches!(
            report,
            Report {
                broker: None | Some(Outcome::Found(_)),
                sink: None | Some(Outcome::Found(_))
            }
        );
        let message = serde_json::to_string(report).unwrap();
        self.probe(pods::ended(i32::from(!is_well), &message))
    }

    fn finds_broker(self) -> Self {
        self.reports(&Report {
            broker: Some(Outcome::Found(BrokerFound {
                protocol_version: "5".into(),
                shared_subscriptions: Some(true),
                maximum_qos: 2,
                receive_maximum: Some(20),
                session_expiry_seconds: Some(86_400),
                maximum_packet_bytes: None,
            })),
            sink: None,
        })
    }

    fn fails_at_broker(self, problem: Problem) -> Self {
        self.reports(&Report {
            broker: Some(Outcome::Failed(failure(problem))),
            sink: None,
        })
    }

    fn finds_sink(self, missing: Option<Problem>) -> Self {
        let topic = TopicFound {
            name: "sensors".into(),
            partitions: if missing.is_some() { 0 } else { 6 },
            created: false,
            problem: missing.map(failure),
        };
        self.reports(&Report {
            broker: None,
            sink: Some(Outcome::Found(SinkFound {
                cluster_id: Some("5L6g3nShT-eMCtK--X86sw".into()),
                brokers: 3,
                topics: vec![topic],
            })),
        })
    }

    fn fails_at_sink(self, problem: Problem) -> Self {
        self.reports(&Report {
            broker: None,
            sink: Some(Outcome::Failed(failure(problem))),
        })
    }

    fn after(mut self, seconds: i64) -> Self {
        self.now += SignedDuration::from_secs(seconds);
        self
    }

    fn workers(mut self, workers: Workers) -> Self {
        self.workers = workers;
        self
    }

    fn standing(&self) -> Standing {
        probe::standing(&self.probes, KEY, self.now)
    }

    fn broker(self, scenario: &'static str) -> Said {
        self.broker_as(typed(&object("MqttBroker")), None, scenario)
    }

    fn broker_as(self, broker: MqttBroker, rejection: Option<Rejection>, scenario: &'static str) -> Said {
        let standing = self.standing();
        let asked = Asked {
            standing: &standing,
            workers: self.workers,
        };
        let said = status::broker(&BrokerFacts {
            broker: &broker,
            asked: rejection.map_or(Ok(asked), Err),
            now: self.now,
        });
        Said {
            scenario,
            generation: broker.metadata.generation.unwrap(),
            observed: said.observed_generation,
            conditions: said.conditions,
            // It is asked as it is written, or not at all.
            in_force: true,
        }
    }

    fn sink(self, scenario: &'static str) -> Said {
        let sink: KafkaSink = typed(&object("KafkaSink"));
        let standing = self.standing();
        let asked = Asked {
            standing: &standing,
            workers: self.workers,
        };
        let said = status::sink(&SinkFacts {
            watched: Default::default(),
            watched_by: None,
            sink: &sink,
            asked: Ok(asked),
            now: self.now,
        });
        Said {
            scenario,
            generation: sink.metadata.generation.unwrap(),
            observed: said.observed_generation,
            conditions: said.conditions,
            in_force: true,
        }
    }
}

/// All that happens to brokers.
pub(crate) fn brokers() -> Vec<Said> {
    let gone = || World::new().fails_at_broker(worker::broker_unreachable());
    vec![
        World::new().broker("A broker is new"),
        World::new().finds_broker().broker("The broker has answered"),
        World::new()
            .fails_at_broker(worker::bad_password())
            .broker("The broker refuses the password"),
        World::new()
            .fails_at_broker(worker::broker_has_expired())
            .broker("The broker's certificate has expired"),
        gone().broker("The broker is unreachable"),
        gone()
            .after(10)
            .probe(pods::status(pods::CREATING))
            .broker("The broker is unreachable, and is asked again"),
        gone()
            .workers(Workers::Connected)
            .broker("The probe has failed, and workers are connected all the same"),
        World::new()
            .finds_broker()
            .workers(Workers::Trouble(worker::broker_shuts_down()))
            .broker("The broker has answered once, and workers cannot connect"),
        World::new()
            .probe(pods::status(pods::CREATING))
            .after(180)
            .broker("The Secret does not exist, so the probe does not start"),
        World::new()
            .probe(pods::status(pods::NO_IMAGE))
            .broker("The probe's image cannot be pulled"),
        rejected_broker(),
        unreadable_broker(),
    ]
}

/// All that happens to sinks.
pub(crate) fn sinks() -> Vec<Said> {
    vec![
        World::new().sink("A sink is new"),
        World::new().finds_sink(None).sink("Kafka has answered"),
        World::new()
            .fails_at_sink(worker::kafka_has_no_broker())
            .sink("Kafka does not answer"),
        World::new()
            .fails_at_sink(worker::kafka_knows_no_such_user())
            .sink("Kafka refuses the password"),
        World::new()
            .fails_at_sink(worker::no_token_for_probe())
            .sink("The token endpoint does not know the client"),
        World::new()
            .finds_sink(None)
            .workers(Workers::Trouble(worker::kafka_not_trusted()))
            .sink("Kafka shows a certificate of another authority"),
        World::new()
            .finds_sink(Some(worker::topic_missing()))
            .sink("The topic of a route is missing"),
        World::new()
            .finds_sink(None)
            .workers(Workers::Trouble(worker::kafka_unreachable()))
            .sink("Kafka is gone"),
        World::new()
            .fails_at_sink(worker::kafka_has_no_broker())
            .workers(Workers::Connected)
            .sink("The probe has failed, and workers write all the same"),
        World::new()
            .probe(pods::status(pods::UNSCHEDULABLE))
            .sink("No node has room for the probe"),
    ]
}

/// What the API server takes and no client can use.
fn rejected_broker() -> Said {
    let mut broker = object("MqttBroker");
    broker["spec"]["session"] = serde_json::json!({"keepAlive": "30h"});
    let broker: MqttBroker = typed(&broker);
    let rejection = Checks::default().broker(&broker).unwrap_err();
    World::new().broker_as(broker, Some(rejection), "The keep-alive is too long")
}

/// An object that the CRD of another version has let in.
fn unreadable_broker() -> Said {
    let mut broker = object("MqttBroker");
    broker["spec"]["protocolVersion"] = "V6".into();
    let error = serde_json::from_value::<MqttBroker>(broker).unwrap_err();
    // As the API server's client says it.
    let rejection = Rejection::new(Reason::Invalid, format!("the object cannot be read: {error}"));
    Said {
        scenario: "The object cannot be read",
        generation: 1,
        observed: None,
        conditions: status::rejected(&rejection, Some(1)),
        in_force: true,
    }
}
