//! Where `run` finds what manifests only name, passwords and certificates: there is no cluster to ask.

use std::fmt;
use std::path::{Path, PathBuf};

use millrace_contract::Value;
use millrace_crds::Place;

/// A directory laid out as Kubernetes mounts Secrets and ConfigMaps, and the environment.
#[derive(Clone, Debug, Default)]
pub(crate) struct Secrets {
    /// Holds a file `<object>/<key>` per value, and `token/<audience>`.
    pub(crate) directory: Option<PathBuf>,
}

/// A value that is in neither place.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Missing {
    value: Named,
    variable: String,
    file: Option<PathBuf>,
}

impl Secrets {
    /// Where the worker will find a value: the file if there is one, else the variable if it is set. Only the place
    /// is looked at; the value stays where it is until a connection needs it.
    pub(crate) fn find(&self, place: &Place<'_>, is_set: impl Fn(&str) -> bool) -> Result<Value, Missing> {
        let value = Named::of(place);
        let file = self
            .directory
            .as_deref()
            .map(|directory| directory.join(&value.file));
        let variable = value.variable();
        match file {
            Some(file) if file.is_file() => Ok(Value::File(file)),
            _ if is_set(&variable) => Ok(Value::Env(variable)),
            file => Err(Missing {
                value,
                variable,
                file,
            }),
        }
    }
}

/// What a value is called here.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Named {
    /// For a person.
    what: String,
    /// Below the directory.
    file: PathBuf,
}

impl Named {
    fn of(place: &Place<'_>) -> Self {
        let (kind, key) = match place {
            Place::Secret(key) => ("Secret", key),
            Place::ConfigMap(key) => ("ConfigMap", key),
            Place::Token { audience, .. } => {
                return Self {
                    what: format!("there is no ServiceAccount here to have a token for {audience}"),
                    file: Path::new("token").join(audience.replace('/', "_")),
                };
            }
        };
        Self {
            what: format!(
                "{kind} {}/{} has no value for `{}` here",
                key.namespace, key.name, key.key
            ),
            file: Path::new(key.name).join(key.key),
        }
    }

    /// `MILLRACE_SECRET_<SECRET>_<KEY>` in upper case, other characters than letters and digits as `_`.
    fn variable(&self) -> String {
        let upper = |c: char| {
            if c.is_ascii_alphanumeric() {
                c.to_ascii_uppercase()
            } else {
                '_'
            }
        };
        format!("MILLRACE_SECRET_{}", self.file.display())
            .chars()
            .map(upper)
            .collect()
    }
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            value,
            variable,
            file,
        } = self;
        let file = match file {
            Some(file) => format!("the file {}", file.display()),
            None => format!("with --secret-dir DIR the file DIR/{}", value.file.display()),
        };
        write!(f, "{}: write {file}, or set {variable}", value.what)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use millrace_crds::Key;

    use super::*;

    const KEY: Place<'static> = Place::Secret(Key {
        namespace: "plant",
        name: "mqtt-login.v2",
        key: "password",
    });

    #[test]
    fn a_file_goes_before_the_environment() {
        let dir = tempfile::tempdir().unwrap();
        let secrets = Secrets {
            directory: Some(dir.path().to_owned()),
        };
        let variable = "MILLRACE_SECRET_MQTT_LOGIN_V2_PASSWORD";
        assert_eq!(
            secrets.find(&KEY, |name| name == variable),
            Ok(Value::Env(variable.into()))
        );

        fs::create_dir(dir.path().join("mqtt-login.v2")).unwrap();
        let file = dir.path().join("mqtt-login.v2/password");
        fs::write(&file, "x").unwrap();
        assert_eq!(secrets.find(&KEY, |_| true), Ok(Value::File(file)));
    }

    #[test]
    fn a_missing_value_names_both_places() {
        let without = Secrets::default().find(&KEY, |_| false).unwrap_err().to_string();
        assert_eq!(
            without,
            "Secret plant/mqtt-login.v2 has no value for `password` here: write with --secret-dir DIR the file \
             DIR/mqtt-login.v2/password, or set MILLRACE_SECRET_MQTT_LOGIN_V2_PASSWORD"
        );
        let with = Secrets {
            directory: Some("/run/secrets".into()),
        }
        .find(&KEY, |_| false)
        .unwrap_err()
        .to_string();
        assert!(
            with.contains("write the file /run/secrets/mqtt-login.v2/password, or set"),
            "{with}"
        );
    }
}
