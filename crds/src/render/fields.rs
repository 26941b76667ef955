use std::time::Duration;

use super::RenderError;
use crate::api::Named;
use crate::units::GepDuration;

/// Reads fields of one object, naming the object in errors.
pub(super) struct Fields {
    object: String,
}

impl Fields {
    pub(super) fn of<K: kube::Resource<DynamicType = ()>>(object: &K) -> Self {
        Self {
            object: format!("{} {}/{}", K::kind(&()), object.namespace(), object.name()),
        }
    }

    pub(super) fn error(&self, field: &str, message: impl ToString) -> RenderError {
        RenderError {
            object: self.object.clone(),
            field: field.into(),
            message: message.to_string(),
        }
    }

    pub(super) fn present<'v, T>(&self, field: &str, value: Option<&'v T>) -> Result<&'v T, RenderError> {
        value.ok_or_else(|| self.error(field, "is missing"))
    }

    pub(super) fn read<T, E: ToString>(&self, field: &str, result: Result<T, E>) -> Result<T, RenderError> {
        result.map_err(|error| self.error(field, error))
    }

    pub(super) fn narrow<N: TryInto<T>, T>(&self, field: &str, number: N) -> Result<T, RenderError> {
        number
            .try_into()
            .map_err(|_| self.error(field, "is out of range"))
    }

    fn duration(&self, field: &str, text: &GepDuration) -> Result<Duration, RenderError> {
        self.read(field, text.parse())
    }

    pub(super) fn millis(&self, field: &str, text: &GepDuration) -> Result<u64, RenderError> {
        self.narrow(field, self.duration(field, text)?.as_millis())
    }

    /// Whole seconds, which is what MQTT counts in; a part of a second counts as one.
    pub(super) fn seconds(&self, field: &str, text: &GepDuration) -> Result<u32, RenderError> {
        self.narrow(field, self.duration(field, text)?.as_millis().div_ceil(1000))
    }
}
