//! The functions CEL does not have.

use std::collections::HashMap;

use cel::common::ast::{CallExpr, Expr, IdedExpr, ListExpr};
use cel::common::types::{CelList, CelMap, CelMapKey, CelString, DYN_TYPE};
use cel::common::value::{CowVal, Val};
use cel::{DeclarationError, Env, ExecutionError};

pub(super) const MERGE: &str = "merge";
pub(super) const WITHOUT: &str = "without";
pub(super) const GET: &str = "get";

/// CEL has no functions of any number of arguments: `without(map, a, b)` becomes `without(map, [a, b])`.
pub(super) fn gather_keys(call: &mut CallExpr) {
    if call.func_name == WITHOUT && call.target.is_none() && call.args.len() > 2 {
        let keys = call.args.split_off(1);
        call.args.push(IdedExpr {
            id: 0,
            expr: Expr::List(ListExpr::new(keys)),
        });
    }
}

type Entries<'v> = HashMap<CelMapKey<'v>, Box<dyn Val + 'v>>;

pub(super) fn declare(env: &mut Env) -> Result<(), DeclarationError> {
    env.add_overload(MERGE, MERGE, vec![DYN_TYPE, DYN_TYPE], merge)?;
    env.add_overload(WITHOUT, WITHOUT, vec![DYN_TYPE, DYN_TYPE], without)?;
    env.add_overload(GET, GET, vec![DYN_TYPE, DYN_TYPE, DYN_TYPE], get)
}

/// `merge(a, b)`: the entries of both maps; of a key in both, the value in `b`. Maps inside are not merged.
fn merge<'b, 'v>(args: Vec<CowVal<'b, 'v>>) -> Result<CowVal<'b, 'v>, ExecutionError> {
    let [base, over]: [CowVal<'b, 'v>; 2] = args
        .try_into()
        .map_err(|args: Vec<_>| ExecutionError::invalid_argument_count(2, args.len()))?;
    let mut entries = into_entries(MERGE, base)?;
    entries.extend(into_entries(MERGE, over)?);
    Ok(CowVal::owned(CelMap::from(entries)))
}

/// `without(map, keys)`: the map less the keys, a text or a list of texts. Keys it does not have do no harm.
fn without<'b, 'v>(args: Vec<CowVal<'b, 'v>>) -> Result<CowVal<'b, 'v>, ExecutionError> {
    let [map, keys]: [CowVal<'b, 'v>; 2] = args
        .try_into()
        .map_err(|args: Vec<_>| ExecutionError::invalid_argument_count(2, args.len()))?;
    let mut entries = into_entries(WITHOUT, map)?;
    match keys.downcast_ref::<CelList<'v>>() {
        Some(list) => {
            for key in list.inner() {
                entries.remove(&as_key(WITHOUT, key.as_ref())?);
            }
        }
        None => {
            entries.remove(&as_key(WITHOUT, keys.as_ref())?);
        }
    }
    Ok(CowVal::owned(CelMap::from(entries)))
}

/// `get(map, key, default)`: the value at a key, or the default if the map does not have the key.
fn get<'b, 'v>(args: Vec<CowVal<'b, 'v>>) -> Result<CowVal<'b, 'v>, ExecutionError> {
    let [map, key, default]: [CowVal<'b, 'v>; 3] = args
        .try_into()
        .map_err(|args: Vec<_>| ExecutionError::invalid_argument_count(3, args.len()))?;
    let wanted = as_key(GET, key.as_ref())?;
    let found = match map {
        CowVal::Borrowed(map) => as_map(GET, map)?
            .inner()
            .get(&wanted)
            .map(|v| CowVal::Borrowed(v.as_ref())),
        CowVal::Owned(map) => as_map(GET, map.as_ref())?
            .inner()
            .get(&wanted)
            .map(|v| CowVal::Owned(v.clone())),
    };
    Ok(found.unwrap_or(default))
}

fn as_map<'b, 'v>(function: &str, value: &'b (dyn Val + 'v)) -> Result<&'b CelMap<'v>, ExecutionError> {
    value.downcast_ref::<CelMap<'v>>().ok_or_else(|| {
        let message = format!("a {} where a map is needed", value.get_type().name());
        ExecutionError::function_error(function, message)
    })
}

fn as_key<'v>(function: &str, value: &(dyn Val + 'v)) -> Result<CelMapKey<'v>, ExecutionError> {
    let text = value.downcast_ref::<CelString<'v>>().ok_or_else(|| {
        let message = format!("a {} where the name of a key is needed", value.get_type().name());
        ExecutionError::function_error(function, message)
    })?;
    Ok(CelMapKey::String(text.clone()))
}

/// A copy of a map's entries. Texts that are still where the message has them are not copied.
fn into_entries<'v>(function: &str, map: CowVal<'_, 'v>) -> Result<Entries<'v>, ExecutionError> {
    let entries = as_map(function, map.as_ref())?.inner();
    let mut copy = Entries::with_capacity(entries.len() + 4);
    copy.extend(entries.iter().map(|(key, value)| (key.clone(), value.clone())));
    Ok(copy)
}
