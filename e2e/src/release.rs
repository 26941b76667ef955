use std::process::Command;

use crate::kubectl::{kubectl, try_kubectl};

/// The namespace of the release.
pub const SYSTEM: &str = "millrace-system";
/// The release that README's quick start installs.
const NAME: &str = "millrace";
const CHART: &str = "../charts/millrace";
const IMAGE: [&str; 4] = ["--set", "image.tag=local", "--set", "image.pullPolicy=Never"];
const OPERATOR: &str = "app.kubernetes.io/component=operator";

/// Runs `helm` in the release's namespace and returns what it prints; what it says is in the panic if it fails.
pub fn helm(arguments: &[&str]) -> String {
    try_helm(arguments).unwrap_or_else(|error| panic!("{error}"))
}

fn try_helm(arguments: &[&str]) -> Result<String, String> {
    let output = Command::new("helm")
        .args(["--namespace", SYSTEM])
        .args(arguments)
        .output()
        .map_err(|error| format!("helm cannot be run: {error}; `make e2e-full` puts it on the PATH"))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        return Ok(text);
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(format!("helm {}: {text}\n{said}", arguments.join(" ")))
}

/// The release that all tests use, to be changed. It is put back in the end, also if a test panics.
#[derive(Debug)]
pub struct Release(());

impl Release {
    /// Nothing is changed yet.
    pub fn to_be_changed() -> Self {
        Self(())
    }

    /// Installs a release, or upgrades it to the usual values and these.
    pub fn upgrade(&self, name: &str, values: &[&str]) {
        self.try_upgrade(name, values)
            .unwrap_or_else(|error| panic!("{error}"));
    }

    /// The same.
    ///
    /// # Errors
    /// What helm says against it.
    pub fn try_upgrade(&self, name: &str, values: &[&str]) -> Result<(), String> {
        upgrade(name, values)
    }

    /// Upgrades the usual release to the usual values.
    pub fn put_back(&self) {
        self.upgrade(NAME, &[]);
    }
}

impl Drop for Release {
    fn drop(&mut self) {
        let put_back = || {
            let releases = try_helm(&["list", "--short"])?;
            for other in releases.lines().filter(|release| *release != NAME) {
                try_helm(&["uninstall", other, "--wait"])?;
            }
            upgrade(NAME, &[])
        };
        settle(put_back());
    }
}

fn upgrade(name: &str, values: &[&str]) -> Result<(), String> {
    let chart = ["upgrade", "--install", name, CHART, "--wait"];
    let values: Vec<&str> = values.iter().flat_map(|value| ["--set", value]).collect();
    try_helm(&[&chart[..], &IMAGE, &values].concat()).map(drop)
}

/// Nobody operates. The operator comes back in the end, also if a test panics.
#[derive(Debug)]
pub struct OperatorAway(());

impl OperatorAway {
    /// Scales it down, and waits until it is gone.
    pub fn start() -> Self {
        let away = Self(());
        scale(0).unwrap_or_else(|error| panic!("{error}"));
        kubectl(&[
            "wait",
            "-n",
            SYSTEM,
            "--for=delete",
            "pod",
            "-l",
            OPERATOR,
            "--timeout=60s",
        ]);
        away
    }
}

impl Drop for OperatorAway {
    fn drop(&mut self) {
        let rollout = [
            "rollout",
            "status",
            "-n",
            SYSTEM,
            "deployment",
            "-l",
            OPERATOR,
            "--timeout=120s",
        ];
        settle(scale(1).and_then(|()| try_kubectl(&rollout).map(drop)));
    }
}

fn scale(replicas: u32) -> Result<(), String> {
    let replicas = format!("--replicas={replicas}");
    try_kubectl(&["scale", "-n", SYSTEM, "deployment", "-l", OPERATOR, &replicas]).map(drop)
}

/// A test that panics already has its reason.
fn settle(result: Result<(), String>) {
    match result {
        Err(error) if std::thread::panicking() => eprintln!("{error}"),
        result => result.unwrap_or_else(|error| panic!("{error}")),
    }
}
