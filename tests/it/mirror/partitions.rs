//! Tables partitioned by month: made, kept exact by key, looked after.

use impact_mirror::mirror::partitions;

use super::*;

const PARTITIONS: &str = "select c.relname || ' ' || pg_get_expr(c.relpartbound, c.oid) from pg_inherits i \
                          join pg_class c on c.oid = i.inhrelid where i.inhparent = 'impact.actions'::regclass order by 1";

async fn by_month() -> Mirror {
    Mirror { partition: Partition::Month, ..Mirror::keyed().await }
}

fn window(from: &str, to: &str) -> Window {
    Window::new(day(from), day(to)).unwrap()
}

/// The names of the partitions.
async fn names(mirror: &Mirror) -> Vec<String> {
    let shown = mirror.query(PARTITIONS).await;
    shown.iter().map(|line| line.split(' ').next().unwrap().trim_start_matches("actions_p").to_owned()).collect()
}

#[tokio::test]
async fn a_load_makes_the_partitions_that_its_window_needs() {
    let mut mirror = by_month().await;
    mirror.window = window("2025-12-30", "2026-01-02");
    let report = mirror.load("Id,Day,Amount\n1,2025-12-31,5\n2,2026-01-01,6\n").await;
    assert_eq!(counts(&report), [2, 0, 0, 0, 0]);
    assert_eq!(
        mirror.query(PARTITIONS).await,
        [
            "actions_p2025_12 FOR VALUES FROM ('2025-12-01') TO ('2026-01-01')",
            "actions_p2026_01 FOR VALUES FROM ('2026-01-01') TO ('2026-02-01')"
        ]
    );
    assert_eq!(mirror.query("select id::text from impact.actions_p2026_01").await, ["2"]);
    mirror.window = window("2026-01-03", "2026-02-02");
    let report = mirror.load("Id,Day,Amount\n3,2026-02-01,5\n").await;
    assert_eq!(report.table_changes, ["made partition actions_p2026_02"]);
    let again = mirror.load("Id,Day,Amount\n3,2026-02-01,5\n").await;
    assert_eq!((counts(&again), again.table_changes.len()), ([0, 0, 0, 1, 0], 0));
    let keys = "select count(*)::text from pg_index i join pg_inherits p on p.inhrelid = i.indrelid \
                where p.inhparent = 'impact.actions'::regclass and i.indisunique and i.indisvalid";
    assert_eq!(mirror.query(keys).await, ["3"], "every partition has the key");
}

#[tokio::test]
async fn a_key_that_moves_to_another_day_is_not_doubled_and_keeps_its_first_sight() {
    let mut mirror = by_month().await;
    mirror.window = window("2026-04-29", "2026-05-02");
    mirror.load("Id,Day,Amount\n1,2026-04-30,5\n2,2026-05-01,6\n3,2026-05-01,7\n").await;
    // In the same window: over the end of the month, within the month, and not at all.
    let report = mirror.load("Id,Day,Amount\n1,2026-05-01,5\n2,2026-05-02,8\n3,2026-05-01,7\n").await;
    assert_eq!(counts(&report), [0, 2, 0, 1, 0]);
    let first = "_first_seen_at = timestamptz '2026-06-01 01:00Z' and (_changed_at > _first_seen_at) = (_load_id > 1)";
    let rows =
        format!("select concat_ws('|', id, _day, amount, _load_id, _line, {first}) from impact.actions order by id");
    assert_eq!(mirror.query(&rows).await, ["1|2026-05-01|5|2|2|t", "2|2026-05-02|8|2|3|t", "3|2026-05-01|7|1|4|t"]);
    let again = mirror.load("Id,Day,Amount\n1,2026-05-01,5\n2,2026-05-02,8\n3,2026-05-01,7\n").await;
    assert_eq!(counts(&again), [0, 0, 0, 3, 0], "the hash is the row's own again");

    // To another window that had no rows, where only its own key tells that it is known.
    mirror.window = window("2026-07-01", "2026-07-03");
    let report = mirror.load("Id,Day,Amount\n1,2026-07-02,5\n4,2026-07-03,9\n").await;
    assert_eq!(counts(&report), [1, 1, 0, 0, 0]);
    assert_eq!(
        mirror.query("select concat_ws('|', id, _day) from impact.actions order by id").await,
        ["1|2026-07-02", "2|2026-05-02", "3|2026-05-01", "4|2026-07-03"]
    );
}

#[tokio::test]
async fn a_key_twice_in_a_file_under_two_days_stands_once() {
    let mut mirror = by_month().await;
    let report = mirror.load("Id,Day\n1,2026-05-01\n1,2026-05-02\n2,2026-05-02\n").await;
    assert_eq!(counts(&report), [2, 0, 0, 0, 1]);
    assert_eq!(mirror.rejected().await, ["3|-|duplicate key (line 2)"]);
}

