//! What is measured: told whole by a running engine, written down in docs, and all that alerts and dashboard ask for. And the
//! runbook: a part on each alert.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use impact_mirror::alert::AlertKind;
use impact_mirror::http::Server;
use impact_mirror::metrics::{self, Kind};
use impact_mirror::sandbox::{FaultKind, Point};

use crate::engine::world::{World, actions, clicks, days_ago};

const ALERTS: &str = include_str!("../../deploy/prometheus/alerts.yaml");
const ALERTS_TEST: &str = include_str!("../../deploy/prometheus/alerts_test.yaml");
const DASHBOARD: &str = include_str!("../../deploy/grafana/impact-mirror.json");
const RUNBOOK: &str = include_str!("../../docs/runbook.md");

/// The names of metrics in a text.
fn named(text: &str) -> BTreeSet<&str> {
    let words = text.split(|c: char| !c.is_ascii_lowercase() && c != '_');
    words.filter(|name| name.starts_with("impact_mirror_") || name.starts_with("process_")).collect()
}

/// The conditions of the alerts, and of the panels.
fn conditions() -> Vec<String> {
    let of_alerts = ALERTS.lines().filter_map(|line| line.trim().strip_prefix("expr: ")).map(str::to_owned);
    let of_panels = DASHBOARD.lines().filter_map(|line| line.trim().strip_prefix("\"expr\": ")).map(str::to_owned);
    of_alerts.chain(of_panels).collect()
}

/// The names that alerts are known by.
fn alerts() -> Vec<&'static str> {
    ALERTS.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect()
}

#[test]
fn alerts_and_dashboard_ask_for_what_is_measured() {
    let conditions = conditions();
    assert!(conditions.len() > 30, "{conditions:?}");
    for condition in &conditions {
        let names = named(condition);
        assert!(!names.is_empty(), "{condition}");
        for name in names {
            let is_measured = metrics::ALL.iter().any(|metric| match metric.kind {
                Kind::Histogram => {
                    ["_bucket", "_sum", "_count"].iter().any(|end| name == format!("{}{end}", metric.name))
                }
                Kind::Counter | Kind::Gauge => name == metric.name,
            });
            assert!(is_measured, "{name} in {condition}");
        }
    }
}

#[test]
fn every_metric_but_those_of_the_process_is_on_the_dashboard_or_alerted_on() {
    let all = conditions().join(" ");
    let unused: Vec<&str> = metrics::ALL.iter().map(|one| one.name).filter(|name| !all.contains(name)).collect();
    assert_eq!(unused, ["impact_mirror_engine_rounds_total", "impact_mirror_loads_total", "process_open_fds"]);
}

#[test]
fn every_alert_is_played_and_has_its_part_of_the_runbook() {
    assert!(alerts().len() >= 13);
    for alert in alerts() {
        assert!(ALERTS_TEST.contains(&format!("alertname: {alert}\n        exp_alerts:")), "{alert} is not played");
        assert!(RUNBOOK.contains(&format!("\n### {alert}\n")), "{alert} is not in the runbook");
        let anchor = format!("runbook_url: docs/runbook.md#{}\n", alert.to_lowercase());
        let (_, rule) = ALERTS.split_once(&format!("- alert: {alert}\n")).unwrap();
        let rule = rule.split("- alert: ").next().unwrap();
        assert!(format!("{}\n", rule.trim_end()).contains(&anchor), "{alert} does not lead there");
    }
    for kind in AlertKind::ALL {
        assert!(RUNBOOK.contains(&format!("\n### {kind}\n")), "{kind} is not in the runbook");
        assert!(kind.runbook().ends_with(&format!("docs/runbook.md#{kind}")));
    }
    let parts = RUNBOOK.matches("\n### ").count();
    assert_eq!(parts, alerts().len() + AlertKind::ALL.len(), "a part on something that is no alert");
    for link in RUNBOOK.split("](#").skip(1).map(|rest| rest.split(')').next().unwrap()) {
        let is_there =
            RUNBOOK.lines().filter_map(|line| line.strip_prefix("### ")).any(|part| part.to_lowercase() == link);
        assert!(is_there, "the link #{link} leads nowhere");
    }
}

