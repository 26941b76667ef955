//! Where `run` finds the Secrets that manifests name: there is no cluster to ask.

use std::fmt;
use std::path::{Path, PathBuf};

use millrace_contract::Value;
use millrace_crds::SecretKey;

/// A directory laid out as Kubernetes mounts Secrets, and the environment.
#[derive(Clone, Debug, Default)]
pub(crate) struct Secrets {
    /// Holds a file `<secret>/<key>` per value.
    pub(crate) directory: Option<PathBuf>,
}

/// A value that is in neither place.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Missing {
    namespace: String,
    secret: String,
    key: String,
    variable: String,
    file: Option<PathBuf>,
}

impl Secrets {
    /// Where the worker will find a value: the file if there is one, else the variable if it is set. Only the place
    /// is looked at; the value stays where it is until a connection needs it.
    pub(crate) fn find(&self, key: &SecretKey<'_>, is_set: impl Fn(&str) -> bool) -> Result<Value, Missing> {
        let file = self.directory.as_deref().map(|directory| file_of(directory, key));
        let variable = variable_of(key);
        match file {
            Some(file) if file.is_file() => Ok(Value::File(file)),
            _ if is_set(&variable) => Ok(Value::Env(variable)),
            file => Err(Missing {
                namespace: key.namespace.to_owned(),
                secret: key.secret.to_owned(),
                key: key.key.to_owned(),
                variable,
                file,
            }),
        }
    }
}

fn file_of(directory: &Path, key: &SecretKey<'_>) -> PathBuf {
    directory.join(key.secret).join(key.key)
}

/// `MILLRACE_SECRET_<SECRET>_<KEY>` in upper case, other characters than letters and digits as `_`.
fn variable_of(key: &SecretKey<'_>) -> String {
    let upper = |c: char| {
        if c.is_ascii_alphanumeric() {
            c.to_ascii_uppercase()
        } else {
            '_'
        }
    };
    format!("MILLRACE_SECRET_{}_{}", key.secret, key.key)
        .chars()
        .map(upper)
        .collect()
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            namespace,
            secret,
            key,
            variable,
            file,
        } = self;
        let file = match file {
            Some(file) => format!("the file {}", file.display()),
            None => format!("with --secret-dir DIR the file DIR/{secret}/{key}"),
        };
        write!(
            f,
            "Secret {namespace}/{secret} has no value for `{key}` here: write {file}, or set {variable}"
        )
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const KEY: SecretKey<'static> = SecretKey {
        namespace: "plant",
        secret: "mqtt-login.v2",
        key: "password",
    };

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