#[tokio::test]
async fn loads_at_the_same_time_that_bring_one_key_under_two_days_do_not_double_it() {
    let mut mirror = by_month().await;
    mirror.load("Id,Day\n0,2026-05-01\n").await;
    for key in 1..=10 {
        let (mut one, mut other) = (mirror.beside(Program::new("1000")), mirror.beside(Program::new("2000")));
        one.window = window("2026-05-02", "2026-05-02");
        other.window = window("2026-06-01", "2026-06-01");
        let (first, second) = (format!("Id,Day\n{key},2026-05-02\n"), format!("Id,Day\n{key},2026-06-01\n"));
        let (one, other) = tokio::join!(one.load(first), other.load(second));
        assert_eq!((one.rows_inserted + other.rows_inserted, one.rows_updated + other.rows_updated), (1, 1), "{key}");
        let standing = format!("select count(*)::text from impact.actions where id = {key}");
        assert_eq!(mirror.query(&standing).await, ["1"], "{key}");
    }
}

#[tokio::test]
async fn loads_at_the_same_time_agree_on_the_partitions() {
    let mut mirror = by_month().await;
    mirror.load("Id,Day\n0,2026-05-01\n").await;
    let at = |program: &str| {
        let mut one = mirror.beside(Program::new(program));
        one.window = window("2026-08-01", "2026-09-30");
        one
    };
    let (mut one, mut other) = (at("1"), at("2"));
    tokio::join!(one.load("Id,Day\n1,2026-08-01\n"), other.load("Id,Day\n2,2026-09-01\n"));
    assert_eq!(names(&mirror).await, ["2026_05", "2026_08", "2026_09"]);
    assert_eq!(mirror.query("select count(*)::text from impact.actions").await, ["3"]);
}

#[tokio::test]
async fn a_reader_is_not_in_the_way_of_a_new_partition() {
    let mut mirror = by_month().await;
    mirror.load("Id,Day\n0,2026-05-01\n").await;
    let mut reader = mirror.pool.begin().await.unwrap();
    sqlx::raw_sql("select * from impact.actions").execute(&mut *reader).await.unwrap();
    mirror.window = window("2026-06-01", "2026-06-01");
    let load = mirror.load("Id,Day\n1,2026-06-01\n");
    let report = tokio::time::timeout(std::time::Duration::from_secs(30), load).await.unwrap();
    assert_eq!(counts(&report), [1, 0, 0, 0, 0]);
    reader.rollback().await.unwrap();
}

#[tokio::test]
async fn without_a_key_a_partitioned_window_is_replaced_as_a_multiset() {
    let mut mirror = Mirror { partition: Partition::Month, ..Mirror::unkeyed().await };
    assert_eq!(counts(&mirror.load("Id,Cost\na,1\na,1\nb,2\n").await), [3, 0, 0, 0, 0]);
    let indexes = "select tablename || ' ' || indexname from pg_indexes where schemaname = 'impact' \
                   and indexdef like '%(_account, _program, _day)' order by 1";
    assert_eq!(mirror.query(indexes).await.len(), 2, "the table and its partition have the index of the window");
    assert_eq!(counts(&mirror.load("Id,Cost,New\na,1,\nb,3,x\n").await), [1, 0, 2, 1, 0]);
    assert_eq!(counts(&mirror.load("Id,Cost,New\na,1.5,\nb,3,x\n").await), [1, 0, 1, 1, 0]);
    assert_eq!(
        mirror.query("select concat_ws('|', id, cost, new) from impact.actions order by id").await,
        ["a|1.5", "b|3|x"]
    );
}

#[tokio::test]
async fn a_setting_that_does_not_fit_the_table_is_refused_with_the_mend() {
    for (first, then, words) in [
        (
            Partition::None,
            Partition::Month,
            "is not partitioned, but exports.actions.partition is \"month\": set it to \"none\"",
        ),
        (
            Partition::Month,
            Partition::None,
            "is partitioned, but exports.actions.partition is \"none\": set it to \"month\"",
        ),
    ] {
        let mut mirror = Mirror { partition: first, ..Mirror::keyed().await };
        mirror.load("Id,Day\n1,2026-05-01\n").await;
        mirror.partition = then;
        let error = mirror.try_load("Id,Day\n2,2026-05-01\n").await.unwrap_err();
        assert!(
            error.to_string().starts_with("table \"impact\".\"actions\" is ") && error.to_string().contains(words),
            "{error}"
        );
        assert_eq!(error.kind(), ErrorKind::Database, "the job waits for the mend");
        let mut conn = mirror.pool.acquire().await.unwrap();
        for (partition, fits) in [(first, true), (then, false)] {
            let checked = partitions::check(&mut conn, "impact", &mirror.export, partition).await;
            assert_eq!(checked.is_ok(), fits, "{partition:?}");
        }
        assert_eq!(mirror.rows("id").await, ["1"]);
    }
}

