//! The publication of mirrored tables, and a subscriber in another cluster that follows it.

use std::process::Output;
use std::time::Duration;

use impact_mirror::embedded::Embedded;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection, PgPool};

use crate::support::daemon::{Mirrored, Process, Scene, Wishes, still};
use crate::support::state_dir::StateDir;

const QUICK: Duration = Duration::from_millis(40);

async fn publish(scene: &Scene, arguments: &[&str]) -> String {
    let mut all = vec!["publish"];
    all.extend(arguments);
    let mut process: Process = scene.start(&all);
    let (status, _) = process.ended().await;
    assert!(status.success(), "{}", process.log());
    process.log()
}

async fn done(scene: &Scene, arguments: &[&str]) {
    let mut process = scene.start(arguments);
    let code = process.exit_code().await;
    assert_eq!(code, Some(0), "{arguments:?}: {}", process.log());
}

async fn text(conn: &mut PgConnection, query: &str) -> String {
    let found: Option<String> = sqlx::query_scalar(AssertSqlSafe(query)).fetch_one(conn).await.unwrap();
    found.unwrap_or_default()
}

async fn run(conn: &mut PgConnection, statement: &str) {
    sqlx::raw_sql(AssertSqlSafe(statement)).execute(conn).await.unwrap_or_else(|error| panic!("{statement}: {error}"));
}

/// A cluster that logical replication can start from.
async fn publisher(state: &StateDir) -> Embedded {
    let cluster = Embedded::start(state.path()).await.unwrap();
    let mut conn = PgConnection::connect(cluster.url()).await.unwrap();
    run(&mut conn, "alter system set wal_level = logical").await;
    conn.close().await.unwrap();
    cluster.stop().await.unwrap();
    let cluster = Embedded::start(state.path()).await.unwrap();
    let mut conn = PgConnection::connect(cluster.url()).await.unwrap();
    assert_eq!(text(&mut conn, "select current_setting('wal_level')").await, "logical");
    conn.close().await.unwrap();
    cluster
}

/// The structure of mirrored tables with this name, and of their partitions, for a subscriber. Views read what it has not.
async fn structure(here: &mut PgConnection, url: &str, name: &str) -> String {
    let list = format!(
        "select string_agg('--table=' || oid::regclass, ' ') from pg_class \
         where relnamespace = 'impact'::regnamespace and relkind in ('r', 'p') and relname like '{name}%'"
    );
    let tables = text(here, &list).await;
    let programs = std::process::Command::new(".ci/postgres").output().unwrap();
    let bin = String::from_utf8(programs.stdout).unwrap();
    let dump = std::path::Path::new(bin.lines().last().unwrap().trim()).join("pg_dump");
    let Output { stdout, stderr, status } = std::process::Command::new(dump)
        .args(["--schema-only", "--no-publications", "--no-owner", "--no-privileges"])
        .args(tables.split(' '))
        .arg(url)
        .output()
        .unwrap();
    assert!(status.success(), "{}", String::from_utf8_lossy(&stderr));
    let text = String::from_utf8(stdout).unwrap();
    // Commands of psql are not for a server.
    text.lines().filter(|line| !line.starts_with('\\')).collect::<Vec<_>>().join("\n")
}

/// All that both sides hold, as one text.
const ROWS: &str = "select string_agg(t::text, E'\\n' order by t::text) from impact.actions t";

