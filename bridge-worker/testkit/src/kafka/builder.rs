//! How a Kafka is set up.

use super::{Kafka, java};
use crate::port::Port;
use crate::process::{Process, temp_folder};
use crate::proxy::Proxy;
use std::fmt::Write;
use std::path::Path;
use std::time::Duration;

/// Log4j 2: warnings, and what the broker says about its own start and stop.
const LOG_CONFIG: &str = r#"<Configuration status="error">
  <Appenders><Console name="out"><PatternLayout pattern="%d{HH:mm:ss,SSS} %-5p %m (%c{1})%n%throwable"/></Console></Appenders>
  <Loggers>
    <Logger name="kafka.server.KafkaRaftServer" level="info"/>
    <Logger name="kafka.server.BrokerServer" level="info"/>
    <Root level="warn"><AppenderRef ref="out"/></Root>
  </Loggers>
</Configuration>
"#;

/// How a [`Kafka`] is set up.
#[derive(Clone, Debug, Default)]
pub struct KafkaBuilder {
    proxy: bool,
    properties: Vec<(String, String)>,
    jvm: Vec<String>,
    listeners: Vec<(String, String)>,
    scram: Vec<String>,
}

impl KafkaBuilder {
    /// Adds a second listener that is reached through a [`Proxy`], and advertises the proxy's address there: every
    /// connection of a client that starts at [`Kafka::bootstrap_through_proxy`] goes through it.
    pub fn with_proxy(mut self) -> Self {
        self.proxy = true;
        self
    }

    /// A setting of `server.properties`.
    pub fn property(mut self, name: &str, value: &str) -> Self {
        self.properties.push((name.into(), value.into()));
        self
    }

    /// A further listener, on a port of its own, that speaks `SSL`, `SASL_SSL` or `SASL_PLAINTEXT`. Its settings are
    /// properties that begin with `listener.name.<name>.`; see [`Kafka::listener`].
    pub fn listener(mut self, name: &str, protocol: &str) -> Self {
        self.listeners.push((name.into(), protocol.into()));
        self
    }

    /// A listener whose clients show tokens that nobody needs to have signed, and another before one expires.
    pub fn unsigned_tokens(self, name: &str) -> Self {
        const LOGIN: &str = "org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule required \
                             unsecuredLoginStringClaim_sub=\"kafka\";";
        let prefix = format!("listener.name.{}", name.to_lowercase());
        self.listener(name, "SASL_SSL")
            .property(&format!("{prefix}.sasl.enabled.mechanisms"), "OAUTHBEARER")
            .property(&format!("{prefix}.oauthbearer.sasl.jaas.config"), LOGIN)
            .property(
                &format!("{prefix}.oauthbearer.connections.max.reauth.ms"),
                "3600000",
            )
    }

    /// A user with a password that is proved by `SCRAM-SHA-256` or `SCRAM-SHA-512`.
    pub fn scram(mut self, mechanism: &str, user: &str, password: &str) -> Self {
        self.scram
            .push(format!("{mechanism}=[name={user},password={password}]"));
        self
    }

    /// An option of the JVM. By default it has 512 MiB and compiles with C1 only, which starts fastest; a benchmark
    /// wants `-XX:TieredStopAtLevel=4`.
    pub fn jvm(mut self, option: &str) -> Self {
        self.jvm.push(option.into());
        self
    }

