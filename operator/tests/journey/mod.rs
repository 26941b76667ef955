//! What a user does with a route from its creation to its end, in legs: each begins where all is at rest.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::sync::OnceCell;

use crate::fake::compare::{State, count, difference, state};
use crate::fake::store::is_deleting;
use crate::fake::{Fake, Operator, World};

/// How long a cluster may take to be as it is to be, on a machine that has other things to do.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
/// Nothing follows when nothing was written for so long: a pass that failed is tried again after a second, and a worker
/// that is to change is asked again after a second and a half.
pub(crate) const STILL: Duration = Duration::from_millis(1800);
/// An operator that has just started knows all when nothing was written for so long: it asks workers twice a second.
const KNOWN: Duration = Duration::from_millis(900);

const MANIFEST: &str = "
apiVersion: millrace.dev/v1alpha1
kind: MqttBroker
metadata: {name: plant}
spec:
  urls: [mqtt://mqtt.plant:1883]
---
apiVersion: millrace.dev/v1alpha1
kind: KafkaSink
metadata: {name: main}
spec:
  bootstrapServers: [kafka:9092]
  topics:
  - {pattern: telemetry, create: IfMissing}
---
apiVersion: millrace.dev/v1alpha1
kind: TopicRoute
metadata: {name: telemetry}
spec:
  replicas: 2
  from:
    mqtt:
      brokerRef: {name: plant}
      subscriptions:
      - filter: plants/+plant/telemetry
      - filter: plants/+plant/events
      ordering: PerTopic
      lanes: 4
  to:
    kafka:
      sinkRef: {name: main}
      topic: telemetry
      key: '{plant}'
";

/// Something that a user does.
pub(crate) struct Step {
    pub(crate) name: &'static str,
    /// The image of workers from then on.
    pub(crate) image: &'static str,
    pub(crate) act: fn(&Fake),
}

/// All that a user does.
pub(crate) const STEPS: &[Step] = &[
    Step {
        name: "create",
        image: "worker:1",
        act: |fake| fake.create(MANIFEST),
    },
    Step {
        name: "change the mapping",
        image: "worker:1",
        act: |fake| {
            edit_route(fake, |spec| {
                spec["to"]["kafka"]["key"] = "{message.topic}".into();
                spec["from"]["mqtt"]["subscriptions"][1]["filter"] = "plants/+plant/alarms".into();
            });
        },
    },
    Step {
        name: "change the connection",
        image: "worker:1",
        act: |fake| {
            fake.edit("mqttbrokers", "plant", |broker| {
                broker["spec"]["urls"] = json!(["mqtt://other.plant:1883"]);
            });
        },
    },
    Step {
        name: "upgrade",
        image: "worker:2",
        act: |_| {},
    },
    Step {
        name: "2 to 4 workers",
        image: "worker:2",
        act: |fake| edit_route(fake, |spec| spec["replicas"] = 4.into()),
    },
    Step {
        name: "4 to 1 workers",
        image: "worker:2",
        act: |fake| edit_route(fake, |spec| spec["replicas"] = 1.into()),
    },
    Step {
        name: "delete",
        image: "worker:2",
        act: |fake| fake.delete("topicroutes", "telemetry"),
    },
];

fn edit_route(fake: &Fake, edit: impl FnOnce(&mut Value)) {
    fake.edit("topicroutes", "telemetry", |route| edit(&mut route["spec"]));
}

/// One step, and what came of it when nothing went wrong.
pub(crate) struct Leg {
    pub(crate) step: &'static Step,
    /// The image of workers before it.
    pub(crate) image: &'static str,
    pub(crate) before: World,
    pub(crate) after: State,
    /// Writes that the operator asked for.
    pub(crate) writes: u64,
}

/// The journey without faults. It is made once.
pub(crate) async fn legs() -> &'static [Leg] {
    static LEGS: OnceCell<Vec<Leg>> = OnceCell::const_new();
    LEGS.get_or_init(|| async {
        let mut legs = Vec::new();
        let fake = Fake::new();
        let mut image = STEPS[0].image;
        let mut operator = fake.start(image);
        for step in STEPS {
            let (before, writes) = (fake.world(), fake.writes());
            operator = act(&fake, step, image, operator).await;
            assert!(
                fake.until(PATIENCE, is_settled).await,
                "{}: {:#?}",
                step.name,
                state(&fake.world())
            );
            fake.rest(STILL).await;
            assert!(is_settled(&fake.world()), "{} was undone", step.name);
            assert_eq!(fake.broken(), [""; 0], "{}", step.name);
            legs.push(Leg {
                step,
                image,
                before,
                after: state(&fake.world()),
                writes: fake.writes() - writes,
            });
            image = step.image;
        }
        operator.kill().await;
        legs
    })
    .await
}

