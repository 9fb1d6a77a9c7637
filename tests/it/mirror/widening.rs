//! Columns that get another type ahead of the load, while the table is read.

use sqlx::Connection;

use super::*;

async fn ahead() -> Mirror {
    Mirror { widens: Widens::Before, ..Mirror::keyed().await }
}

const KINDS: &str = "select concat_ws(' ', attname, atttypid::regtype, col_description(attrelid, attnum)) from pg_attribute \
                     where attrelid = 'impact.actions'::regclass and attname in ('amount', 'units', 'note') and not attisdropped \
                     order by attname";
const RETYPED: &str = "select concat_ws(' ', export, coalesce(load_id, 0), column_name, from_kind, to_kind) \
                       from impact_mirror.retyped_column order by id";

#[tokio::test]
async fn a_table_is_read_while_its_columns_are_widened() {
    let mut mirror = ahead().await;
    mirror.load("Id,Day,Amount,Units,Note\n1,2026-05-01,10,1,\n2,2026-05-02,20,2,\n").await;

    // So that the widening is stopped half way through the table.
    sqlx::raw_sql(
        "create function wait() returns trigger language plpgsql as \
             $$ begin perform pg_advisory_xact_lock(4711); return new; end $$; \
         create trigger waits before update on impact.actions for each row execute function wait()",
    )
    .execute(&mirror.pool)
    .await
    .unwrap();
    let mut holder = mirror.pool.acquire().await.unwrap();
    let mut held = holder.begin().await.unwrap();
    sqlx::query("select pg_advisory_xact_lock(4711)").execute(&mut *held).await.unwrap();
    let pool = mirror.pool.clone();
    let loading = tokio::spawn(async move {
        mirror.load("Id,Day,Amount,Units,Note\n1,2026-05-01,10.5,1,7\n2,2026-05-02,20,n,\n").await;
        mirror
    });
    let stopped =
        "select count(*) from pg_stat_activity where wait_event_type = 'Lock' and query like 'update%\"_wider_%'";
    crate::support::daemon::eventually("the widening is stopped", async || {
        sqlx::query_scalar::<_, i64>(stopped).fetch_one(&pool).await.unwrap() == 1
    })
    .await;
    let mut reader = pool.acquire().await.unwrap();
    sqlx::query("set statement_timeout = '10s'").execute(&mut *reader).await.unwrap();
    let read: String = sqlx::query_scalar("select sum(amount)::text || ' ' || sum(units)::text from impact.actions")
        .fetch_one(&mut *reader)
        .await
        .expect("the table is read as ever");
    assert_eq!(read, "30 3");
    held.rollback().await.unwrap();
    drop(reader);

    let mirror = loading.await.unwrap();
    assert_eq!(mirror.rows("id amount units note").await, ["1|10.5|1|7", "2|20|n|-"]);
    assert_eq!(
        mirror.query(KINDS).await,
        ["amount numeric source: Amount", "note bigint source: Note", "units text source: Units"]
    );
    assert_eq!(
        mirror.query(RETYPED).await,
        ["actions 0 amount bigint numeric", "actions 0 units bigint text", "actions 0 note text bigint"]
    );
    let beside = "select count(*)::text from pg_attribute where attname like '\\_wider%' and not attisdropped";
    assert_eq!(mirror.query(beside).await, ["0"]);
}

#[tokio::test]
async fn what_was_widened_is_loaded_into_as_ever() {
    for partition in [Partition::None, Partition::Month] {
        let mut mirror = Mirror { partition, ..ahead().await };
        mirror.load("Id,Day,Amount\n1,2026-05-01,10\n2,2026-05-02,20\n").await;
        let report = mirror.load("Id,Day,Amount\n1,2026-05-01,10.5\n2,2026-05-02,20\n").await;
        assert_eq!(report.table_changes, ["changed column amount from bigint to numeric"]);
        assert_eq!((report.rows_updated, report.rows_unchanged), (1, 1));
        // A later window, and in a partitioned table a later partition.
        mirror.window = Window::day(day("2026-07-01"));
        mirror.load("Id,Day,Amount\n3,2026-07-01,0.25\n").await;
        assert_eq!(mirror.rows("id amount").await, ["2|20", "1|10.5", "3|0.25"]);
    }
}

#[tokio::test]
async fn texts_are_those_of_the_file_after_a_column_was_widened_to_text() {
    let mut mirror = ahead().await;
    mirror.load("Id,Day,Amount\n1,2026-05-01,$10.50\n2,2026-05-02,20.00\n").await;
    mirror.load("Id,Day,Amount\n1,2026-05-01,$10.50\n2,2026-05-02,20.00\n3,2026-05-02,many\n").await;
    assert_eq!(mirror.rows("id amount").await, ["1|$10.50", "2|20.00", "3|many"]);
}

#[tokio::test]
async fn what_a_crash_left_beside_a_column_is_no_hindrance() {
    let mut mirror = ahead().await;
    mirror.load("Id,Day,Amount\n1,2026-05-01,10\n").await;
    mirror.query("alter table impact.actions add column _wider_amount_numeric text").await;
    mirror.load("Id,Day,Amount\n1,2026-05-01,10.5\n").await;
    assert_eq!(mirror.rows("id amount").await, ["1|10.5"]);
    assert_eq!(
        mirror.query("select count(*)::text from pg_attribute where attname = '_wider_amount_numeric'").await,
        ["0"]
    );
}

/// What hangs on a column would be lost with it.
#[tokio::test]
async fn a_column_with_an_index_is_widened_by_the_load() {
    let mut mirror = ahead().await;
    mirror.load("Id,Day,Amount\n1,2026-05-01,10\n").await;
    mirror.query("create index actions_by_amount on impact.actions (amount)").await;
    mirror.load("Id,Day,Amount\n1,2026-05-01,10.5\nx,2026-05-01,3\n").await;
    assert_eq!(mirror.rows("id amount").await, ["1|10.5", "x|3"]);
    assert_eq!(mirror.query(RETYPED).await, ["actions 2 id bigint text", "actions 2 amount bigint numeric"]);
    let indexes = "select count(*)::text from pg_indexes where tablename = 'actions'";
    assert_eq!(mirror.query(indexes).await, ["3"]);
}

/// Postgres would read its expression anew, which fits the old type alone.
#[tokio::test]
async fn our_statistics_on_a_column_are_no_hindrance_to_another_type() {
    const STATISTICS: &str = "select count(*)::text from pg_statistic_ext";
    for widens in [Widens::Before, Widens::Within] {
        let mut mirror = Mirror { widens, ..Mirror::keyed().await };
        mirror.load("Id,Day,Program\n1,2026-05-01,\n").await;
        let made = "create statistics impact.actions_groups_0123abcd (ndistinct) \
                    on (coalesce(nullif(_program, ''), program)), _day from impact.actions";
        mirror.query(made).await;
        assert_eq!(mirror.query(STATISTICS).await, ["1"]);
        let report = mirror.load("Id,Day,Program\n1,2026-05-01,77\n").await;
        assert_eq!(mirror.rows("id program").await, ["1|77"]);
        assert_eq!(mirror.query(STATISTICS).await, ["0"], "whoever keeps the views makes them again");
        // Beside, the load itself has nothing to add to what was done before it.
        assert_eq!(report.table_changes, ["changed column program from text to bigint"]);
    }
}
