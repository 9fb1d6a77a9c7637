//! What is taken: the example, defaults, and what the user writes over the catalogue.

use std::path::Path;
use std::time::Duration;

use impact_mirror::account::{AccountName, Persona};
use impact_mirror::column::ColumnKind;
use impact_mirror::config::{self, DatabaseUrl, EXAMPLE, Environment, Programs};
use impact_mirror::export::{ExportName, RefreshRule};
use secrecy::ExposeSecret;

use super::{ACTIONS, BASE, check, export};

#[test]
fn the_example_loads_and_has_no_surprises() {
    let secret = "a-secret-of-more-than-sixteen-letters";
    let set = [("ACME_AUTH_TOKEN", "t"), ("STATE_DIRECTORY", "/var/lib/mirror"), ("POSTBACK_SECRET", secret)];
    let environment = Environment::from(set);
    let settings = config::check(EXAMPLE, Path::new("example"), &environment).unwrap();
    let actions = &settings.exports[&ExportName::new("actions")];
    assert_eq!(actions.key, ["Action_Id"]);
}

#[test]
fn what_the_example_comments_out_is_the_default() {
    // A line such as `# key = value` is a setting; a line of prose has no `=` there.
    let is_setting = |line: &str| {
        line.strip_prefix("# ").is_some_and(|rest| {
            let name = rest.split(" = ").next().unwrap_or_default();
            rest.contains(" = ") && name.chars().all(|c| c.is_ascii_lowercase() || c == '_')
        })
    };
    // There is no archive by default.
    // Nor is anybody told of anything.
    let exceptions = [
        "# url",
        "# keep",
        "# auth_token",
        "# dir",
        "# state_dir",
        "# types",
        "# postback_secret",
        "# token",
        "# hosts",
        "# format",
        "# secret",
        "# repeat",
        "# every",
    ];
    let (own, clicks) = EXAMPLE.split_once("# [exports.clicks]").unwrap();
    assert!(clicks.contains("clicks = true"));
    let spelt: Vec<String> = own
        .lines()
        .map(|line| {
            let kept = !is_setting(line) || exceptions.iter().any(|exception| line.starts_with(exception));
            // The example's request shows two parameters of many.
            let kept = kept || line.starts_with("# params");
            if kept { line.to_owned() } else { line[2..].to_owned() }
        })
        .collect();
    let secret = "a-secret-of-more-than-sixteen-letters";
    let set = [("ACME_AUTH_TOKEN", "t"), ("STATE_DIRECTORY", "/var/lib/mirror"), ("POSTBACK_SECRET", secret)];
    let environment = Environment::from(set);
    let load = |text: &str| format!("{:#?}", config::check(text, Path::new("example"), &environment).unwrap());
    assert_eq!(load(&spelt.join("\n")), load(EXAMPLE));
}

#[test]
fn a_short_configuration_is_filled_with_the_defaults() {
    let settings = check(&format!("{BASE}{ACTIONS}")).unwrap();
    assert!(matches!(settings.database.url, DatabaseUrl::Embedded));
    assert_eq!(settings.database.schema, "impact");
    assert_eq!(settings.http.listen.to_string(), "127.0.0.1:9464");
    assert_eq!(settings.workers.poll_max, Duration::from_mins(1));
    assert_eq!(settings.spool_dir, Path::new("/var/lib/mirror/spool"));
    let acme = &settings.accounts[&AccountName::new("acme")];
    assert_eq!((acme.persona, &acme.programs), (Persona::Brand, &Programs::All));
    assert_eq!(acme.base_url.as_str(), "https://api.impact.com/");
    assert_eq!(acme.auth_token.expose_secret(), "s3cret-token");
    let actions = &settings.exports[&ExportName::new("actions")];
    assert!(actions.per_program && actions.include_today);
    assert_eq!(actions.date_column.as_deref(), Some("Action_Date"));
    assert_eq!(actions.params["SUPERSTATUS_MS"].len(), 4);
    assert_eq!(actions.types["Action_Id"], ColumnKind::Text);
    assert_eq!((actions.max_window_days, actions.freshness), (31, Duration::from_hours(26)));
}

#[test]
fn an_unknown_report_gets_the_general_rules() {
    let lines = "accounts = [\"blog-eu\"]\nreport = \"my_own_report\"\nsince = 2026-01-01\ndate_column = \"Day\"";
    let settings = check(&export(lines)).unwrap();
    let export = &settings.exports[&ExportName::new("x")];
    assert!(!export.per_program && export.key.is_empty() && export.include_today);
    let days = |days: u64| Duration::from_hours(24 * days);
    let rules = [(days(3), Duration::from_hours(6)), (days(35), days(1)), (days(190), days(7))];
    assert_eq!(export.refresh, rules.map(|(age, every)| RefreshRule { age, every }));
}

#[test]
fn clicks_are_read_day_by_day() {
    let settings = check(&export("accounts = [\"blog-eu\"]\nclicks = true\nsince = \"2026-01-01\"")).unwrap();
    let clicks = &settings.exports[&ExportName::new("x")];
    assert_eq!((clicks.max_window_days, clicks.per_program, clicks.include_today), (1, false, false));
    assert!(clicks.refresh.is_empty() && clicks.key.is_empty());
    assert_eq!(clicks.types["UniqueClick"], ColumnKind::Boolean);
}

#[test]
fn what_the_user_writes_wins_over_the_catalogue() {
    let lines = r#"
        accounts = ["acme"]
        report = "adv_action_listing_pm_only"
        since = "2026-01-01"
        params = { show_date = 0, SUPERSTATUS_MS = "APPROVED", SHOW_AD = [], ACTION_TYPE = [1, 2] }
        types = { action_id = "bigint" }
        key = []
        date_column = ""
        refresh = []
        locked = {}
        max_rows = 500
    "#;
    let settings = check(&export(lines)).unwrap();
    let export = &settings.exports[&ExportName::new("x")];
    assert_eq!(export.params["show_date"], ["0"]);
    assert_eq!(export.params["SUPERSTATUS_MS"], ["APPROVED"]);
    assert_eq!(export.params["ACTION_TYPE"], ["1", "2"]);
    assert!(!export.params.contains_key("SHOW_DATE") && !export.params.contains_key("SHOW_AD"));
    assert_eq!(export.types["action_id"], ColumnKind::Bigint);
    assert!(!export.types.contains_key("Action_Id"));
    assert!(export.key.is_empty() && export.date_column.is_none() && export.refresh.is_empty());
    assert_eq!(export.max_window_days, 1);
    assert_eq!((&export.locked, export.max_rows), (&None, Some(500)));
}
