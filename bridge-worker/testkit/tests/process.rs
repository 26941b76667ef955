//! What is left of a test that dies, and what is printed of one that fails.
//!
//! The tests below run this same binary again, as the test that dies or fails.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use millrace_testkit::{Mosquitto, Process, usage, wait_until};
use std::process::Command;
use std::time::Duration;

const DEADLINE: Duration = Duration::from_secs(20);
const ROLE: &str = "MILLRACE_TESTKIT_ROLE";

fn again(role: &str) -> Process {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", "in_the_other_process", "--nocapture"])
        .env(ROLE, role)
        .env_remove("RUST_BACKTRACE");
    Process::spawn(role, command)
}

#[test]
fn in_the_other_process() {
    match std::env::var(ROLE).as_deref() {
        Ok("dies") => {
            let mut command = Command::new("sleep");
            command.arg("600");
            let sleeper = Process::spawn("sleeper", command);
            println!("pid={};", sleeper.pid());
            // Until it is killed; the sleeper ends late.
            { sleeper }.wait(Duration::from_secs(600));
        }
        Ok("fails") => {
            let _mosquitto = Mosquitto::builder().start();
            panic!("on purpose");
        }
        _ => {}
    }
}

#[test]
fn nothing_outlives_a_killed_test() {
    let mut test = again("dies");
    let sleeper = || {
        test.stdout()
            .split_once("pid=")?
            .1
            .split_once(';')?
            .0
            .parse::<u32>()
            .ok()
    };
    wait_until(DEADLINE, "the sleeper", || sleeper().is_some());
    let sleeper = sleeper().unwrap();
    assert!(usage(sleeper).is_some());
    test.kill();
    wait_until(DEADLINE, "the sleeper to end", || usage(sleeper).is_none());
}

#[test]
fn a_failed_test_shows_the_logs_of_its_parts() {
    let mut test = again("fails");
    assert!(!test.wait(DEADLINE).success());
    let printed = test.stderr();
    assert!(printed.contains("on purpose"), "{printed}");
    assert!(
        printed
            .lines()
            .any(|line| line.starts_with("mosquitto err | ") && line.contains("running")),
        "{printed}"
    );
}
