//! Findings in manifests, for people and for programs.

use crossterm::style::Stylize;
use millrace_crds::{Finding, Report, Severity};
use serde::Serialize;

/// A line per finding, as compilers print them, so that editors can jump to it; then a summary.
pub(crate) fn text(report: &Report, colour: bool) -> String {
    let mut text = String::new();
    for finding in &report.findings {
        text += &line(finding, colour);
        text.push('\n');
    }
    text += &summary(report);
    text.push('\n');
    text
}

/// `file:line: severity: object: field: message`.
fn line(finding: &Finding, colour: bool) -> String {
    let place = format!("{}:{}:", finding.file, finding.line);
    let severity = format!("{}:", finding.severity);
    let about: Vec<&str> = [finding.object.as_str(), finding.field.as_str()]
        .into_iter()
        .filter(|part| !part.is_empty())
        .collect();
    let about = if about.is_empty() {
        String::new()
    } else {
        format!("{}: ", about.join(": "))
    };
    if !colour {
        return format!("{place} {severity} {about}{}", finding.message);
    }
    let severity = match finding.severity {
        Severity::Error => severity.red().bold(),
        Severity::Warning => severity.yellow().bold(),
    };
    format!("{} {severity} {about}{}", place.bold(), finding.message)
}

/// What was looked at and what came of it, in one line.
pub(crate) fn summary(report: &Report) -> String {
    let Counts {
        errors,
        warnings,
        brokers,
        sinks,
        routes,
    } = counts(report);
    let found: Vec<String> = [(errors, "error"), (warnings, "warning")]
        .into_iter()
        .filter(|(n, _)| *n > 0)
        .map(|(n, noun)| plural(n, noun))
        .collect();
    if errors > 0 {
        return found.join(", ");
    }
    let objects = [
        (brokers, "MqttBroker"),
        (sinks, "KafkaSink"),
        (routes, "TopicRoute"),
    ];
    let objects = objects.map(|(n, kind)| plural(n, kind)).into_iter().chain(found);
    format!("valid: {}", objects.collect::<Vec<_>>().join(", "))
}

fn plural(n: usize, noun: &str) -> String {
    format!("{n} {noun}{}", if n == 1 { "" } else { "s" })
}

/// The report as one JSON object.
pub(crate) fn json(report: &Report) -> serde_json::Result<String> {
    let finding = |finding: &Finding| FindingJson {
        severity: finding.severity.to_string(),
        file: finding.file.clone(),
        line: finding.line,
        object: finding.object.clone(),
        field: finding.field.clone(),
        message: finding.message.clone(),
    };
    let report = ReportJson {
        valid: !report.has_errors(),
        findings: report.findings.iter().map(finding).collect(),
        objects: counts(report),
    };
    Ok(serde_json::to_string_pretty(&report)? + "\n")
}

fn counts(report: &Report) -> Counts {
    let errors = report
        .findings
        .iter()
        .filter(|finding| finding.severity == Severity::Error)
        .count();
    Counts {
        errors,
        warnings: report.findings.len() - errors,
        brokers: report.objects.brokers.len(),
        sinks: report.objects.sinks.len(),
        routes: report.objects.routes.len(),
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ReportJson {
    valid: bool,
    findings: Vec<FindingJson>,
    objects: Counts,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct FindingJson {
    severity: String,
    file: String,
    line: usize,
    #[serde(skip_serializing_if = "String::is_empty")]
    object: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    field: String,
    message: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Counts {
    errors: usize,
    warnings: usize,
    brokers: usize,
    sinks: usize,
    routes: usize,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(findings: Vec<Finding>) -> Report {
        Report {
            findings,
            ..Report::default()
        }
    }

    fn finding(severity: Severity, object: &str, field: &str) -> Finding {
        let message = "write a Kafka topic".to_owned();
        Finding {
            severity,
            file: "a.yaml".into(),
            line: 7,
            object: object.into(),
            field: field.into(),
            message,
        }
    }

    #[test]
    fn findings_read_like_a_compilers() {
        let both = report(vec![
            finding(Severity::Error, "TopicRoute default/t", "spec.to.kafka.topic"),
            finding(Severity::Warning, "", ""),
        ]);
        assert_eq!(
            text(&both, false),
            "a.yaml:7: error: TopicRoute default/t: spec.to.kafka.topic: write a Kafka topic\n\
             a.yaml:7: warning: write a Kafka topic\n\
             1 error, 1 warning\n"
        );
    }

    #[test]
    fn colour_changes_no_word() {
        let one = report(vec![finding(Severity::Error, "TopicRoute default/t", "spec")]);
        let coloured = text(&one, true);
        assert_ne!(coloured, text(&one, false));
        let mut plain = String::new();
        let mut rest = coloured.as_str();
        while let Some((before, after)) = rest.split_once('\u{1b}') {
            plain += before;
            rest = after.split_once('m').unwrap().1;
        }
        assert_eq!(plain + rest, text(&one, false));
    }

    #[test]
    fn json_says_whether_it_is_valid_and_where_it_is_not() {
        let one = report(vec![finding(Severity::Warning, "", "")]);
        let value: serde_json::Value = serde_json::from_str(&json(&one).unwrap()).unwrap();
        assert_eq!(value["valid"], true);
        assert_eq!(value["findings"][0]["line"], 7);
        assert!(value["findings"][0].get("object").is_none());
        assert_eq!(value["objects"]["warnings"], 1);
    }
}
