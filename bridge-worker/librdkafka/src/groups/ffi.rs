//! Calls into librdkafka. Each object that it gives is owned by a type here that destroys it.
//!
//! All functions share one shape: a request is put to a queue made for it, and answered by one event there. What an
//! event holds is copied before the event is destroyed.

use std::ffi::{CStr, CString, c_char, c_int};
use std::ptr;
use std::time::Duration;

use rdkafka::ClientContext;
use rdkafka::bindings as sys;
use rdkafka::bindings::rd_kafka_admin_op_t as Operation;
use rdkafka::client::Client;
use rdkafka::error::{IsError as _, KafkaError, KafkaResult};
use rdkafka::types::RDKafkaErrorCode;

use super::{Group, Kind, Member, Position, State};

/// How much longer than Kafka librdkafka may take to say that Kafka did not answer.
const GRACE: Duration = Duration::from_secs(1);
/// Requests of which one may wait for another: the coordinator of a group has to be found first.
const IN_A_ROW: u32 = 2;

pub(super) fn describe<C: ClientContext>(
    client: &Client<C>,
    name: &str,
    timeout: Duration,
) -> KafkaResult<Group> {
    let name = c_string(name)?;
    let mut pointers = [name.as_ptr()];
    let operation = Operation::RD_KAFKA_ADMIN_OP_DESCRIBECONSUMERGROUPS;
    let event = ask(client, operation, timeout, |options, queue| {
        // SAFETY: the client, the options and the queue live until `ask` returns; the names are copied by the call.
        unsafe {
            sys::rd_kafka_DescribeConsumerGroups(
                client.native_ptr(),
                pointers.as_mut_ptr(),
                pointers.len(),
                options,
                queue,
            );
        }
    })?;
    // SAFETY: the event is alive. The result is null if it answers something else, which is looked at next.
    let result = unsafe { sys::rd_kafka_event_DescribeConsumerGroups_result(event.0) };
    if result.is_null() {
        return Err(unexpected());
    }
    let mut count = 0;
    // SAFETY: the result belongs to the event, which is alive; `count` is a place for a number.
    let groups = unsafe { sys::rd_kafka_DescribeConsumerGroups_result_groups(result, &mut count) };
    // SAFETY: librdkafka returns an array of that many groups, which lives as long as the event.
    let groups = unsafe { slice(groups.cast_const(), count) };
    let group = groups.first().ok_or_else(unexpected)?;
    // SAFETY: the group belongs to the event, which is alive.
    unsafe { copy_group(*group) }
}

pub(super) fn committed<C: ClientContext>(
    client: &Client<C>,
    group: &str,
    timeout: Duration,
) -> KafkaResult<Vec<Position>> {
    let name = c_string(group)?;
    // SAFETY: the name is a C string and is copied; without partitions all of the group are meant.
    let question =
        Question(unsafe { sys::rd_kafka_ListConsumerGroupOffsets_new(name.as_ptr(), ptr::null()) });
    let operation = Operation::RD_KAFKA_ADMIN_OP_LISTCONSUMERGROUPOFFSETS;
    let event = ask(client, operation, timeout, |options, queue| {
        let mut questions = [question.0];
        // SAFETY: the client, the options and the queue live until `ask` returns; the question is copied by the call.
        unsafe {
            sys::rd_kafka_ListConsumerGroupOffsets(
                client.native_ptr(),
                questions.as_mut_ptr(),
                questions.len(),
                options,
                queue,
            );
        }
    })?;
    // SAFETY: the event is alive. The result is null if it answers something else, which is looked at next.
    let result = unsafe { sys::rd_kafka_event_ListConsumerGroupOffsets_result(event.0) };
    if result.is_null() {
        return Err(unexpected());
    }
    let mut count = 0;
    // SAFETY: the result belongs to the event, which is alive; `count` is a place for a number.
    let groups = unsafe { sys::rd_kafka_ListConsumerGroupOffsets_result_groups(result, &mut count) };
    // SAFETY: librdkafka returns an array of that many groups, which lives as long as the event.
    let groups = unsafe { slice(groups.cast_const(), count) };
    let Some(group) = groups.first() else {
        return Err(unexpected());
    };
    // SAFETY: the group belongs to the event, which is alive.
    let error = unsafe { sys::rd_kafka_group_result_error(*group) };
    // SAFETY: as above; the error belongs to the group.
    unsafe { check_object(error) }?;
    // SAFETY: as above; the list belongs to the group.
    let partitions = unsafe { sys::rd_kafka_group_result_partitions(*group) };
    // SAFETY: as above.
    let partitions = unsafe { elements(partitions) };
    // SAFETY: the topics of a list are C strings that live as long as it.
    Ok(unsafe { positions(partitions) })
}