#[tokio::test]
async fn partitions_are_made_ahead_once_and_old_ones_are_dropped_whole() {
    let mut mirror = by_month().await;
    let mut conn = mirror.pool.acquire().await.unwrap();
    let ahead = window("2026-05-15", "2026-07-16");
    let made = partitions::make_ahead(&mut conn, "impact", &mirror.export, ahead).await.unwrap();
    assert_eq!(made, Vec::<String>::new(), "no table yet");
    mirror.load("Id,Day\n1,2026-05-01\n").await;
    mirror.window = window("2026-04-30", "2026-04-30");
    mirror.load("Id,Day\n2,2026-04-30\n").await;
    let made = partitions::make_ahead(&mut conn, "impact", &mirror.export, ahead).await.unwrap();
    assert_eq!(made, ["actions_p2026_06", "actions_p2026_07"]);
    assert!(partitions::make_ahead(&mut conn, "impact", &mirror.export, ahead).await.unwrap().is_empty());

    let drop_before = async |conn: &mut sqlx::PgConnection, text: &str| {
        partitions::drop_before(conn, "impact", &ExportName::new("actions"), day(text)).await.unwrap()
    };
    assert_eq!(drop_before(&mut conn, "2026-04-30").await, Vec::<String>::new(), "a month goes as a whole");
    let mut tx = mirror.pool.begin().await.unwrap();
    assert_eq!(drop_before(&mut tx, "2026-05-01").await, ["actions_p2026_04"]);
    tx.commit().await.unwrap();
    assert_eq!(names(&mirror).await, ["2026_05", "2026_06", "2026_07"]);
    assert_eq!(mirror.rows("id").await, ["1"]);
}

#[tokio::test]
async fn partitions_that_were_made_by_hand_are_used() {
    let mut mirror = by_month().await;
    mirror.load("Id,Day\n1,2026-05-01\n").await;
    sqlx::raw_sql(
        "create table impact.old (like impact.actions); \
         alter table impact.actions attach partition impact.old for values from (minvalue) to ('2026-04-01'); \
         create table impact.coming (like impact.actions); \
         alter table impact.actions attach partition impact.coming for values from ('2026-06-01') to ('2027-01-01')",
    )
    .execute(&mirror.pool)
    .await
    .unwrap();
    for (key, text) in [(2, "2020-02-02"), (3, "2026-11-11")] {
        mirror.window = window(text, text);
        let report = mirror.load(format!("Id,Day\n{key},{text}\n")).await;
        assert_eq!((counts(&report), report.table_changes.len()), ([1, 0, 0, 0, 0], 0), "{text}");
    }
}

#[tokio::test]
async fn the_readme_shows_how_a_table_is_moved_into_a_partitioned_one() {
    let readme = include_str!("../../../README.md");
    let (_, rest) = readme.split_once("```sql\nbegin;").unwrap();
    let (statements, _) = rest.split_once("```").unwrap();
    let mut mirror = Mirror::keyed().await;
    mirror.history = true;
    mirror.load("Id,Day,Amount\n1,2026-05-01,5\n2,2026-05-02,6\n").await;
    sqlx::raw_sql(AssertSqlSafe(format!("begin;{statements}"))).execute(&mirror.pool).await.unwrap();
    mirror.partition = Partition::Month;
    let report = mirror.load("Id,Day,Amount\n1,2026-05-02,5\n2,2026-05-02,6\n").await;
    assert_eq!(counts(&report), [0, 1, 0, 1, 0]);
    assert_eq!(
        mirror.query("select concat_ws('|', id, _day) from impact.actions order by id").await,
        ["1|2026-05-02", "2|2026-05-02"]
    );
    assert_eq!(
        mirror.query("select concat_ws('|', id, _day, _superseded_by) from impact.actions_versions order by 1").await,
        ["1|2026-05-01|2", "1|2026-05-02", "2|2026-05-02"]
    );
    let report = mirror.load("Id,Day,Amount\n1,2026-05-02,5\n2,2026-05-02,6\n").await;
    assert!(report.table_changes.is_empty(), "{:?}", report.table_changes);
    assert_eq!(
        mirror.query("select col_description('impact.actions'::regclass, 1)").await,
        ["source: Id"],
        "comments go with it"
    );
}

#[tokio::test]
async fn columns_widen_in_every_partition_before_a_new_one_is_made() {
    let mut mirror = by_month().await;
    mirror.load("Id,Day,A,B\n1,2026-05-01,1,1\n").await;
    mirror.window = window("2026-05-31", "2026-06-01");
    let report = mirror.load("Id,Day,A,B,C\n2,2026-06-01,1.5,x,y\n").await;
    assert_eq!(counts(&report), [1, 0, 0, 0, 0]);
    assert_eq!(
        report.table_changes,
        [
            "added column c (text)",
            "changed column a from bigint to numeric",
            "changed column b from bigint to text; other windows have texts of its values until `reload` brings those of \
             their files",
            "made partition actions_p2026_06"
        ]
    );
    assert_eq!(
        mirror.query("select concat_ws('|', id, a, b, c) from impact.actions order by id").await,
        ["1|1|1", "2|1.5|x|y"]
    );
}
