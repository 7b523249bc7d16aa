//! `docs/monitoring` and the example `metrics_exporter`: what is scraped is the table, alerts and dashboard use only what is in
//! the table, and Prometheus itself accepts all of it. `crates/rb-core/src/metrics/tests.rs` compares the table with the code.

mod files;
mod processes;
mod promql;
mod table;

use std::path::Path;
use std::time::{Duration, Instant};

use crate::files::{Dashboard, Rules, Tests};
use crate::processes::{Exporter, Prometheus, check, installed};
use crate::promql::Selector;
use crate::table::{Row, rows};

/// Longest time for what takes a few seconds on an idle machine.
const PATIENCE: Duration = Duration::from_mins(1);

fn monitoring() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/monitoring"))
}

/// Calls `look` until it returns something.
#[track_caller]
fn wait<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(start.elapsed() < PATIENCE, "{what} did not happen");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn a_scrape_under_load_has_each_metric_of_the_table() {
    let exporter = Exporter::start(&[]);
    let text = wait("a hit and an eviction", || {
        let text = exporter.get("/metrics");
        let grew = |name| !text.contains(&format!("\n{name}{{store=\"example\"}} 0\n"));
        (grew("raw_block_hits_total") && grew("raw_block_evictions_total")).then_some(text)
    });
    let rows = rows();
    assert!(rows.len() > 60);
    for row in &rows {
        let described = format!("# TYPE {} {}\n", row.name, row.kind);
        assert_eq!(text.matches(&described).count(), 1, "{described}");
        for series in row.series() {
            let found = text
                .lines()
                .any(|line| promql::is_series(line, &series, "example"));
            assert!(found, "{series:?}");
        }
    }
    let shown = text.matches("# TYPE ").count();
    assert_eq!(shown, rows.len(), "there is a metric without a row");
    if installed("promtool", "promtool check metrics") {
        check("promtool", &["check", "metrics"], &text);
    }
}

#[test]
fn alerts_and_dashboard_use_what_is_in_the_table() {
    let rows = rows();
    for rule in Rules::read(monitoring()) {
        check_expression(&rows, &rule.expr, &[]);
        for text in [&rule.annotations.summary, &rule.annotations.description] {
            assert!(text.ends_with('.'), "{}: {text}", rule.alert);
        }
    }
    let dashboard = Dashboard::read(monitoring());
    let panels = dashboard.panels();
    assert!(panels.len() > 20);
    for panel in panels {
        assert!(!panel.targets.is_empty(), "{}", panel.title);
        for target in &panel.targets {
            check_expression(&rows, &target.expr, &promql::legend(&target.legend_format));
            assert!(target.expr.contains("store=~\"$store\""), "{}", panel.title);
        }
    }
    for variable in dashboard.queries() {
        check_expression(&rows, variable, &[]);
    }
}

/// Checks the metrics of an expression, their labels and values, and the labels that it groups by or shows.
#[track_caller]
fn check_expression(rows: &[Row], expr: &str, shown: &[&str]) {
    let selectors = promql::selectors(expr);
    assert!(!selectors.is_empty(), "{expr} has no metric");
    let mut labels = vec!["store", "le"];
    for Selector { name, matchers } in &selectors {
        let row = rows.iter().find(|row| row.is_shown_as(name));
        let Some(row) = row else {
            panic!("{name} in {expr} is not in the table");
        };
        labels.extend(row.labels.iter().map(|(label, _)| label.as_str()));
        for (label, values) in matchers {
            if *label == "store" {
                continue;
            }
            let found = row.labels.iter().find(|(name, _)| name == label);
            let Some((_, fixed)) = found else {
                panic!("{name} in {expr} has no label {label}");
            };
            for value in values {
                assert!(fixed.iter().any(|fixed| fixed == value), "{value}: {expr}");
            }
        }
    }
    for label in promql::groupings(expr).iter().chain(shown) {
        assert!(labels.contains(label), "no metric of {expr} has {label}");
    }
}

#[test]
fn each_alert_has_a_test_in_which_it_fires() {
    let tests = Tests::read(monitoring());
    for rule in Rules::read(monitoring()) {
        let test = tests.iter().find(|test| test.name == rule.alert);
        let test = test.unwrap_or_else(|| panic!("alerts_test.yml has no test {}", rule.alert));
        let alert = format!("alertname=\"{}\"", rule.alert);
        let fires = |expected: &files::Expected| {
            let mut samples = expected.exp_samples.iter();
            expected.expr.contains(&alert) && samples.any(|sample| sample.labels.contains(&alert))
        };
        let quiet = |expected: &files::Expected| {
            expected.expr.contains(&alert) && expected.exp_samples.is_empty()
        };
        let expected = &test.promql_expr_test;
        assert!(expected.iter().any(fires), "{} never fires", rule.alert);
        assert!(expected.iter().any(quiet), "{} always fires", rule.alert);
    }
}

#[test]
fn promtool_accepts_rules_their_tests_and_the_expressions_of_the_dashboard() {
    if !installed("promtool", "promtool check rules") {
        return;
    }
    let path = |name: &str| monitoring().join(name).to_string_lossy().into_owned();
    check("promtool", &["check", "rules", &path("alerts.yml")], "");
    check("promtool", &["test", "rules", &path("alerts_test.yml")], "");
    // Expressions of panels are rules once their variables have values.
    let dashboard = Dashboard::read(monitoring());
    let mut rules = String::from("groups: [{name: panels, rules: [\n");
    for panel in dashboard.panels() {
        for target in &panel.targets {
            let expr = target.expr.replace("$__rate_interval", "1m");
            let expr = serde_json::to_string(&expr.replace("$store", ".*")).expect("a string");
            let number = rules.lines().count();
            rules += &format!("{{record: 'panel:{number}', expr: {expr}}},\n");
        }
    }
    rules += "]}]\n";
    let dir = tempfile::tempdir().expect("a folder");
    let file = dir.path().join("panels.yml");
    std::fs::write(&file, rules).expect("the rules are written");
    check("promtool", &["check", "rules", &file.to_string_lossy()], "");
}

#[test]
fn prometheus_scrapes_the_exporter_and_reports_that_writing_stopped() {
    if !installed("prometheus", "an alert that fires in Prometheus") {
        return;
    }
    let exporter = Exporter::start(&["--cut-after", "3"]);
    let prometheus = Prometheus::start(&exporter.address, &monitoring().join("alerts.yml"));
    wait("a scrape", || {
        let puts = prometheus.get("/api/v1/query?query=raw_block_puts_total");
        puts.contains("\"store\":\"example\"").then_some(())
    });
    let alert = wait("the alert", || {
        let alerts = prometheus.get("/api/v1/alerts");
        let at = alerts.find("\"alertname\":\"RawBlockStoppedWriting\"")?;
        Some(alerts[at..].to_owned())
    });
    assert!(alert.contains("\"state\":\"firing\""), "{alert}");
    // Gets work on.
    let hits = || exporter.value("raw_block_hits_total{store=\"example\"}");
    let before = hits();
    wait("a hit of a store that does not write", || {
        (hits() > before).then_some(())
    });
}
