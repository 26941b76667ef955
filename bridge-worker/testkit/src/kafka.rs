//! A real Apache Kafka: one node that is broker and controller (KRaft).

mod admin;
mod builder;
mod consume;

use crate::port::Port;
use crate::process::{Process, Usage};
use crate::proxy::Proxy;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tempfile::TempDir;

pub(crate) use admin::client;
pub use admin::{add_partitions, committed, partition_ends};
pub use builder::KafkaBuilder;
pub use consume::{Consumed, consume};
pub(crate) use consume::{from_beginning, in_place_of};

/// The version `scripts/test-deps.sh` fetches.
const VERSION: &str = "4.1.1";
const START_DEADLINE: Duration = Duration::from_secs(60);

/// A single-node Kafka on ports of the loopback address that it keeps over restarts. Topics are never created
/// automatically.
///
/// ```no_run
/// use millrace_testkit::Kafka;
///
/// let kafka = Kafka::shared(); // one for all tests of this binary that break nothing
/// let topic = kafka.unique_topic("orders", 6);
///
/// let mut kafka = Kafka::builder().with_proxy().start(); // one to break
/// kafka.create_topic("orders", 6, &[("max.message.bytes", "100000")]);
/// kafka.proxy().cut();
/// kafka.proxy().pass();
/// kafka.kill();
/// kafka.start();
/// ```
#[derive(Debug)]
pub struct Kafka {
    direct: Port,
    /// The listener behind the proxy, and the proxy whose address it advertises.
    proxied: Option<(Port, Proxy)>,
    /// Those that were added, by name.
    listeners: Vec<(String, Port)>,
    jvm: Vec<String>,
    folder: Arc<TempDir>,
    process: Option<Process>,
    /// Reserved for the controller.
    _controller: Port,
}

impl Kafka {
    /// A set-up to change.
    pub fn builder() -> KafkaBuilder {
        KafkaBuilder::default()
    }

