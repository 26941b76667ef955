use std::collections::BTreeMap;
use std::ops::Range;

use millrace_testkit::Records;

/// From one message of a filter to the next, for each of the filters that keys go round over; in milliseconds since the
/// Unix epoch. A record has the time at which the worker received its message.
pub fn pauses(records: &Records, filters: u16) -> BTreeMap<u16, Vec<Range<i64>>> {
    let mut times: BTreeMap<u16, Vec<i64>> = BTreeMap::new();
    for record in records.seen() {
        let filter = u16::try_from(record.id.key % u32::from(filters)).expect("less than filters");
        times.entry(filter).or_default().push(record.timestamp);
    }
    let pauses = times.into_iter().map(|(filter, mut times)| {
        times.sort_unstable();
        (filter, times.windows(2).map(|pair| pair[0]..pair[1]).collect())
    });
    pauses.collect()
}
