//! The verdict of the demonstration, for people and for programs.

use millrace_contract::status::RouteStatus;
use serde::Serialize;

use super::audit::{Audit, Verdict};
use crate::outcome::Outcome;
use crate::view::output;
use crate::view::table::equation;
use crate::view::text::{Line, Style, count, counted};

/// The verdict on each route.
#[derive(Debug)]
pub(crate) struct Books {
    routes: Vec<(String, Verdict)>,
    published: u64,
    left: u64,
}

impl Books {
    /// Compares what was published and found with what the routes say at the end. `routes` are numbered as in the
    /// audit.
    pub(crate) fn new(audit: &Audit, routes: &[String], outcome: &Outcome) -> Self {
        let ledger = |name: &String| {
            let status: Option<&RouteStatus> = outcome.routes.iter().find(|route| route.name == *name);
            status.map(|status| status.ledger).unwrap_or_default()
        };
        let verdict = |(number, name): (usize, &String)| (name.clone(), audit.verdict(number, &ledger(name)));
        Self {
            routes: routes.iter().enumerate().map(verdict).collect(),
            published: audit.published(),
            left: outcome.left,
        }
    }

    /// Whether every message is accounted for. Nothing published is no proof.
    pub(crate) fn passed(&self) -> bool {
        self.left == 0
            && self.routes.iter().all(|(_, verdict)| verdict.faults().is_empty())
            && self.published > 0
    }

    /// What was found of each route beside what the route says, the verdict, and what to do next.
    pub(crate) fn lines(&self, manifests: &str) -> Vec<Line> {
        let longest = self
            .routes
            .iter()
            .map(|(name, _)| name.len())
            .max()
            .unwrap_or(0)
            .max("ROUTE".len());
        let header = [
            "PUBLISHED",
            "IN TOPICS",
            "DEAD LETTERS",
            "FILTERED",
            "MISSING",
            "TWICE",
        ];
        let mut text = format!("{:<longest$}", "ROUTE");
        header.iter().for_each(|title| text += &format!("  {title:>9}"));
        let mut lines = vec![Line::styled(text, Style::Bold)];
        for (name, verdict) in &self.routes {
            let missing = verdict.missing.len() as u64;
            let Verdict {
                published,
                written,
                dead_lettered,
                filtered,
                extra,
                ..
            } = *verdict;
            let figures = [published, written, dead_lettered, filtered, missing, extra];
            let mut row = Line::plain(format!("{name:<longest$}"));
            for (title, n) in header.iter().zip(figures) {
                let style = if *title == "MISSING" && n > 0 {
                    Style::Bad
                } else {
                    Style::Plain
                };
                row = row.with(format!("  {:>1$}", count(n), title.len().max(9)), style);
            }
            lines.push(row);
            lines.push(Line::styled(
                format!("  {}", equation(&verdict.ledger)),
                Style::Dim,
            ));
            lines.extend(
                verdict
                    .faults()
                    .iter()
                    .map(|fault| Line::styled(format!("  ! {fault}"), Style::Bad)),
            );
        }
        lines.push(Line::new());
        lines.push(self.sentence());
        if self.passed() {
            lines.push(Line::styled(
                format!("Next: put your addresses into a copy of {manifests}, then"),
                Style::Dim,
            ));
            lines.push(Line::styled("      millrace run -f my-plant.yaml", Style::Dim));
        }
        lines
    }

    fn sentence(&self) -> Line {
        let published = counted(self.published, "message");
        if self.passed() {
            let text = format!(": {published} published, each found where it belongs, none missing.");
            return Line::styled("PASSED", Style::Good).with(text, Style::Plain);
        }
        let why = match (self.published, self.left) {
            (0, _) => "nothing was published".to_owned(),
            (_, 0) => format!("not every one of {published} is where it belongs"),
            (_, left) => format!(
                "{} not confirmed by Kafka when it ended",
                counted(left, "message")
            ),
        };
        Line::styled("FAILED", Style::Bad).with(format!(": {why}."), Style::Plain)
    }

    /// The verdict as a JSON line.
    pub(crate) fn write_json(&self) -> std::io::Result<()> {
        let route = |(name, verdict): &(String, Verdict)| RouteJson {
            name: name.clone(),
            published: verdict.published,
            written: verdict.written,
            filtered: verdict.filtered,
            dead_lettered: verdict.dead_lettered,
            missing: verdict.missing.len() as u64,
            extra: verdict.extra,
            faults: verdict.faults(),
        };
        let routes = self.routes.iter().map(route).collect();
        output::write_line(&VerdictJson {
            event: "verdict",
            passed: self.passed(),
            published: self.published,
            routes,
        })
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct VerdictJson {
    event: &'static str,
    passed: bool,
    published: u64,
    routes: Vec<RouteJson>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct RouteJson {
    name: String,
    published: u64,
    written: u64,
    filtered: u64,
    dead_lettered: u64,
    missing: u64,
    extra: u64,
    faults: Vec<String>,
}
