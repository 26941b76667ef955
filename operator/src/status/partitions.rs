//! What is said of the partitions of a sink's topics, and of the consumer groups that are watched.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use millrace_contract::survey::{GroupLag, GroupSurvey, Surveyed, TopicSurvey};
use millrace_crds::api::{GrowthPolicy, KafkaSinkStatus, TopicLagStatus, TopicStatus, WatchedGroupStatus};
use millrace_crds::partitions::{Demand, Held, Situation, Step, Wanted, counted, policy, step};
use millrace_crds::{KafkaSink, TopicRoute, written_topic};
use millrace_mapping::TopicPattern;

use super::condition::whole_seconds;
use super::{Conditions, Reason};
use crate::cluster::TopicOwners;
use crate::names;

/// As many topics as a status holds.
pub(super) const MAX_TOPICS: usize = 64;
/// The condition about partitions.
const PARTITIONS: &str = "PartitionsSufficient";
/// The condition about consumer groups.
const CONSUMERS: &str = "ConsumersKeepUp";
/// As many topics as a condition names.
const NAMED: usize = 5;
/// As many characters as a text in a status has.
const MAX_TEXT: usize = 1000;
/// `growth.cooldown` by default.
const COOLDOWN: Duration = Duration::from_secs(1_800);

/// The routes of a sink, and what is known of its topics beyond what a probe finds.
#[derive(Default)]
pub struct Watched<'a> {
    /// Each route with what one of its workers sees of Kafka.
    pub routes: Vec<(&'a TopicRoute, Option<Surveyed>)>,
    /// Topics that other operators own.
    pub owners: TopicOwners,
}

impl Watched<'_> {
    /// Whether a worker is there, or on its way, that will look.
    fn will_look(&self) -> bool {
        self.routes.iter().any(|(route, _)| can_look(route))
    }

    /// What was seen of each topic that there is. Whoever has looked last sees the most partitions.
    fn topics(&self) -> BTreeMap<&str, &TopicSurvey> {
        let surveys = self.routes.iter().filter_map(|(_, survey)| survey.as_ref());
        let topics = surveys.flat_map(|survey| &survey.topics);
        let mut seen: BTreeMap<&str, &TopicSurvey> = BTreeMap::new();
        for topic in topics.filter(|topic| topic.partitions > 0) {
            let known = seen.entry(&topic.name).or_insert(topic);
            if topic.partitions > known.partitions {
                *known = topic;
            }
        }
        seen
    }

    /// What was seen of consumer groups.
    fn groups(&self) -> Vec<&GroupSurvey> {
        let surveys = self.routes.iter().filter_map(|(_, survey)| survey.as_ref());
        surveys.flat_map(|survey| &survey.groups).collect()
    }
}

/// Whether a route has workers, one of which looks at Kafka.
pub fn can_look(route: &TopicRoute) -> bool {
    !route.spec.paused && route.spec.replicas > 0
}

/// Says it. `old` is the status as it was before.
pub(super) fn say(
    sink: &KafkaSink,
    watched: &Watched<'_>,
    now: Timestamp,
    old: &KafkaSinkStatus,
    conditions: &mut Conditions<'_>,
    status: &mut KafkaSinkStatus,
) {
    let uses = Uses::of(watched);
    let groups = watched.groups();
    let judged: Vec<Judged> = watched
        .topics()
        .into_values()
        .map(|topic| {
            let old = old.topics.iter().find(|one| one.name == topic.name);
            let found = status.topics.iter().find(|one| one.name == topic.name);
            let found = found.and_then(|found| found.problem.clone());
            judge(topic, sink, watched, &uses, &groups, old, found, now)
        })
        .collect();
    if !judged.is_empty() {
        say_partitions(&judged, conditions);
    } else if watched.will_look() {
        conditions.keep(PARTITIONS);
    }
    let mut topics: BTreeMap<String, TopicStatus> = BTreeMap::new();
    // What has been learnt over time is not forgotten while nobody looks.
    let remembered = old.topics.iter().filter(|one| {
        (one.target_partitions.is_some() || one.peak_records_per_second.is_some()) && uses.has(&one.name)
    });
    let probed = std::mem::take(&mut status.topics).into_iter();
    let judged = judged.into_iter().map(|judged| judged.status);
    for topic in remembered.cloned().chain(probed).chain(judged) {
        topics.insert(topic.name.clone(), topic);
    }
    status.topics = topics.into_values().take(MAX_TOPICS).collect();
    say_groups(sink, &groups, watched.will_look(), conditions, status);
}

