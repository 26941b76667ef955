use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// Whether a broker has a session of a client id. Ask only about sessions that nobody uses. Asking makes one where there
/// is none, so that is taken away again.
pub fn has_session(broker: SocketAddr, client_id: &str) -> bool {
    let was_there = connect(broker, client_id, false);
    if !was_there {
        end_session(broker, client_id);
    }
    was_there
}

/// Ends a session with all that the broker holds for it, as a client does that wants none.
pub fn end_session(broker: SocketAddr, client_id: &str) {
    connect(broker, client_id, true);
}

/// Connects with MQTT 3.1.1, disconnects, and returns whether the session was present [MQTT-3.2.2-2].
fn connect(broker: SocketAddr, client_id: &str, clean: bool) -> bool {
    let mut stream = TcpStream::connect(broker).expect("a connection to the broker");
    stream
        .set_read_timeout(Some(Duration::from_secs(10)))
        .expect("a socket");
    let length = u8::try_from(client_id.len()).expect("a short client id");
    let mut packet = vec![0x10, 12 + length, 0, 4];
    packet.extend(b"MQTT\x04");
    packet.extend([u8::from(clean) << 1, 0, 60, 0, length]);
    packet.extend(client_id.as_bytes());
    stream.write_all(&packet).expect("an open connection");
    let mut connack = [0; 4];
    stream.read_exact(&mut connack).expect("CONNACK");
    assert_eq!(
        (connack[0], connack[3]),
        (0x20, 0),
        "the broker accepts the connection"
    );
    stream.write_all(&[0xE0, 0]).expect("an open connection");
    connack[2] == 1
}
