//! Which functions there are, and how each is written.

use cel::common::ast::CallExpr;

use super::functions::{GET, MERGE, WITHOUT};

struct Signature {
    name: &'static str,
    /// Whether it is called on a value: `text.contains(part)`.
    is_member: bool,
    arguments: std::ops::RangeInclusive<usize>,
    usage: &'static str,
}

const fn function(name: &'static str, min: usize, max: usize, usage: &'static str) -> Signature {
    Signature {
        name,
        is_member: false,
        arguments: min..=max,
        usage,
    }
}

const fn member(name: &'static str, count: usize, usage: &'static str) -> Signature {
    Signature {
        name,
        is_member: true,
        arguments: count..=count,
        usage,
    }
}

/// Every function there is.
const FUNCTIONS: [Signature; 16] = [
    function("bool", 1, 1, "bool(x)"),
    function("bytes", 1, 1, "bytes(x)"),
    function("double", 1, 1, "double(x)"),
    function("dyn", 1, 1, "dyn(x)"),
    function(GET, 3, 3, "get(map, key, default)"),
    function("int", 1, 1, "int(x)"),
    function(MERGE, 2, 2, "merge(map, map)"),
    function("size", 1, 1, "size(x)"),
    function("string", 1, 1, "string(x)"),
    function("type", 1, 1, "type(x)"),
    function("uint", 1, 1, "uint(x)"),
    function(WITHOUT, 2, 32, "without(map, key, ...)"),
    member("contains", 1, "text.contains(part)"),
    member("endsWith", 1, "text.endsWith(end)"),
    member("size", 0, "x.size()"),
    member("startsWith", 1, "text.startsWith(start)"),
];

/// Macros that the parser left as calls, because their arguments are not what they need.
const MACROS: [(&str, &str); 6] = [
    ("all", "list.all(name, condition)"),
    ("exists", "list.exists(name, condition)"),
    ("exists_one", "list.exists_one(name, condition)"),
    ("filter", "list.filter(name, condition)"),
    ("has", "has(payload.field)"),
    ("map", "list.map(name, expression)"),
];

/// Checks that a call names a function there is and gives it what it needs.
pub(super) fn check(call: &CallExpr) -> Result<(), String> {
    let name = call.func_name.as_str();
    // Operators have names that no function can have.
    if name.contains(|c: char| !c.is_ascii_alphanumeric() && c != '_') || name == "_[_]" {
        return Ok(());
    }
    let is_member = call.target.is_some();
    let mut same_name = FUNCTIONS.iter().filter(|known| known.name == name).peekable();
    if same_name.peek().is_none() {
        if let Some((_, usage)) = MACROS.iter().find(|(known, _)| *known == name) {
            return Err(format!("`{name}` is written `{usage}`"));
        }
        return Err(format!(
            "unknown function `{name}`; there are {}",
            function_names()
        ));
    }
    if same_name
        .clone()
        .any(|known| known.is_member == is_member && known.arguments.contains(&call.args.len()))
    {
        return Ok(());
    }
    let usages: Vec<_> = same_name.map(|known| format!("`{}`", known.usage)).collect();
    Err(format!("`{name}` is written {}", usages.join(" or ")))
}

fn function_names() -> String {
    let mut names: Vec<_> = FUNCTIONS.iter().map(|known| known.name).collect();
    names.extend(MACROS.iter().map(|(name, _)| *name));
    names.sort_unstable();
    names.dedup();
    names.join(", ")
}
