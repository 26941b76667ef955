//! MQTT topic filters whose wildcards may carry a name.

mod name;

use std::ops::Range;

use thiserror::Error;

pub use name::NameError;

/// Longest filter, in bytes: an MQTT string has a 16-bit length [MQTT-1.5.4].
const MAX_LENGTH: usize = 65_535;

/// A topic filter: `plants/+plant/lines/+line/#rest`.
///
/// A named wildcard means to MQTT what the wildcard means without its name. What it matched is a variable of
/// the route's templates and expressions; `#rest` is the remaining levels joined by `/`, possibly empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter {
    text: String,
    wire: String,
    levels: Vec<Level>,
    names: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Level {
    Literal(String),
    /// `+`
    One {
        named: bool,
    },
    /// `#`
    Rest {
        named: bool,
    },
}

/// Why a text is not a filter, and what to write instead.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum FilterError {
    /// Nothing is written.
    #[error("a topic filter cannot be empty; write `#` for every topic")]
    Empty,
    /// Longer than an MQTT string can be.
    #[error("a topic filter has at most 65535 bytes, this one has {0}")]
    TooLong(usize),
    /// MQTT strings have no U+0000 [MQTT-1.5.4-2].
    #[error("a topic filter cannot contain the character U+0000")]
    Nul,
    /// Share names are made from the route.
    #[error(
        "`$share/...` is written by the route itself: write the filter without it and choose `ordering: Unordered`"
    )]
    Shared,
    /// `a/#/b`
    #[error("`{0}` must be the last level; use `+` for a single level in the middle")]
    RestNotLast(String),
    /// `a+` or `a#`
    #[error(
        "level `{level}`: `{wildcard}` must stand alone or before a name, as in `{wildcard}` or `{wildcard}name`"
    )]
    WildcardInLevel {
        /// The level.
        level: String,
        /// `+` or `#`
        wildcard: char,
    },
    /// The name of a wildcard cannot be used.
    #[error(transparent)]
    Name(#[from] NameError),
    /// Two wildcards with one name.
    #[error("two wildcards are named `{0}`; give each its own name")]
    DuplicateName(String),
}

impl Filter {
    /// Reads a filter as a user writes it.
    ///
    /// # Errors
    /// Says what is wrong and what to write instead.
    pub fn parse(text: &str) -> Result<Self, FilterError> {
        if text.is_empty() {
            return Err(FilterError::Empty);
        }
        if text.len() > MAX_LENGTH {
            return Err(FilterError::TooLong(text.len()));
        }
        if text.contains('\0') {
            return Err(FilterError::Nul);
        }
        if text == "$share" || text.starts_with("$share/") {
            return Err(FilterError::Shared);
        }
        let mut filter = Self {
            text: text.to_owned(),
            wire: String::with_capacity(text.len()),
            levels: Vec::new(),
            names: Vec::new(),
        };
        let mut levels = text.split('/').peekable();
        while let Some(level) = levels.next() {
            filter.push_level(level, levels.peek().is_none())?;
        }
        Ok(filter)
    }

    fn push_level(&mut self, level: &str, is_last: bool) -> Result<(), FilterError> {
        if !self.levels.is_empty() {
            self.wire.push('/');
        }
        let (wildcard, name) = match level.chars().next() {
            Some(wildcard @ ('+' | '#')) => (Some(wildcard), &level[1..]),
            _ => (None, level),
        };
        if let Some(misplaced) = name.chars().find(|c| matches!(c, '+' | '#')) {
            return Err(FilterError::WildcardInLevel {
                level: level.to_owned(),
                wildcard: misplaced,
            });
        }
        let Some(wildcard) = wildcard else {
            self.wire.push_str(level);
            self.levels.push(Level::Literal(level.to_owned()));
            return Ok(());
        };
        if wildcard == '#' && !is_last {
            return Err(FilterError::RestNotLast(level.to_owned()));
        }
        let named = !name.is_empty();
        if named {
            name::check(name)?;
            if self.names.iter().any(|known| known == name) {
                return Err(FilterError::DuplicateName(name.to_owned()));
            }
            self.names.push(name.to_owned());
        }
        self.wire.push(wildcard);
        self.levels.push(if wildcard == '+' {
            Level::One { named }
        } else {
            Level::Rest { named }
        });
        Ok(())
    }

