//! `millrace check-route` with a route that `millrace run` runs, and without one.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Output, Stdio};

/// Killed if the test ends before it does.
struct Running(Option<Child>);

impl Running {
    fn start(args: &[&str]) -> Self {
        let child = Command::new(env!("CARGO_BIN_EXE_millrace"))
            .args(args)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("millrace runs");
        Self(Some(child))
    }

    fn end(mut self) -> Output {
        let child = self.0.take().expect("it runs");
        child.wait_with_output().expect("it ends")
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            child.kill().ok();
            child.wait().ok();
        }
    }
}

fn check_route(timeout: &str) -> Running {
    let args = [
        "check-route",
        "--mqtt=127.0.0.1:0",
        "--kafka=127.0.0.1:0",
        "--timeout",
        timeout,
    ];
    Running::start(&args)
}

#[test]
fn a_message_through_a_route_is_success() {
    let mut check = check_route("60s");
    let child = check.0.as_mut().expect("it runs");
    let mut lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
    let listening = lines.next().expect("a line").expect("text");
    let at = |what: &str| {
        let found = listening.split(' ').find_map(|word| word.strip_prefix(what));
        found.unwrap_or_else(|| panic!("{listening}")).to_owned()
    };
    let dir = tempfile::tempdir().expect("a folder");
    let manifests = dir.path().join("route.yaml");
    let text = include_str!("data/check-route.yaml")
        .replace("MQTT", &at("mqtt="))
        .replace("KAFKA", &at("advertised="));
    std::fs::write(&manifests, text).expect("written");
    let run = Running::start(&["run", "-f", manifests.to_str().expect("a path")]);

    let said: Vec<String> = lines.map_while(Result::ok).collect();
    let output = check.end();
    drop(run);
    assert_eq!(output.status.code(), Some(0), "{said:?}");
    assert_eq!(said[0], "a route has subscribed");
    assert!(
        said[1].contains("went from MQTT topic `millrace/test` to Kafka topic `millrace-test`"),
        "{said:?}"
    );
}

#[test]
fn without_a_route_it_fails_and_says_where_to_look() {
    let output = check_route("1s").end();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert_eq!(
        said,
        "error: in 1 s nobody subscribed to `millrace/test`: see the conditions of the route and the log of the operator\n"
    );
}
