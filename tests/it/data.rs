//! docs/data.md and the queries of the README, on made-up data that is the same whenever it is made. `UPDATE_DOCS=1` writes the results
//! and what is generated into docs/data.md; of the README, whose results tell of time that has passed, the columns are compared.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use chrono::{DateTime, NaiveDate, Utc};
use impact_mirror::account::AccountName;
use impact_mirror::app;
use impact_mirror::config::{self, Distribution, Environment, Settings, catalogue};
use impact_mirror::export::{Program, Source, Window};
use impact_mirror::mirror::{self, Target, Widens, Writes};
use impact_mirror::sandbox::{Options, Sandbox};
use sqlx::{
    AssertSqlSafe, Column as _, Executor as _, PgPool, Row as _, SqlSafeStr as _, TypeInfo as _, ValueRef as _,
};

use crate::support::database::{TestDatabase, migrated};

const SETTINGS: &str = r#"
[accounts.acme]
persona = "brand"
account_sid = "IRsandboxBrand0001"
auth_token = { env = "TOKEN" }
base_url = "http://127.0.0.1:9"
time_zone = "America/New_York"
programs = [1000]

[exports.actions]
report = "adv_action_listing_pm_only"
since = "2026-04-01"
history = true

[exports.clicks]
clicks = true
since = "2026-05-25"
"#;

/// When actions and clicks were read, oldest first.
const READINGS: [&str; 3] = ["2026-05-20T12:00:00Z", "2026-06-01T12:00:00Z", "2026-06-20T12:00:00Z"];

fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

/// A database with two months of actions, read three times, and a week of clicks.
async fn filled() -> TestDatabase {
    let database = migrated().await;
    let dir = tempfile::TempDir::new().unwrap();
    let text =
        format!("state_dir = \"{}\"\n[database]\nurl = \"{}\"\n{SETTINGS}", dir.path().display(), database.url());
    let environment = Environment::from([("TOKEN", "made-up".to_owned())]);
    let settings = config::check(&text, Path::new("mirror.toml"), &environment).unwrap();
    app::write_configuration(database.pool(), &settings).await.unwrap();
    let options = Options { actions_per_day: 5, clicks_per_day: 60, clock_speed: 0.0, ..Options::default() };
    let sandbox = Sandbox::start(options).await.unwrap();
    for at in READINGS {
        let at: DateTime<Utc> = at.parse().unwrap();
        for month in ["2026-04-01 2026-04-30", "2026-05-01 2026-05-31"] {
            load(&database, &settings, &sandbox, "actions", month, at, dir.path()).await;
        }
    }
    for day in 25..=31 {
        let day = format!("2026-05-{day} 2026-05-{day}");
        load(&database, &settings, &sandbox, "clicks", &day, READINGS[2].parse().unwrap(), dir.path()).await;
    }
    let mut conn = database.pool().acquire().await.unwrap();
    mirror::views::keep(&mut conn, "impact", &BTreeMap::new()).await.unwrap();
    drop(conn);
    database
}