pub(super) fn ends<C: ClientContext>(
    client: &Client<C>,
    partitions: &[(&str, i32)],
    timeout: Duration,
) -> KafkaResult<Vec<Position>> {
    // SAFETY: the number is only a first size of the list.
    let list = List(unsafe { sys::rd_kafka_topic_partition_list_new(partitions.len() as c_int) });
    for (topic, partition) in partitions {
        let topic = c_string(topic)?;
        // SAFETY: the list is alive, and the topic is a C string, which is copied.
        let element = unsafe { sys::rd_kafka_topic_partition_list_add(list.0, topic.as_ptr(), *partition) };
        // SAFETY: the call returns the element that it has added; nothing else holds it before the next call.
        unsafe { (*element).offset = sys::rd_kafka_OffsetSpec_t::RD_KAFKA_OFFSET_SPEC_LATEST as i64 };
    }
    let operation = Operation::RD_KAFKA_ADMIN_OP_LISTOFFSETS;
    let event = ask(client, operation, timeout, |options, queue| {
        // SAFETY: the client, the options and the queue live until `ask` returns; the list is copied by the call.
        unsafe { sys::rd_kafka_ListOffsets(client.native_ptr(), list.0, options, queue) };
    })?;
    // SAFETY: the event is alive. The result is null if it answers something else, which is looked at next.
    let result = unsafe { sys::rd_kafka_event_ListOffsets_result(event.0) };
    if result.is_null() {
        return Err(unexpected());
    }
    let mut count = 0;
    // SAFETY: the result belongs to the event, which is alive; `count` is a place for a number.
    let infos = unsafe { sys::rd_kafka_ListOffsets_result_infos(result, &mut count) };
    // SAFETY: librdkafka returns an array of that many parts, which lives as long as the event.
    let infos = unsafe { slice(infos.cast_const(), count) };
    let elements = infos.iter().map(|info| {
        // SAFETY: the part belongs to the event, which is alive, and always has a partition.
        let element = unsafe { sys::rd_kafka_ListOffsetsResultInfo_topic_partition(*info) };
        // SAFETY: as above.
        unsafe { &*element }
    });
    // SAFETY: the topics are C strings that live as long as the event.
    Ok(unsafe { positions(elements) })
}

/// Makes a request and waits for its answer.
fn ask<C: ClientContext>(
    client: &Client<C>,
    operation: Operation,
    timeout: Duration,
    request: impl FnOnce(*const sys::rd_kafka_AdminOptions_t, *mut sys::rd_kafka_queue_t),
) -> KafkaResult<Event> {
    let milliseconds = |time: Duration| c_int::try_from(time.as_millis()).unwrap_or(c_int::MAX);
    // SAFETY: the client is alive for all of this function, here and below.
    let queue = Queue(unsafe { sys::rd_kafka_queue_new(client.native_ptr()) });
    // SAFETY: as above.
    let options = Options(unsafe { sys::rd_kafka_AdminOptions_new(client.native_ptr(), operation) });
    if options.0.is_null() {
        return Err(unexpected());
    }
    // SAFETY: the options are alive; without a place for it, the error has no text.
    let set = unsafe {
        sys::rd_kafka_AdminOptions_set_request_timeout(options.0, milliseconds(timeout), ptr::null_mut(), 0)
    };
    check(set)?;
    request(options.0, queue.0);
    // SAFETY: the queue is alive; what is returned is null or an event that is this function's.
    let event = Event(unsafe { sys::rd_kafka_queue_poll(queue.0, milliseconds(timeout * IN_A_ROW + GRACE)) });
    if event.0.is_null() {
        return Err(KafkaError::AdminOp(RDKafkaErrorCode::OperationTimedOut));
    }
    // SAFETY: the event is alive.
    check(unsafe { sys::rd_kafka_event_error(event.0) })?;
    Ok(event)
}

