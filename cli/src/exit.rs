//! How the command ends, for scripts.

use std::process::ExitCode;

/// The exit codes. They are part of the interface: `millrace --help` lists them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// All is well: no errors found, every message confirmed, every message accounted for.
    Success,
    /// Errors in manifests, a route that could not be started, a message missing from the demonstration.
    Failed,
    /// Messages were left unconfirmed. They remain at the MQTT broker and come again.
    MessagesLeft,
    /// A route stopped at a message that it could not deliver.
    RouteStopped,
    /// The command line cannot be understood (`EX_USAGE` of sysexits.h).
    Usage,
}

/// For `millrace --help`.
pub(crate) const HELP: &str = "Exit codes:
   0  all is well
   1  errors in manifests, or something could not be started
   2  run: messages were left unconfirmed; they remain at the MQTT broker and come again
   3  run: a route stopped at a message that it could not deliver
  64  the command line cannot be understood";

impl Exit {
    /// The number that the process returns.
    pub(crate) fn code(self) -> u8 {
        match self {
            Self::Success => 0,
            Self::Failed => 1,
            Self::MessagesLeft => 2,
            Self::RouteStopped => 3,
            Self::Usage => 64,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}
