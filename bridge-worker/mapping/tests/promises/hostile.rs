//! Whatever anybody writes or sends, compiling and mapping stay small.

use std::time::{Duration, Instant};

use millrace_contract::{Mapping, PayloadFormat};

use crate::support::{compile, map, mapping, message, value};

/// What a thread has by default is eight times this.
const STACK: usize = 256 * 1024;

/// Expressions that are hard to parse: each pattern repeated until the longest expression is full.
fn hard_expressions() -> Vec<String> {
    let patterns = [
        ("(", "1", ")"),
        ("[", "1", "]"),
        ("{1:", "1", "}"),
        ("f(", "1", ")"),
        ("a[", "1", "]"),
        ("a.b(", "c", ")"),
        ("a{b:", "c", "}"),
        ("{[(", "1", ")]}"),
        ("(1+", "1", ")"),
        ("[1].map(x,", "x", ")"),
        ("true?", "1", ":1"),
        ("(", "", ""),
        ("[{(", "", ""),
        ("!", "true", ""),
        ("! ", "true", ""),
        ("-", "1", ""),
        ("- ", "1", ""),
        ("1+", "1", ""),
        ("1<", "1", ""),
        ("1==", "1", ""),
        ("1 in ", "[1]", ""),
        ("true&&", "true", ""),
        ("1||", "1", ""),
        ("a.", "b", ""),
        ("true?1:", "1", ""),
        // What looks like a text or a comment, and is none.
        ("'\n(", "", ""),
        ("// '\n[", "1", "]"),
        ("1r'\\'(", "", ""),
        ("b'(',[", "", ""),
        ("", "[1]", ".map(x,x)"),
        ("", "a", "[1]"),
        ("1 ", "", ""),
        ("?", "", ""),
        (".", "", ""),
        ("\\", "", ""),
        ("@", "", ""),
        ("`", "", ""),
        ("'", "", ""),
        ("\"\"\"", "", ""),
        ("🐱", "", ""),
        ("9", "", ""),
        ("0x", "", ""),
        ("//", "", ""),
        ("\n", "", ""),
    ];
    let fill = |length: usize, (open, middle, close): (&str, &str, &str)| {
        let count = (length - middle.len()) / (open.len() + close.len());
        format!("{}{middle}{}", open.repeat(count), close.repeat(count))
    };
    let lengths = [4096, 2000, 1000, 500, 120, 60];
    lengths
        .iter()
        .flat_map(|length| patterns.map(|pattern| fill(*length, pattern)))
        .collect()
}

#[test]
fn an_expression_is_compiled_in_little_stack_and_time() {
    let slowest = on_small_stack(|| {
        hard_expressions()
            .into_iter()
            .map(|expression| {
                let start = Instant::now();
                let mapping = Mapping {
                    value: Some(expression.clone()),
                    ..mapping()
                };
                if let Ok(mut mapper) = compile(&mapping, PayloadFormat::Json) {
                    // What compiles can also be evaluated in little stack.
                    mapper.map(&message(b"1"), &mut Default::default()).ok();
                }
                (start.elapsed(), expression)
            })
            .max()
            .unwrap()
    });
    // Alone on a core, the slowest takes 4 ms; tests run beside others.
    assert!(slowest.0 < Duration::from_millis(100), "{slowest:?}");
}

#[test]
fn deep_json_is_read_and_written_in_little_stack() {
    on_small_stack(|| {
        let nested = |depth: usize| format!("{}1{}", "[".repeat(depth), "]".repeat(depth));
        assert_eq!(value("payload", &nested(127)).unwrap(), nested(127));
        assert_eq!(value("payload == payload", &nested(127)).unwrap(), "true");
        assert_eq!(
            value("payload", &nested(128)).unwrap_err().reason(),
            "PayloadNotJson"
        );
        assert_eq!(
            value("payload", &nested(500_000)).unwrap_err().reason(),
            "PayloadNotJson"
        );
    });
}

