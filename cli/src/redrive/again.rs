//! A dead letter through the mapping of its route again. Pure.

use std::cell::RefCell;
use std::fmt;
use std::time::Duration;

use anyhow::anyhow;
use millrace_contract::AnyDocument;
use millrace_mapping::{
    Decision, Filter, Mapper, MappingError, Message, Publication, Record, RecordMapper, SourceRecord,
};

use super::letter::{Letter, Original};

/// The mapping of a route.
pub(super) struct Again {
    document: AnyDocument,
    mapping: Mapping,
}

enum Mapping {
    Message {
        mapper: RefCell<Mapper>,
        qos: u8,
    },
    Record {
        mapper: RecordMapper,
        qos: u8,
        retain: bool,
        expiry: Option<Duration>,
    },
}

/// What becomes of a letter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Goes(Made),
    /// `when` is false for it.
    Filtered,
    /// It is older than `messageExpiryInterval`.
    Expired,
    /// What it was is not known any more.
    Lost(String),
    /// It fails as before, or otherwise.
    Fails {
        reason: &'static str,
        message: String,
    },
}

/// What is delivered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Made {
    pub(super) topic: String,
    pub(super) key: Option<Vec<u8>>,
    pub(super) value: Vec<u8>,
    pub(super) headers: Vec<(String, Vec<u8>)>,
    pub(super) timestamp_ms: i64,
    pub(super) qos: u8,
    pub(super) retain: bool,
    pub(super) expiry_seconds: Option<u32>,
    pub(super) content_type: Option<String>,
    pub(super) response_topic: Option<String>,
    pub(super) correlation_data: Option<Vec<u8>>,
}

impl Verdict {
    /// Whether nothing more is to be done about the letter.
    pub(super) fn passes(&self) -> bool {
        matches!(self, Self::Goes(_) | Self::Filtered | Self::Expired)
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Goes(made) => write!(f, "goes to {}", made.topic),
            Self::Filtered => write!(f, "is filtered by spec.when"),
            Self::Expired => write!(f, "is older than spec.to.mqtt.messageExpiryInterval"),
            Self::Lost(why) => write!(f, "cannot be made again: {why}"),
            Self::Fails { reason, message } => write!(f, "still fails: {reason}: {message}"),
        }
    }
}

impl Again {
    pub(super) fn new(document: &AnyDocument) -> anyhow::Result<Self> {
        let wrong = |errors: Vec<MappingError>| {
            let errors: Vec<String> = errors.iter().map(MappingError::to_string).collect();
            anyhow!("the mapping cannot be used: {}", errors.join("; "))
        };
        let mapping = match document {
            AnyDocument::ToKafka(document) => {
                let source = &document.live.source;
                let filters = source.subscriptions.iter().map(|one| Filter::parse(&one.filter));
                let filters: Vec<Filter> = filters.collect::<Result<_, _>>()?;
                let mapper =
                    Mapper::compile(&document.live.mapping, &filters, source.payload).map_err(wrong)?;
                Mapping::Message {
                    mapper: RefCell::new(mapper),
                    qos: source.qos,
                }
            }
            AnyDocument::ToMqtt(document) => {
                let publishing = &document.live.publishing;
                Mapping::Record {
                    mapper: RecordMapper::compile(publishing, document.live.payload).map_err(wrong)?,
                    qos: publishing.qos,
                    retain: publishing.retain,
                    expiry: publishing
                        .message_expiry_seconds
                        .map(|seconds| Duration::from_secs(seconds.into())),
                }
            }
        };
        Ok(Self {
            document: document.clone(),
            mapping,
        })
    }

