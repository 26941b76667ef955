//! The two textual units of the API: durations ([`GepDuration`]) and sizes ([`Quantity`]).

mod duration;
mod quantity;

pub use duration::GepDuration;
pub use quantity::Quantity;

/// Why a duration or a size cannot be read. The text says what to write instead.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct UnitError(String);
