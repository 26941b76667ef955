//! A real mosquitto.

use crate::forks::spawn;
use crate::port::Port;
use crate::process::{Process, Usage, temp_folder};
use std::fmt::Write;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;

/// How a [`Mosquitto`] is set up. By default it keeps nothing over a restart, admits everybody, and limits neither
/// the messages in flight nor those queued: with mosquitto's own defaults (20 and 1,000) it loses messages silently.
#[derive(Clone, Debug)]
pub struct MosquittoBuilder {
    program: PathBuf,
    persistence: bool,
    autosave_interval: u32,
    max_inflight: u32,
    max_queued: u32,
    users: Vec<(String, String)>,
    extra: Vec<String>,
    listeners: Vec<Vec<String>>,
}

impl MosquittoBuilder {
    /// Another mosquitto than the one that is installed.
    pub fn program(mut self, path: PathBuf) -> Self {
        self.program = path;
        self
    }

    /// Keeps sessions and messages over a restart by [`Mosquitto::terminate`]. A [`Mosquitto::kill`] loses what came
    /// since the last save, see [`MosquittoBuilder::autosave_interval`].
    pub fn persistence(mut self, on: bool) -> Self {
        self.persistence = on;
        self
    }

    /// Seconds between two saves; mosquitto's default is 1,800.
    pub fn autosave_interval(mut self, seconds: u32) -> Self {
        self.autosave_interval = seconds;
        self
    }

    /// `max_inflight_messages`; 0 is no limit.
    pub fn max_inflight(mut self, messages: u32) -> Self {
        self.max_inflight = messages;
        self
    }

    /// `max_queued_messages` of a session; 0 is no limit.
    pub fn max_queued(mut self, messages: u32) -> Self {
        self.max_queued = messages;
        self
    }

    /// Admits only the users named by this, each with a password.
    pub fn user(mut self, name: &str, password: &str) -> Self {
        self.users.push((name.into(), password.into()));
        self
    }

    /// A further line of `mosquitto.conf`.
    pub fn config(mut self, line: &str) -> Self {
        self.extra.push(line.into());
        self
    }

    /// A further listener on a port of its own, with its own lines of `mosquitto.conf`: certificates, users, a protocol. See
    /// [`Mosquitto::listener`].
    pub fn listener(mut self, lines: &[String]) -> Self {
        self.listeners.push(lines.to_vec());
        self
    }

    /// Starts it and waits until it takes connections.
    ///
    /// # Panics
    /// When mosquitto is not installed or does not start.
    #[track_caller]
    pub fn start(self) -> Mosquitto {
        let port = Port::free();
        let folder = temp_folder("mosquitto");
        let listeners: Vec<Port> = self.listeners.iter().map(|_| Port::free()).collect();
        std::fs::write(
            folder.path().join("mosquitto.conf"),
            self.render(&port, &listeners, folder.path()),
        )
        .expect("writing mosquitto.conf");
        for (index, (name, password)) in self.users.iter().enumerate() {
            set_password(&folder.path().join("passwords"), index == 0, name, password);
        }
        let mut mosquitto = Mosquitto {
            program: self.program,
            port,
            listeners,
            folder,
            process: None,
        };
        mosquitto.start();
        mosquitto
    }

    fn render(&self, port: &Port, listeners: &[Port], folder: &Path) -> String {
        let mut conf = String::new();
        let mut line = |key: &str, value: &dyn std::fmt::Display| {
            writeln!(conf, "{key} {value}").expect("writing to a string");
        };
        line("per_listener_settings", &!listeners.is_empty());
        line("listener", &format_args!("{} 127.0.0.1", port.number()));
        line("allow_anonymous", &self.users.is_empty());
        if !self.users.is_empty() {
            line("password_file", &folder.join("passwords").display());
        }
        line("persistence", &self.persistence);
        line("persistence_location", &format_args!("{}/", folder.display()));
        line("autosave_interval", &self.autosave_interval);
        line("max_inflight_messages", &self.max_inflight);
        line("max_queued_messages", &self.max_queued);
        line("set_tcp_nodelay", &true);
        line("log_dest", &"stderr");
        // Started by root it would become the user `mosquitto`, who may not write to the temporary folder.
        line("user", &"root");
        for extra in &self.extra {
            conf += extra;
            conf.push('\n');
        }
        for (port, lines) in listeners.iter().zip(&self.listeners) {
            writeln!(conf, "listener {} 127.0.0.1", port.number()).expect("writing to a string");
            for line in lines {
                conf += line;
                conf.push('\n');
            }
        }
        conf
    }
}

