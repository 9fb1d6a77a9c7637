//! The real daemon as the role that `deploy/sql/roles.sql` makes for it, and what the other role can and cannot do.

use std::time::Duration;

use sqlx::{AssertSqlSafe, Connection, PgConnection};
use url::Url;

use crate::support::daemon::{Mirrored, Process, Scene, still};

const ROLES: &str = include_str!("../../../deploy/sql/roles.sql");
const PASSWORD: &str = "made-up";

/// Roles of one test: a server has them for all its databases.
struct Roles {
    daemon: String,
    reader: String,
    sql: String,
}

impl Roles {
    /// With names of their own, and passwords where the server asks for some.
    fn new() -> Self {
        let unique = uuid::Uuid::new_v4().simple().to_string();
        let named = |role: &str| format!("impact_mirror_test_{role}_{unique}");
        let (daemon, reader) = (named("daemon"), named("reader"));
        let sql = ROLES.replace("impact_mirror_daemon", &daemon).replace("impact_mirror_reader", &reader);
        Self { daemon, reader, sql }
    }

    async fn make(&self, scene: &Scene) {
        scene.execute(&self.sql).await;
        for role in [&self.daemon, &self.reader] {
            scene.execute(&format!("alter role {role} password '{PASSWORD}'")).await;
        }
    }

    async fn drop(&self, scene: &Scene) {
        let Self { daemon, reader, .. } = self;
        for role in [reader, daemon] {
            scene.execute(&format!("drop owned by {role} cascade")).await;
            scene.execute(&format!("drop role {role}")).await;
        }
    }
}

fn url_as(scene: &Scene, role: &str) -> String {
    let mut url = Url::parse(scene.database.as_ref().unwrap().url()).unwrap();
    url.set_username(role).unwrap();
    url.set_password(Some(PASSWORD)).unwrap();
    url.into()
}

/// The code of the error that a statement ends with.
async fn refusal(conn: &mut PgConnection, statement: &str) -> Option<String> {
    let ended = sqlx::raw_sql(AssertSqlSafe(statement)).execute(conn).await;
    Some(ended.err()?.into_database_error().unwrap().code().unwrap().into_owned())
}

async fn done(mut command: Process) {
    assert_eq!(command.exit_code().await, Some(0), "{}", command.log());
}

/// Every table and view of ours.
async fn relations(scene: &Scene) -> Vec<String> {
    sqlx::query_scalar(
        "select format('%I.%I', n.nspname, c.relname) from pg_class c join pg_namespace n on n.oid = c.relnamespace
         where c.relkind in ('r', 'p', 'v') and n.nspname in ('impact', 'impact_mirror')",
    )
    .fetch_all(scene.pool())
    .await
    .unwrap()
}

/// Another file than before, asked for by hand.
async fn read_again(scene: &Scene, loads: i64) {
    for export in [Mirrored::Actions, Mirrored::Clicks] {
        let day = |which: &str| {
            format!("select {which}(day)::text from impact_mirror.coverage where export = '{}'", export.name())
        };
        let (from, to): (String, String) = (scene.value(&day("min")).await, scene.value(&day("max")).await);
        done(scene.start(&["refresh", export.name(), "--from", &from, "--to", &to])).await;
    }
    scene.until(&format!("(select count(*) >= {loads} from impact_mirror.load)")).await;
    scene.until_mirrored().await;
    scene.assert_mirrored().await;
}

