//! Two versions and one database: a new one that brings it up to date, an old one that still runs, or is started again.

use std::fs;
use std::path::Path;

use impact_mirror::export::{ExportName, Window};
use impact_mirror::store::coverage::{self, NewRequest};
use impact_mirror::store::wake;
use sqlx::migrate::Migrator;
use tempfile::TempDir;

use super::*;
use crate::support::daemon::eventually;

/// Our migrations.
fn directory() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/migrations"))
}

/// What applies the migrations of a directory as the program does.
async fn migrator(directory: &Path) -> Migrator {
    let mut migrator = Migrator::new(directory).await.unwrap();
    migrator.dangerous_set_table_name("impact_mirror._sqlx_migrations");
    migrator.create_schema("impact_mirror");
    migrator
}

/// The schema as it was, in a database that is empty yet.
async fn migrate_to(scene: &Scene, version: i64) {
    migrator(directory()).await.run_to(version, scene.pool()).await.unwrap();
}

/// What a next version may do to a database while this one runs.
const NEXT: &str = "
    alter table impact_mirror.job add column later text not null default 'unknown';
    create index job_by_later on impact_mirror.job (later) where finished_at is null;
    create table impact_mirror.later (id bigint generated always as identity primary key, job_id bigint references impact_mirror.job (id));
    alter table impact_mirror.cell add column later timestamptz;
    create view impact_mirror.job_later as select id, later from impact_mirror.job;
";

#[tokio::test]
async fn migrations_give_way_to_who_reads_what_they_change() {
    let scene = actions_alone(QUICK).await;
    migrate_to(&scene, 5).await;
    let mut conn = scene.pool().acquire().await.unwrap();
    let mut reading = conn.begin().await.unwrap();
    // A little earlier than usual, so that it would be the reader who is ended.
    sqlx::query("set local deadlock_timeout = '700ms'").execute(&mut *reading).await.unwrap();
    sqlx::query("select from impact_mirror.job").execute(&mut *reading).await.unwrap();
    let mut migrate = scene.start(&["migrate"]);
    scene.until(&blocked(1)).await;
    // The migration has changed cells and waits for jobs. Who has read jobs wants cells next.
    sqlx::query("select from impact_mirror.cell").execute(&mut *reading).await.unwrap();
    reading.commit().await.unwrap();
    assert_eq!(migrate.exit_code().await, Some(0), "{}", migrate.log());
    let done: i64 = scene.value("select max(version) from impact_mirror._sqlx_migrations where success").await;
    assert!(done > 5, "{done}");
}

/// Our migrations and one more.
async fn next_version() -> Migrator {
    let next = TempDir::new().unwrap();
    for entry in fs::read_dir(directory()).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, next.path().join(path.file_name().unwrap())).unwrap();
    }
    fs::write(next.path().join("9999_next.sql"), NEXT).unwrap();
    migrator(next.path()).await
}

/// What the command `refresh` of any version does.
async fn request_again(scene: &Scene) {
    for export in &scene.exports {
        let days = "select min(day), max(day) from impact_mirror.coverage where export = $1";
        let (from, to) = sqlx::query_as(days).bind(export.name()).fetch_one(scene.pool()).await.unwrap();
        let (name, window) = (ExportName::new(export.name()), Window::new(from, to).unwrap());
        let mut conn = scene.pool().acquire().await.unwrap();
        coverage::request(&mut conn, &NewRequest { export: &name, window, rereads: true }).await.unwrap();
        wake::notify(&mut conn).await.unwrap();
    }
}

