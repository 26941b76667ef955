//! Headers whose names are no text, against a real Kafka.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::ffi::{CStr, c_void};
use std::time::Duration;

use millrace_librdkafka::headers;
use millrace_testkit::{Kafka, wait_until};
use rdkafka::bindings as sys;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::producer::{BaseProducer, Producer as _};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

const DEADLINE: Duration = Duration::from_secs(30);
const NAMES: [&CStr; 3] = [c"site", c"\xff\xfe", c"site"];
const VALUES: [Option<&[u8]>; 3] = [Some(b"A1"), Some(&[0, 0xff]), None];

/// Writes a record with these headers; rdkafka itself takes no such names.
fn write(producer: &BaseProducer, topic: &CStr) {
    let mut parts = vec![sys::rd_kafka_vu_t {
        vtype: sys::rd_kafka_vtype_t::RD_KAFKA_VTYPE_TOPIC,
        u: sys::rd_kafka_vu_s__bindgen_ty_1 { cstr: topic.as_ptr() },
    }];
    for (name, value) in NAMES.iter().zip(VALUES) {
        let header = sys::rd_kafka_vu_s__bindgen_ty_1__bindgen_ty_2 {
            name: name.as_ptr(),
            val: value.map_or(std::ptr::null(), |value| value.as_ptr().cast::<c_void>()),
            size: value.map_or(0, |value| value.len() as isize),
        };
        parts.push(sys::rd_kafka_vu_t {
            vtype: sys::rd_kafka_vtype_t::RD_KAFKA_VTYPE_HEADER,
            u: sys::rd_kafka_vu_s__bindgen_ty_1 { header },
        });
    }
    let client = producer.client().native_ptr();
    // SAFETY: the client is alive; the parts and what they point to are copied by the call.
    let error = unsafe { sys::rd_kafka_produceva(client, parts.as_ptr(), parts.len()) };
    assert!(error.is_null());
}

#[test]
fn names_that_are_no_text_and_values_that_are_none_are_read() {
    let kafka = Kafka::shared();
    let topic = kafka.unique_topic("headers", 1);
    let config = |more: &[(&str, &str)]| {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", kafka.bootstrap());
        more.iter().for_each(|(name, value)| {
            config.set(*name, *value);
        });
        config
    };
    let producer: BaseProducer = config(&[]).create().unwrap();
    let name = std::ffi::CString::new(topic.as_str()).unwrap();
    write(&producer, &name);
    producer.flush(DEADLINE).unwrap();
    let consumer: BaseConsumer = config(&[("group.id", "headers")]).create().unwrap();
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(&topic, 0, Offset::Beginning).unwrap();
    consumer.assign(&list).unwrap();
    wait_until(DEADLINE, "the record", || {
        let Some(record) = consumer.poll(Duration::from_millis(100)) else {
            return false;
        };
        let record = record.unwrap();
        let found: Vec<_> = headers(&record).collect();
        let expected: Vec<_> = NAMES.into_iter().zip(VALUES).collect();
        assert_eq!(found, expected);
        true
    });
}