    /// The Kafka that all tests of this process share, started by the first that asks. It ends with the process.
    #[track_caller]
    pub fn shared() -> &'static Kafka {
        static SHARED: OnceLock<Kafka> = OnceLock::new();
        SHARED.get_or_init(|| Kafka::builder().start())
    }

    /// `bootstrap.servers` for a client that no fault of the proxy reaches.
    pub fn bootstrap(&self) -> String {
        self.direct.address().to_string()
    }

    /// `bootstrap.servers` for a client whose every connection goes through [`Kafka::proxy`].
    ///
    /// # Panics
    /// Without [`KafkaBuilder::with_proxy`].
    #[track_caller]
    pub fn bootstrap_through_proxy(&self) -> String {
        self.proxy().address().to_string()
    }

    /// `bootstrap.servers` for a client of a listener that was added.
    ///
    /// # Panics
    /// When there is none of that name.
    #[track_caller]
    pub fn listener(&self, name: &str) -> String {
        let found = self.listeners.iter().find(|(listener, _)| listener == name);
        let (_, port) = found.unwrap_or_else(|| panic!("this Kafka was built without listener {name}"));
        port.address().to_string()
    }

    /// Runs one of Kafka's own tools, by the name of its class, and returns what it printed.
    ///
    /// # Panics
    /// When it fails.
    #[track_caller]
    pub fn tool(&self, class: &str, arguments: &[&str]) -> String {
        let mut command = java(&self.jvm);
        command.arg(class);
        command
            .args(["--bootstrap-server", &self.bootstrap()])
            .args(arguments);
        let mut process = Process::spawn("kafka-tool", command);
        let status = process.wait(START_DEADLINE);
        let (out, error) = (process.stdout(), process.stderr());
        assert!(status.success(), "{class} {arguments:?} failed:\n{out}{error}");
        out
    }

    /// The network in front of [`Kafka::bootstrap_through_proxy`].
    ///
    /// # Panics
    /// Without [`KafkaBuilder::with_proxy`].
    #[track_caller]
    pub fn proxy(&self) -> &Proxy {
        &self
            .proxied
            .as_ref()
            .expect("this Kafka was built without a proxy")
            .1
    }

    /// Creates a topic with one replica.
    ///
    /// # Panics
    /// When Kafka refuses, for instance because the topic exists.
    #[track_caller]
    pub fn create_topic(&self, name: &str, partitions: i32, config: &[(&str, &str)]) {
        admin::create_topic(&self.bootstrap(), name, partitions, config);
    }

    /// Creates a topic whose name begins with `prefix` and that no other test uses, and returns the name.
    #[track_caller]
    pub fn unique_topic(&self, prefix: &str, partitions: i32) -> String {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!(
            "{prefix}-{}-{}",
            std::process::id(),
            NEXT.fetch_add(1, Ordering::Relaxed)
        );
        self.create_topic(&name, partitions, &[]);
        name
    }

    /// Deletes a topic.
    ///
    /// # Panics
    /// When Kafka refuses.
    #[track_caller]
    pub fn delete_topic(&self, name: &str) {
        admin::delete_topic(&self.bootstrap(), name);
    }

    /// Records in a topic: the sum of the offsets of its partitions' ends.
    ///
    /// # Panics
    /// When Kafka does not answer within ten seconds.
    #[track_caller]
    pub fn end_offsets(&self, topic: &str) -> u64 {
        admin::end_offsets(&self.bootstrap(), topic)
    }

    /// The offset of the end of a partition.
    ///
    /// # Panics
    /// When Kafka does not answer within ten seconds.
    #[track_caller]
    pub fn end_offset(&self, topic: &str, partition: i32) -> u64 {
        admin::end_offset(&self.bootstrap(), topic, partition)
    }

    /// Starts it again after it was stopped, and waits until it answers.
    ///
    /// # Panics
    /// When it is running, or does not answer within a minute.
    #[track_caller]
    pub fn start(&mut self) {
        assert!(self.process.is_none(), "Kafka is already running");
        let mut command = java(&self.jvm);
        command
            .arg("kafka.Kafka")
            .arg(self.folder.path().join("server.properties"));
        let mut process = Process::spawn_in("kafka", command, &self.folder);
        let bootstrap = self.bootstrap();
        process.wait_ready(START_DEADLINE, || admin::is_ready(&bootstrap));
        self.process = Some(process);
    }

    /// Stops it in order (SIGTERM) and waits for its end.
    ///
    /// # Panics
    /// When it is not running, or does not end within a minute.
    #[track_caller]
    pub fn terminate(&mut self) {
        let mut process = self.process.take().expect("Kafka is not running");
        process.terminate();
        process.wait(Duration::from_secs(60));
    }

    /// Ends it at once (SIGKILL). What it has acknowledged is in the page cache and survives.
    ///
    /// # Panics
    /// When it is not running.
    #[track_caller]
    pub fn kill(&mut self) {
        self.process.take().expect("Kafka is not running").kill();
    }

    /// Freezes it (SIGSTOP): connections stay open, nothing is answered.
    pub fn pause(&mut self) {
        self.process.as_mut().expect("Kafka is not running").pause();
    }

    /// Lets it go on after [`Kafka::pause`].
    pub fn resume(&mut self) {
        self.process.as_mut().expect("Kafka is not running").resume();
    }

    /// CPU time and memory used since it was last started; `None` when it is not running.
    pub fn usage(&self) -> Option<Usage> {
        self.process.as_ref()?.usage()
    }

    /// What it has logged, over all its starts.
    pub fn log(&self) -> String {
        let bytes = std::fs::read(self.folder.path().join("kafka.out")).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

/// A `java` command with Kafka's jars.
#[track_caller]
fn java(options: &[String]) -> Command {
    let mut command = Command::new("java");
    command
        .args([
            "-Xmx512m",
            "-XX:+UseSerialGC",
            "-XX:TieredStopAtLevel=1",
            "-Xshare:auto",
        ])
        .args(options);
    command.arg("-cp").arg(jars().join("*"));
    command
}

/// The folder `scripts/test-deps.sh` fills.
#[track_caller]
fn jars() -> PathBuf {
    let cache = std::env::var_os("MILLRACE_TEST_CACHE")
        .map(PathBuf::from)
        .unwrap_or_else(|| {
            let home = std::env::var_os("HOME")
                .map(PathBuf::from)
                .unwrap_or_else(|| "/root".into());
            home.join(".cache/millrace")
        });
    let jars = cache.join(format!("kafka-{VERSION}"));
    assert!(
        jars.join(".complete").exists(),
        "Kafka's jars are not in {}: run make test-deps",
        jars.display()
    );
    jars
}
