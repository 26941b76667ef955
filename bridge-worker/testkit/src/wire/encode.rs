//! Packets to bytes.

use super::{Connect, Properties, Publish, Version, put_data, put_varint};
use bytes::{BufMut, BytesMut};

/// Appends a packet with that first byte and body.
pub(crate) fn put_packet(buffer: &mut BytesMut, first: u8, body: &[u8]) {
    buffer.put_u8(first);
    put_varint(buffer, body.len());
    buffer.put_slice(body);
}

/// Appends a PUBLISH.
pub(crate) fn put_publish(buffer: &mut BytesMut, version: Version, publish: &Publish) {
    let Publish {
        qos,
        packet_id,
        dup,
        retain,
        topic,
        payload,
        properties,
    } = publish;
    let mut head = BytesMut::with_capacity(topic.len() + 8);
    put_data(&mut head, topic.as_bytes());
    if *qos > 0 {
        head.put_u16(*packet_id);
    }
    if version == Version::V5 {
        properties.write(&mut head);
    }
    buffer.reserve(head.len() + payload.len() + 5);
    buffer.put_u8(0x30 | u8::from(*dup) << 3 | qos << 1 | u8::from(*retain));
    put_varint(buffer, head.len() + payload.len());
    buffer.put_slice(&head);
    buffer.put_slice(payload);
}

/// Appends a CONNECT of MQTT 5.
pub(crate) fn put_connect(buffer: &mut BytesMut, connect: &Connect) {
    let Connect {
        client_id,
        clean_start,
        keep_alive,
        username,
        password,
        properties,
        ..
    } = connect;
    let mut body = BytesMut::new();
    put_data(&mut body, b"MQTT");
    body.put_u8(5);
    let flags =
        u8::from(*clean_start) << 1 | u8::from(password.is_some()) << 6 | u8::from(username.is_some()) << 7;
    body.put_u8(flags);
    body.put_u16(*keep_alive);
    properties.write(&mut body);
    put_data(&mut body, client_id.as_bytes());
    if let Some(username) = username {
        put_data(&mut body, username.as_bytes());
    }
    if let Some(password) = password {
        put_data(&mut body, password);
    }
    put_packet(buffer, 0x10, &body);
}

/// Appends a SUBSCRIBE of MQTT 5 to one filter.
pub(crate) fn put_subscribe(buffer: &mut BytesMut, packet_id: u16, filter: &str, qos: u8) {
    let mut body = BytesMut::new();
    body.put_u16(packet_id);
    Properties::new().write(&mut body);
    put_data(&mut body, filter.as_bytes());
    body.put_u8(qos);
    put_packet(buffer, 0x82, &body);
}
