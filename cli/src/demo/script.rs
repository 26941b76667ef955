//! What the plants publish: readings of machines, events, alarms, and now and then something that cannot be mapped.
//! A plant knows what should become of each message on each of the example's routes.

use super::audit::{Fate, Id};

/// One message in so many is broken JSON, another comes from a plant whose name is no part of a Kafka topic.
const BROKEN_EVERY: u64 = 1_000;
const EVENT_EVERY: u64 = 10;
const ALARM_EVERY: u64 = 250;
const LINES: u64 = 3;
const MACHINES: [&str; 4] = ["press", "oven", "saw", "robot"];
const EVENTS: [&str; 3] = ["door/opened", "shift/began", "order/done"];

/// A message to publish.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Told {
    /// Its number, which is in the payload too.
    pub(crate) id: Id,
    /// The MQTT topic.
    pub(crate) topic: String,
    /// The payload.
    pub(crate) payload: String,
}

/// The numbers of the example's routes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Routes {
    telemetry: usize,
    hot: usize,
    events: usize,
    alarms: usize,
}

impl Routes {
    /// Finds the routes by name; `None` if the manifests have other ones than plants publish for.
    pub(crate) fn new(names: &[String]) -> Option<Self> {
        let at = |name: &str| names.iter().position(|known| known == name);
        let routes = Self {
            telemetry: at("telemetry")?,
            hot: at("hot")?,
            events: at("events")?,
            alarms: at("alarms")?,
        };
        (names.len() == 4).then_some(routes)
    }
}

/// The endless script of one plant.
#[derive(Debug)]
pub(crate) struct Script {
    plant: String,
    routes: Routes,
    step: u64,
    noise: u64,
}

impl Script {
    /// Of plant `number`, from 1. Plants tell different stories, the same in each run.
    pub(crate) fn new(routes: Routes, number: u32) -> Self {
        Self {
            plant: plant_name(number),
            routes,
            step: u64::from(number) * 17,
            noise: u64::from(number),
        }
    }

    /// The plant's name.
    pub(crate) fn plant(&self) -> &str {
        &self.plant
    }

    /// The next message. `number` is told what should become of it and numbers it.
    pub(crate) fn next(&mut self, number: impl FnOnce(&[(usize, Fate)]) -> Id) -> Told {
        self.step += 1;
        let step = self.step;
        match () {
            () if step % ALARM_EVERY == 1 => self.alarm(number),
            () if step % EVENT_EVERY == 2 => self.event(number),
            () => self.reading(number),
        }
    }