async fn load(
    database: &TestDatabase,
    settings: &Settings,
    sandbox: &Sandbox,
    name: &str,
    days: &str,
    at: DateTime<Utc>,
    dir: &Path,
) {
    let export = settings.exports.values().find(|export| export.name.as_str() == name).unwrap();
    let (from, to) = days.split_once(' ').unwrap();
    let (from, to): (NaiveDate, NaiveDate) = (from.parse().unwrap(), to.parse().unwrap());
    let report = match &export.source {
        Source::Report(handle) => handle.as_str(),
        Source::Clicks => "clicks",
    };
    let params: Vec<(&str, &str)> =
        export.params.iter().flat_map(|(name, all)| all.iter().map(|value| (name.as_str(), value.as_str()))).collect();
    let csv = sandbox.truth_at(at, "IRsandboxBrand0001", report, "1000", (from, to), &params);
    let file = dir.join("result.csv");
    std::fs::write(&file, csv).unwrap();
    let (account, program) = (AccountName::new("acme"), Program::new("1000"));
    let none = BTreeMap::new();
    let target = Target {
        schema: "impact",
        export: &export.name,
        account: &account,
        program: &program,
        window: Window::new(from, to).unwrap(),
        time_zone: chrono_tz::America::New_York,
        key: &export.key,
        date_column: export.date_column.as_deref(),
        configured: &export.types,
        typed_by_user: &export.typed_by_user,
        metadata: &none,
        on_type_conflict: export.on_type_conflict,
        partition: export.partition,
        history: export.history,
        widens: Widens::Within,
        distribution: Distribution::None,
    };
    let mut tx = database.pool().begin().await.unwrap();
    let load_id: i64 = sqlx::query_scalar(
        "with job as (
             insert into impact_mirror.job (export, account, program, from_day, to_day, reason, state, priority, bucket, request,
                 wanted_after, run_at, created_at, finished_at)
             values ($1, 'acme', '1000', $2, $3, 'manual', 'cancelled', 0, 'report_export', '{}', $4, $4, $4, $4) returning id)
         insert into impact_mirror.load (job_id, export, account, program, from_day, to_day, file_sha256, file_bytes, target_hash,
             started_at, committed_at)
         select id, $1, 'acme', '1000', $2, $3, '', 0, gen_random_uuid(), $4, $4 from job returning id",
    )
    .bind(name)
    .bind(from)
    .bind(to)
    .bind(at)
    .fetch_one(&mut *tx)
    .await
    .unwrap();
    let format = export.result_format;
    mirror::load(&mut tx, &file, format, &target, load_id, at, Writes::Differing).await.unwrap();
    tx.commit().await.unwrap();
}

/// What a statement gives: the names of its columns, which of them are numbers, and its rows.
#[derive(Debug, Default)]
struct Shown {
    names: Vec<String>,
    numbers: Vec<bool>,
    rows: Vec<Vec<String>>,
}

async fn run(pool: &PgPool, statement: &str) -> Shown {
    let mut conn = pool.acquire().await.unwrap();
    sqlx::raw_sql("set timezone to 'UTC'").execute(&mut *conn).await.unwrap();
    let described = (&mut *conn).describe(AssertSqlSafe(statement.to_owned()).into_sql_str()).await;
    let described = described.unwrap_or_else(|error| panic!("{error}\n{statement}"));
    let names = described.columns().iter().map(|column| column.name().to_owned()).collect();
    let is_number = |kind: &str| matches!(kind, "INT8" | "INT4" | "NUMERIC" | "FLOAT8");
    let numbers = described.columns().iter().map(|column| is_number(column.type_info().name())).collect();
    let rows = sqlx::raw_sql(AssertSqlSafe(statement.to_owned())).fetch_all(&mut *conn).await;
    let rows = rows.unwrap_or_else(|error| panic!("{error}\n{statement}"));
    let text = |row: &sqlx::postgres::PgRow| {
        let values = (0..row.len()).map(|index| {
            let value = row.try_get_raw(index).unwrap();
            if value.is_null() { String::new() } else { value.as_str().unwrap().to_owned() }
        });
        values.collect()
    };
    Shown { names, numbers, rows: rows.iter().map(text).collect() }
}

impl Shown {
    /// As psql shows it.
    fn table(&self) -> String {
        let width = |index: usize| {
            let cells = self.rows.iter().map(|row| row[index].chars().count());
            cells.chain([self.names[index].chars().count()]).max().unwrap_or(0)
        };
        let line = |cells: &[String]| {
            let cells = cells.iter().enumerate().map(|(index, cell)| {
                let width = width(index);
                if self.numbers[index] { format!("{cell:>width$}") } else { format!("{cell:<width$}") }
            });
            cells.collect::<Vec<_>>().join(" | ").trim_end().to_owned()
        };
        let rule: Vec<_> = (0..self.names.len()).map(|index| "-".repeat(width(index))).collect();
        let mut text = format!("{}\n{}\n", line(&self.names), rule.join("-+-"));
        for row in &self.rows {
            text.push_str(&line(row));
            text.push('\n');
        }
        text
    }
}

