//! Arithmetic on numbers of every kind.
//!
//! CEL's operators look at the left operand only, and know no mixed arithmetic. So `+`, `-`, `*`, `/`, `%` and the
//! sign are replaced, in the parsed expression, by functions of ours. They leave to CEL what is no number, and two
//! small ints or uints (literals, `size()`, `message.qos`): `7 / 2` is 3, as in CEL everywhere.

use cel::common::ast::{EntryExpr, Expr, IdedExpr, operators};
use cel::common::types::{CelBytes, CelDouble, CelInt, CelList, CelString, CelUInt, DYN_TYPE};
use cel::common::value::{CowVal, StaticVal, Val};
use cel::{DeclarationError, Env, ExecutionError};

use super::number::{Number, Whole, is_exact};
use super::{functions, steps};

/// Largest text, byte string or list that `+` makes, in bytes or elements: `a + a` doubles it each time.
const MAX_SUM: usize = 16 << 20;

/// Names that no expression can spell.
const ADD: &str = "@add";
const SUBTRACT: &str = "@subtract";
const MULTIPLY: &str = "@multiply";
const DIVIDE: &str = "@divide";
const REMAINDER: &str = "@remainder";
const NEGATE: &str = "@negate";

pub(super) fn declare(env: &mut Env) -> Result<(), DeclarationError> {
    let two = || vec![DYN_TYPE, DYN_TYPE];
    env.add_overload(ADD, ADD, two(), |args| binary(args, Operator::Add))?;
    env.add_overload(SUBTRACT, SUBTRACT, two(), |args| binary(args, Operator::Subtract))?;
    env.add_overload(MULTIPLY, MULTIPLY, two(), |args| binary(args, Operator::Multiply))?;
    env.add_overload(DIVIDE, DIVIDE, two(), |args| binary(args, Operator::Divide))?;
    env.add_overload(REMAINDER, REMAINDER, two(), |args| {
        binary(args, Operator::Remainder)
    })?;
    env.add_overload(NEGATE, NEGATE, vec![DYN_TYPE], negate)
}

/// Replaces CEL's arithmetic by ours, and makes loops count their turns.
pub(super) fn rewrite(ast: &mut IdedExpr) {
    match &mut ast.expr {
        Expr::Call(call) => {
            call.target.iter_mut().for_each(|target| rewrite(target));
            call.args.iter_mut().for_each(rewrite);
            functions::gather_keys(call);
            let replacement = match call.func_name.as_str() {
                operators::ADD => ADD,
                operators::SUBSTRACT => SUBTRACT,
                operators::MULTIPLY => MULTIPLY,
                operators::DIVIDE => DIVIDE,
                operators::MODULO => REMAINDER,
                operators::NEGATE => NEGATE,
                _ => return,
            };
            // The macros add to their own accumulator, which CEL recognises and makes fast.
            let is_accumulator = matches!(call.args.first().map(|arg| &arg.expr), Some(Expr::Ident(name)) if name.starts_with('@'));
            if !is_accumulator {
                replacement.clone_into(&mut call.func_name);
            }
        }
        Expr::Comprehension(fold) => {
            rewrite(&mut fold.iter_range);
            rewrite(&mut fold.accu_init);
            rewrite(&mut fold.loop_cond);
            rewrite(&mut fold.loop_step);
            rewrite(&mut fold.result);
            steps::count(fold);
        }
        Expr::List(list) => list.elements.iter_mut().for_each(rewrite),
        Expr::Select(select) => rewrite(&mut select.operand),
        Expr::Map(map) => {
            for entry in &mut map.entries {
                match &mut entry.expr {
                    EntryExpr::MapEntry(entry) => {
                        rewrite(&mut entry.key);
                        rewrite(&mut entry.value);
                    }
                    EntryExpr::StructField(field) => rewrite(&mut field.value),
                }
            }
        }
        Expr::Struct(_) | Expr::Ident(_) | Expr::Literal(_) | Expr::Unspecified => {}
    }
}

#[derive(Clone, Copy)]
enum Operator {
    Add,
    Subtract,
    Multiply,
    Divide,
    Remainder,
}

impl Operator {
    fn symbol(self) -> &'static str {
        match self {
            Self::Add => "+",
            Self::Subtract => "-",
            Self::Multiply => "*",
            Self::Divide => "/",
            Self::Remainder => "%",
        }
    }
}