/// A mosquitto on a port of the loopback address that it keeps over restarts.
///
/// ```no_run
/// use millrace_testkit::Mosquitto;
///
/// let mut mosquitto = Mosquitto::builder().persistence(true).user("plant", "secret").start();
/// let url = format!("mqtt://127.0.0.1:{}", mosquitto.port());
/// mosquitto.terminate(); // saves
/// mosquitto.start();
/// mosquitto.kill(); // forgets
/// mosquitto.start();
/// ```
#[derive(Debug)]
pub struct Mosquitto {
    program: PathBuf,
    port: Port,
    listeners: Vec<Port>,
    folder: Arc<TempDir>,
    process: Option<Process>,
}

impl Mosquitto {
    /// A set-up to change; see [`MosquittoBuilder`] for the defaults.
    pub fn builder() -> MosquittoBuilder {
        let installed = Path::new("/usr/sbin/mosquitto");
        let program = if installed.exists() {
            installed
        } else {
            Path::new("mosquitto")
        };
        MosquittoBuilder {
            program: program.into(),
            persistence: false,
            autosave_interval: 1_800,
            max_inflight: 0,
            max_queued: 0,
            users: Vec::new(),
            extra: Vec::new(),
            listeners: Vec::new(),
        }
    }

    /// Writes a password file, for a listener of its own.
    ///
    /// # Panics
    /// When `mosquitto_passwd` fails.
    #[track_caller]
    pub fn write_passwords(path: &Path, users: &[(&str, &str)]) {
        for (index, (name, password)) in users.iter().enumerate() {
            set_password(path, index == 0, name, password);
        }
    }

    /// The port it listens on.
    pub fn port(&self) -> u16 {
        self.port.number()
    }

    /// The port of the listener that was added in that place, from 0.
    pub fn listener(&self, index: usize) -> u16 {
        self.listeners[index].number()
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.port.address()
    }

    /// Starts it again after it was stopped.
    ///
    /// # Panics
    /// When it is running, or does not take connections within ten seconds.
    #[track_caller]
    pub fn start(&mut self) {
        assert!(self.process.is_none(), "mosquitto is already running");
        let mut command = Command::new(&self.program);
        command.arg("-c").arg(self.folder.path().join("mosquitto.conf"));
        let mut process = Process::spawn_in("mosquitto", command, &self.folder);
        let address = self.address();
        process.wait_ready(Duration::from_secs(10), || TcpStream::connect(address).is_ok());
        self.process = Some(process);
    }

    /// Stops it in order (SIGTERM): with persistence, it saves first.
    ///
    /// # Panics
    /// When it is not running, or does not end within thirty seconds.
    #[track_caller]
    pub fn terminate(&mut self) {
        let mut process = self.process.take().expect("mosquitto is not running");
        process.terminate();
        process.wait(Duration::from_secs(30));
    }

    /// Ends it at once (SIGKILL).
    ///
    /// # Panics
    /// When it is not running.
    #[track_caller]
    pub fn kill(&mut self) {
        self.process.take().expect("mosquitto is not running").kill();
    }

    /// [`Mosquitto::terminate`], then [`Mosquitto::start`].
    #[track_caller]
    pub fn restart(&mut self) {
        self.terminate();
        self.start();
    }

    /// Freezes it (SIGSTOP): connections stay open, nothing moves.
    pub fn pause(&mut self) {
        self.process.as_mut().expect("mosquitto is not running").pause();
    }

    /// Lets it go on after [`Mosquitto::pause`].
    pub fn resume(&mut self) {
        self.process.as_mut().expect("mosquitto is not running").resume();
    }

    /// Reads its certificates, users and access rules again (SIGHUP).
    pub fn reload(&mut self) {
        self.process.as_mut().expect("mosquitto is not running").hangup();
    }

    /// Admits a user, or gives one another password, while it runs. It then ends connections whose password is wrong.
    ///
    /// # Panics
    /// When it is not running, or was started without users.
    #[track_caller]
    pub fn set_user(&mut self, name: &str, password: &str) {
        set_password(&self.folder.path().join("passwords"), false, name, password);
        self.process.as_mut().expect("mosquitto is not running").hangup();
    }

    /// CPU time and memory used since it was last started; `None` when it is not running.
    pub fn usage(&self) -> Option<Usage> {
        self.process.as_ref()?.usage()
    }

    /// What it has logged, over all its starts.
    pub fn log(&self) -> String {
        let bytes = std::fs::read(self.folder.path().join("mosquitto.err")).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

/// Puts a user into a password file.
#[track_caller]
fn set_password(file: &Path, create: bool, name: &str, password: &str) {
    let mut command = Command::new("mosquitto_passwd");
    command.arg("-b").args(create.then_some("-c")).arg(file);
    let done = spawn(command.args([name, password])).and_then(|mut child| child.wait());
    assert!(
        done.is_ok_and(|status| status.success()),
        "mosquitto_passwd failed; run make test-deps"
    );
}
