//! The words of the API in the contract's types. Two sets of enums, because the contract knows no Kubernetes.

use millrace_contract as contract;

use crate::api;

macro_rules! same_words {
    ($($enum:ident { $($word:ident),* })*) => {$(
        impl From<api::$enum> for contract::$enum {
            fn from(word: api::$enum) -> Self {
                match word {
                    $(api::$enum::$word => Self::$word,)*
                }
            }
        }
    )*};
}

same_words! {
    ProtocolVersion { Auto, V5, V311 }
    SharedSubscriptions { Auto, Supported, Unsupported }
    Ordering { PerTopic, Unordered }
    PayloadFormat { Bytes, Text, Json }
    Propagate { Topic, Qos, Retain, ContentType, ResponseTopic, CorrelationData, UserProperties }
    Create { Never, IfMissing }
    Compression { None, Gzip, Snappy, Lz4, Zstd }
    ErrorAction { Stop, DeadLetter, Discard }
    Start { Earliest, Latest }
    NoMatchingSubscribers { Ignore, DeadLetter, Wait }
}
