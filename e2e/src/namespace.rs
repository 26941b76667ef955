use crate::kubectl::{kubectl, try_kubectl, try_kubectl_with};
use crate::release::SYSTEM;

/// Makes a namespace, unless it is there, and has Pod Security `restricted` enforced in it.
pub fn restrict(name: &str) {
    let manifest = format!(
        "apiVersion: v1
kind: Namespace
metadata: {{name: {name}, labels: {{pod-security.kubernetes.io/enforce: restricted}}}}
"
    );
    if let Err(error) = try_kubectl_with(&["apply", "-f", "-"], &manifest) {
        panic!("namespace {name}: {error}");
    }
}

/// A namespace in which Pod Security `restricted` is enforced. It is deleted in the end; if a test panics, what is in it
/// is printed first.
#[derive(Debug)]
pub struct Namespace {
    name: String,
}

impl Namespace {
    /// Makes it; what is left of an earlier one of the name is deleted first.
    pub fn create(name: &str) -> Self {
        kubectl(&[
            "delete",
            "namespace",
            name,
            "--ignore-not-found",
            "--timeout=120s",
        ]);
        restrict(name);
        Self {
            name: name.to_owned(),
        }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Applies manifests in it.
    pub fn apply(&self, manifests: &str) {
        if let Err(error) = self.try_apply(manifests) {
            panic!("kubectl apply: {error}\n{manifests}");
        }
    }

    /// Applies manifests in it.
    ///
    /// # Errors
    /// What the API server says against it.
    pub fn try_apply(&self, manifests: &str) -> Result<String, String> {
        try_kubectl_with(&["apply", "-n", &self.name, "-f", "-"], manifests)
    }

    /// Runs `kubectl` in it.
    pub fn kubectl(&self, arguments: &[&str]) -> String {
        kubectl(&[&["-n", &self.name], arguments].concat())
    }

    /// Names of all objects of a kind, as `kubectl get -o name` prints them.
    pub fn names(&self, kinds: &str, selector: &str) -> Vec<String> {
        let names = self.kubectl(&["get", kinds, "-l", selector, "-o", "name"]);
        names.lines().map(str::to_owned).collect()
    }

    fn print(&self) {
        let show = |arguments: &[&str]| {
            let arguments = [&["-n", &self.name], arguments].concat();
            let text = try_kubectl(&arguments).unwrap_or_else(|error| error);
            eprintln!("\n$ kubectl {}\n{text}", arguments.join(" "));
        };
        show(&[
            "get",
            "all,configmaps,mqttbrokers,kafkasinks,topicroutes",
            "-o",
            "wide",
        ]);
        show(&["get", "mqttbrokers,kafkasinks,topicroutes", "-o", "yaml"]);
        show(&["get", "events", "--sort-by=.metadata.creationTimestamp"]);
        show(&[
            "logs",
            "-l",
            "app.kubernetes.io/managed-by=millrace",
            "--tail=40",
            "--prefix",
        ]);
        let operator = [
            "logs",
            "-n",
            SYSTEM,
            "-l",
            "app.kubernetes.io/name=millrace",
            "--tail=60",
        ];
        eprintln!("\n{}", try_kubectl(&operator).unwrap_or_else(|error| error));
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.print();
        }
        // Routes first: in a namespace that goes their sessions would be left, and the broker would keep messages for them.
        let routes = [
            "delete",
            "topicroutes",
            "--all",
            "-n",
            &self.name,
            "--timeout=60s",
        ];
        let namespace = [
            "delete",
            "namespace",
            &self.name,
            "--ignore-not-found",
            "--wait=false",
        ];
        for command in [&routes[..], &namespace] {
            if let Err(error) = try_kubectl(command) {
                eprintln!("kubectl {}: {error}", command.join(" "));
            }
        }
    }
}
