use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Error, Unexpected, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use super::UnitError;

/// A size in bytes as Kubernetes writes it: `1Mi` (1,048,576), `1M` (1,000,000), `512Ki`, `1048576`.
///
/// Holds the text, so that an object is written back as the user wrote it; [`Quantity::bytes`] reads it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Quantity(String);

impl Quantity {
    /// Of Kubernetes' quantities those that are sizes: no exponents, no signs, nothing below one byte.
    pub(crate) const PATTERN: &str = "^[0-9]{1,10}([.][0-9]{1,3})?(k|M|G|Ki|Mi|Gi)?$";

    /// Takes any text; whether it is a size is decided by [`Quantity::bytes`].
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The size in bytes. A fraction of a byte counts as a whole one, as in Kubernetes.
    ///
    /// # Errors
    /// If the text is not a size.
    pub fn bytes(&self) -> Result<u64, UnitError> {
        bytes(&self.0).ok_or_else(|| {
            UnitError(format!(
                "{:?} is not a size: write a number of bytes, or a number with Ki, Mi, Gi, k, M or G, like 512Ki or 1Mi",
                self.0
            ))
        })
    }
}

fn bytes(text: &str) -> Option<u64> {
    let number = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let factor: u64 = match &text[number.len()..] {
        "" => 1,
        "k" => 1000,
        "M" => 1000 * 1000,
        "G" => 1000 * 1000 * 1000,
        "Ki" => 1 << 10,
        "Mi" => 1 << 20,
        "Gi" => 1 << 30,
        _ => return None,
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    let digits = |s: &str, most| (1..=most).contains(&s.len()) && s.bytes().all(|b| b.is_ascii_digit());
    if !digits(whole, 10) || !digits(fraction, 3) {
        return None;
    }
    let thousandths: u64 = format!("{fraction:0<3}").parse().ok()?;
    let whole: u64 = whole.parse().ok()?;
    whole
        .checked_mul(factor)?
        .checked_add((thousandths * factor).div_ceil(1000))
}

impl<'de> Deserialize<'de> for Quantity {
    /// Kubernetes takes a plain number for a quantity as well.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;

        impl Visitor<'_> for Text {
            type Value = Quantity;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a size like 1Mi, or a number of bytes")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Quantity, E> {
                Ok(Quantity::new(text))
            }

            fn visit_u64<E: Error>(self, number: u64) -> Result<Quantity, E> {
                Ok(Quantity::new(number.to_string()))
            }

            fn visit_i64<E: Error>(self, number: i64) -> Result<Quantity, E> {
                u64::try_from(number)
                    .map(|n| Quantity::new(n.to_string()))
                    .map_err(|_| E::invalid_value(Unexpected::Signed(number), &self))
            }
        }

        deserializer.deserialize_any(Text)
    }
}

impl JsonSchema for Quantity {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Quantity".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"x-kubernetes-int-or-string": true, "maxLength": 16, "pattern": Self::PATTERN})
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn sizes_are_read_in_bytes() {
        for (text, bytes) in [
            ("0", 0),
            ("1048576", 1_048_576),
            ("1Mi", 1_048_576),
            ("1M", 1_000_000),
            ("1.5Ki", 1536),
            ("0.001Ki", 2),
            ("2G", 2_000_000_000),
        ] {
            assert_eq!(Quantity::new(text).bytes(), Ok(bytes), "{text}");
        }
    }

    #[test]
    fn other_texts_are_refused_with_an_example() {
        for text in [
            "",
            "Mi",
            "1MB",
            "1mi",
            "-1",
            "1e6",
            "1.Mi",
            "1.2345Ki",
            "1 Mi",
            "1m",
            "99999999999",
            "é",
        ] {
            let error = Quantity::new(text).bytes().unwrap_err().to_string();
            assert!(error.contains("like 512Ki"), "{text}: {error}");
        }
    }

    #[test]
    fn a_plain_number_is_a_size_too() {
        assert_eq!(
            serde_json::from_str::<Quantity>("1024").unwrap().bytes(),
            Ok(1024)
        );
        assert!(serde_json::from_str::<Quantity>("-1").is_err());
        assert!(serde_json::from_str::<Quantity>("1.5").is_err());
    }

    proptest! {
        #[test]
        fn the_parser_takes_exactly_what_the_pattern_takes(text in "[0-9.]{0,14}[kMGi]{0,2}") {
            let pattern = regex::Regex::new(Quantity::PATTERN).unwrap();
            prop_assert_eq!(Quantity::new(&*text).bytes().is_ok(), pattern.is_match(&text));
        }

        #[test]
        fn no_text_panics(text in any::<String>()) {
            Quantity::new(text).bytes().ok();
        }
    }
}
