use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use millrace_testkit::wait_until;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, Runtime};

use crate::kubectl::{kubectl, kubectl_with};

/// A port of this machine that leads to one of a pod, also after the pod behind it was replaced: by a NodePort, of which
/// `kubectl port-forward` would cost several times the CPU, on a machine that has none to spare.
#[derive(Debug)]
pub struct Forward {
    port: u16,
    /// One thread for all connections: one for each would be woken for every message.
    _runtime: Runtime,
}

impl Forward {
    /// From a port of this machine to a port of the pod with a label `app`.
    pub fn start(namespace: &str, app: &str, local: u16, remote: u16) -> Self {
        let service = format!(
            "apiVersion: v1
kind: Service
metadata: {{name: {app}-outside}}
spec: {{type: NodePort, selector: {{app: {app}}}, ports: [{{port: {remote}}}]}}
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
        let to = SocketAddr::new(address, port.trim().parse().expect("a port"));
        wait_until(crate::SOON, &format!("a way to {app}"), || {
            std::net::TcpStream::connect(to).is_ok()
        });
        let mut runtime = Builder::new_multi_thread();
        let runtime = runtime.worker_threads(1).enable_io().build();
        let runtime = runtime.expect("a thread");
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, local));
        let listener = runtime.block_on(listener).expect("a free port");
        runtime.spawn(async move {
            while let Ok((from, _)) = listener.accept().await {
                // Where nobody listens now, the client is told so by the end of its connection.
                tokio::spawn(join(from, to));
            }
        });
        Self {
            port: local,
            _runtime: runtime,
        }
    }

    /// The port of this machine.
    pub fn port(&self) -> u16 {
        self.port
    }
}

/// Copies both ways until both have ended.
async fn join(mut from: TcpStream, to: SocketAddr) -> std::io::Result<()> {
    let mut to = TcpStream::connect(to).await?;
    for stream in [&from, &to] {
        stream.set_nodelay(true)?;
    }
    tokio::io::copy_bidirectional(&mut from, &mut to).await?;
    Ok(())
}