/// What routes do with topics.
struct Uses<'a> {
    /// Those that a route names.
    named: HashMap<String, Vec<Use<'a>>>,
    /// Those that a route may write.
    patterns: Vec<(TopicPattern, Use<'a>)>,
}

/// What a route does with a topic.
#[derive(Clone, Copy)]
enum Use<'a> {
    Reads(&'a TopicRoute),
    /// Records with keys, or that may have some.
    WritesKeys,
    WritesNoKeys,
}

impl<'a> Uses<'a> {
    fn of(watched: &Watched<'a>) -> Self {
        let mut named: HashMap<String, Vec<Use<'a>>> = HashMap::new();
        let mut patterns = Vec::new();
        for (route, _) in &watched.routes {
            let spec = &route.spec;
            let read = spec.from.kafka.iter().flat_map(|from| &from.topics);
            for topic in read {
                named.entry(topic.clone()).or_default().push(Use::Reads(route));
            }
            // A dead letter has the key of its record.
            if let Some(letters) = &spec.on_error.dead_letter {
                named
                    .entry(letters.topic.clone())
                    .or_default()
                    .push(Use::WritesKeys);
            }
            let Some(to) = &spec.to.kafka else { continue };
            let writes = match to.key.is_empty() {
                true => Use::WritesNoKeys,
                false => Use::WritesKeys,
            };
            if let Some(topic) = written_topic(route) {
                named.entry(topic).or_default().push(writes);
            }
            let allowed = to.allowed_topics.iter();
            patterns.extend(allowed.filter_map(|pattern| Some((TopicPattern::parse(pattern).ok()?, writes))));
        }
        Self { named, patterns }
    }

    fn topic(&self, topic: &str) -> impl Iterator<Item = Use<'a>> {
        let named = self.named.get(topic).into_iter().flatten();
        let matching = self
            .patterns
            .iter()
            .filter(move |(pattern, _)| pattern.matches(topic));
        named.copied().chain(matching.map(|(_, writes)| *writes))
    }

    fn has(&self, topic: &str) -> bool {
        self.topic(topic).next().is_some()
    }

    /// Whether records of a topic have, or may have, keys: all but those of topics that only routes without keys write.
    fn has_keys(&self, topic: &str) -> bool {
        let mut uses = self.topic(topic).peekable();
        uses.peek().is_none() || uses.any(|one| !matches!(one, Use::WritesNoKeys))
    }

    /// The route with the most workers that reads a topic.
    fn workers(&self, topic: &str) -> Option<(String, u32)> {
        let readers = self.topic(topic).filter_map(|one| match one {
            Use::Reads(route) if !route.spec.paused => Some(route),
            _ => None,
        });
        let asked = readers.map(|route| {
            // Its workers share the partitions of all topics that it reads.
            let topics = route.spec.from.kafka.as_ref().map_or(1, |from| from.topics.len());
            let topics = u32::try_from(topics).unwrap_or(1).max(1);
            let workers = u32::try_from(route.spec.replicas).unwrap_or(0);
            (names::full(&route.metadata), workers.div_ceil(topics))
        });
        asked.max_by_key(|(_, workers)| *workers)
    }
}