    /// The filter as MQTT wants it, without names: `plants/+/lines/+/#`.
    pub fn wire(&self) -> &str {
        &self.wire
    }

    /// The filter as the user wrote it.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The names of the wildcards, from left to right.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.names.iter().map(String::as_str)
    }

    /// Whether a message published to `topic` is delivered for this filter.
    ///
    /// `sport/#` matches `sport` (MQTT 5, 4.7.1.2); a filter that begins with a wildcard does not match a topic
    /// that begins with `$` [MQTT-4.7.2-1].
    pub fn matches(&self, topic: &str) -> bool {
        self.walk(topic, |_| {})
    }

    /// Like [`Filter::matches`]; appends what the named wildcards matched, as byte ranges of `topic`, in the
    /// order of [`Filter::names`]. What was appended before a mismatch stays.
    pub(crate) fn capture(&self, topic: &str, captured: &mut Vec<Range<usize>>) -> bool {
        self.walk(topic, |range| captured.push(range))
    }

    fn walk(&self, topic: &str, mut on_named: impl FnMut(Range<usize>)) -> bool {
        let bytes = topic.as_bytes();
        match bytes.first() {
            None => return false,
            Some(b'$') if self.starts_with_wildcard() => return false,
            Some(_) => {}
        }
        // Where the next level of the topic starts; none once the last level is used up.
        let mut next = Some(0);
        for level in &self.levels {
            if let Level::Rest { named } = level {
                if *named {
                    on_named(next.unwrap_or(bytes.len())..bytes.len());
                }
                return true;
            }
            let Some(start) = next else { return false };
            let end = match level {
                Level::Literal(literal) => {
                    let end = start + literal.len();
                    if bytes.get(start..end) != Some(literal.as_bytes()) {
                        return false;
                    }
                    end
                }
                Level::One { named } => {
                    let end = bytes[start..]
                        .iter()
                        .position(|b| *b == b'/')
                        .map_or(bytes.len(), |n| start + n);
                    if *named {
                        on_named(start..end);
                    }
                    end
                }
                Level::Rest { .. } => return true,
            };
            next = match bytes.get(end) {
                None => None,
                Some(b'/') => Some(end + 1),
                Some(_) => return false,
            };
        }
        next.is_none()
    }

    /// Whether some topic matches both filters: the broker would deliver its messages for each.
    pub fn overlaps(&self, other: &Self) -> bool {
        let reserved_for_one =
            |one: &Self, other: &Self| one.starts_with_dollar() && other.starts_with_wildcard();
        if reserved_for_one(self, other) || reserved_for_one(other, self) {
            return false;
        }
        let mut index = 0;
        loop {
            match (self.levels.get(index), other.levels.get(index)) {
                (None, None) => return true,
                // `a/#` matches `a`; but `/#` and `+` have in common only the empty topic, which does not exist.
                (Some(Level::Rest { .. }), None) => return !self.parent_is_empty_topic(),
                (None, Some(Level::Rest { .. })) => return !other.parent_is_empty_topic(),
                (None, Some(_)) | (Some(_), None) => return false,
                (Some(Level::Rest { .. }), _) | (_, Some(Level::Rest { .. })) => return true,
                (Some(Level::Literal(one)), Some(Level::Literal(two))) if one != two => return false,
                (Some(_), Some(_)) => index += 1,
            }
        }
    }

    fn starts_with_wildcard(&self) -> bool {
        matches!(self.levels.first(), Some(Level::One { .. } | Level::Rest { .. }))
    }

    fn starts_with_dollar(&self) -> bool {
        self.wire.starts_with('$')
    }

    fn parent_is_empty_topic(&self) -> bool {
        self.wire == "/#"
    }
}