async fn until_same(here: &mut PgConnection, there: &mut PgConnection, table: &str) {
    let query = ROWS.replace("actions", table);
    for _ in 0..300 {
        if text(here, &query).await == text(there, &query).await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("{table}: here\n{}\nthere\n{}", text(here, &query).await, text(there, &query).await);
}

#[tokio::test]
async fn a_subscriber_in_another_cluster_follows_inserts_updates_and_deletes() {
    let (state, other_state) = (StateDir::new(), StateDir::new());
    let (cluster, other) = (publisher(&state).await, Embedded::start(other_state.path()).await.unwrap());
    let pool = PgPool::connect(cluster.url()).await.unwrap();
    let wishes = Wishes { exports: &[Mirrored::Actions], ..Wishes::default() };
    let scene = Scene::on(still(QUICK), wishes, cluster.url(), pool).await;
    scene.edit_config(|text| text.replace("[exports.actions]", "[exports.actions]\npartition = \"month\""));
    done(&scene, &["sync"]).await;

    let dry = publish(&scene, &["--dry-run"]).await;
    assert!(dry.contains("create publication \"impact_mirror\" for table \"impact\".\"actions\""), "{dry}");
    let said = publish(&scene, &[]).await;
    assert!(said.contains("holds all mirrored tables") && !said.contains("wal_level"), "{said}");
    assert!(publish(&scene, &[]).await.contains("in step"));

    let mut here = PgConnection::connect(cluster.url()).await.unwrap();
    let mut there = PgConnection::connect(other.url()).await.unwrap();
    run(&mut there, "create schema impact").await;
    run(&mut there, &structure(&mut here, cluster.url(), "actions").await).await;
    run(&mut there, &format!("create subscription mirror connection '{}' publication impact_mirror", cluster.url()))
        .await;
    until_same(&mut here, &mut there, "actions").await;

    // What a merge does: rows that differ, a row that went, one that is new.
    run(
        &mut here,
        "update impact.actions set payout = payout + 1, _row_hash = gen_random_uuid() where _line = 2; \
         delete from impact.actions where _line = 3; \
         insert into impact.actions select (jsonb_populate_record(a, '{\"action_id\": \"extra\"}')).* from impact.actions a where _line = 4",
    )
    .await;
    until_same(&mut here, &mut there, "actions").await;
    let before = text(&mut here, "select count(*)::text from impact.actions").await;
    // An identical file would not be compared.
    scene.sandbox.set_behaviour("row_order=random").unwrap();
    done(&scene, &["refresh", "actions", "--from", "2020-01-01", "--to", "2099-01-01", "--wait"]).await;
    let counts = "select concat_ws(' ', rows_inserted, rows_updated, rows_deleted) from impact_mirror.load order by id desc limit 1";
    assert_eq!(text(&mut here, counts).await, "1 1 1");
    assert_eq!(text(&mut here, "select count(*)::text from impact.actions").await, before);
    until_same(&mut here, &mut there, "actions").await;

    // A table that a load makes is published with it, and a subscriber finds it.
    let clicks =
        "\n[exports.clicks]\naccounts = [\"acme\"]\nclicks = true\nschedule = \"0 0 0 1 1 *\"\ninclude_today = false\n";
    let since = text(&mut here, "select max(day)::text from impact_mirror.coverage where export = 'actions'").await;
    scene.edit_config(|text| format!("{text}{clicks}since = \"{since}\"\n"));
    done(&scene, &["sync"]).await;
    let tables =
        "select string_agg(tablename, ' ' order by 1) from pg_publication_tables where pubname = 'impact_mirror'";
    assert_eq!(text(&mut here, tables).await, "actions clicks");
    let identities = "select string_agg(distinct relreplident::text, '') from pg_class \
                      where relnamespace = 'impact'::regnamespace and relkind in ('r', 'p')";
    assert_eq!(text(&mut here, identities).await, "f");
    run(&mut there, &structure(&mut here, cluster.url(), "clicks").await).await;
    run(&mut there, "alter subscription mirror refresh publication").await;
    until_same(&mut here, &mut there, "clicks").await;

    // A key whose columns are never NULL names the rows; without it again, the whole row does.
    run(&mut here, "alter table impact.actions alter column action_id set not null").await;
    let said = publish(&scene, &["--dry-run"]).await;
    assert!(said.contains("replica identity using index \"actions_key\""), "{said}");
    publish(&scene, &[]).await;
    let by = "select string_agg(distinct relreplident::text, '') from pg_class where relname like 'actions%' and relkind in ('r', 'p')";
    assert_eq!(text(&mut here, by).await, "i");
    // The other side has to know the rows by the same key.
    run(&mut there, "alter table impact.actions alter column action_id set not null").await;
    let identity: Vec<&str> = said.lines().filter(|line| line.contains("using index \"actions")).collect();
    run(&mut there, &identity.join("\n")).await;
    run(
        &mut here,
        "update impact.actions set payout = payout + 1 where _line = 5; delete from impact.actions where _line = 6",
    )
    .await;
    until_same(&mut here, &mut there, "actions").await;

    run(&mut there, "drop subscription mirror").await;
    let said = publish(&scene, &["--drop"]).await;
    assert!(said.contains("is gone"), "{said}");
    assert_eq!(text(&mut here, "select count(*)::text from pg_publication").await, "0");
    assert_eq!(text(&mut here, identities).await, "d");
    scene.pool().close().await;
    here.close().await.unwrap();
    there.close().await.unwrap();
    cluster.stop().await.unwrap();
    other.stop().await.unwrap();
}