/// What is found of a topic.
struct Judged {
    status: TopicStatus,
    wanted: Wanted,
    step: Step,
    /// Its records have keys: some move when partitions are added.
    is_keyed: bool,
    /// When more partitions may be added again.
    again_at: Option<Timestamp>,
    /// What of it is not as is written.
    drift: Vec<String>,
    /// Why none are added.
    problem: Option<String>,
}

#[expect(clippy::too_many_arguments, reason = "all that is known of a topic")]
fn judge(
    topic: &TopicSurvey,
    sink: &KafkaSink,
    watched: &Watched<'_>,
    uses: &Uses<'_>,
    groups: &[&GroupSurvey],
    old: Option<&TopicStatus>,
    found: Option<String>,
    now: Timestamp,
) -> Judged {
    let written = policy(sink, &topic.name);
    let growth = written.map(|policy| policy.growth.clone()).unwrap_or_default();
    let number = |count: u32| i32::try_from(count).unwrap_or(i32::MAX);
    // One with fewer partitions than before is another topic: when more were added to the old one still counts.
    let is_same = |old: &&TopicStatus| old.partitions <= number(topic.partitions);
    let same = old.filter(is_same);
    let peak = same
        .and_then(|old| old.peak_records_per_second)
        .into_iter()
        .chain(topic.records_per_second.map(rounded))
        .max();
    let demand = Demand {
        peak: peak.map(|peak| peak as f64),
        group: saturated(&topic.name, groups),
        workers: uses.workers(&topic.name),
    };
    let per_partition = u32::try_from(growth.rate_per_partition).unwrap_or(u32::MAX);
    let wanted = demand.wanted(topic.partitions, per_partition);
    let raised = old.and_then(|old| old.target_raised.clone());
    let cooldown = growth.cooldown.parse().unwrap_or(COOLDOWN);
    let situation = Situation {
        partitions: topic.partitions,
        is_keyed: uses.has_keys(&topic.name),
        owner: watched.owners.of(&topic.name),
        since_last: raised
            .as_ref()
            .map(|at| Duration::try_from(now.duration_since(at.0)).unwrap_or_default()),
        cooldown,
    };
    let step = step(&wanted, &growth, &situation);
    let again_at = raised
        .as_ref()
        .and_then(|at| at.0.checked_add(SignedDuration::try_from(cooldown).ok()?).ok());
    let (target, raised) = match step {
        Step::Grow(target) => (Some(number(target)), Some(Time(whole_seconds(now)))),
        _ => (same.and_then(|old| old.target_partitions), raised),
    };
    // What a person has changed since is not brought back.
    let is_held = matches!(
        step,
        Step::Held(Held::Owned(_) | Held::OwnerUnknown(_) | Held::Keys)
    );
    let target = target.filter(|_| growth.policy == GrowthPolicy::Grow && !is_held);
    let mut drift = topic.drift.clone();
    if let Some(policy) = written.filter(|_| growth.policy == GrowthPolicy::Fixed)
        && number(topic.partitions) != policy.partitions
    {
        let is_more = number(topic.partitions) > policy.partitions;
        drift.push(format!(
            "{} instead of {}{}",
            counted(topic.partitions, "partition"),
            policy.partitions,
            // Nobody can correct the topic.
            if is_more { " (Kafka takes none away)" } else { "" }
        ));
    }
    Judged {
        status: TopicStatus {
            partitions: number(topic.partitions),
            recommended_partitions: Some(number(wanted.partitions)),
            reason: Some(shortened(&wanted.because.to_string())),
            peak_records_per_second: peak,
            target_partitions: target.map(|target| target.min(growth.max)),
            target_raised: raised,
            problem: found,
            name: topic.name.clone(),
        },
        again_at,
        drift,
        wanted,
        step,
        is_keyed: situation.is_keyed,
        problem: topic.problem.clone(),
    }
}

