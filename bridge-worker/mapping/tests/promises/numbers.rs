//! JSON numbers are one kind of number, whether they are written `85` or `85.5`.

use millrace_mapping::MapError;
use proptest::prelude::*;

use crate::support::value;

#[test]
fn arithmetic_works_the_same_for_whole_and_other_numbers() {
    for (t, expected) in [
        ("85", "153"),
        ("85.0", "153"),
        ("85.5", "153.9"),
        ("-0", "0"),
        ("1e2", "180"),
    ] {
        assert_eq!(
            value("payload.t * 1.8", &format!(r#"{{"t":{t}}}"#)).unwrap(),
            expected,
            "{t}"
        );
    }
    for (t, expected) in [("85", "42.5"), ("85.5", "42.75"), ("84", "42")] {
        assert_eq!(
            value("payload.t / 2", &format!(r#"{{"t":{t}}}"#)).unwrap(),
            expected,
            "{t}"
        );
    }
    assert_eq!(
        value("payload.a + payload.b", r#"{"a":1,"b":2.5}"#).unwrap(),
        "3.5"
    );
    assert_eq!(value("2 - payload", "5").unwrap(), "-3");
    assert_eq!(value("-payload", "5").unwrap(), "-5");
    assert_eq!(value("payload % 4", "7").unwrap(), "3");
    assert_eq!(value("payload % 4", "7.5").unwrap(), "3.5");
    assert_eq!(
        value("size(payload.tags) + payload.n", r#"{"tags":[1,2],"n":0.5}"#).unwrap(),
        "2.5"
    );
    assert_eq!(value("payload.t + 1u", r#"{"t":1}"#).unwrap(), "2");
}

#[test]
fn comparisons_do_not_care_how_a_number_is_written() {
    for payload in ["3", "3.0", "0.3e1"] {
        for expression in [
            "payload == 3",
            "payload == 3.0",
            "3 == payload",
            "payload >= 3",
            "payload < 4",
            "payload in [3]",
        ] {
            assert_eq!(
                value(expression, payload).unwrap(),
                "true",
                "{expression} {payload}"
            );
        }
        assert_eq!(value("['a','b','c','d'][payload]", payload).unwrap(), "d");
        assert_eq!(value("{3: 'three'}[payload]", payload).unwrap(), "three");
        assert_eq!(value("type(payload) == double", payload).unwrap(), "true");
        assert_eq!(value("string(payload)", payload).unwrap(), "3");
        assert_eq!(value("int(payload)", payload).unwrap(), "3");
    }
}

#[test]
fn numbers_of_cel_itself_keep_the_rules_of_cel() {
    assert_eq!(value("7 / 2", "0").unwrap(), "3");
    assert_eq!(value("7.0 / 2.0", "0").unwrap(), "3.5");
    assert_eq!(value("size('abc') / 2", "0").unwrap(), "1");
    assert_eq!(value("message.receivedAt / 1000", "0").unwrap(), "1700000000");
    assert!(matches!(
        value("1u - 2u", "0"),
        Err(MapError::ExpressionFailed { .. })
    ));
}

#[test]
fn identifiers_of_64_bits_keep_all_digits() {
    for id in [
        "9007199254740991",
        "9007199254740992",
        "9007199254740993",
        "9223372036854775807",
        "18446744073709551615",
        "-9223372036854775808",
    ] {
        let payload = format!(r#"{{"id":{id}}}"#);
        assert_eq!(value("payload.id", &payload).unwrap(), id);
        assert_eq!(value("merge(payload, {})", &payload).unwrap(), payload);
        assert_eq!(value("[payload.id][0]", &payload).unwrap(), id);
        assert_eq!(value("string(payload.id)", &payload).unwrap(), id);
        assert_eq!(value("payload.id + 0", &payload).unwrap(), id);
        assert_eq!(value("payload.id * 1", &payload).unwrap(), id);
        assert_eq!(value("payload.id / 1", &payload).unwrap(), id);
    }
    let payload = r#"{"id":9007199254740993,"next":1}"#;
    assert_eq!(
        value("payload.id + payload.next", payload).unwrap(),
        "9007199254740994"
    );
    assert_eq!(value("payload.id - 9007199254740990", payload).unwrap(), "3");
    assert_eq!(value("payload.id == 9007199254740993", payload).unwrap(), "true");
    assert_eq!(value("payload.id == 9007199254740992", payload).unwrap(), "false");
    assert_eq!(value("payload.id % 10", payload).unwrap(), "3");
    assert_eq!(value("payload.id * 1.5", payload).unwrap(), "13510798882111488");
    assert_eq!(value("-payload.id", payload).unwrap(), "-9007199254740993");
}

#[test]
fn nanoseconds_divide_like_any_other_number() {
    assert_eq!(
        value("payload / 1000000", "1700000000123456789").unwrap(),
        "1700000000123.4568"
    );
    assert_eq!(
        value("int(payload / 1000000)", "1700000000123456789").unwrap(),
        "1700000000123"
    );
    assert_eq!(
        value("payload / 1000000", "1700000000123000000").unwrap(),
        "1700000000123"
    );
}

#[test]
fn what_does_not_fit_64_bits_becomes_a_double_and_no_error() {
    assert_eq!(
        value("payload * payload", "9223372036854775807").unwrap(),
        "8.507059173023462e37"
    );
    assert_eq!(
        value("payload * 4096", "9223372036854775807").unwrap(),
        "3.777893186295716e22"
    );
    assert_eq!(
        value("payload", "123456789012345678901234567890").unwrap(),
        "1.2345678901234568e29"
    );
}

#[test]
fn numbers_are_written_the_shortest_way() {
    for (written, expected) in [
        ("0.1", "0.1"),
        ("-0.0", "0"),
        ("1e20", "100000000000000000000"),
        ("1e21", "1e21"),
        ("-1.5E+300", "-1.5e300"),
        ("0.0000001", "0.0000001"),
        ("0.00000001", "1e-8"),
        ("5e-324", "5e-324"),
        ("21.50", "21.5"),
    ] {
        assert_eq!(value("payload", written).unwrap(), expected);
    }
}

#[test]
fn a_number_that_is_not_finite_is_an_error_of_the_message() {
    let reason = |expression: &str, payload: &str| value(expression, payload).unwrap_err().reason();
    assert_eq!(reason("payload / 0", "1"), "ExpressionFailed");
    assert_eq!(reason("payload / 0", "1.5"), "ExpressionFailed");
    assert_eq!(reason("payload % 0", "1.5"), "ExpressionFailed");
    assert_eq!(reason("payload * 1e300 * 1e300", "1"), "ExpressionFailed");
    assert_eq!(reason("double('NaN')", "1"), "NumberNotFinite");
    assert_eq!(reason("[double('inf')]", "1"), "NumberNotFinite");
    assert_eq!(reason("payload", "1e999"), "PayloadNotJson");
}

proptest! {
    #[test]
    fn a_copied_number_stays_the_same_number(number in any::<f64>().prop_filter("JSON has no others", |n| n.is_finite())) {
        let written = serde_json::to_string(&number).unwrap();
        let copied: f64 = value("payload", &written).unwrap().parse().unwrap();
        prop_assert_eq!(copied, number);
    }

    #[test]
    fn a_copied_integer_keeps_its_digits(number in any::<i64>()) {
        prop_assert_eq!(value("[payload][0]", &number.to_string()).unwrap(), number.to_string());
    }

    #[test]
    fn whole_numbers_compute_as_if_there_were_no_limit(a in any::<i32>(), b in any::<i64>()) {
        let payload = format!(r#"{{"a":{a},"b":{b}}}"#);
        let exact = i128::from(a) + i128::from(b);
        let sum = value("payload.a + payload.b", &payload).unwrap();
        if i64::try_from(exact).is_ok() {
            prop_assert_eq!(sum, exact.to_string());
        } else {
            prop_assert_eq!(sum.parse::<f64>().unwrap(), exact as f64);
        }
    }
}
