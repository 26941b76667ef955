//! User name and password, read from where the document says they are.

use std::error::Error;
use std::fmt;
use std::io;

use millrace_contract::{Credentials, Value};

use super::session::ConnectError;

/// User name and password. Neither is ever printed.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Login {
    pub(crate) username: String,
    pub(crate) password: String,
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Login(..)")
    }
}

impl Login {
    /// Reads what the document names.
    ///
    /// # Errors
    /// When a file or an environment variable cannot be read.
    pub(crate) fn read(credentials: &Credentials) -> Result<Self, ConnectError> {
        Ok(Self {
            username: read(&credentials.username)?,
            password: read(&credentials.password)?,
        })
    }
}

/// User name and password, for another client of the same broker.
///
/// # Errors
/// When a file or an environment variable cannot be read.
pub fn read_login(credentials: &Credentials) -> Result<(String, String), Box<dyn Error + Send + Sync>> {
    let login = Login::read(credentials)?;
    Ok((login.username, login.password))
}

fn read(value: &Value) -> Result<String, ConnectError> {
    match value {
        Value::Literal(text) => Ok(text.clone()),
        Value::File(path) => std::fs::read_to_string(path)
            .map(|text| text.trim_end_matches(['\r', '\n']).to_owned())
            .map_err(|source| ConnectError::Credentials {
                place: format!("file {}", path.display()),
                source,
            }),
        Value::Env(name) => std::env::var(name).map_err(|error| ConnectError::Credentials {
            place: format!("environment variable {name}"),
            // The error of a variable that is not UTF-8 would print it.
            source: io::Error::new(
                io::ErrorKind::NotFound,
                match error {
                    std::env::VarError::NotPresent => "it is not set",
                    std::env::VarError::NotUnicode(_) => "it is not UTF-8",
                },
            ),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_login_is_read_without_the_newline_at_the_end_and_is_never_printed() {
        let folder = tempfile::tempdir().unwrap();
        let password = folder.path().join("password");
        std::fs::write(&password, "canary\r\n").unwrap();
        let login = Login::read(&Credentials {
            username: Value::Literal("plant".into()),
            password: Value::File(password),
        })
        .unwrap();
        assert_eq!(
            (login.username.as_str(), login.password.as_str()),
            ("plant", "canary")
        );
        assert!(!format!("{login:?}").contains("canary"));
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        let missing = Credentials {
            username: Value::Literal("plant".into()),
            password: Value::File("/nowhere/password".into()),
        };
        let error = Login::read(&missing).unwrap_err().to_string();
        assert!(error.contains("/nowhere/password"), "{error}");
    }
}
