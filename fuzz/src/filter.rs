//! Two filters and a topic, one a line.

use millrace_mapping::Filter;

/// Whatever two filters are: reading them back gives the same, and a topic that both match means that they overlap.
pub fn run(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let mut lines = text.splitn(3, '\n');
    let (Some(one), Some(other), Some(topic)) = (lines.next(), lines.next(), lines.next()) else {
        return;
    };
    let one = Filter::parse(one);
    let other = Filter::parse(other);
    for filter in [&one, &other].into_iter().flatten() {
        let wire = Filter::parse(filter.wire()).expect("what is sent to the broker is a filter");
        assert_eq!(wire.wire(), filter.wire());
        assert_eq!(wire.matches(topic), filter.matches(topic), "names change nothing");
        assert!(filter.overlaps(filter), "a filter overlaps itself");
        assert!(wire.names().next().is_none());
    }
    let (Ok(one), Ok(other)) = (one, other) else {
        return;
    };
    assert_eq!(one.overlaps(&other), other.overlaps(&one));
    assert!(
        !(one.matches(topic) && other.matches(topic)) || one.overlaps(&other),
        "both match {topic:?}"
    );
}
