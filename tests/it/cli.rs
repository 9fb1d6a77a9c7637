//! The command line, through the real binary: help, exit codes, and the JSON that scripts build on.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

use crate::support::database::database;
use crate::support::state_dir::StateDir;

/// Nothing listens there: a call to impact.com would fail loudly.
const NOBODY: &str = "http://127.0.0.1:9";

fn impact_mirror(dir: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_impact-mirror"))
        .args(arguments)
        .current_dir(dir)
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("COLUMNS", "100")
        .env("HOME", dir)
        .env("STATE_DIRECTORY", dir)
        .env("ACME_AUTH_TOKEN", "a-token")
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

fn stdout(output: &Output) -> &str {
    std::str::from_utf8(&output.stdout).unwrap()
}

/// What was printed, however its lines are broken.
fn one_line(output: &Output) -> String {
    stdout(output).split_whitespace().collect::<Vec<_>>().join(" ")
}

fn stderr(output: &Output) -> &str {
    std::str::from_utf8(&output.stderr).unwrap()
}

#[test]
fn help() {
    let dir = StateDir::new();
    let commands: [&[&str]; 34] = [
        &[],
        &["run"],
        &["sync"],
        &["check"],
        &["plan"],
        &["status"],
        &["backfill"],
        &["refresh"],
        &["reload"],
        &["verify"],
        &["explain"],
        &["export"],
        &["export", "dbt"],
        &["publish"],
        &["jobs"],
        &["jobs", "list"],
        &["jobs", "show"],
        &["jobs", "retry"],
        &["jobs", "cancel"],
        &["accounts"],
        &["accounts", "pause"],
        &["accounts", "resume"],
        &["exports"],
        &["exports", "pause"],
        &["exports", "resume"],
        &["reports"],
        &["reports", "list"],
        &["reports", "describe"],
        &["reports", "add"],
        &["migrate"],
        &["healthcheck"],
        &["init"],
        &["sandbox"],
        &["demo"],
    ];
    for command in commands {
        let output = impact_mirror(dir.path(), &[command, &["--help"]].concat());
        assert_eq!(output.status.code(), Some(0), "{command:?}");
        insta::assert_snapshot!([&["help"], command].concat().join("_"), stdout(&output));
    }
}

#[test]
fn an_unknown_command_is_a_mistake_in_usage() {
    let dir = StateDir::new();
    for arguments in [["mirror"].as_slice(), &["plan", "--exprot", "x"], &["jobs", "show", "seven"], &[]] {
        let output = impact_mirror(dir.path(), arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {}", stderr(&output));
        assert_eq!(stdout(&output), "", "{arguments:?}");
    }
}

#[test]
fn a_mistake_in_the_configuration_ends_with_2_and_names_the_key() {
    let dir = StateDir::new();
    let file = dir.path().join("impact-mirror.toml");
    for (text, said) in [
        ("[database]\nurl = \"embedded\"\n[http]\nlisten = \"here\"\n", "http.listen holds \"here\""),
        ("[database]\nurl = \"embedded\"\npasword = \"s3cret\"\n", "database.pasword"),
        ("[database]\nurl = \"mysql://me:s3cret@here/db\"\n", "database.url"),
    ] {
        std::fs::write(&file, text).unwrap();
        for command in ["run", "sync", "plan", "status", "migrate"] {
            let output = impact_mirror(dir.path(), &[command]);
            assert_eq!(output.status.code(), Some(2), "{command}: {}", stderr(&output));
            assert!(stderr(&output).contains(said), "{command}: {}", stderr(&output));
            assert!(!stderr(&output).contains("s3cret"), "{command}: {}", stderr(&output));
        }
    }
}

#[test]
fn without_a_configuration_the_mend_is_said() {
    let dir = StateDir::new();
    let output = impact_mirror(dir.path(), &["--config", "none.toml", "run"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("none.toml"), "{}", stderr(&output));
}

#[tokio::test]
async fn init_writes_a_file_that_check_reads_and_never_overwrites_one() {
    let (dir, database) = (StateDir::new(), database().await);
    let first = impact_mirror(dir.path(), &["init"]);
    assert_eq!(first.status.code(), Some(0), "{}", stderr(&first));
    let file = dir.path().join("impact-mirror.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    // On our database, and away from the real impact.com.
    let account = "[accounts.acme]\n";
    assert!(text.contains("\"embedded\"") && text.contains(account), "{text}");
    let text = text.replace("\"embedded\"", &format!("{:?}", database.url()));
    let text = text.replace(account, &format!("{account}base_url = \"{NOBODY}\"\n"));
    std::fs::write(&file, &text).unwrap();

    let check = impact_mirror(dir.path(), &["check", "--config", "impact-mirror.toml"]);
    assert_eq!(check.status.code(), Some(1), "{}", stderr(&check));
    let lines = stdout(&check);
    assert!(lines.contains("schema impact_mirror up to date"), "{lines}");
    assert!(lines.contains("account acme: credentials"), "{lines}");

    let again = impact_mirror(dir.path(), &["init"]);
    assert_eq!(again.status.code(), Some(2));
    assert!(stderr(&again).contains("nothing was changed"), "{}", stderr(&again));
    assert_eq!(std::fs::read_to_string(&file).unwrap(), text);
}

/// The keys of an object, at the end of a path of keys and of lists, whose first item counts.
fn keys(value: &Value, path: &[&str]) -> BTreeSet<String> {
    let found = path.iter().fold(value, |value, key| {
        let next = &value[*key];
        next.as_array().map_or(next, |list| list.first().unwrap_or_else(|| panic!("{key} is empty: {value:#}")))
    });
    found.as_object().unwrap().keys().cloned().collect()
}

fn words(text: &str) -> BTreeSet<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

fn write_config(dir: &Path, database_url: &str) {
    let text = format!(
        r#"
[database]
url = "{database_url}"

[accounts.acme]
persona = "brand"
account_sid = "IRacme"
auth_token = {{ env = "ACME_AUTH_TOKEN" }}
base_url = "{NOBODY}"
time_zone = "America/New_York"
programs = [1000]

[accounts.acme.quota]
report_export_per_day = 2

[exports.actions]
accounts = ["acme"]
report = "adv_action_listing_pm_only"
since = "2025-01-01"
"#
    );
    std::fs::write(dir.join("impact-mirror.toml"), text).unwrap();
}

fn json(dir: &Path, command: &str) -> Value {
    let output = impact_mirror(dir, &["--json", command]);
    assert_eq!(output.status.code(), Some(0), "{command}: {}", stderr(&output));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[tokio::test]
async fn plan_has_the_keys_that_scripts_build_on() {
    let (dir, database) = (StateDir::new(), database().await);
    write_config(dir.path(), database.url());
    let plan = json(dir.path(), "plan");
    assert_eq!(keys(&plan, &[]), words("generated_at accounts calls waiting backfills late drops"));
    assert_eq!(keys(&plan, &["accounts"]), words("account paused buckets"));
    assert_eq!(keys(&plan, &["accounts", "buckets"]), words("bucket limit used remaining resets_at"));
    let call = "at account bucket action export program from_day to_day reason cost";
    assert_eq!(keys(&plan, &["calls"]), words(call));
    let waiting = "export account program from_day to_day reason because expected_at";
    assert_eq!(keys(&plan, &["waiting"]), words(waiting));
    assert_eq!(keys(&plan, &["backfills"]), words("export account calls_left calls_per_day done_on"));
}

#[tokio::test]
async fn plan_shows_what_a_changed_setting_would_do_and_changes_nothing() {
    let (dir, database) = (StateDir::new(), database().await);
    write_config(dir.path(), database.url());
    let with = |change: &str| impact_mirror(dir.path(), &["--json", "plan", "--with", change]);
    let view: Value = serde_json::from_slice(&with("report_export_per_day=50").stdout).unwrap();
    let calls = |when: &str| view[when]["calls"].as_array().unwrap().len();
    assert!(calls("before") <= 2 && calls("after") > 2, "{} and {}", calls("before"), calls("after"));
    let buckets = view["after"]["accounts"][0]["buckets"].as_array().unwrap();
    assert!(buckets.iter().any(|bucket| bucket["bucket"] == "report_export" && bucket["limit"] == 50), "{buckets:?}");
    assert_eq!(json(dir.path(), "plan")["accounts"][0]["buckets"], view["before"]["accounts"][0]["buckets"]);

    let view: Value = serde_json::from_slice(&with("exports.actions.since=2025-12-01").stdout).unwrap();
    let waiting = |when: &str| view[when]["waiting"].as_array().unwrap().len();
    assert!(waiting("after") < waiting("before"));

    for (change, words) in
        [("shaer=0.5", "did you mean `share`"), ("share=2", "--with share=2"), ("share", "KEY=VALUE")]
    {
        let output = with(change);
        assert_eq!(output.status.code(), Some(2), "{change}");
        assert!(stderr(&output).contains(words), "{}", stderr(&output));
    }
}

#[tokio::test]
async fn plan_tells_what_is_kept_no_longer_before_it_goes() {
    let (dir, database) = (StateDir::new(), database().await);
    write_config(dir.path(), database.url());
    assert_eq!(impact_mirror(dir.path(), &["migrate"]).status.code(), Some(0));
    sqlx::raw_sql(
        r"
        insert into impact_mirror.account (name, persona, time_zone) values ('acme', 'brand', 'Etc/UTC');
        insert into impact_mirror.export (name, bucket, table_name, freshness, refresh)
        values ('actions', 'report_export', 'impact.actions', '26 hours', '[]');
        insert into impact_mirror.job (export, account, from_day, to_day, reason, state, priority, bucket, request,
            wanted_after, run_at, created_at)
        values ('actions', 'acme', '2025-01-01', '2025-01-31', 'fresh', 'planned', 1, 'report_export', '{}', now(), now(), now());
        insert into impact_mirror.cell (export, account, program, day, rows, loaded_at, as_of, job_id)
        select 'actions', 'acme', '1000', day::date, 1500, now(), now(), 1
        from generate_series(timestamp '2025-01-01', timestamp '2025-01-31', '1 day') day;
        ",
    )
    .execute(database.pool())
    .await
    .unwrap();
    let arguments = ["--json", "plan", "--with", "exports.actions.keep=60d"];
    let view: Value = serde_json::from_slice(&impact_mirror(dir.path(), &arguments).stdout).unwrap();
    assert_eq!(view["before"]["drops"], serde_json::json!([]));
    assert_eq!(
        keys(&view["after"], &["drops"]),
        words("export account from_day to_day rows versions dropped_from dropped_by")
    );
    let drop = &view["after"]["drops"][0];
    assert_eq!((drop["from_day"].as_str(), drop["to_day"].as_str()), (Some("2025-01-01"), Some("2025-01-31")));
    assert_eq!(drop["rows"], 46_500);
    let at: chrono::DateTime<chrono::Utc> = drop["dropped_from"].as_str().unwrap().parse().unwrap();
    assert!(at > chrono::Utc::now() + chrono::TimeDelta::hours(23), "a day to think it over: {at}");
    let text = impact_mirror(dir.path(), &["plan", "--with", "exports.actions.keep=60d"]);
    assert!(stdout(&text).contains("46,500"), "{}", stdout(&text));

    let file = dir.path().join("impact-mirror.toml");
    let config = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, format!("{config}keep = \"60d\"\n")).unwrap();
    let text = impact_mirror(dir.path(), &["plan"]);
    let said = stdout(&text);
    assert!(said.starts_with("Kept no longer") && said.contains("2025-01-01..2025-01-31"), "{said}");
}

/// The bookkeeping of an export of one account that has not run yet.
const A_FEED: &str = r#"
    insert into impact_mirror.account (name, persona, time_zone) values ('acme', 'brand', 'Etc/UTC');
    insert into impact_mirror.bucket (account, bucket, "limit", window_length)
    values ('acme', 'report_export', 100, '24 hours');
    insert into impact_mirror.export (name, bucket, table_name, freshness, refresh)
    values ('actions', 'report_export', 'impact.actions', '26 hours', '[]');
    insert into impact_mirror.feed (export, account, program, since, include_today)
    values ('actions', 'acme', '', '2026-01-01', false);
"#;

#[tokio::test]
async fn a_failed_job_says_what_to_do_by_its_class_and_by_what_it_was_for() {
    let (dir, database) = (StateDir::new(), database().await);
    write_config(dir.path(), database.url());
    assert_eq!(impact_mirror(dir.path(), &["migrate"]).status.code(), Some(0));
    sqlx::raw_sql(A_FEED).execute(database.pool()).await.unwrap();
    sqlx::raw_sql(
        "insert into impact_mirror.job (export, account, from_day, to_day, reason, state, priority, bucket, request, wanted_after,
             run_at, created_at, finished_at, error_kind, error_message, compares)
         select 'actions', 'acme', '2026-01-02', '2026-01-03', 'fresh', 'failed', 1, 'report_export', '{}', now(),
                now(), now(), now(), kind, 'its words', kind = 'expired'
         from unnest(array['forbidden', 'permanent', 'expired', 'bad_file']) with ordinality as k (kind, place) order by place;
         insert into impact_mirror.cell (export, account, program, day, failed_at, failed_job_id)
         values ('actions', 'acme', '', '2026-01-02', now(), 1), ('actions', 'acme', '', '2026-01-03', now(), 1);
         insert into impact_mirror.load (job_id, export, account, program, from_day, to_day, file_sha256, file_bytes, target_hash,
             rows_read, rows_inserted, started_at, committed_at)
         values (2, 'actions', 'acme', '', '2026-01-03', '2026-01-03', '', 0, gen_random_uuid(), 1, 1, now(), now());
         update impact_mirror.job set reload_of = 1 where id = 4;",
    )
    .execute(database.pool())
    .await
    .unwrap();
    let forbidden = "give the token the scope it lacks in impact.com's settings";
    let status = one_line(&impact_mirror(dir.path(), &["status"]));
    assert!(status.contains(&format!("{forbidden} to try again: impact-mirror jobs retry 1")), "{status}");
    for (id, expected) in [
        ("1", "to try again: impact-mirror jobs retry 1"),
        ("2", "nothing is left to do"),
        ("3", "to try again: impact-mirror verify actions"),
        ("4", "to try again: impact-mirror reload actions --from 2026-01-02 --to 2026-01-03 --account acme"),
    ] {
        let told = impact_mirror(dir.path(), &["jobs", "show", id]);
        let shown = stdout(&told);
        assert!(shown.contains("What to do:") && shown.contains(expected), "{shown}");
        assert_eq!(shown.contains("jobs retry"), id == "1", "{shown}");
    }
    let refused = impact_mirror(dir.path(), &["jobs", "retry", "4"]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(stderr(&refused).contains("impact-mirror reload actions"), "{}", stderr(&refused));
    let unknown = impact_mirror(dir.path(), &["jobs", "list", "--export", "acions"]);
    assert_eq!(unknown.status.code(), Some(2));
    assert!(stderr(&unknown).contains("there is no export \"acions\"; configured are: "), "{}", stderr(&unknown));
}

#[tokio::test]
async fn status_has_the_keys_that_scripts_build_on() {
    let (dir, database) = (StateDir::new(), database().await);
    write_config(dir.path(), database.url());
    assert_eq!(impact_mirror(dir.path(), &["migrate"]).status.code(), Some(0));
    sqlx::raw_sql(A_FEED).execute(database.pool()).await.unwrap();
    sqlx::raw_sql(
        r"
        insert into impact_mirror.job (export, account, from_day, to_day, reason, state, priority, bucket, request,
            wanted_after, run_at, created_at, finished_at, error_kind, error_message)
        values ('actions', 'acme', '2026-01-01', '2026-01-01', 'fresh', 'planned', 1, 'report_export', '{}',
                now(), now(), now(), null, null, null),
               ('actions', 'acme', '2026-01-02', '2026-01-02', 'fresh', 'failed', 1, 'report_export', '{}',
                now(), now(), now(), now(), 'remote', 'FAILED');
        insert into impact_mirror.cell (export, account, program, day, failed_at, failed_job_id)
        values ('actions', 'acme', '', '2026-01-02', now(), 2);
        insert into impact_mirror.export_account (export, account, max_window_days, max_window_why)
        values ('actions', 'acme', 7, 'too long');
        insert into impact_mirror.load (job_id, export, account, program, from_day, to_day, file_sha256, file_bytes, target_hash,
            rows_read, rows_inserted, warnings, started_at, committed_at)
        values (1, 'actions', 'acme', '', '2026-01-03', '2026-01-03', '', 0, gen_random_uuid(), 100000, 100000,
            array['truncated'], now(), now());
        insert into impact_mirror.cell (export, account, program, day, rows, loaded_at, as_of, job_id)
        values ('actions', 'acme', '', '2026-01-03', 100000, now(), now(), 1);
        ",
    )
    .execute(database.pool())
    .await
    .unwrap();
    let status = json(dir.path(), "status");
    assert_eq!(
        keys(&status, &[]),
        words("exports accounts quota in_flight failed window_limits warnings no_room why paused_by_hand late_files")
    );
    assert_eq!(status["no_room"], Value::Null);
    assert_eq!(keys(&status, &["window_limits"]), words("export account max_window_days why learned_at"));
    let warning = "export kind loads load_id job_id account program from_day to_day rows_read records_processed rows_deleted rows_rejected";
    assert_eq!(keys(&status, &["warnings"]), words(warning));
    let text = impact_mirror(dir.path(), &["status"]);
    let told =
        "! the rows of load 1 of actions may not be all: the file has 100000 rows, just as many as a file may hold";
    assert!(one_line(&text).contains(told), "{}", stdout(&text));
    let freshness = "export latest_day loaded_at age promised is_stale missing_cells failed_cells";
    assert_eq!(keys(&status, &["exports"]), words(freshness));
    assert_eq!(keys(&status, &["accounts"]), words("account paused paused_since"));
    assert_eq!(keys(&status, &["quota"]), words("account bucket limit used remaining resets_at reserved"));
    let job = "id export account program from_day to_day reason state remote_job_id remote_status remote_percent attempts \
               run_at lease_holder error_kind error_message created_at submitted_at finished_at rows_read rows_rejected \
               reload_of compares";
    assert_eq!(keys(&status, &["in_flight"]), words(job));
    assert_eq!(keys(&status, &["failed"]), words(job));

    sqlx::raw_sql(
        "update impact_mirror.job set error_kind = 'no_room', error_message = 'no space on /spool' where id = 1",
    )
    .execute(database.pool())
    .await
    .unwrap();
    assert_eq!(keys(&json(dir.path(), "status"), &["no_room"]), words("jobs message"));
    let text = impact_mirror(dir.path(), &["status"]);
    let told =
        "! a disk is full: 1 job waits for room, and nothing is ordered meanwhile: no space on /spool make room there";
    assert!(one_line(&text).starts_with(told), "{}", stdout(&text));
    assert!(stdout(&text).lines().all(|line| line.chars().count() <= 80), "{}", stdout(&text));
}

#[tokio::test]
async fn run_on_a_taken_port_ends_at_once_and_names_the_setting() {
    let (dir, database) = (StateDir::new(), database().await);
    write_config(dir.path(), database.url());
    let taken = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let file = dir.path().join("impact-mirror.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, format!("{text}\n[http]\nlisten = \"{}\"\n", taken.local_addr().unwrap())).unwrap();
    let output = impact_mirror(dir.path(), &["run"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("http.listen"), "{}", stderr(&output));
}
