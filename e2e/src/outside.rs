use std::fs;
use std::net::{IpAddr, SocketAddr, TcpStream};

use millrace_testkit::wait_until;

use crate::SOON;
use crate::kubectl::{kubectl, kubectl_with};

/// The address outside the cluster of a port of the pods with a label `app`, which also leads to those that replace them: a
/// NodePort, because `kubectl port-forward` would copy all that passes, on a machine that has no CPU to spare.
pub(crate) fn node_port(namespace: &str, app: &str, port: u16) -> SocketAddr {
    let service = format!(
        "apiVersion: v1
kind: Service
metadata: {{name: {app}-outside}}
spec: {{type: NodePort, selector: {{app: {app}}}, ports: [{{port: {port}}}]}}
"
    );
    kubectl_with(&["apply", "-n", namespace, "-f", "-"], &service);
    let service = format!("service/{app}-outside");
    let port = "jsonpath={.spec.ports[0].nodePort}";
    let port = kubectl(&["get", "-n", namespace, &service, "-o", port]);
    // The node that tests do not stop.
    let node = "node-role.kubernetes.io/control-plane";
    let address = "jsonpath={.items[0].status.addresses[?(@.type=='InternalIP')].address}";
    let address = kubectl(&["get", "nodes", "-l", node, "-o", address]);
    let address: IpAddr = address.trim().parse().expect("the address of a node");
    SocketAddr::new(address, port.trim().parse().expect("a port"))
}

/// Waits until somebody listens there.
pub(crate) fn wait_listens(address: SocketAddr) {
    wait_until(SOON, &format!("somebody to listen at {address}"), || {
        TcpStream::connect(address).is_ok()
    });
}

/// The manifests of a folder, whose Kafka tells clients outside the cluster to come to that address.
pub(crate) fn manifests_with(folder: &str, kafka: SocketAddr) -> String {
    let files = fs::read_dir(folder).expect("the folder of manifests");
    let paths = files.map(|file| file.expect("a file").path());
    let texts = paths.filter(|path| path.extension().is_some_and(|extension| extension == "yaml"));
    let texts: Vec<String> = texts
        .map(|path| fs::read_to_string(path).expect("a manifest"))
        .collect();
    texts.join("---\n").replace("127.0.0.1:9094", &kafka.to_string())
}