fn binary<'b, 'v>(args: Vec<CowVal<'b, 'v>>, operator: Operator) -> Result<CowVal<'b, 'v>, ExecutionError> {
    let [left, right] = args.as_slice() else {
        return Err(ExecutionError::invalid_argument_count(2, args.len()));
    };
    let (left, right) = (left.as_ref(), right.as_ref());
    let both_small = |is_small: fn(&dyn Val) -> bool| is_small(left) && is_small(right);
    if both_small(is_small::<CelInt>) || both_small(is_small::<CelUInt>) {
        return native(operator, left, right);
    }
    match (Number::of(left), Number::of(right)) {
        (Some(left), Some(right)) => compute(operator, left, right).map(Number::into_value),
        _ => native(operator, left, right),
    }
}

/// Whether this is an `int` (or `uint`) that JSON would not have given.
fn is_small<T: StaticVal>(value: &dyn Val) -> bool {
    value.downcast_ref::<T>().is_some()
        && matches!(Number::of(value), Some(Number::Whole(whole)) if is_exact(whole))
}

/// Exact while operands and result are whole, else the arithmetic of doubles.
fn compute(operator: Operator, left: Number, right: Number) -> Result<Number, ExecutionError> {
    if let (Number::Whole(a), Number::Whole(b)) = (left, right) {
        let exact: Option<Whole> = match operator {
            Operator::Add => a.checked_add(b),
            Operator::Subtract => a.checked_sub(b),
            Operator::Multiply => a.checked_mul(b),
            Operator::Divide if b != 0 && a % b == 0 => Some(a / b),
            Operator::Remainder if b != 0 => Some(a % b),
            Operator::Divide | Operator::Remainder => None,
        };
        if let Some(exact) = exact {
            return Ok(Number::Whole(exact));
        }
    }
    let (a, b) = (left.to_f64(), right.to_f64());
    let result = match operator {
        Operator::Add => a + b,
        Operator::Subtract => a - b,
        Operator::Multiply => a * b,
        Operator::Divide | Operator::Remainder if b == 0.0 => {
            return Err(ExecutionError::function_error(
                operator.symbol(),
                "division by zero",
            ));
        }
        Operator::Divide => a / b,
        Operator::Remainder => a % b,
    };
    if result.is_finite() {
        Ok(Number::Real(result))
    } else {
        Err(ExecutionError::function_error(
            operator.symbol(),
            "the result is not a finite number",
        ))
    }
}

fn native<'b, 'v>(
    operator: Operator,
    left: &(dyn Val + 'v),
    right: &(dyn Val + 'v),
) -> Result<CowVal<'b, 'v>, ExecutionError> {
    let mismatch = || {
        let types = vec![
            left.get_type().name().to_owned(),
            right.get_type().name().to_owned(),
        ];
        ExecutionError::no_such_overload(operator.symbol(), types)
    };
    let result = match operator {
        Operator::Add => {
            if length(left).saturating_add(length(right)) > MAX_SUM {
                return Err(ExecutionError::function_error(
                    operator.symbol(),
                    "the result is too large",
                ));
            }
            left.as_adder().ok_or_else(mismatch)?.add(right)
        }
        Operator::Subtract => left.as_subtractor().ok_or_else(mismatch)?.sub(right),
        Operator::Multiply => left.as_multiplier().ok_or_else(mismatch)?.mul(right),
        Operator::Divide => left.as_divider().ok_or_else(mismatch)?.div(right),
        Operator::Remainder => left.as_modder().ok_or_else(mismatch)?.modulo(right),
    };
    match result {
        Ok(value) => Ok(CowVal::Owned(value.into_owned())),
        Err(ExecutionError::UnsupportedBinaryOperator(..) | ExecutionError::UnexpectedType { .. }) => {
            Err(mismatch())
        }
        Err(error) => Err(error),
    }
}

fn length(value: &dyn Val) -> usize {
    if let Some(text) = value.downcast_ref::<CelString<'_>>() {
        text.inner().len()
    } else if let Some(bytes) = value.downcast_ref::<CelBytes<'_>>() {
        bytes.inner().len()
    } else {
        value
            .downcast_ref::<CelList<'_>>()
            .map_or(0, |list| list.inner().len())
    }
}

fn negate<'b, 'v>(args: Vec<CowVal<'b, 'v>>) -> Result<CowVal<'b, 'v>, ExecutionError> {
    let [value] = args.as_slice() else {
        return Err(ExecutionError::invalid_argument_count(1, args.len()));
    };
    if value.downcast_ref::<CelDouble>().is_none()
        && let Some(Number::Whole(whole)) = Number::of(value.as_ref())
        && !is_exact(whole)
    {
        return Ok(Number::Whole(-whole).into_value());
    }
    let negator = value
        .as_negator()
        .ok_or_else(|| ExecutionError::no_such_overload("-", vec![value.get_type().name().to_owned()]))?;
    negator.negate().map(CowVal::Owned)
}