    /// Formats its storage, starts it and waits until it answers.
    ///
    /// # Panics
    /// When the jars are missing (run `make test-deps`), or Kafka does not start.
    #[track_caller]
    pub fn start(self) -> Kafka {
        let folder = temp_folder("kafka");
        let (direct, controller) = (Port::free(), Port::free());
        let proxied = self.proxy.then(|| {
            let port = Port::free();
            let proxy = Proxy::to(port.address());
            (port, proxy)
        });
        let more: Vec<(String, Port)> = self
            .listeners
            .iter()
            .map(|(name, _)| (name.clone(), Port::free()))
            .collect();
        let properties = folder.path().join("server.properties");
        let listeners = Listeners {
            direct: direct.number(),
            controller: controller.number(),
            proxied: proxied
                .as_ref()
                .map(|(port, proxy)| (port.number(), proxy.port())),
            more: self
                .listeners
                .iter()
                .zip(&more)
                .map(|((name, protocol), (_, port))| (name.clone(), protocol.clone(), port.number()))
                .collect(),
        };
        std::fs::write(&properties, self.render(&listeners, folder.path()))
            .expect("writing server.properties");
        let log_config = folder.path().join("log4j2.xml");
        std::fs::write(&log_config, LOG_CONFIG).expect("writing log4j2.xml");
        let mut jvm = vec![format!("-Dlog4j2.configurationFile={}", log_config.display())];
        jvm.extend(self.jvm.iter().cloned());

        let mut format = java(&jvm);
        format.args([
            "kafka.tools.StorageTool",
            "format",
            "--standalone",
            "-t",
            "bWlsbHJhY2UtdGVzdHMtMQ",
            "-c",
        ]);
        format.arg(&properties);
        for user in &self.scram {
            format.args(["--add-scram", user]);
        }
        let mut format = Process::spawn_in("kafka-format", format, &folder);
        let status = format.wait(Duration::from_secs(60));
        assert!(
            status.success(),
            "formatting Kafka's storage failed:\n{}{}",
            format.stdout(),
            format.stderr()
        );

        let mut kafka = Kafka {
            direct,
            proxied,
            listeners: more,
            jvm,
            folder,
            process: None,
            _controller: controller,
        };
        kafka.start();
        kafka
    }

    fn render(&self, listeners: &Listeners, folder: &Path) -> String {
        let mut text = String::new();
        let mut set = |name: &str, value: &str| {
            writeln!(text, "{name}={value}").expect("writing to a string");
        };
        let Listeners {
            direct,
            controller,
            proxied,
            ref more,
        } = *listeners;
        let controller = format!("CONTROLLER://127.0.0.1:{controller}");
        let mut listen = format!("DIRECT://127.0.0.1:{direct}");
        let mut advertise = listen.clone();
        if let Some((port, proxy)) = proxied {
            listen += &format!(",PROXIED://127.0.0.1:{port}");
            advertise += &format!(",PROXIED://127.0.0.1:{proxy}");
        }
        let mut protocols = "DIRECT:PLAINTEXT,PROXIED:PLAINTEXT,CONTROLLER:PLAINTEXT".to_owned();
        for (name, protocol, port) in more {
            listen += &format!(",{name}://127.0.0.1:{port}");
            advertise += &format!(",{name}://127.0.0.1:{port}");
            protocols += &format!(",{name}:{protocol}");
        }
        set("process.roles", "broker,controller");
        set("node.id", "1");
        set(
            "controller.quorum.bootstrap.servers",
            controller.trim_start_matches("CONTROLLER://"),
        );
        set("listeners", &format!("{listen},{controller}"));
        set("advertised.listeners", &format!("{advertise},{controller}"));
        set("listener.security.protocol.map", &protocols);
        set("inter.broker.listener.name", "DIRECT");
        set("controller.listener.names", "CONTROLLER");
        set("log.dirs", &folder.join("data").display().to_string());
        set("auto.create.topics.enable", "false");
        // One node: nothing can have a second replica, and nobody else can join a group.
        set("offsets.topic.replication.factor", "1");
        set("offsets.topic.num.partitions", "4");
        set("transaction.state.log.replication.factor", "1");
        set("transaction.state.log.min.isr", "1");
        set("transaction.state.log.num.partitions", "4");
        set("share.coordinator.state.topic.replication.factor", "1");
        set("share.coordinator.state.topic.min.isr", "1");
        set("group.initial.rebalance.delay.ms", "0");
        set("log.cleaner.enable", "false");
        // A killed broker may not register again before its old session has run out, 9 s by default.
        set("broker.session.timeout.ms", "3000");
        set("broker.heartbeat.interval.ms", "500");
        // Files are made at their full size otherwise, ten megabytes for each partition.
        set("log.index.size.max.bytes", "1048576");
        // Deleted topics disappear at once.
        set("log.segment.delete.delay.ms", "1000");
        for (name, value) in &self.properties {
            set(name, value);
        }
        text
    }
}

/// Ports of the listeners.
struct Listeners {
    direct: u16,
    controller: u16,
    /// The listener and the proxy in front of it.
    proxied: Option<(u16, u16)>,
    /// Name, protocol and port.
    more: Vec<(String, String, u16)>,
}
