use millrace_mapping::Template;
use proptest::prelude::*;

use crate::support::{TOPIC, key, message};

fn render(template: &str) -> String {
    key(template, &message(br#"{"a":{"b":"deep"},"n":1}"#))
        .unwrap()
        .unwrap_or_default()
}

fn refused(template: &str) -> String {
    Template::parse(template).unwrap_err().to_string()
}

#[test]
fn text_stays_and_expressions_are_replaced() {
    assert_eq!(render("a-{plant}.{line}-z"), "a-nord.7-z");
    assert_eq!(render("{message.topic}"), TOPIC);
    assert_eq!(render("{ plant }{\tline\n}"), "nord7");
    assert_eq!(render("{rest}"), "press/temp");
    assert_eq!(render("no expression"), "no expression");
    assert_eq!(render("é{plant}🐱"), "énord🐱");
}

#[test]
fn doubled_braces_are_braces() {
    assert_eq!(render("{{{plant}}}"), "{nord}");
    assert_eq!(render("{{plant}}"), "{plant}");
    assert_eq!(render("}}{{"), "}{");
}

#[test]
fn braces_inside_an_expression_do_not_end_it() {
    assert_eq!(render("<{ {'a': {'b': plant}}.a.b }>"), "<nord>");
    assert_eq!(render("{'}' + plant + '{'}"), "}nord{");
    assert_eq!(render(r#"{"\"}" + plant}"#), "\"}nord");
    assert_eq!(render(r"{r'\}' + plant}"), r"\}nord");
    assert_eq!(render(r"{r'\' + plant}"), r"\nord");
    assert_eq!(render("{'''it's }''' + plant}"), "it's }nord");
    assert_eq!(render("{plant // a comment }\n}"), "nord");
    assert_eq!(render("{payload.a.b}"), "deep");
}

#[test]
fn values_of_one_line_render_as_text() {
    assert_eq!(
        render("{1 + 1}|{2.5}|{true}|{b'bytes'}|{'text'}|{payload.n}|{7u}"),
        "2|2.5|true|bytes|text|1|7"
    );
}

#[test]
fn what_begins_every_rendered_text_is_known() {
    let prefix = |text: &str| Template::parse(text).unwrap().literal_prefix().to_owned();
    assert_eq!(prefix("telemetry.{plant}"), "telemetry.");
    assert_eq!(prefix("{{a}}.{plant}.b"), "{a}.");
    assert_eq!(prefix("{plant}.b"), "");
    assert_eq!(prefix("fixed"), "fixed");
    assert!(Template::parse("fixed {{}}").unwrap().is_literal());
    assert!(!Template::parse("{plant}").unwrap().is_literal());
    assert!(Template::parse("").unwrap().is_literal());
}

#[test]
fn a_wrong_template_is_refused_with_what_to_write_instead() {
    assert_eq!(
        refused("a{plant"),
        "the `{` at byte 1 is never closed; write `}` after the expression, or `{{` for a literal brace"
    );
    assert_eq!(refused("a{'}"), refused("a{plant"));
    assert_eq!(
        refused("plant}"),
        "the `}` at byte 5 closes nothing; write `}}` for a literal brace"
    );
    assert_eq!(
        refused("a{ }"),
        "there is no expression in the braces at byte 1; write one, or `{{` and `}}` for literal braces"
    );
    assert_eq!(
        refused(&"a".repeat(8193)),
        "a template has at most 8192 bytes, this one has 8193"
    );
}

/// A piece of a template, and what it renders to.
fn piece() -> impl Strategy<Value = (String, String)> {
    let known = |text: &str, rendered: &str| Just((text.to_owned(), rendered.to_owned()));
    prop_oneof![
        "[a-z./{}é ]{0,6}".prop_map(|text| (text.replace('{', "{{").replace('}', "}}"), text)),
        known("{plant}", "nord"),
        known("{ line }", "7"),
        known("{rest}", "press/temp"),
        known("{message.topic}", TOPIC),
        known("{'}' + '{{'}", "}{{"),
        known("{payload.a.b}", "deep"),
        known("{ {'x': '}'}['x'] }", "}"),
    ]
}

proptest! {
    #[test]
    fn a_template_renders_to_its_pieces_side_by_side(pieces in prop::collection::vec(piece(), 0..8)) {
        let template: String = pieces.iter().map(|(text, _)| text.as_str()).collect();
        let expected: String = pieces.iter().map(|(_, rendered)| rendered.as_str()).collect();
        prop_assert_eq!(render(&template), expected, "{}", template);
    }

    #[test]
    fn any_text_is_a_template_or_refused(text in "[{}'\"r\\\\a/ \n]{0,24}") {
        if let Ok(template) = Template::parse(&text) {
            let literal = text.replace("{{", "").replace("}}", "");
            prop_assert_eq!(template.is_literal(), !literal.contains(['{', '}']), "{}", text);
        }
    }
}
