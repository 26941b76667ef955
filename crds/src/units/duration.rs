use std::borrow::Cow;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use super::UnitError;

/// A duration as Kubernetes' Gateway API writes it (GEP-2257): `1h30m`, `15s`, `500ms`.
///
/// Holds the text, so that an object is written back as the user wrote it; [`GepDuration::parse`] reads it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct GepDuration(String);

impl GepDuration {
    /// GEP-2257: one to four parts of up to five digits and a unit.
    pub(crate) const PATTERN: &str = "^([0-9]{1,5}(h|m|s|ms)){1,4}$";

    /// Takes any text; whether it is a duration is decided by [`GepDuration::parse`].
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The duration, exact to the millisecond.
    ///
    /// # Errors
    /// If the text is not a GEP-2257 duration.
    pub fn parse(&self) -> Result<Duration, UnitError> {
        parts(&self.0).ok_or_else(|| {
            UnitError(format!(
                "{:?} is not a duration: write whole numbers with h, m, s or ms, like 1h30m, 15s or 500ms",
                self.0
            ))
        })
    }
}

fn parts(text: &str) -> Option<Duration> {
    let (mut rest, mut total, mut count) = (text, Duration::ZERO, 0);
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let unit = rest
            .bytes()
            .skip(digits)
            .take_while(u8::is_ascii_alphabetic)
            .count();
        if !(1..=5).contains(&digits) {
            return None;
        }
        let number: u64 = rest[..digits].parse().ok()?;
        total += match &rest[digits..digits + unit] {
            "h" => Duration::from_secs(number * 3600),
            "m" => Duration::from_secs(number * 60),
            "s" => Duration::from_secs(number),
            "ms" => Duration::from_millis(number),
            _ => return None,
        };
        rest = &rest[digits + unit..];
        count += 1;
    }
    (1..=4).contains(&count).then_some(total)
}

impl JsonSchema for GepDuration {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "GepDuration".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "maxLength": 28, "pattern": Self::PATTERN})
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn durations_are_read_to_the_millisecond() {
        for (text, millis) in [
            ("0s", 0),
            ("5ms", 5),
            ("15s", 15_000),
            ("1h30m", 5_400_000),
            ("1m1m", 120_000),
            ("1h2m3s4ms", 3_723_004),
        ] {
            assert_eq!(
                GepDuration::new(text).parse(),
                Ok(Duration::from_millis(millis)),
                "{text}"
            );
        }
    }

    #[test]
    fn other_texts_are_refused_with_an_example() {
        for text in [
            "",
            "5",
            "s",
            "1.5h",
            "-1s",
            "1d",
            "1us",
            "123456s",
            "1h1m1s1ms1ms",
            "1 s",
            "５s",
            "1sé",
        ] {
            let error = GepDuration::new(text).parse().unwrap_err().to_string();
            assert!(error.contains("like 1h30m"), "{text}: {error}");
        }
    }

    proptest! {
        #[test]
        fn the_parser_takes_exactly_what_the_pattern_takes(text in "[0-9hms]{0,12}") {
            let pattern = regex::Regex::new(GepDuration::PATTERN).unwrap();
            prop_assert_eq!(GepDuration::new(&*text).parse().is_ok(), pattern.is_match(&text));
        }

        #[test]
        fn no_text_panics(text in any::<String>()) {
            GepDuration::new(text).parse().ok();
        }
    }
}
