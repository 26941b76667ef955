use std::io;
use std::net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use millrace_testkit::wait_until;

use crate::kubectl::{kubectl, kubectl_with};

/// A port of this machine that leads to one of a pod, also after the pod behind it was replaced: by a NodePort, of which
/// `kubectl port-forward` would cost several times the CPU, on a machine that has none to spare.
#[derive(Debug)]
pub struct Forward {
    port: u16,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
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
            TcpStream::connect(to).is_ok()
        });
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, local)).expect("a free port");
        let stop = Arc::new(AtomicBool::new(false));
        let thread = thread::spawn({
            let stop = Arc::clone(&stop);
            move || {
                for from in listener.incoming().map_while(Result::ok) {
                    if stop.load(Ordering::Acquire) {
                        return;
                    }
                    // Where nobody listens now, the client is told so by the end of its connection.
                    thread::spawn(move || join(&from, to).ok());
                }
            }
        });
        Self {
            port: local,
            stop,
            thread: Some(thread),
        }
    }

    /// The port of this machine.
    pub fn port(&self) -> u16 {
        self.port
    }
}

impl Drop for Forward {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        // It waits for a connection.
        TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).ok();
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}

/// Copies both ways until both have ended.
fn join(from: &TcpStream, to: SocketAddr) -> io::Result<()> {
    let to = TcpStream::connect(to)?;
    for stream in [from, &to] {
        stream.set_nodelay(true)?;
    }
    thread::scope(|scope| {
        scope.spawn(|| copy(from, &to));
        copy(&to, from);
    });
    Ok(())
}

/// Copies until the end, and passes that on.
fn copy(mut from: &TcpStream, mut to: &TcpStream) {
    // An end is an end, whatever the cause.
    io::copy(&mut from, &mut to).ok();
    to.shutdown(Shutdown::Write).ok();
    from.shutdown(Shutdown::Read).ok();
}