fn on_small_stack<T: Send + 'static>(run: impl FnOnce() -> T + Send + 'static) -> T {
    std::thread::Builder::new()
        .stack_size(STACK)
        .spawn(run)
        .unwrap()
        .join()
        .unwrap()
}

#[test]
fn a_large_expression_is_refused_with_the_limit() {
    let error = |expression: String| {
        let mapping = Mapping {
            value: Some(expression),
            ..mapping()
        };
        compile(&mapping, PayloadFormat::Json)
            .unwrap_err()
            .remove(0)
            .message
    };
    assert_eq!(
        error("a".repeat(4097)),
        "the expression has 4097 bytes, at most 4096 are possible; shorten it"
    );
    let nested =
        "brackets and conditions are nested more than 24 deep; shorten the expression or lift parts out";
    assert_eq!(error(format!("{}1{}", "[".repeat(25), "]".repeat(25))), nested);
    assert_eq!(error(format!("{}1", "true ? 0 : ".repeat(25))), nested);
    assert_eq!(
        error("1+".repeat(600)),
        "the expression has 1200 words, operators and brackets, at most 1024 are possible; shorten it"
    );
    assert_eq!(
        error(format!("{}1", "1+".repeat(64))),
        "the expression is 65 operations deep, at most 64 are possible; shorten it"
    );
    let brackets_in_text = format!("'{}'", "(".repeat(1000));
    assert_eq!(value(&brackets_in_text, "1").unwrap().len(), 1000);
    let long_text = format!("'{}'", "a long text ".repeat(340));
    assert_eq!(value(&long_text, "1").unwrap().len(), 4080);
    let nested_to_the_limit = format!("{}1{}", "[".repeat(24), "]".repeat(24));
    assert_eq!(value(&nested_to_the_limit, "1").unwrap(), nested_to_the_limit);
}

#[test]
fn a_device_cannot_make_loops_take_the_square_of_what_it_sends() {
    let list = |count: usize| format!("[{}1]", "1,".repeat(count - 1));
    let large = list(200_000);
    for expression in [
        "payload.map(x, payload)",
        "payload.map(x, payload.map(y, 1))",
        "payload.all(x, payload.all(y, x == y))",
        "payload.filter(x, payload.exists(y, false))",
        "payload.exists_one(x, payload.exists_one(y, true))",
        "payload.map(x, x > 0, payload)",
    ] {
        let start = Instant::now();
        let error = value(expression, &large).unwrap_err();
        assert_eq!(
            error.to_string(),
            "value: `loop`: the payload is too large for what the expression does with it",
            "{expression}"
        );
        assert!(
            start.elapsed() < Duration::from_secs(5),
            "{expression}: {:?}",
            start.elapsed()
        );
    }
    // Once through the list is always possible.
    assert_eq!(value("payload.map(x, x)", &large).unwrap(), large);
    assert_eq!(
        value("payload.all(x, x > 0) && payload.exists(x, x == 1)", &large).unwrap(),
        "true"
    );
    assert_eq!(
        value("size(payload.filter(x, x == 1))", &large).unwrap(),
        "200000"
    );
    // And so is the square of a short one.
    assert_eq!(
        value("payload.all(x, payload.all(y, x == y))", &list(300)).unwrap(),
        "true"
    );
}

#[test]
fn doubling_a_text_ends_before_memory_does() {
    let doublings = format!("[payload]{}", ".map(x, x + x)".repeat(25));
    assert_eq!(
        value(&doublings, "\"0123456789\"").unwrap_err().reason(),
        "ExpressionFailed"
    );
    let wide = Mapping {
        value: Some("payload + payload".to_owned()),
        ..mapping()
    };
    let payload = vec![b'x'; 10 << 20];
    let error = map(&wide, PayloadFormat::Text, &message(&payload)).unwrap_err();
    assert_eq!(error.to_string(), "value: `+`: the result is too large");
}