#[tokio::test]
async fn the_daemon_lives_whole_with_few_rights_and_the_reader_reads_all_and_writes_nothing() {
    let scene = Scene::new(still(Duration::from_millis(40))).await;
    let archive = format!("[archive]\nurl = \"file://{}\"\n\n", scene.dir.path().join("archive").display());
    scene.edit_config(|text| {
        text.replace("[http]\n", &(archive + "[http]\n"))
            .replace("[exports.actions]\n", "[exports.actions]\nhistory = true\n")
            .replace("[exports.clicks]\n", "[exports.clicks]\npartition = \"month\"\n")
    });
    // The owner migrates, and the daemon has its own user from then on.
    done(scene.start(&["migrate"])).await;
    let roles = Roles::new();
    roles.make(&scene).await;
    roles.make(&scene).await;
    let owner = scene.database.as_ref().unwrap().url().to_owned();
    scene.edit_config(|text| text.replace(&owner, &url_as(&scene, &roles.daemon)));

    // New tables and a partition.
    let mut daemon = scene.run();
    scene.until_mirrored().await;
    scene.assert_mirrored().await;
    // The views for analysts come behind the loads, and the next step is no place for two.
    for export in ["actions", "clicks"] {
        daemon.until_says(&format!("rows of {export}")).await;
    }
    scene
        .until("to_regclass('impact.actions_current') is not null and to_regclass('impact.clicks_daily') is not null")
        .await;
    // A type that proves too narrow, new columns, rows that change and versions of them.
    scene
        .execute(
            "drop view impact.actions_versions, impact.actions_current cascade;
             alter table impact.actions alter column payout type bigint using round(payout);
             alter table impact.actions_history alter column payout type bigint using round(payout);
             update impact.actions set _row_hash = gen_random_uuid();
             update impact_mirror.mirrored_column set kind = 'bigint' where export = 'actions' and column_name = 'payout'",
        )
        .await;
    scene.sandbox.set_behaviour("columns=extra").unwrap();
    scene.sandbox.set_behaviour("row_order=random").unwrap();
    read_again(&scene, 4).await;
    assert!(scene.value::<bool>("select count(*) > 0 from impact_mirror.retyped_column").await, "nothing was retyped");
    let id: i64 = scene.value("select max(id) from impact_mirror.job").await;
    let day: String = scene.value("select max(day)::text from impact_mirror.coverage where export = 'actions'").await;
    for arguments in [
        &["check"][..],
        &["migrate"],
        &["status"],
        &["plan"],
        &["jobs", "list"],
        &["jobs", "show", &id.to_string()],
        &["accounts", "resume", "acme"],
        &["reload", "actions", "--from", &day, "--to", &day],
    ] {
        done(scene.start(arguments)).await;
    }
    daemon.kill();
    for trouble in ["permission denied", "must be owner", "panicked"] {
        assert!(!daemon.log().contains(trouble), "{}", daemon.log());
    }

    let mut reader = PgConnection::connect(&url_as(&scene, &roles.reader)).await.unwrap();
    let relations = relations(&scene).await;
    assert!(relations.len() > 30 && relations.iter().any(|one| one == "impact.actions_versions"), "{relations:?}");
    for relation in &relations {
        assert_eq!(refusal(&mut reader, &format!("select count(*) from {relation}")).await, None, "{relation}");
    }
    for view in ["actions_current", "performance_daily", "payouts_monthly", "clicks_daily"] {
        assert!(relations.contains(&format!("impact.{view}")), "{view}: {relations:?}");
    }
    for function in ["actions_as_known", "actions_current_as_known", "payouts_monthly_as_known"] {
        let statement = format!("select count(*) from impact.{function}(now())");
        assert_eq!(refusal(&mut reader, &statement).await, None, "{function}");
    }
    assert_eq!(
        refusal(&mut reader, "create temp table mine ()").await.as_deref(),
        Some("25006"),
        "read only by default"
    );
    sqlx::raw_sql("set default_transaction_read_only = off").execute(&mut reader).await.unwrap();
    for relation in &relations {
        for statement in [format!("delete from {relation}"), format!("insert into {relation} default values")] {
            // Most views take no rows from anybody, which is looked at before the right to give them some.
            let code = refusal(&mut reader, &statement).await;
            assert!(code.as_deref().is_some_and(|code| ["42501", "55000"].contains(&code)), "{code:?}: {statement}");
        }
    }
    for statement in ["create table impact.mine ()", "create table impact_mirror.mine ()", "drop table impact.actions"]
    {
        assert_eq!(refusal(&mut reader, statement).await.as_deref(), Some("42501"), "{statement}");
    }
    reader.close().await.unwrap();

    let mut conn = PgConnection::connect(&url_as(&scene, &roles.daemon)).await.unwrap();
    for statement in [
        "create schema mine",
        "create table impact_mirror.mine ()",
        "drop table impact_mirror.job",
        "alter table impact_mirror.job add column mine text",
        "truncate impact_mirror.job_event",
        "delete from impact_mirror._sqlx_migrations",
    ] {
        assert_eq!(refusal(&mut conn, statement).await.as_deref(), Some("42501"), "{statement}");
    }
    // A later version brings tables, and its migrations are the owner's to apply.
    scene.execute("create table impact_mirror.later (id bigint generated always as identity, what text)").await;
    assert_eq!(refusal(&mut conn, "insert into impact_mirror.later (what) values ('x')").await, None);
    conn.close().await.unwrap();
    scene.execute("delete from impact_mirror._sqlx_migrations where version = 1").await;
    let mut late = scene.run();
    assert_eq!(late.exit_code().await, Some(1));
    let words = "the database is older than this program: it lacks 1 migrations, and this user may not apply them; \
                 run `impact-mirror migrate` once with the owner";
    assert!(late.log().contains(words), "{}", late.log());
    roles.drop(&scene).await;
}
