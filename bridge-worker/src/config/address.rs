//! Where a broker is.

use millrace_contract::Broker;

use super::ConfigError;

/// Host and port of each of a broker's urls.
///
/// # Errors
/// When there is none, or one is no url.
pub fn addresses(broker: &Broker) -> Result<Vec<(String, u16)>, ConfigError> {
    if broker.urls.is_empty() {
        return Err(ConfigError::Empty("broker.urls"));
    }
    broker
        .urls
        .iter()
        .map(|url| address(url).ok_or_else(|| ConfigError::Url(url.clone())))
        .collect()
}

/// Host and port of `mqtt://host:port`; the port may be left out, an IPv6 host is in brackets.
fn address(url: &str) -> Option<(String, u16)> {
    let rest = url.strip_prefix("mqtt://")?.trim_end_matches('/');
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
    let port = port.map_or(Ok(1883), str::parse).ok()?;
    (!host.is_empty() && !host.contains(['/', '@', '?', '#'])).then(|| (host.to_owned(), port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_name_a_host_and_a_port() {
        assert_eq!(address("mqtt://plant:1884"), Some(("plant".into(), 1884)));
        assert_eq!(address("mqtt://plant"), Some(("plant".into(), 1883)));
        assert_eq!(address("mqtt://[::1]:1885/"), Some(("::1".into(), 1885)));
        for wrong in [
            "plant:1883",
            "mqtt://",
            "mqtt://a:b",
            "mqtt://user:pw@plant:1883",
            "mqtt://plant/x",
            "tcp://a:1",
        ] {
            assert_eq!(address(wrong), None, "{wrong}");
        }
    }
}
