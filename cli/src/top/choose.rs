//! Which routes are shown, and in which order. Decided before workers are asked: those of other routes are not.

use clap::ValueEnum;

use super::row;
use super::seen::RouteSeen;

/// The order of routes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Sort {
    /// By namespace and name.
    #[default]
    Name,
    /// The busiest first.
    Rate,
}

/// The routes that are shown, when `room` rows are free, and how many are left out. Those that are not well come first
/// then, and what is left is filled by the order asked for; of rates only those are known that the operator wrote last.
pub(crate) fn choose(mut routes: Vec<RouteSeen>, sort: Sort, room: usize) -> (Vec<RouteSeen>, usize) {
    by_name(&mut routes);
    if routes.len() <= room {
        return (routes, 0);
    }
    let rate = |route: &RouteSeen| route.said.as_ref().map_or(0, |said| said.rate);
    if sort == Sort::Rate {
        routes.sort_by_key(|route| std::cmp::Reverse(rate(route)));
    }
    routes.sort_by_key(|route| !is_unwell(route));
    let all = routes.len();
    routes.truncate(room.saturating_sub(1));
    let hidden = all - routes.len();
    (routes, hidden)
}

/// Puts routes whose workers have answered in order.
pub(crate) fn order(routes: &mut [RouteSeen], sort: Sort) {
    by_name(routes);
    if sort == Sort::Rate {
        // Rates are finite; `total_cmp` orders whatever else a process might report.
        routes.sort_by(|a, b| row::received(b).total_cmp(&row::received(a)));
    }
}

fn by_name(routes: &mut [RouteSeen]) {
    routes.sort_by(|a, b| (&a.namespace, &a.name).cmp(&(&b.namespace, &b.name)));
}

/// Whether somebody is to look at it.
pub(crate) fn is_unwell(route: &RouteSeen) -> bool {
    route.said.as_ref().is_some_and(|said| said.ready != Some(true))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::top::seen::Said;

    fn route(name: &str, ready: bool, rate: i64) -> RouteSeen {
        RouteSeen {
            name: name.into(),
            said: Some(Said {
                ready: Some(ready),
                rate,
                ..Said::default()
            }),
            ..RouteSeen::default()
        }
    }

    fn chosen(sort: Sort, room: usize) -> (Vec<String>, usize) {
        let routes = vec![
            route("d", false, 0),
            route("c", true, 9),
            route("b", true, 1),
            route("a", true, 5),
        ];
        let (routes, hidden) = choose(routes, sort, room);
        (routes.into_iter().map(|route| route.name).collect(), hidden)
    }

    #[test]
    fn what_does_not_fit_is_counted_and_what_is_unwell_is_shown() {
        let all = ["a", "b", "c", "d"].map(str::to_owned).to_vec();
        assert_eq!(chosen(Sort::Name, 4), (all, 0));
        assert_eq!(chosen(Sort::Name, 3), (vec!["d".into(), "a".into()], 2));
        assert_eq!(chosen(Sort::Rate, 3), (vec!["d".into(), "c".into()], 2));
        assert_eq!(chosen(Sort::Rate, 0), (vec![], 4));
    }
}
