//! An MQTT broker that does exactly what a test says, step by step.

mod connection;
mod expect;
mod link;
mod transcript;

use crate::port::Port;
use crate::wait::{holds_within, wait_until};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

pub use connection::{Connection, End};

/// How long an expectation waits unless it says otherwise.
const DEADLINE: Duration = Duration::from_secs(5);

/// Listens on a port of its own. Every connection is driven by the test, in MQTT 3.1.1 or 5 as the client chooses; what
/// the test does not do does not happen, but for PINGREQs, which are answered unless
/// [`Connection::answer_pings`] says otherwise. What a connection has seen is printed when the test panics.
///
/// ```no_run
/// use millrace_testkit::ScriptedBroker;
/// use millrace_testkit::wire::Publish;
///
/// let broker = ScriptedBroker::start();
/// // ... point a client to broker.port() ...
/// let mut c = broker.accept();
/// let connect = c.expect_connect();
/// assert!(!connect.clean_start);
/// c.send_connack(true, 0, Default::default());
/// let subscribe = c.expect_subscribe();
/// c.send_suback(subscribe.packet_id, &[1]);
/// c.publish(Publish::new("plants/north", "21.5").qos(1, 7));
/// c.expect_puback(7);
/// c.reset();
///
/// let mut c = broker.accept();
/// c.accept_session(true);
/// c.publish(Publish::new("plants/north", "21.5").qos(1, 7).dup());
/// c.expect_pubacks([7]);
/// ```
#[derive(Debug)]
pub struct ScriptedBroker {
    port: Port,
    listener: Mutex<Option<TcpListener>>,
    accepted: AtomicU32,
}

impl ScriptedBroker {
    /// Begins to listen.
    ///
    /// # Panics
    /// When no port can be opened.
    pub fn start() -> ScriptedBroker {
        let broker = ScriptedBroker {
            port: Port::free(),
            listener: Mutex::new(None),
            accepted: AtomicU32::new(0),
        };
        broker.listen();
        broker
    }

    /// The port to connect to.
    pub fn port(&self) -> u16 {
        self.port.number()
    }

    /// The address to connect to.
    pub fn address(&self) -> SocketAddr {
        self.port.address()
    }

    /// Stops listening: new connections are refused, those accepted go on.
    pub fn refuse(&self) {
        *self.listener.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Listens again after [`ScriptedBroker::refuse`].
    pub fn listen(&self) {
        let listener = self.port.listen();
        listener.set_nonblocking(true).expect("a non-blocking listener");
        *self.listener.lock().unwrap_or_else(PoisonError::into_inner) = Some(listener);
    }

    /// The next connection.
    ///
    /// # Panics
    /// When none comes within five seconds.
    #[track_caller]
    pub fn accept(&self) -> Connection {
        let mut accepted = None;
        wait_until(DEADLINE, "a connection", || {
            accepted = self.try_accept();
            accepted.is_some()
        });
        let number = self.accepted.fetch_add(1, Ordering::Relaxed) + 1;
        Connection::new(accepted.expect("a connection"), number)
    }

    /// # Panics
    /// When a connection comes within `span`.
    #[track_caller]
    pub fn assert_no_connection(&self, span: Duration) {
        let came = holds_within(span, || self.try_accept().is_some());
        assert!(
            came.is_none(),
            "a connection came within {:?}",
            came.unwrap_or_default()
        );
    }

    fn try_accept(&self) -> Option<TcpStream> {
        let listener = self.listener.lock().unwrap_or_else(PoisonError::into_inner);
        let (stream, _) = listener.as_ref()?.accept().ok()?;
        Some(stream)
    }
}
