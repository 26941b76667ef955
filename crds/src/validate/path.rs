use std::fmt;

/// Where in an object: `spec.from.mqtt.subscriptions[1].filter`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct FieldPath(Vec<Step>);

/// One step into an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// A field, or an entry of a map.
    Key(String),
    /// An item of a list.
    Index(usize),
}

impl FieldPath {
    /// Reads a path that has no key with a dot, a bracket or a space in it.
    pub(super) fn parse(text: &str) -> Self {
        let steps = text
            .split(['.', '['])
            .filter(|part| !part.is_empty())
            .map(
                |part| match part.strip_suffix(']').and_then(|index| index.parse().ok()) {
                    Some(index) => Step::Index(index),
                    None => Step::Key(part.trim_end_matches(']').to_owned()),
                },
            );
        Self(steps.collect())
    }

    pub(super) fn key(&self, key: impl Into<String>) -> Self {
        self.step(Step::Key(key.into()))
    }

    pub(super) fn index(&self, index: usize) -> Self {
        self.step(Step::Index(index))
    }

    fn step(&self, step: Step) -> Self {
        let mut steps = self.0.clone();
        steps.push(step);
        Self(steps)
    }

    pub(super) fn steps(&self) -> &[Step] {
        &self.0
    }

    /// Whether this is `other` or encloses it.
    pub(super) fn encloses(&self, other: &Self) -> bool {
        other.0.starts_with(&self.0)
    }
}

impl fmt::Display for FieldPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, step) in self.0.iter().enumerate() {
            match step {
                Step::Index(index) => write!(f, "[{index}]")?,
                Step::Key(key) if key.is_empty() || key.contains(['.', '[', ']', ' ']) => {
                    write!(f, "[{key:?}]")?
                }
                Step::Key(key) if position == 0 => f.write_str(key)?,
                Step::Key(key) => write!(f, ".{key}")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_reads_as_users_write_it() {
        let text = "spec.from.mqtt.subscriptions[1].filter";
        let path = FieldPath::parse(text);
        assert_eq!(path.to_string(), text);
        assert_eq!(
            path,
            FieldPath::parse("spec.from.mqtt")
                .key("subscriptions")
                .index(1)
                .key("filter")
        );
        assert_eq!(
            FieldPath::parse("spec.headers").key("a.b").to_string(),
            r#"spec.headers["a.b"]"#
        );
    }

    #[test]
    fn a_path_encloses_itself_and_what_is_below() {
        let path = FieldPath::parse("spec.to");
        assert!(path.encloses(&path));
        assert!(path.encloses(&FieldPath::parse("spec.to.kafka")));
        assert!(!path.encloses(&FieldPath::parse("spec")));
    }
}
