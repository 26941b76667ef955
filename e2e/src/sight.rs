use crate::kubectl::{kubectl, try_kubectl};

/// All that can be read in a namespace, with where it was read: objects of all kinds but Secrets, what is said of them,
/// logs of this and of the previous start, and what processes serve.
pub fn all_that_is_seen(namespace: &str) -> Vec<(String, String)> {
    let kinds = kubectl(&["api-resources", "--namespaced", "--verbs=list", "-o", "name"]);
    let kinds: Vec<&str> = kinds.lines().filter(|kind| *kind != "secrets").collect();
    assert!(kinds.len() > 20, "{kinds:?}");
    let mut commands = vec![
        format!("get {} -o yaml", kinds.join(",")),
        "describe all,mqttbrokers,kafkasinks,topicroutes".to_owned(),
    ];
    let pods = kubectl(&["get", "pods", "-n", namespace, "-o", "name"]);
    for pod in pods.lines() {
        commands.push(format!("logs {pod} --all-containers"));
        commands.push(format!("logs {pod} --all-containers --previous"));
        let name = pod.trim_start_matches("pod/");
        for page in ["status", "metrics"] {
            commands.push(format!(
                "get --raw /api/v1/namespaces/{namespace}/pods/{name}:9090/proxy/{page}"
            ));
        }
    }
    let seen = commands.into_iter().map(|command| {
        let words: Vec<&str> = ["-n", namespace].into_iter().chain(command.split(' ')).collect();
        // Not every pod was started twice, or serves something.
        let text = try_kubectl(&words).unwrap_or_else(|error| error);
        (format!("{namespace}: kubectl {command}"), text)
    });
    seen.collect()
}

/// Where a value was seen, however it is spelled: as it is, in hexadecimal, or byte by byte.
pub fn sightings<'s>(seen: &'s [(String, String)], value: &str) -> Vec<&'s str> {
    let join = |separator: &str, each: fn(&u8) -> String| {
        value
            .as_bytes()
            .iter()
            .map(each)
            .collect::<Vec<_>>()
            .join(separator)
    };
    let spellings = [
        value.to_owned(),
        join(", ", u8::to_string),
        join("", |byte| format!("{byte:02x}")),
        join(" ", |byte| format!("{byte:02x}")),
    ];
    let is_in = |text: &str| spellings.iter().any(|spelling| text.contains(spelling));
    let seen = seen.iter().filter(|(_, text)| is_in(text));
    seen.map(|(place, _)| place.as_str()).collect()
}
