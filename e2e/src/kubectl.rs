use std::io::Write;
use std::process::{Command, Stdio};

use serde::de::DeserializeOwned;

/// Runs `kubectl` and returns what it prints; what it says is in the panic if it fails.
pub fn kubectl(arguments: &[&str]) -> String {
    match try_kubectl(arguments) {
        Ok(output) => output,
        Err(error) => panic!("kubectl {}: {error}", arguments.join(" ")),
    }
}

/// Runs `kubectl` with an input; what it says is in the panic if it fails.
pub fn kubectl_with(arguments: &[&str], input: &str) -> String {
    match try_kubectl_with(arguments, input) {
        Ok(output) => output,
        Err(error) => panic!("kubectl {}: {error}\n{input}", arguments.join(" ")),
    }
}

/// Runs `kubectl`.
///
/// # Errors
/// What it says if it fails.
pub fn try_kubectl(arguments: &[&str]) -> Result<String, String> {
    try_kubectl_with(arguments, "")
}

/// Runs `kubectl` with an input.
///
/// # Errors
/// What it says if it fails.
pub fn try_kubectl_with(arguments: &[&str], input: &str) -> Result<String, String> {
    let mut child = Command::new("kubectl")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| format!("cannot be run: {error}; `make e2e-full` puts it on the PATH"))?;
    child
        .stdin
        .take()
        .unwrap()
        .write_all(input.as_bytes())
        .map_err(|error| error.to_string())?;
    let output = child.wait_with_output().map_err(|error| error.to_string())?;
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    } else {
        Err(String::from_utf8_lossy(&output.stderr).trim().to_owned())
    }
}

/// An object, through the type that the operator itself uses; none if it is not there.
pub fn get<K: DeserializeOwned>(namespace: &str, kind: &str, name: &str) -> Option<K> {
    match try_kubectl(&[
        "get",
        "-n",
        namespace,
        kind,
        name,
        "-o",
        "json",
        "--ignore-not-found",
    ]) {
        Ok(json) if json.trim().is_empty() => None,
        Ok(json) => {
            Some(serde_json::from_str(&json).unwrap_or_else(|error| panic!("{kind} {name}: {error}: {json}")))
        }
        Err(error) => panic!("{kind} {name}: {error}"),
    }
}
