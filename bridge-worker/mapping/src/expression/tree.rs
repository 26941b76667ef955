//! The parsed expression as a tree.

use cel::common::ast::{EntryExpr, Expr, IdedExpr};

/// The longest way from the root of a parsed expression to a leaf. Does not recurse: it is asked before anything
/// is known about the expression.
pub(super) fn depth(ast: &IdedExpr) -> usize {
    let mut deepest = 0;
    let mut open = vec![(ast, 1)];
    while let Some((node, depth)) = open.pop() {
        deepest = deepest.max(depth);
        for_each_child(&node.expr, |child| open.push((child, depth + 1)));
    }
    deepest
}

/// Visits what an expression consists of.
pub(super) fn for_each_child<'a>(expr: &'a Expr, mut visit: impl FnMut(&'a IdedExpr)) {
    match expr {
        Expr::Call(call) => {
            call.target.iter().for_each(|target| visit(target));
            call.args.iter().for_each(visit);
        }
        Expr::Comprehension(fold) => {
            for child in [
                &fold.iter_range,
                &fold.accu_init,
                &fold.loop_cond,
                &fold.loop_step,
                &fold.result,
            ] {
                visit(child);
            }
        }
        Expr::List(list) => list.elements.iter().for_each(visit),
        Expr::Map(map) => {
            for entry in &map.entries {
                match &entry.expr {
                    EntryExpr::MapEntry(entry) => {
                        visit(&entry.key);
                        visit(&entry.value);
                    }
                    EntryExpr::StructField(field) => visit(&field.value),
                }
            }
        }
        Expr::Select(select) => visit(&select.operand),
        Expr::Struct(made) => {
            for entry in &made.entries {
                match &entry.expr {
                    EntryExpr::MapEntry(entry) => visit(&entry.value),
                    EntryExpr::StructField(field) => visit(&field.value),
                }
            }
        }
        Expr::Ident(_) | Expr::Literal(_) | Expr::Unspecified => {}
    }
}