/// The statements of a block; one that begins a transaction is one.
fn statements(block: &str) -> Vec<String> {
    if block.contains("begin;") {
        return vec![block.to_owned()];
    }
    block.split_inclusive(";\n").filter(|part| part.contains(';')).map(str::to_owned).collect()
}

/// What is generated for docs/data.md, by name.
async fn generated(pool: &PgPool, what: &str) -> String {
    let mut text = String::new();
    match what {
        "views" => {
            let views: Vec<(String, String)> = sqlx::query_as(
                "select relname::text, obj_description(oid) from pg_class \
                 where relnamespace = 'impact'::regnamespace and relkind = 'v' and obj_description(oid) like '%Kept by%' order by 1",
            )
            .fetch_all(pool)
            .await
            .unwrap();
            for (view, says) in views {
                let _ = write!(
                    text,
                    "### `impact.{view}`\n\n{}\n\n| column | type | what it says |\n| --- | --- | --- |\n",
                    unmarked(&says)
                );
                let columns: Vec<(String, String, String)> = sqlx::query_as(
                    "select attname::text, format_type(atttypid, atttypmod), col_description(attrelid, attnum) from pg_attribute \
                     where attrelid = format('impact.%I', $1)::regclass and attnum > 0 order by attnum",
                )
                .bind(&view)
                .fetch_all(pool)
                .await
                .unwrap();
                for (name, kind, says) in columns {
                    let _ = writeln!(text, "| `{name}` | {kind} | {says} |");
                }
                text.push('\n');
            }
        }
        "functions" => {
            let functions: Vec<(String, String)> = sqlx::query_as(
                "select proname::text, obj_description(oid) from pg_proc where pronamespace = 'impact'::regnamespace \
                 and obj_description(oid) is not null order by 1",
            )
            .fetch_all(pool)
            .await
            .unwrap();
            text.push_str("| function | gives |\n| --- | --- |\n");
            for (name, says) in functions {
                let _ = writeln!(text, "| `impact.{name}(at timestamptz)` | {} |", unmarked(&says));
            }
        }
        "bookkeeping" => {
            let views: Vec<(String, String)> = sqlx::query_as(
                "select relname::text, obj_description(oid) from pg_class \
                 where relnamespace = 'impact_mirror'::regnamespace and relkind = 'v' order by 1",
            )
            .fetch_all(pool)
            .await
            .unwrap();
            text.push_str("| view | what it says |\n| --- | --- |\n");
            for (name, says) in views {
                let _ = writeln!(text, "| `impact_mirror.{name}` | {says} |");
            }
        }
        "reports" => {
            text.push_str(
                "| report | of a | a row, and what to know | key | dated by |\n| --- | --- | --- | --- | --- |\n",
            );
            let clicks = catalogue().clicks.iter().map(|(persona, entry)| (format!("clicks ({persona})"), entry));
            let reports = catalogue().reports.iter().map(|(handle, entry)| (format!("`{handle}`"), entry));
            for (name, entry) in clicks.chain(reports) {
                let key = entry.key.iter().map(|column| format!("`{column}`")).collect::<Vec<_>>().join(", ");
                let date = entry.date_column.as_ref().map(|column| format!("`{column}`")).unwrap_or_default();
                let _ = writeln!(
                    text,
                    "| {name} | {} | {} | {key} | {date} |",
                    entry.persona,
                    entry.says.replace('|', "\\|")
                );
            }
        }
        other => panic!("docs/data.md wants {other:?} generated, which nobody knows"),
    }
    text.trim_end().to_owned() + "\n"
}

/// The comment without what is only ours.
fn unmarked(comment: &str) -> &str {
    comment.split(" Kept by impact-mirror").next().unwrap()
}

