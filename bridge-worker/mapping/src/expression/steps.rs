//! A bound on what one message can cost.
//!
//! Loops run over lists that devices send, and a loop in a loop, or one that copies the payload for each element,
//! makes the square of them. So each turn of a loop is counted, with the size of what it gives.

use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use cel::common::ast::{CallExpr, ComprehensionExpr, Expr, IdedExpr, operators};
use cel::common::types::{CelBytes, CelList, CelMap, CelString, DYN_TYPE, Type};
use cel::common::value::{CowVal, StaticVal, Val};
use cel::{DeclarationError, Env, ExecutionError};

/// Steps of a message without payload: enough for loops over the levels of a topic.
const BASE: usize = 100_000;
/// Steps for each byte of payload. A loop over a list takes about one for each byte of the list.
const PER_BYTE: usize = 2;
/// Bytes of text that count as a step.
const TEXT: usize = 64;

/// Names that no expression can spell.
const TAKE: &str = "@take";
pub(super) const LEFT: &str = "@steps";

static TYPE: Type = Type::new_unspecified_type("@steps");

/// The steps that are left for a message.
#[derive(Clone, Debug)]
pub(super) struct Steps(Arc<AtomicUsize>);

impl Steps {
    pub(super) fn for_payload(bytes: usize) -> Self {
        Self(Arc::new(AtomicUsize::new(BASE + bytes.saturating_mul(PER_BYTE))))
    }

    fn take(&self, steps: usize) -> Result<(), ExecutionError> {
        // One message is mapped by one thread: the atomic is there because CEL values must be Sync.
        let left = self.0.load(Ordering::Relaxed).checked_sub(steps);
        let left = left.ok_or_else(|| {
            ExecutionError::function_error(
                "loop",
                "the payload is too large for what the expression does with it",
            )
        })?;
        self.0.store(left, Ordering::Relaxed);
        Ok(())
    }
}

impl Val for Steps {
    fn get_type(&self) -> &Type {
        &TYPE
    }

    fn cel_type() -> &'static Type {
        &TYPE
    }

    fn clone_as_boxed<'v>(&self) -> Box<dyn Val + 'v>
    where
        Self: 'v,
    {
        Box::new(self.clone())
    }

    fn as_any(&self) -> Option<&dyn Any> {
        Some(self)
    }
}

impl StaticVal for Steps {}

pub(super) fn declare(env: &mut Env) -> Result<(), DeclarationError> {
    env.add_overload(TAKE, TAKE, vec![DYN_TYPE, DYN_TYPE], |args| {
        let [steps, value]: [CowVal<'_, '_>; 2] = args
            .try_into()
            .map_err(|args: Vec<_>| ExecutionError::invalid_argument_count(2, args.len()))?;
        if let Some(steps) = steps.downcast_ref::<Steps>() {
            steps.take(1 + weight(value.as_ref()))?;
        }
        Ok(value)
    })
}

/// Makes a loop count its turns: a part of it that is evaluated in each turn is wrapped, and the shape by which CEL
/// recognises its own macros is kept.
pub(super) fn count(fold: &mut ComprehensionExpr) {
    let Expr::Call(call) = &mut fold.loop_step.expr else {
        return;
    };
    match (call.func_name.as_str(), call.args.as_mut_slice()) {
        // all and exists: an error in their step waits for the end of the loop, one in their condition ends it.
        (operators::LOGICAL_AND | operators::LOGICAL_OR, _) => wrap(&mut fold.loop_cond),
        // filter, exists_one, and map with a condition
        (operators::CONDITIONAL, [condition, step, _]) => {
            wrap(condition);
            wrap_added(step);
        }
        // map
        _ => wrap_added(&mut fold.loop_step),
    }
}

/// Of `@result + [value]`, wraps the value.
fn wrap_added(step: &mut IdedExpr) {
    if let Expr::Call(call) = &mut step.expr
        && let (operators::ADD, [_, added]) = (call.func_name.as_str(), call.args.as_mut_slice())
        && let Expr::List(list) = &mut added.expr
    {
        list.elements.iter_mut().for_each(wrap);
    }
}

fn wrap(expr: &mut IdedExpr) {
    let steps = IdedExpr {
        id: 0,
        expr: Expr::Ident(LEFT.to_owned()),
    };
    let value = std::mem::take(expr);
    let id = value.id;
    let call = CallExpr {
        func_name: TAKE.to_owned(),
        target: None,
        args: vec![steps, value],
    };
    *expr = IdedExpr {
        id,
        expr: Expr::Call(call),
    };
}

/// How many values a value consists of, long texts counting as several.
fn weight(value: &dyn Val) -> usize {
    if let Some(map) = value.downcast_ref::<CelMap<'_>>() {
        map.inner().values().map(|value| 1 + weight(value.as_ref())).sum()
    } else if let Some(list) = value.downcast_ref::<CelList<'_>>() {
        list.inner().iter().map(|value| 1 + weight(value.as_ref())).sum()
    } else if let Some(text) = value.downcast_ref::<CelString<'_>>() {
        text.inner().len() / TEXT
    } else {
        value
            .downcast_ref::<CelBytes<'_>>()
            .map_or(0, |bytes| bytes.inner().len() / TEXT)
    }
}
