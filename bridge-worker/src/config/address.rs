//! Where a broker is, and how it is spoken to there.

use std::fmt;

use millrace_contract::Broker;

use super::ConfigError;

/// Where WebSockets of MQTT are where a url names no path, as with every broker that has them by default.
const PATH: &str = "/mqtt";

/// One of a broker's urls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Address {
    /// A name, or an IP address without brackets.
    pub(crate) host: String,
    /// The port.
    pub(crate) port: u16,
    /// Whether TLS is spoken there.
    pub(crate) has_tls: bool,
    /// With WebSockets the path that is asked for, from its first slash on.
    pub(crate) path: Option<String>,
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "[{}]:{}", self.host, self.port),
            false => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

/// A broker's urls.
///
/// # Errors
/// When there is none, or one is no url.
pub(crate) fn addresses(broker: &Broker) -> Result<Vec<Address>, ConfigError> {
    if broker.urls.is_empty() {
        return Err(ConfigError::Empty("broker.urls"));
    }
    broker
        .urls
        .iter()
        .map(|url| address(url).ok_or_else(|| ConfigError::Url(url.clone())))
        .collect()
}

/// The name that a broker's certificate must have, if the url is not to say it.
pub(crate) fn server_name(broker: &Broker) -> Option<String> {
    broker.tls.as_ref().and_then(|tls| tls.server_name.clone())
}

/// Reads `scheme://host:port/path`; port and path may be left out, an IPv6 host is in brackets.
fn address(url: &str) -> Option<Address> {
    let (scheme, rest) = url.split_once("://")?;
    let (has_tls, has_path, default) = match scheme {
        "mqtt" => (false, false, 1883),
        "mqtts" => (true, false, 8883),
        "ws" => (false, true, 80),
        "wss" => (true, true, 443),
        _ => return None,
    };
    let (rest, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let path = match (has_path, path) {
        (_, "" | "/") => has_path.then(|| PATH.to_owned()),
        (true, path) if !path.contains(['#', ' ']) => Some(path.to_owned()),
        _ => return None,
    };
    let (host, port) = match rest.strip_prefix('[') {
        Some(v6) => {
            let (host, after) = v6.split_once(']')?;
            (host, after.strip_prefix(':'))
        }
        None => match rest.rsplit_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (rest, None),
        },
    };
    let port = port.map_or(Ok(default), str::parse).ok()?;
    (!host.is_empty() && !host.contains(['@', '?', '#'])).then(|| Address {
        host: host.to_owned(),
        port,
        has_tls,
        path,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_name_a_host_and_a_port() {
        let is = |host: &str, port, has_tls, path: Option<&str>| {
            Some(Address {
                host: host.to_owned(),
                port,
                has_tls,
                path: path.map(str::to_owned),
            })
        };
        assert_eq!(address("mqtt://plant:1884"), is("plant", 1884, false, None));
        assert_eq!(address("mqtt://plant"), is("plant", 1883, false, None));
        assert_eq!(address("mqtt://[::1]:1885/"), is("::1", 1885, false, None));
        assert_eq!(address("mqtts://plant"), is("plant", 8883, true, None));
        assert_eq!(address("ws://plant"), is("plant", 80, false, Some("/mqtt")));
        assert_eq!(
            address("wss://plant:1/a/b?c"),
            is("plant", 1, true, Some("/a/b?c"))
        );
        for wrong in [
            "plant:1883",
            "mqtt://",
            "mqtt://a:b",
            "mqtt://user:pw@plant:1883",
            "mqtt://plant/x",
            "mqtts://plant/x",
            "wss://plant/a b",
            "tcp://a:1",
        ] {
            assert_eq!(address(wrong), None, "{wrong}");
        }
    }
}