/// Copies what a group holds.
///
/// # Safety
/// The group belongs to an event that is alive.
unsafe fn copy_group(group: *const sys::rd_kafka_ConsumerGroupDescription_t) -> KafkaResult<Group> {
    use sys::rd_kafka_consumer_group_state_t as S;
    use sys::rd_kafka_consumer_group_type_t as T;
    // SAFETY: the group is alive, here and below.
    let error = unsafe { sys::rd_kafka_ConsumerGroupDescription_error(group) };
    // SAFETY: the error belongs to the group.
    unsafe { check_object(error) }?;
    // SAFETY: as above; a group has a name.
    let name = unsafe { sys::rd_kafka_ConsumerGroupDescription_group_id(group) };
    // SAFETY: as above.
    let state = unsafe { sys::rd_kafka_ConsumerGroupDescription_state(group) };
    // SAFETY: as above.
    let kind = unsafe { sys::rd_kafka_ConsumerGroupDescription_type(group) };
    // SAFETY: as above.
    let members = unsafe { sys::rd_kafka_ConsumerGroupDescription_member_count(group) };
    let members = (0..members).map(|index| {
        // SAFETY: as above, and the index is one of a member.
        let member = unsafe { sys::rd_kafka_ConsumerGroupDescription_member(group, index) };
        // SAFETY: the member belongs to the group.
        unsafe { copy_member(member) }
    });
    Ok(Group {
        // SAFETY: as above.
        name: unsafe { text(name) },
        kind: match kind {
            T::RD_KAFKA_CONSUMER_GROUP_TYPE_CLASSIC => Kind::Classic,
            T::RD_KAFKA_CONSUMER_GROUP_TYPE_CONSUMER => Kind::Consumer,
            _ => Kind::Unknown,
        },
        state: match state {
            S::RD_KAFKA_CONSUMER_GROUP_STATE_PREPARING_REBALANCE
            | S::RD_KAFKA_CONSUMER_GROUP_STATE_COMPLETING_REBALANCE => State::Rebalancing,
            S::RD_KAFKA_CONSUMER_GROUP_STATE_STABLE => State::Stable,
            S::RD_KAFKA_CONSUMER_GROUP_STATE_EMPTY => State::Empty,
            S::RD_KAFKA_CONSUMER_GROUP_STATE_DEAD => State::Dead,
            _ => State::Unknown,
        },
        members: members.collect(),
    })
}

/// Copies what a member holds.
///
/// # Safety
/// The member belongs to an event that is alive.
unsafe fn copy_member(member: *const sys::rd_kafka_MemberDescription_t) -> Member {
    // SAFETY: the member is alive, here and below.
    let client_id = unsafe { sys::rd_kafka_MemberDescription_client_id(member) };
    // SAFETY: as above.
    let assignment = unsafe { sys::rd_kafka_MemberDescription_assignment(member) };
    let partitions = match assignment.is_null() {
        true => ptr::null(),
        // SAFETY: the assignment belongs to the member.
        false => unsafe { sys::rd_kafka_MemberAssignment_partitions(assignment) },
    };
    // SAFETY: the list belongs to the assignment.
    let partitions = unsafe { elements(partitions) };
    // SAFETY: the topics of a list are C strings that live as long as it.
    let partitions = partitions.map(|element| (unsafe { text(element.topic) }, element.partition));
    Member {
        // SAFETY: as above.
        client_id: unsafe { text(client_id) },
        partitions: partitions.collect(),
    }
}

