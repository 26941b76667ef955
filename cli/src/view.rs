//! What `run` and `demo` show while routes run.

pub(crate) mod json;
pub(crate) mod output;
pub(crate) mod screen;
pub(crate) mod table;
pub(crate) mod text;
