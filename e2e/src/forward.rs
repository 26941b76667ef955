use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use millrace_testkit::wait_until;

/// A port of this machine that leads to one in the cluster, also after the pod behind it was replaced.
#[derive(Debug)]
pub struct Forward {
    port: u16,
    stop: Arc<AtomicBool>,
    child: Arc<Mutex<Option<Child>>>,
    supervisor: Option<JoinHandle<()>>,
}

impl Forward {
    /// From a port of this machine to a port of an object: `service/mosquitto`, `pod/kafka-0`.
    pub fn start(namespace: &str, object: &str, local: u16, remote: u16) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let child = Arc::new(Mutex::new(None));
        let is_up = Arc::new(AtomicBool::new(false));
        let supervisor = {
            let (stop, child, is_up) = (Arc::clone(&stop), Arc::clone(&child), Arc::clone(&is_up));
            let arguments = [
                "port-forward",
                "-n",
                namespace,
                object,
                &format!("{local}:{remote}"),
            ]
            .map(str::to_owned);
            std::thread::spawn(move || {
                while !stop.load(Ordering::Acquire) {
                    let mut command = Command::new("kubectl");
                    command
                        .args(&arguments)
                        .stdout(Stdio::piped())
                        .stderr(Stdio::null())
                        .stdin(Stdio::null());
                    let Ok(mut running) = command.spawn() else { return };
                    let lines = BufReader::new(running.stdout.take().unwrap()).lines();
                    *child.lock().unwrap() = Some(running);
                    // One line for each address when it is up; nothing more until it ends.
                    for _ in lines.map_while(Result::ok) {
                        is_up.store(true, Ordering::Release);
                    }
                    is_up.store(false, Ordering::Release);
                    if let Some(mut ended) = child.lock().unwrap().take() {
                        ended.kill().ok();
                        ended.wait().ok();
                    }
                    std::thread::sleep(Duration::from_millis(200));
                }
            })
        };
        let forward = Self {
            port: local,
            stop,
            child,
            supervisor: Some(supervisor),
        };
        wait_until(crate::SOON, &format!("a way to {object}"), || {
            is_up.load(Ordering::Acquire)
        });
        forward
    }

    /// The port of this machine.
    pub fn port(&self) -> u16 {
        self.port
    }
}

impl Drop for Forward {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        if let Some(child) = self.child.lock().unwrap().as_mut() {
            child.kill().ok();
        }
        if let Some(supervisor) = self.supervisor.take() {
            supervisor.join().ok();
        }
    }
}