fn topic_lag(of: &GroupLag) -> TopicLagStatus {
    TopicLagStatus {
        topic: of.topic.clone(),
        lag: of.lag.map(|lag| i64::try_from(lag).unwrap_or(i64::MAX)),
        growing: of.grows,
        saturated: of.saturated,
    }
}

/// A rate, rounded up to three digits: one that only flickers is no news.
fn rounded(rate: f64) -> i64 {
    let mut unit = 1.0;
    while rate / unit >= 1_000.0 {
        unit *= 10.0;
    }
    ((rate / unit).ceil() * unit) as i64
}

/// The saturated group with the most members that reads a topic.
fn saturated(topic: &str, groups: &[&GroupSurvey]) -> Option<(String, u32)> {
    let lags = groups.iter().flat_map(|group| {
        let topics = group
            .topics
            .iter()
            .filter(|lag| lag.topic == topic && lag.saturated);
        topics.map(|lag| (group.group.clone(), lag.members))
    });
    lags.max_by_key(|(_, members)| *members)
}

fn say_partitions(judged: &[Judged], conditions: &mut Conditions<'_>) {
    // The most urgent first.
    let mut found: Vec<(u8, Reason, String)> = judged.iter().filter_map(told).collect();
    found.sort_by_key(|(urgency, _, _)| *urgency);
    match found.first() {
        None => conditions.set(
            PARTITIONS,
            Some(true),
            Reason::Healthy,
            "every topic has the partitions that its load and its consumers ask for",
        ),
        Some((_, reason, _)) => {
            let texts: Vec<&str> = found
                .iter()
                .take(NAMED)
                .map(|(_, _, text)| text.as_str())
                .collect();
            let more = found.len().saturating_sub(NAMED);
            let more = match more {
                0 => String::new(),
                more => format!("; and {more} more"),
            };
            conditions.set(PARTITIONS, Some(false), *reason, texts.join("; ") + &more);
        }
    }
}

/// What is to be said of a topic, if anything, and how urgent it is.
fn told(judged: &Judged) -> Option<(u8, Reason, String)> {
    let name = &judged.status.name;
    let now = counted(u32::try_from(judged.status.partitions).unwrap_or(0), "partition");
    let Wanted { partitions, because } = &judged.wanted;
    let wanted = format!("topic {name} has {now} and is to have {partitions}: {because}");
    if let Some(problem) = &judged.problem {
        return Some((0, Reason::PartitionsNotAdded, format!("topic {name}: {problem}")));
    }
    Some(match &judged.step {
        Step::Grow(target) => (
            3,
            Reason::PartitionsGrowing,
            format!(
                "{wanted}; waiting for a worker to add them until it has {target}{}",
                match judged.is_keyed {
                    true =>
                        "; keys move to others then, and their order begins anew there (growth.keyRemap: Allow)",
                    false => "",
                }
            ),
        ),
        Step::Held(Held::Cooling(_)) => {
            let at = judged.again_at.map(|at| format!(" at {at}")).unwrap_or_default();
            let text =
                format!("{wanted}; some were added a short time ago, waiting for growth.cooldown to end{at}");
            (4, Reason::PartitionsGrowing, text)
        }
        Step::Held(Held::Keys) => (
            1,
            Reason::KeysWouldMove,
            format!(
                "{wanted}; its records have keys, and with more partitions keys move to others, where their order begins \
                 anew: set growth.keyRemap to Allow if that may be, or add partitions when it suits"
            ),
        ),
        Step::Held(Held::Maximum) => (
            1,
            Reason::PartitionsAtMaximum,
            format!("{wanted}; it has as many as growth.max allows: raise that if this is meant"),
        ),
        Step::Held(Held::Owned(object)) => (
            2,
            Reason::TopicOwnedByOther,
            format!("{wanted}; {object} owns it: write the number there"),
        ),
        Step::Held(Held::OwnerUnknown(why)) => (
            2,
            Reason::TopicOwnedByOther,
            format!("{wanted}; none are added, as another operator may own it: {why}"),
        ),
        Step::Recommend => (
            2,
            Reason::PartitionsRecommended,
            format!("{wanted}: add them, or set growth.policy to Grow"),
        ),
        Step::Nothing if judged.drift.is_empty() => return None,
        Step::Nothing => (
            5,
            Reason::TopicDrifted,
            format!(
                "topic {name} is not as spec.topics says: {}: correct the one or the other",
                judged.drift.join(", ")
            ),
        ),
    })
}