#[test]
fn the_docs_have_a_line_for_each_metric() {
    let mut text = String::from(
        "# Metrics\n\nWhat `/metrics` says, in Prometheus' text format. Names and labels do not change. Counters and histograms are those of \
         one process since\nits start; gauges of cells, jobs and quota are read from the database, so that every replica tells the same: \
         take the `max` of them, not the\n`sum`. Written by `UPDATE_DOCS=1 cargo test --test it metrics::` from `src/metrics.rs`.\n\n\
         | metric | kind | labels | what it says |\n| --- | --- | --- | --- |\n",
    );
    for metric in metrics::ALL {
        let labels: Vec<String> = metric.labels.iter().map(|label| format!("`{label}`")).collect();
        writeln!(text, "| `{}` | {} | {} | {} |", metric.name, metric.kind.as_str(), labels.join(", "), metric.help)
            .unwrap();
    }
    writeln!(
        text,
        "\nHistograms count by the upper ends {} seconds.",
        metrics::BUCKETS.map(|end| end.to_string()).join(", ")
    )
    .unwrap();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/metrics.md");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(written, text, "docs/metrics.md is not what src/metrics.rs says; write it with UPDATE_DOCS=1");
}

#[tokio::test]
async fn a_running_engine_tells_every_metric_with_its_labels() {
    let world = World::new().await;
    let unknown = format!(
        "[exports.unknown]\naccounts = [\"brand\"]\nreport = \"no_such_report\"\nsince = \"{}\"\nkey = []\n",
        days_ago(1)
    );
    let settings = world.settings(&(actions(2) + &clicks(2) + &unknown));
    world.inject(Point::Download, FaultKind::Http500);
    let server = Server::start("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let engine = world.start(&settings).await;
    server.count(Arc::clone(engine.tally()));
    server.attach(world.pool().clone(), Arc::clone(engine.pulse()));
    engine.keep_going();
    world.eventually("select count(distinct export)::text from impact_mirror.load", "2").await;
    world.eventually("select count(*)::text from impact_mirror.job where finished_at is null", "0").await;
    world.eventually("select (count(*) > 0)::text from impact_mirror.job where state = 'failed'", "true").await;
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let text = client.get(format!("{}metrics", server.url())).send().await.unwrap().text().await.unwrap();
    engine.stop(Duration::from_secs(5)).await;

    for metric in metrics::ALL {
        let end = if metric.kind == Kind::Histogram { "_bucket" } else { "" };
        let name = format!("{}{end}", metric.name);
        let is_ours = |line: &&str| line.strip_prefix(&name).is_some_and(|rest| rest.starts_with(['{', ' ']));
        let Some(line) = text.lines().find(is_ours) else { panic!("{name} is not told:\n{text}") };
        let labels = line.split(['{', '}']).nth(1).unwrap_or_default();
        let names: Vec<&str> = labels.split("\",").filter_map(|label| Some(label.split_once('=')?.0)).collect();
        let expected: Vec<&str> = metric.labels.iter().copied().chain((!end.is_empty()).then_some("le")).collect();
        assert_eq!(names, expected, "{line}");
        assert!(text.contains(&format!("# TYPE {} {}\n", metric.name, metric.kind.as_str())));
    }
    let value = |series: &str| {
        let line = text
            .lines()
            .find(|line| line.starts_with(series))
            .unwrap_or_else(|| panic!("{series} is not told:\n{text}"));
        line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()
    };
    let rows: f64 = world
        .value("select sum(rows_read)::text from impact_mirror.load where export = 'clicks'")
        .await
        .parse()
        .unwrap();
    assert!((value("impact_mirror_loaded_rows_total{export=\"clicks\"}") - rows).abs() < 0.5);
    let loads: f64 =
        world.value("select count(*)::text from impact_mirror.load where export = 'actions'").await.parse().unwrap();
    assert!((value("impact_mirror_load_seconds_count{export=\"actions\"}") - loads).abs() < 0.5);
    assert!(value("impact_mirror_retries_total{class=\"transient\"}") >= 1.0);
    assert!(value("impact_mirror_jobs_failed_total{export=\"unknown\",class=\"permanent\"}") >= 1.0);
    let clicks = world.value("select count(*)::text from impact_mirror.coverage where export = 'clicks'").await;
    let counted = text.lines().filter(|line| line.starts_with("impact_mirror_cells{export=\"clicks\",state=\""));
    let counted: u64 = counted.map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()).sum();
    assert_eq!(counted.to_string(), clicks);
}
