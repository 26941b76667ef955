//! One kind of number for what comes from JSON.
//!
//! JSON does not tell 85 from 85.0, and devices send both. In CEL an int and a double do not mix: `payload.t * 1.8`
//! would work for 85.5 and fail for 85, and `payload.t / 2` would lose the half only for whole numbers. So a JSON
//! number is a double. A double holds every whole number below 2^53; from there on, whole numbers are an int (or
//! uint), so that identifiers and time stamps keep all their digits, and arithmetic joins the two.

use cel::common::types::{CelDouble, CelInt, CelUInt};
use cel::common::value::{CowVal, Val};

/// 2^53: below it, a double holds every whole number.
const EXACT: i128 = 1 << 53;

/// A whole number of at most 64 bits, or what 64-bit arithmetic makes of two of them.
pub(crate) type Whole = i128;

/// A number, whatever CEL calls it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Number {
    /// Known in all its digits.
    Whole(Whole),
    /// As near as a double comes.
    Real(f64),
}

impl Number {
    /// The number that a value is, if it is one.
    pub(crate) fn of(value: &dyn Val) -> Option<Self> {
        if let Some(double) = value.downcast_ref::<CelDouble>() {
            return Some(Self::from(*double.inner()));
        }
        if let Some(int) = value.downcast_ref::<CelInt>() {
            return Some(Self::Whole(Whole::from(*int.inner())));
        }
        value
            .downcast_ref::<CelUInt>()
            .map(|uint| Self::Whole(Whole::from(*uint.inner())))
    }

    /// The nearest double.
    pub(crate) fn to_f64(self) -> f64 {
        match self {
            Self::Whole(whole) => whole as f64,
            Self::Real(real) => real,
        }
    }

    /// The value that stands for this number in expressions, by the rule of this module.
    pub(crate) fn into_value<'b, 'v>(self) -> CowVal<'b, 'v> {
        CowVal::Owned(self.into_boxed())
    }

    /// Like [`Number::into_value`], for containers.
    pub(crate) fn into_boxed<'v>(self) -> Box<dyn Val + 'v> {
        match self {
            Self::Whole(whole) if is_exact(whole) => Box::new(CelDouble::from(whole as f64)),
            Self::Whole(whole) => {
                if let Ok(int) = i64::try_from(whole) {
                    Box::new(CelInt::from(int))
                } else if let Ok(uint) = u64::try_from(whole) {
                    Box::new(CelUInt::from(uint))
                } else {
                    Box::new(CelDouble::from(whole as f64))
                }
            }
            Self::Real(real) => Box::new(CelDouble::from(real)),
        }
    }
}

impl From<f64> for Number {
    fn from(double: f64) -> Self {
        if double.fract() == 0.0 && double.abs() < EXACT as f64 {
            Self::Whole(double as Whole)
        } else {
            Self::Real(double)
        }
    }
}

/// Whether a double holds this number, and its neighbours.
pub(crate) fn is_exact(whole: Whole) -> bool {
    whole.abs() < EXACT
}