    fn reading(&mut self, number: impl FnOnce(&[(usize, Fate)]) -> Id) -> Told {
        let Routes { telemetry, hot, .. } = self.routes;
        let machine = MACHINES[(self.step / LINES) as usize % MACHINES.len()];
        let from = |plant: &str, line| format!("plants/{plant}/lines/{line}/machines/{machine}/telemetry");
        let topic = from(&self.plant, self.step % LINES + 1);
        let tenths = 400 + self.random() % 450;
        let rpm = 1_400 + self.random() % 200;
        let text = |id: Id, tenths: u64| {
            format!(
                r#"{{"t": {}.{}, "rpm": {rpm}, "seq": {id}}}"#,
                tenths / 10,
                tenths % 10
            )
        };

        match self.step % BROKEN_EVERY {
            // Bytes pass unread through `telemetry`; `hot` has to understand them.
            500 => {
                let id = number(&[(telemetry, Fate::Written), (hot, Fate::DeadLettered)]);
                Told {
                    id,
                    topic,
                    payload: format!(r#"{{"seq": {id}, "t": 21."#),
                }
            }
            // `telemetry` would have to write to a topic that cannot exist; `hot` does not need the plant for its own.
            900 => {
                let id = number(&[(telemetry, Fate::DeadLettered), (hot, Fate::Filtered)]);
                Told {
                    id,
                    topic: from("no name", 1),
                    payload: text(id, 213),
                }
            }
            _ => {
                let is_hot = tenths > 800;
                let id = number(&[
                    (telemetry, Fate::Written),
                    (hot, if is_hot { Fate::Written } else { Fate::Filtered }),
                ]);
                Told {
                    id,
                    topic,
                    payload: text(id, tenths),
                }
            }
        }
    }

    fn event(&mut self, number: impl FnOnce(&[(usize, Fate)]) -> Id) -> Told {
        let id = number(&[(self.routes.events, Fate::Written)]);
        let kind = EVENTS[self.random() as usize % EVENTS.len()];
        Told {
            id,
            topic: format!("plants/{}/events/{kind}", self.plant),
            payload: format!(r#"{{"seq": {id}, "by": "badge {}"}}"#, self.random() % 900 + 100),
        }
    }

    fn alarm(&mut self, number: impl FnOnce(&[(usize, Fate)]) -> Id) -> Told {
        let id = number(&[(self.routes.alarms, Fate::Written)]);
        let severity = if self.random().is_multiple_of(4) {
            "high"
        } else {
            "low"
        };
        Told {
            id,
            topic: format!("plants/{}/alarms/{severity}", self.plant),
            payload: format!(r#"pressure above limit, "seq": {id}"#),
        }
    }

    /// A linear congruential generator (Knuth's MMIX): runs are alike, which numbers need not be secret.
    fn random(&mut self) -> u64 {
        self.noise = self
            .noise
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        self.noise >> 33
    }
}

/// `aachen`, `bergen`, ... then `plant-11`.
fn plant_name(number: u32) -> String {
    const NAMES: [&str; 10] = [
        "aachen", "bergen", "cork", "delft", "essen", "ferrara", "graz", "halle", "izmir", "jena",
    ];
    let at = usize::try_from(number).unwrap_or(usize::MAX).wrapping_sub(1);
    NAMES
        .get(at)
        .map_or_else(|| format!("plant-{number}"), |name| (*name).to_owned())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::demo::kafka::id_in;

    fn routes() -> Routes {
        let names = ["telemetry", "hot", "events", "alarms"].map(str::to_owned);
        Routes::new(&names).unwrap()
    }

    #[test]
    fn every_kind_of_message_and_fate_is_told_soon() {
        let mut script = Script::new(routes(), 1);
        let mut told = BTreeMap::new();
        for id in 0..2_000 {
            let message = script.next(|fates| {
                for (route, fate) in fates {
                    *told.entry((*route, format!("{fate:?}"))).or_insert(0) += 1;
                }
                id
            });
            assert_eq!(id_in(message.payload.as_bytes()), Some(id), "{message:?}");
        }
        let count = |route, fate: &str| told.get(&(route, fate.to_owned())).copied().unwrap_or(0);
        assert!(
            count(0, "Written") > 1_500 && count(0, "DeadLettered") == 2,
            "{told:?}"
        );
        assert!(
            count(1, "Written") > 100 && count(1, "Filtered") > 1_000 && count(1, "DeadLettered") == 2,
            "{told:?}"
        );
        assert!(count(2, "Written") >= 190 && count(3, "Written") == 8, "{told:?}");
    }

    #[test]
    fn only_what_is_above_eighty_degrees_is_hot() {
        let mut script = Script::new(routes(), 2);
        for id in 0..5_000 {
            let mut is_hot = false;
            let message = script.next(|fates| {
                is_hot = fates.contains(&(1, Fate::Written));
                id
            });
            if let Ok(reading) = serde_json::from_str::<serde_json::Value>(&message.payload)
                && let Some(t) = reading["t"].as_f64()
            {
                assert_eq!(t > 80.0, is_hot, "{message:?}");
            }
        }
    }

    #[test]
    fn manifests_with_other_routes_are_told_apart() {
        assert!(Routes::new(&["telemetry".to_owned()]).is_none());
    }
}
