use std::fmt;

use millrace_contract::status::Reason as WorkerReason;

macro_rules! reasons {
    ($($(#[doc = $doc:literal])+ $name:ident,)+) => {
        /// Why a condition is as it is: the whole list, which `docs/conditions.md` repeats.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Reason {
            $($(#[doc = $doc])+ $name,)+
        }

        impl Reason {
            /// All reasons with what each means.
            pub const ALL: &[(Reason, &'static str)] = &[$((Reason::$name, concat!($($doc),+)),)+];
        }
    };
}

reasons! {
    /// All is as it was asked for.
    AsAsked,
    /// Nothing hinders.
    Healthy,
    /// A change is under way.
    Changing,
    /// The route is paused; the broker collects its messages.
    Paused,
    /// The route has no workers, because `spec.replicas` is 0.
    ScaledToZero,
    /// The route has no workers; what the broker does not keep for it is lost.
    BrokerBuffering,
    /// The object cannot work as it is written.
    Invalid,
    /// The MqttBroker that a route names does not exist, or is in another namespace and does not admit the route.
    BrokerNotFound,
    /// The KafkaSink that a route names does not exist, or is in another namespace and does not admit the route.
    SinkNotFound,
    /// Another route uses the same MQTT sessions.
    SessionConflict,
    /// What the route writes would come back to it, through another route.
    FeedsItself,
    /// Another route reads Kafka with the same consumer group.
    GroupConflict,
    /// An object of another owner has a name that the operator needs.
    NameConflict,
    /// The API server does not take what the operator writes: a quota, a policy or a permission forbids it.
    ClusterRefused,
    /// What was asked for is being tried before workers depend on it.
    Probing,
    /// Other routes are replacing their workers; this one waits for its turn.
    WaitingForTurn,
    /// The lanes read to its end what the broker of before holds for them.
    LeavingBroker,
    /// Workers are being replaced, one by one.
    RollingOut,
    /// Workers are on their way.
    WorkersStarting,
    /// A worker does not start, or does not stay.
    WorkerFailing,
    /// A worker does not answer.
    WorkerSilent,
    /// Lanes are connecting.
    Connecting,
    /// More workers were asked for than there are lanes, or partitions.
    ReplicasClamped,
    /// Something else scales the StatefulSet; the operator sets it back.
    ScalingConflict,
    /// A probe could not be made, or came to no answer.
    ProbeFailed,
    /// The broker cannot be reached.
    BrokerUnreachable,
    /// The broker refused the connection.
    BrokerRefused,
    /// The broker's certificate is not trusted, or it does not accept the client's, or it does not speak TLS.
    BrokerTlsFailed,
    /// The broker broke a rule of MQTT, or sent what the route cannot take.
    ProtocolError,
    /// The broker refused a subscription.
    SubscriptionRefused,
    /// The broker granted a lower quality of service than asked.
    QosDowngraded,
    /// The broker keeps no messages for devices that subscribe later.
    RetainUnavailable,
    /// The broker cannot share subscriptions.
    SharedSubscriptionsUnsupported,
    /// The broker keeps sessions for a shorter time than asked.
    SessionExpiryShort,
    /// Another client uses a lane's client id.
    TakenOver,
    /// Kafka cannot be reached.
    KafkaUnreachable,
    /// Kafka refuses the worker.
    KafkaRefused,
    /// Kafka's certificate is not trusted, or it does not accept the client's, or it does not speak TLS.
    KafkaTlsFailed,
    /// No token for Kafka can be had: its endpoint does not answer, or gives none, or what renews it does not.
    TokenUnavailable,
    /// A Kafka topic does not exist and may not be created.
    TopicMissing,
    /// A Kafka topic accepts records with fewer replicas than two.
    TopicUnsafe,
    /// A partition accepts nothing: the lanes that write to it are held.
    PartitionStalled,
    /// The broker holds messages back because as many as it may are unacknowledged.
    WindowLimited,
    /// Kafka confirms slower than MQTT delivers: lanes are held.
    SinkSaturated,
    /// The route stopped at a message that cannot be delivered.
    MessageUndeliverable,
    /// The route stopped because records that were to be read next are no longer in Kafka.
    OffsetOutOfRange,
    /// A topic is to have more partitions, and growth.policy says that people decide.
    PartitionsRecommended,
    /// Partitions are being added to a topic.
    PartitionsGrowing,
    /// A topic is to have more partitions than `growth.max` allows.
    PartitionsAtMaximum,
    /// A topic is to have more partitions, and its keys would move to others.
    KeysWouldMove,
    /// A topic is to have more partitions, and an object of another operator owns it.
    TopicOwnedByOther,
    /// Kafka does not add partitions to a topic.
    PartitionsNotAdded,
    /// A topic is not as the KafkaSink says.
    TopicDrifted,
    /// A watched consumer group falls behind though every partition has a member.
    GroupSaturated,
    /// A watched consumer group is further behind than `maxLag`.
    GroupLagging,
    /// There is no such consumer group, or Kafka does not tell of it.
    GroupUnknown,
    /// A changed configuration cannot be used; the one before is still in use.
    ConfigurationRefused,
    /// Changed credentials do not work; the ones before are still in use.
    CredentialsRefused,
    /// A certificate expires soon, or has expired.
    CertificateExpires,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

impl From<WorkerReason> for Reason {
    fn from(reason: WorkerReason) -> Self {
        match reason {
            WorkerReason::BrokerUnreachable => Self::BrokerUnreachable,
            WorkerReason::BrokerRefused => Self::BrokerRefused,
            WorkerReason::BrokerTlsFailed => Self::BrokerTlsFailed,
            WorkerReason::KafkaTlsFailed => Self::KafkaTlsFailed,
            WorkerReason::ProtocolError => Self::ProtocolError,
            WorkerReason::SubscriptionRefused => Self::SubscriptionRefused,
            WorkerReason::QosDowngraded => Self::QosDowngraded,
            WorkerReason::RetainUnavailable => Self::RetainUnavailable,
            WorkerReason::SharedSubscriptionsUnsupported => Self::SharedSubscriptionsUnsupported,
            WorkerReason::SessionExpiryShort => Self::SessionExpiryShort,
            WorkerReason::TakenOver => Self::TakenOver,
            WorkerReason::KafkaUnreachable => Self::KafkaUnreachable,
            WorkerReason::KafkaRefused => Self::KafkaRefused,
            WorkerReason::TokenUnavailable => Self::TokenUnavailable,
            WorkerReason::TopicMissing => Self::TopicMissing,
            WorkerReason::TopicUnsafe => Self::TopicUnsafe,
            WorkerReason::PartitionStalled => Self::PartitionStalled,
            WorkerReason::WindowLimited => Self::WindowLimited,
            WorkerReason::SinkSaturated => Self::SinkSaturated,
            WorkerReason::OffsetOutOfRange => Self::OffsetOutOfRange,
            WorkerReason::MessageUndeliverable => Self::MessageUndeliverable,
            WorkerReason::ConfigurationRefused => Self::ConfigurationRefused,
            WorkerReason::CredentialsRefused => Self::CredentialsRefused,
            WorkerReason::CertificateExpires => Self::CertificateExpires,
            WorkerReason::ProbeFailed => Self::ProbeFailed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Set to write the table instead of comparing it.
    const UPDATE: &str = "UPDATE";

    #[test]
    fn every_reason_is_documented() {
        let path = "../docs/conditions.md";
        let page = std::fs::read_to_string(path).unwrap();
        let rows: String = Reason::ALL
            .iter()
            .map(|(reason, text)| format!("| `{reason}` |{text} |\n"))
            .collect();
        let (before, rest) = page.split_once("<!-- reasons -->\n").unwrap();
        let (_, after) = rest.split_once("<!-- end -->").unwrap();
        let expected =
            format!("{before}<!-- reasons -->\n| reason | meaning |\n|---|---|\n{rows}<!-- end -->{after}");
        if std::env::var_os(UPDATE).is_some() {
            std::fs::write(path, &expected).unwrap();
        } else {
            assert!(
                page == expected,
                "docs/conditions.md: write it with UPDATE=1 and this test"
            );
        }
    }
}
