//! Headers of records.

use std::ffi::CStr;
use std::{ptr, slice};

use rdkafka::bindings as sys;
use rdkafka::error::IsError as _;
use rdkafka::message::BorrowedMessage;

/// The headers of a record, in their order. Their names need not be UTF-8: Kafka takes any bytes, and rdkafka's own
/// iterator panics at them.
pub fn headers<'m>(message: &'m BorrowedMessage<'_>) -> impl Iterator<Item = (&'m CStr, Option<&'m [u8]>)> {
    let mut headers = ptr::null_mut();
    // SAFETY: the message is alive; `headers` is a place for a pointer, which is written if there is no error.
    let error = unsafe { sys::rd_kafka_message_headers(message.ptr(), &mut headers) };
    let headers = if error.is_error() {
        ptr::null_mut()
    } else {
        headers
    };
    (0..).map_while(move |index| header(headers, index))
}

/// One of the headers of a message that lives as long as `'m`, or of none.
fn header<'m>(headers: *const sys::rd_kafka_headers_t, index: usize) -> Option<(&'m CStr, Option<&'m [u8]>)> {
    if headers.is_null() {
        return None;
    }
    let (mut name, mut value, mut size) = (ptr::null(), ptr::null(), 0);
    // SAFETY: the headers belong to a message that is alive; the others are places that are written if there is no error.
    let error = unsafe { sys::rd_kafka_header_get_all(headers, index, &mut name, &mut value, &mut size) };
    if error.is_error() {
        return None;
    }
    // SAFETY: a header has a name, which is a C string and lives as long as the message.
    let name = unsafe { CStr::from_ptr(name) };
    let value = (!value.is_null()).then(|| {
        // SAFETY: there are so many bytes, which live as long as the message.
        unsafe { slice::from_raw_parts(value.cast::<u8>(), size) }
    });
    Some((name, value))
}
