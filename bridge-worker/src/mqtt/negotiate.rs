use millrace_contract::ProtocolVersion;

use super::access::Access;
use super::connection::Connection;
use super::packet::Version;
use super::session::{ConnectError, Granted, SessionOptions, connect};

/// Connects once, for a client that knows nothing of the broker yet: with [`ProtocolVersion::Auto`] in MQTT 5, and in
/// 3.1.1 if the broker's answer suggests that.
pub(crate) async fn negotiate(
    options: &SessionOptions,
    access: &Access,
    protocol: ProtocolVersion,
) -> Result<(Connection, Granted), ConnectError> {
    let error = match connect(options, access, Version::first(protocol)).await {
        Ok(connected) => return Ok(connected),
        Err(error) => error,
    };
    if protocol != ProtocolVersion::Auto || !error.suggests_other_version(false) {
        return Err(error);
    }
    match connect(options, access, Version::V311).await {
        // What is no MQTT broker is best told by its first answer.
        Err(second) if !second.is_refusal() => Err(error),
        outcome => outcome,
    }
}