/// The document with everything in it that is made.
async fn remade(pool: &PgPool, document: &str) -> String {
    let mut text = String::new();
    let mut lines = document.lines().peekable();
    while let Some(line) = lines.next() {
        let _ = writeln!(text, "{line}");
        if let Some(what) = line.strip_prefix("<!-- made: ").and_then(|rest| rest.strip_suffix(" -->")) {
            while lines.next_if(|line| *line != "<!-- end -->").is_some() {}
            let _ = write!(text, "\n{}\n", generated(pool, what).await);
        } else if line == "```sql" {
            let mut block = String::new();
            while let Some(line) = lines.next_if(|line| *line != "```") {
                let _ = writeln!(block, "{line}");
                let _ = writeln!(text, "{line}");
            }
            let _ = writeln!(text, "{}\n\n```text", lines.next().unwrap());
            for statement in statements(&block) {
                text.push_str(&run(pool, &statement).await.table());
            }
            text.push_str("```\n");
            if lines.peek() == Some(&"") {
                let mut ahead = lines.clone();
                ahead.next();
                if ahead.next() == Some("```text") {
                    while lines.next().unwrap() != "```text" {}
                    while lines.next().unwrap() != "```" {}
                }
            }
        }
    }
    text
}

#[tokio::test]
async fn the_description_of_the_data_is_up_to_date_and_its_queries_give_what_it_shows() {
    let database = filled().await;
    let file = path("docs/data.md");
    let found = std::fs::read_to_string(&file).unwrap();
    let expected = remade(database.pool(), &found).await;
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&file, &expected).unwrap();
        return;
    }
    assert!(found.matches("```sql").count() >= 6, "it has queries");
    assert_eq!(found, expected, "docs/data.md is behind; UPDATE_DOCS=1 writes it anew");
}

/// The names in a head of a result that stands in comments.
fn head(comments: &[&str]) -> Option<Vec<String>> {
    let rule = comments.iter().position(|line| line.starts_with("-- -") && line.chars().all(|c| "-+ ".contains(c)))?;
    let names = comments.get(rule.checked_sub(1)?)?.trim_start_matches("--").split('|');
    Some(names.map(|name| name.trim().to_owned()).collect())
}

#[tokio::test]
async fn every_query_of_the_readme_runs_and_gives_the_columns_that_it_shows() {
    let database = filled().await;
    let readme = std::fs::read_to_string(path("README.md")).unwrap();
    let (mut seen, mut blocks) = (0, Vec::new());
    let mut rest = readme.as_str();
    while let Some(at) = rest.find("```sql\n") {
        let (block, after) = rest[at + 7..].split_once("```").unwrap();
        blocks.push(block);
        rest = after;
    }
    // What changes tables comes last.
    blocks.sort_by_key(|block| block.contains("begin;"));
    for block in blocks {
        let parts = statements(block);
        if block.contains("begin;") {
            sqlx::raw_sql(AssertSqlSafe(block.to_owned())).execute(database.pool()).await.unwrap();
            seen += 1;
            continue;
        }
        for statement in &parts {
            let shown = run(database.pool(), statement).await;
            // The comments up to the next statement are its result.
            let from = block.find(statement.as_str()).unwrap() + statement.len();
            let comments: Vec<&str> = block[from..].lines().take_while(|line| line.starts_with("--")).collect();
            let names = head(&comments).unwrap_or_else(|| panic!("the README shows no result of\n{statement}"));
            assert_eq!(names, shown.names, "{statement}\n{}", shown.table());
            seen += 1;
        }
    }
    assert!(seen >= 7, "{seen} statements");
    let rows: i64 = sqlx::query_scalar("select count(*) from impact.actions").fetch_one(database.pool()).await.unwrap();
    assert!(rows > 200, "moved into a partitioned table: {rows}");
    let kind: String = sqlx::query_scalar("select relkind::text from pg_class where oid = 'impact.actions'::regclass")
        .fetch_one(database.pool())
        .await
        .unwrap();
    assert_eq!(kind, "p");
    let mut conn = database.pool().acquire().await.unwrap();
    mirror::views::keep(&mut conn, "impact", &BTreeMap::new()).await.unwrap();
    let shown: i64 =
        sqlx::query_scalar("select count(*) from impact.actions_current").fetch_one(&mut *conn).await.unwrap();
    assert_eq!(shown, rows, "the views are made anew");
}
