//! Records on their way to a topic.

use std::ffi::{CString, c_void};
use std::ptr::{self, NonNull};
use std::sync::Arc;
use std::{fmt, mem};

use rdkafka::bindings as sys;
use rdkafka::bindings::rd_kafka_vtype_t as Part;
use rdkafka::error::{IsError as _, KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::producer::{BaseProducer, Producer as _, ProducerContext};

/// A topic that a producer writes to. rdkafka names the topic with each record, and librdkafka then goes through all its
/// topics for it, one after the other, while no other thread may look at them.
pub struct Topic<C: ProducerContext + 'static> {
    native: NonNull<sys::rd_kafka_topic_t>,
    /// Outlives the topic.
    producer: Arc<BaseProducer<C>>,
}

// SAFETY: librdkafka's functions may be called for a topic by any thread, and by several at a time.
unsafe impl<C: ProducerContext + 'static> Send for Topic<C> where BaseProducer<C>: Send + Sync {}

// SAFETY: as above.
unsafe impl<C: ProducerContext + 'static> Sync for Topic<C> where BaseProducer<C>: Send + Sync {}

/// A record for a topic; its partition follows from its key.
#[derive(Debug)]
pub struct Record<'a> {
    /// Without one it goes to any partition.
    pub key: Option<&'a [u8]>,
    /// What is in it; a tombstone has none.
    pub value: Option<&'a [u8]>,
    /// Milliseconds since the epoch; 0 is now.
    pub timestamp_ms: i64,
    /// Comes back with its delivery report.
    pub opaque: usize,
    /// Beside the value.
    pub headers: Option<HeaderList>,
}

/// Headers of a record that is to be written, in the order in which they were added.
#[derive(Debug)]
pub struct HeaderList(*mut sys::rd_kafka_headers_t);

impl<C: ProducerContext<DeliveryOpaque = usize> + 'static> Topic<C> {
    /// Has librdkafka learn of a topic, in the background.
    ///
    /// # Errors
    /// When there can be no topic of that name.
    pub fn open(producer: &Arc<BaseProducer<C>>, name: &str) -> KafkaResult<Self> {
        let name = CString::new(name)?;
        let client = producer.client().native_ptr();
        // SAFETY: the client is alive, the name is a C string and is copied; without settings those of the client hold.
        let native = unsafe { sys::rd_kafka_topic_new(client, name.as_ptr(), ptr::null_mut()) };
        Ok(Self {
            native: NonNull::new(native)
                .ok_or(KafkaError::MessageProduction(RDKafkaErrorCode::InvalidTopic))?,
            producer: Arc::clone(producer),
        })
    }

    /// Hands over a record, which is copied. Never blocks; a report follows for each record that is taken.
    ///
    /// # Errors
    /// When it is not taken.
    pub fn send(&self, record: Record<'_>) -> KafkaResult<()> {
        let bytes = |bytes: &[u8]| (bytes.as_ptr().cast::<c_void>(), bytes.len());
        let (key, key_bytes) = record.key.map_or((ptr::null(), 0), bytes);
        let (value, value_bytes) = record.value.map_or((ptr::null(), 0), bytes);
        let headers = record.headers.as_ref().map_or(ptr::null_mut(), |list| list.0);
        // SAFETY: the client and the topic are alive. Each part is followed by what librdkafka takes from the list for it.
        // Key and value are copied; the headers are librdkafka's if, and only if, there is no error.
        let error = unsafe {
            sys::rd_kafka_producev(
                self.producer.client().native_ptr(),
                Part::RD_KAFKA_VTYPE_RKT,
                self.native.as_ptr(),
                Part::RD_KAFKA_VTYPE_MSGFLAGS,
                sys::RD_KAFKA_MSG_F_COPY,
                Part::RD_KAFKA_VTYPE_VALUE,
                value,
                value_bytes,
                Part::RD_KAFKA_VTYPE_KEY,
                key,
                key_bytes,
                Part::RD_KAFKA_VTYPE_OPAQUE,
                ptr::without_provenance_mut::<c_void>(record.opaque),
                Part::RD_KAFKA_VTYPE_TIMESTAMP,
                record.timestamp_ms,
                Part::RD_KAFKA_VTYPE_HEADERS,
                headers,
                Part::RD_KAFKA_VTYPE_END,
            )
        };
        if error.is_error() {
            return Err(KafkaError::MessageProduction(error.into()));
        }
        mem::forget(record.headers);
        Ok(())
    }
}

impl<C: ProducerContext + 'static> Drop for Topic<C> {
    fn drop(&mut self) {
        // SAFETY: the topic is this value's alone, and is not used after it; the producer lives until it is gone.
        unsafe { sys::rd_kafka_topic_destroy(self.native.as_ptr()) };
    }
}

impl<C: ProducerContext + 'static> fmt::Debug for Topic<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Topic").finish_non_exhaustive()
    }
}

impl HeaderList {
    /// An empty list with room for so many.
    pub fn with_capacity(headers: usize) -> Self {
        // SAFETY: the number is only a first size of the list, which librdkafka gives or ends the process.
        Self(unsafe { sys::rd_kafka_headers_new(headers) })
    }

    /// Adds one, which is copied.
    pub fn add(&mut self, name: &str, value: &[u8]) {
        // SAFETY: the list is alive and nobody else's; both have as many bytes as are named.
        unsafe {
            sys::rd_kafka_header_add(
                self.0,
                name.as_ptr().cast(),
                name.len().cast_signed(),
                value.as_ptr().cast(),
                value.len().cast_signed(),
            );
        }
    }
}

impl Drop for HeaderList {
    fn drop(&mut self) {
        // SAFETY: the list is this value's alone, and is not used after it.
        unsafe { sys::rd_kafka_headers_destroy(self.0) };
    }
}
