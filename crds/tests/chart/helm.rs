use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;

use serde::Deserialize;
use serde_json::Value;

/// The chart's folder.
pub(crate) fn chart() -> PathBuf {
    PathBuf::from("../charts/millrace")
}

/// Where helm is. `None` if there is none: the test is to return.
pub(crate) fn helm() -> Option<&'static Path> {
    static HELM: OnceLock<Option<PathBuf>> = OnceLock::new();
    let found = HELM.get_or_init(find).as_deref();
    if found.is_none() {
        let ci = std::env::var_os("CI").is_some_and(|ci| !ci.is_empty() && ci != "false");
        assert!(!ci, "there is no helm: run scripts/test-deps.sh");
        // Not by a macro: the test runner would swallow it.
        let said = "SKIPPED: the chart is not tested, because there is no helm: run scripts/test-deps.sh\n";
        std::io::stderr().write_all(said.as_bytes()).ok();
    }
    found
}

fn find() -> Option<PathBuf> {
    if let Some(named) = std::env::var_os("MILLRACE_HELM") {
        return Some(named.into());
    }
    let cache = std::env::var_os("MILLRACE_TEST_CACHE").map(PathBuf::from);
    let cache = cache.or_else(|| Some(Path::new(&std::env::var_os("HOME")?).join(".cache/millrace")));
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(cache.map(|cache| cache.join("kind/bin")))
        .map(|folder| folder.join("helm"))
        .find(|helm| helm.is_file())
}

/// Runs helm with values on standard input (`-f -`).
pub(crate) fn run(args: &[&str], values: &str) -> Option<Output> {
    let mut child = Command::new(helm()?)
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(values.as_bytes()).unwrap();
    Some(child.wait_with_output().unwrap())
}

/// The oldest Kubernetes that the chart is for.
pub(crate) const OLDEST: &str = "1.31.0";
/// The release's namespace.
pub(crate) const NAMESPACE: &str = "system";

/// What `helm template millrace` says with these values, and further arguments.
pub(crate) fn template(
    folder: &Path,
    release: &str,
    values: &str,
    more: &[&str],
) -> Option<Result<String, String>> {
    let folder = folder.to_str().unwrap();
    let args = [&["template", release, folder, "-n", NAMESPACE, "-f", "-"], more].concat();
    let output = run(&args, values)?;
    Some(if output.status.success() {
        Ok(String::from_utf8(output.stdout).unwrap())
    } else {
        Err(String::from_utf8(output.stderr).unwrap())
    })
}

/// The objects of a release.
pub(crate) struct Objects(Vec<Value>);

/// Renders the chart with these values (YAML).
pub(crate) fn render(values: &str) -> Option<Objects> {
    render_as("millrace", values, &["--kube-version", OLDEST])
}

/// The same, for a release of another name and with further arguments.
pub(crate) fn render_as(release: &str, values: &str, more: &[&str]) -> Option<Objects> {
    render_in(&chart(), release, values, more)
}

/// The same, of another folder.
pub(crate) fn render_in(folder: &Path, release: &str, values: &str, more: &[&str]) -> Option<Objects> {
    let text = template(folder, release, values, more)?.unwrap();
    let documents =
        serde_yaml::Deserializer::from_str(&text).map(|document| Value::deserialize(document).unwrap());
    Some(Objects(documents.filter(|object| !object.is_null()).collect()))
}

/// Why the chart cannot be rendered with these values.
pub(crate) fn refusal(values: &str) -> Option<String> {
    let rendered = template(&chart(), "millrace", values, &["--kube-version", OLDEST])?;
    Some(rendered.err().unwrap_or_default())
}

impl Objects {
    pub(crate) fn all(&self) -> impl Iterator<Item = &Value> {
        self.0.iter()
    }

    pub(crate) fn of_kind<'o>(&'o self, kind: &str) -> Vec<&'o Value> {
        self.all().filter(|object| object["kind"] == kind).collect()
    }

    /// The only object of a kind and name.
    pub(crate) fn one(&self, kind: &str, name: &str) -> &Value {
        let found = self.of_kind(kind);
        let named: Vec<_> = found
            .iter()
            .filter(|object| object["metadata"]["name"] == name)
            .collect();
        assert_eq!(named.len(), 1, "{kind} {name} among {:?}", self.titles());
        named[0]
    }

    pub(crate) fn operator(&self) -> &Value {
        self.one("Deployment", "millrace-operator")
    }

    /// `kind namespace/name` of each.
    pub(crate) fn titles(&self) -> Vec<String> {
        self.all().map(title).collect()
    }
}

pub(crate) fn title(object: &Value) -> String {
    let metadata = &object["metadata"];
    let namespace = metadata["namespace"].as_str().unwrap_or("-");
    format!(
        "{} {namespace}/{}",
        text(&object["kind"]),
        text(&metadata["name"])
    )
}

pub(crate) fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("{value} is not a text"))
}

/// The specification of the pods that an object makes, if it makes any.
pub(crate) fn pod_spec(object: &Value) -> Option<&Value> {
    match text(&object["kind"]) {
        "Pod" => Some(&object["spec"]),
        "Deployment" | "Job" => Some(&object["spec"]["template"]["spec"]),
        _ => None,
    }
}

/// The arguments of the only container of an object's pods.
pub(crate) fn args(object: &Value) -> Vec<&str> {
    let containers = pod_spec(object).unwrap()["containers"].as_array().unwrap();
    assert_eq!(containers.len(), 1);
    containers[0]["args"]
        .as_array()
        .unwrap()
        .iter()
        .map(text)
        .collect()
}

/// An object's annotation.
pub(crate) fn annotation<'o>(object: &'o Value, name: &str) -> Option<&'o str> {
    object["metadata"]["annotations"][name].as_str()
}

/// A copy of the chart, for tests that change it.
pub(crate) fn copy() -> tempfile::TempDir {
    fn copy(from: &Path, to: &Path) {
        std::fs::create_dir_all(to).unwrap();
        for entry in std::fs::read_dir(from).unwrap() {
            let entry = entry.unwrap();
            let target = to.join(entry.file_name());
            if entry.file_type().unwrap().is_dir() {
                copy(&entry.path(), &target);
            } else {
                std::fs::copy(entry.path(), target).unwrap();
            }
        }
    }
    let folder = tempfile::tempdir().unwrap();
    copy(&chart(), folder.path());
    folder
}