/// The elements of a list, or of no list.
///
/// # Safety
/// The list belongs to an event that lives as long as they are used, or is null.
unsafe fn elements<'e>(
    list: *const sys::rd_kafka_topic_partition_list_t,
) -> impl Iterator<Item = &'e sys::rd_kafka_topic_partition_t> {
    let elements = match list.is_null() {
        true => &[],
        false => {
            // SAFETY: the list is alive, as the caller says.
            let list = unsafe { &*list };
            // SAFETY: a list has that many elements.
            unsafe { slice(list.elems.cast_const(), usize::try_from(list.cnt).unwrap_or(0)) }
        }
    };
    elements.iter()
}

/// Copies elements of a list.
///
/// # Safety
/// Their topics are C strings.
unsafe fn positions<'e>(
    elements: impl Iterator<Item = &'e sys::rd_kafka_topic_partition_t>,
) -> Vec<Position> {
    let copy = |element: &sys::rd_kafka_topic_partition_t| Position {
        // SAFETY: the caller says so.
        topic: unsafe { text(element.topic) },
        partition: element.partition,
        // What is negative is no offset but a word.
        offset: (element.offset >= 0 && !element.err.is_error()).then_some(element.offset),
    };
    elements.map(copy).collect()
}

/// A slice of what librdkafka gives, which may be no place at all for nothing.
///
/// # Safety
/// There are `count` elements at `first`, and they live as long as the slice is used.
unsafe fn slice<'e, T>(first: *const T, count: usize) -> &'e [T] {
    match first.is_null() || count == 0 {
        true => &[],
        // SAFETY: the caller says so.
        false => unsafe { std::slice::from_raw_parts(first, count) },
    }
}

/// Copies a C string, or nothing.
///
/// # Safety
/// It is a C string that is alive, or null.
unsafe fn text(text: *const c_char) -> String {
    match text.is_null() {
        true => String::new(),
        // SAFETY: the caller says so.
        false => unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned(),
    }
}

fn c_string(text: &str) -> KafkaResult<CString> {
    CString::new(text).map_err(KafkaError::Nul)
}

/// Whether there is an error.
///
/// # Safety
/// It is alive, or null: then there is none.
unsafe fn check_object(error: *const sys::rd_kafka_error_t) -> KafkaResult<()> {
    match error.is_null() {
        true => Ok(()),
        // SAFETY: the caller says so.
        false => check(unsafe { sys::rd_kafka_error_code(error) }),
    }
}

fn check(error: sys::rd_kafka_resp_err_t) -> KafkaResult<()> {
    match error.is_error() {
        true => Err(KafkaError::AdminOp(error.into())),
        false => Ok(()),
    }
}

/// librdkafka has answered something that was not asked.
fn unexpected() -> KafkaError {
    KafkaError::AdminOp(RDKafkaErrorCode::BadMessage)
}

/// Declares a type that owns an object of librdkafka.
macro_rules! owned {
    ($name:ident, $object:ident, $destroy:ident) => {
        struct $name(*mut sys::$object);

        impl Drop for $name {
            fn drop(&mut self) {
                if !self.0.is_null() {
                    // SAFETY: the object is this value's alone, and is not used after it.
                    unsafe { sys::$destroy(self.0) };
                }
            }
        }
    };
}

owned!(Queue, rd_kafka_queue_t, rd_kafka_queue_destroy);
owned!(Options, rd_kafka_AdminOptions_t, rd_kafka_AdminOptions_destroy);
owned!(Event, rd_kafka_event_t, rd_kafka_event_destroy);
owned!(
    Question,
    rd_kafka_ListConsumerGroupOffsets_t,
    rd_kafka_ListConsumerGroupOffsets_destroy
);
owned!(
    List,
    rd_kafka_topic_partition_list_t,
    rd_kafka_topic_partition_list_destroy
);