/// Does a step. Another image comes with another operator.
pub(crate) async fn act(
    fake: &std::sync::Arc<Fake>,
    step: &Step,
    image: &str,
    mut operator: Operator,
) -> Operator {
    if step.image != image {
        operator.kill().await;
        operator = fake.start(step.image);
    }
    (step.act)(fake);
    operator
}

impl Leg {
    /// The cluster at the beginning of this leg, with an operator that knows all that is in it.
    pub(crate) async fn begin(&self) -> (std::sync::Arc<Fake>, Operator) {
        let fake = Fake::from(self.before.clone());
        let operator = fake.start(self.image);
        fake.rest(KNOWN).await;
        (fake, operator)
    }

    /// Waits for what came of it without faults; an error says what is different.
    pub(crate) async fn end(&self, fake: &Fake) -> Result<(), String> {
        self.end_as(fake, PATIENCE, |state| state).await
    }

    /// The same within a time, of what `view` leaves of the state.
    pub(crate) async fn end_as(
        &self,
        fake: &Fake,
        patience: Duration,
        view: fn(State) -> State,
    ) -> Result<(), String> {
        let wanted = view(self.after.clone());
        // Most looks are too early, and counting is cheap.
        let is_there = |world: &World| count(world) == wanted.len() && view(state(world)) == wanted;
        let deadline = Instant::now() + patience;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let came = fake.until(left, is_there).await;
            // It may look so for a moment on the way.
            fake.rest(STILL).await;
            if !came || is_there(&fake.world()) {
                break;
            }
        }
        let difference = difference(&wanted, &view(state(&fake.world())));
        let broken = fake.broken().join("\n");
        match difference.is_empty() && broken.is_empty() {
            true => Ok(()),
            false => Err(format!("{difference}\n{broken}")),
        }
    }
}

/// Whether all objects say that they are as they were last written, and are what they say.
pub(crate) fn is_settled(world: &World) -> bool {
    let ours = ["mqttbrokers", "kafkasinks", "topicroutes"];
    let mut objects = world
        .store
        .objects()
        .filter(|(key, _)| ours.contains(&key.plural.as_str()));
    let sets = world.store.all("statefulsets").all(|(_, set)| {
        let (wanted, status) = (&set["spec"]["replicas"], &set["status"]);
        ["replicas", "readyReplicas", "updatedReplicas"]
            .iter()
            .all(|count| status[count] == *wanted)
    });
    sets && objects.all(|(_, object)| {
        let generation = &object["metadata"]["generation"];
        let has = |kind: &str, status: &str| {
            object["status"]["conditions"]
                .as_array()
                .into_iter()
                .flatten()
                .any(|one| {
                    one["type"] == kind && one["status"] == status && one["observedGeneration"] == *generation
                })
        };
        let wanted = &object["spec"]["replicas"];
        let replicas = wanted.is_null() || object["status"]["replicas"] == *wanted;
        let lanes = &object["spec"]["from"]["mqtt"]["lanes"];
        let up = lanes.is_null() || object["status"]["lanes"] == json!({"total": lanes, "up": lanes});
        !is_deleting(object) && replicas && up && has("Ready", "True") && has("Reconciling", "False")
    })
}
