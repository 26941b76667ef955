//! What `run`, `demo` and `top` show of routes.

pub(crate) mod fit;
pub(crate) mod grid;
pub(crate) mod json;
pub(crate) mod output;
pub(crate) mod screen;
pub(crate) mod table;
pub(crate) mod text;