#[tokio::test]
async fn an_engine_goes_on_while_a_newer_version_migrates() {
    let scene = Scene::new(still(Duration::from_millis(300))).await;
    let daemon = scene.run();
    let url = daemon.url().await;
    scene.until_job("state = 'waiting'").await;
    // As a newer program does: again, where somebody who reads was in the way.
    let next = next_version().await;
    eventually("the next version has migrated", async || {
        let mut conn = scene.pool().acquire().await.unwrap();
        sqlx::raw_sql("set lock_timeout = '500ms'").execute(&mut *conn).await.unwrap();
        next.run_direct(None, &mut *conn, false).await.is_ok()
    })
    .await;
    scene.until_mirrored().await;
    scene.assert_mirrored().await;
    scene.sandbox.set_behaviour("row_order=random").unwrap();
    request_again(&scene).await;
    scene.until("(select count(*) = 4 from impact_mirror.load)").await;
    scene.until_mirrored().await;
    scene.assert_mirrored().await;
    assert_eq!(scene.orders(), 4);
    let answer = reqwest::get(format!("{url}readyz")).await.unwrap();
    assert_eq!(answer.status().as_u16(), 200);
    assert_eq!(answer.text().await.unwrap(), "ready; a newer version has applied 1 more migrations to the database\n");
    daemon.until_says("a newer version of impact-mirror has migrated the database").await;
}

#[tokio::test]
async fn a_program_that_is_older_than_the_database_says_so_and_what_to_do() {
    let scene = actions_alone(QUICK).await;
    next_version().await.run(scene.pool()).await.unwrap();
    let newest = migrator(directory()).await.iter().last().unwrap().version;
    let words = format!(
        "the database is newer than this program: it has migration 9999, and impact-mirror {} ends with {newest}; \
         install the version that was here last, or a newer one",
        env!("CARGO_PKG_VERSION")
    );
    for arguments in [&["run"][..], &["sync"], &["status"], &["migrate"], &["check"]] {
        let mut old = scene.start(arguments);
        assert_eq!(old.exit_code().await, Some(1), "{arguments:?}");
        let said = old.log().split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(said.contains(&words), "{arguments:?}: {said}");
    }
    assert_eq!(scene.orders(), 0);
}

#[tokio::test]
async fn a_migration_of_somebody_else_is_not_taken_for_ours() {
    let scene = actions_alone(QUICK).await;
    migrate_to(&scene, i64::MAX).await;
    scene.execute("update impact_mirror._sqlx_migrations set checksum = 'other' where version = 5").await;
    let mut old = scene.start(&["migrate"]);
    assert_eq!(old.exit_code().await, Some(1));
    assert!(old.log().contains("migration 5 of the database is not the one that this program has"), "{}", old.log());
}

/// What takes away from an old version what it stands on, unless it is something that came later.
const CONTRACTS: [&str; 9] = [
    "drop table",
    "drop column",
    "drop view",
    "drop function",
    "drop schema",
    "drop type",
    " rename ",
    "set not null",
    "drop default",
];

/// The statements of a migration that an old version may not survive.
fn contractions(migration: &str) -> Vec<String> {
    let code: Vec<&str> = migration.lines().map(|line| line.split("--").next().unwrap_or_default()).collect();
    let code = code.join("\n").to_lowercase();
    let clauses = code.split([';', ',']).map(|clause| clause.split_whitespace().collect::<Vec<_>>().join(" "));
    clauses
        .filter(|clause| {
            let is_narrow = clause.contains("add column") && clause.contains("not null") && !clause.contains("default");
            let retypes = clause.contains("alter column") && clause.contains(" type ");
            CONTRACTS.iter().any(|words| clause.contains(words)) || is_narrow || retypes
        })
        .collect()
}

#[test]
fn migrations_take_nothing_away_that_an_old_version_stands_on() {
    for entry in fs::read_dir(directory()).unwrap() {
        let path = entry.unwrap().path();
        let found = contractions(&fs::read_to_string(&path).unwrap());
        assert!(found.is_empty(), "{}: {found:?}; see docs/upgrade.md", path.display());
    }
}

#[test]
fn what_an_old_version_would_not_survive_is_found() {
    for bad in [
        "drop table t;",
        "alter table t\n    drop column c;",
        "alter table t rename column a to b;",
        "ALTER TABLE t ALTER COLUMN c TYPE bigint;",
        "alter table t alter column c set not null;",
        "alter table t add column a int, add column b int not null;",
    ] {
        assert_eq!(contractions(bad).len(), 1, "{bad}");
    }
    for good in ["-- drop table t\nselect 1;", "alter table t add column a int not null default 0;", NEXT] {
        assert!(contractions(good).is_empty(), "{good}");
    }
}