    /// `now` is in milliseconds since the epoch.
    pub(super) fn judge(&self, letter: &Letter, now_ms: i64) -> Verdict {
        let original = match letter.original(&self.document) {
            Ok(original) => original,
            Err(why) => return Verdict::Lost(why),
        };
        match (&self.mapping, &original) {
            (Mapping::Message { mapper, qos }, Original::Message { topic, payload }) => {
                message(&mut mapper.borrow_mut(), *qos, letter, topic, payload)
            }
            (
                Mapping::Record {
                    mapper,
                    qos,
                    retain,
                    expiry,
                },
                Original::Record { .. },
            ) => {
                let verdict = record(mapper, *qos, *retain, letter, &original);
                in_time(verdict, *expiry, letter.timestamp_ms, now_ms)
            }
            _ => Verdict::Lost("it is a letter of the other direction".into()),
        }
    }
}

/// Leaves a message the time that it has left.
fn in_time(verdict: Verdict, expiry: Option<Duration>, written_ms: i64, now_ms: i64) -> Verdict {
    let Some(expiry) = expiry else { return verdict };
    let Verdict::Goes(mut made) = verdict else {
        return verdict;
    };
    let age = Duration::from_millis(u64::try_from(now_ms - written_ms).unwrap_or(0));
    match expiry.checked_sub(age).filter(|left| !left.is_zero()) {
        Some(left) => {
            let seconds = u32::try_from(left.as_secs()).unwrap_or(u32::MAX);
            made.expiry_seconds = Some(seconds.max(1));
            Verdict::Goes(made)
        }
        None => Verdict::Expired,
    }
}

fn message(mapper: &mut Mapper, qos: u8, letter: &Letter, topic: &str, payload: &[u8]) -> Verdict {
    let message = Message {
        topic,
        payload,
        qos,
        retain: false,
        received_at_ms: letter.timestamp_ms,
        properties: None,
    };
    let mut record = Record::default();
    match mapper.map(&message, &mut record) {
        Ok(Decision::Write) => Verdict::Goes(Made {
            topic: record.topic().to_owned(),
            key: record.key().map(<[u8]>::to_vec),
            value: record.value().unwrap_or(payload).to_vec(),
            headers: owned(record.headers()),
            timestamp_ms: letter.timestamp_ms,
            ..Made::default()
        }),
        Ok(Decision::Filtered) => Verdict::Filtered,
        Err(error) => Verdict::Fails {
            reason: error.reason(),
            message: error.to_string(),
        },
    }
}

fn record(mapper: &RecordMapper, qos: u8, retain: bool, letter: &Letter, original: &Original) -> Verdict {
    let Original::Record {
        topic,
        partition,
        offset,
        headers,
    } = original
    else {
        return Verdict::Lost("it was no record".into());
    };
    let headers: Vec<(&str, Option<&[u8]>)> = headers
        .iter()
        .map(|(name, value)| (name.as_str(), Some(value.as_slice())))
        .collect();
    let record = SourceRecord {
        topic,
        partition: *partition,
        offset: *offset,
        timestamp_ms: letter.timestamp_ms,
        key: letter.key.as_deref(),
        value: letter.value.as_deref(),
        headers: &headers,
    };
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let mut made = Publication::default();
    match mapper.map(&record, &mut made) {
        Ok(Decision::Write) => Verdict::Goes(Made {
            topic: text(made.topic()),
            key: None,
            value: made
                .payload()
                .or(letter.value.as_deref())
                .unwrap_or_default()
                .to_vec(),
            headers: owned(made.user()),
            timestamp_ms: letter.timestamp_ms,
            qos,
            retain,
            expiry_seconds: None,
            content_type: made.content_type().map(text),
            response_topic: made.response_topic().map(text),
            correlation_data: made.correlation_data().map(<[u8]>::to_vec),
        }),
        Ok(Decision::Filtered) => Verdict::Filtered,
        Err(error) => Verdict::Fails {
            reason: error.reason(),
            message: error.to_string(),
        },
    }
}

fn owned<'h>(headers: impl Iterator<Item = (&'h str, &'h [u8])>) -> Vec<(String, Vec<u8>)> {
    headers
        .map(|(name, value)| (name.to_owned(), value.to_vec()))
        .collect()
}