fn say_groups(
    sink: &KafkaSink,
    groups: &[&GroupSurvey],
    will_look: bool,
    conditions: &mut Conditions<'_>,
    status: &mut KafkaSinkStatus,
) {
    if sink.spec.watched_groups.is_empty() {
        status.watched_groups = Vec::new();
        return;
    }
    let mut found = Vec::new();
    let mut statuses = Vec::new();
    for watched in &sink.spec.watched_groups {
        let Some(group) = groups.iter().find(|one| one.group == watched.group) else {
            // Nobody has looked yet, or just now: what was known stays.
            let known = status
                .watched_groups
                .iter()
                .find(|one| one.group == watched.group);
            statuses.extend(known.cloned());
            continue;
        };
        let lags: Vec<u64> = group.topics.iter().filter_map(|topic| topic.lag).collect();
        let lag = (!lags.is_empty()).then(|| i64::try_from(lags.iter().sum::<u64>()).unwrap_or(i64::MAX));
        let saturated = group.topics.iter().any(|topic| topic.saturated);
        let name = &watched.group;
        if let Some(problem) = &group.problem {
            found.push((Reason::GroupUnknown, problem.clone()));
        } else if group.state == "Dead" {
            found.push((
                Reason::GroupUnknown,
                format!("Kafka knows no group {name}: correct spec.watchedGroups, or start its consumers"),
            ));
        } else if saturated {
            let topics = group.topics.iter().filter(|topic| topic.saturated);
            let topics: Vec<&str> = topics.map(|topic| topic.topic.as_str()).collect();
            found.push((
                Reason::GroupSaturated,
                format!(
                    "group {name} falls behind in {} with {}, and each partition has one already: add \
                     partitions, or see why its members are slow",
                    topics.join(", "),
                    counted(group.members, "member")
                ),
            ));
        } else if let (Some(lag), Some(most)) = (lag, watched.max_lag)
            && lag > most
        {
            found.push((
                Reason::GroupLagging,
                format!(
                    "group {name} is more than maxLag, {most} records, behind: add members or see why they are slow, or raise maxLag"
                ),
            ));
        }
        statuses.push(WatchedGroupStatus {
            group: name.clone(),
            state: group.state.clone(),
            members: i32::try_from(group.members).unwrap_or(i32::MAX),
            lag,
            saturated,
            topics: group.topics.iter().take(MAX_TOPICS).map(topic_lag).collect(),
            problem: group.problem.as_deref().map(shortened),
        });
    }
    status.watched_groups = statuses;
    match found.first() {
        Some((reason, _)) => {
            let texts: Vec<&str> = found.iter().map(|(_, text)| text.as_str()).collect();
            conditions.set(CONSUMERS, Some(false), *reason, texts.join("; "));
        }
        None if groups.is_empty() && will_look && conditions.has_been(CONSUMERS) => {
            conditions.keep(CONSUMERS)
        }
        None if groups.is_empty() => conditions.set(
            CONSUMERS,
            None,
            Reason::Probing,
            "waiting for a worker to look at the groups: a route that uses this KafkaSink has to run",
        ),
        None => conditions.set(
            CONSUMERS,
            Some(true),
            Reason::Healthy,
            "the groups that are watched keep up",
        ),
    }
}

pub(super) fn shortened(text: &str) -> String {
    text.chars().take(MAX_TEXT).collect()
}
