//! Superseded versions of rows: what is kept, what is not, and the table as it was known at a time.

use super::*;

mod readers;
mod states;

const FIRST: &str =
    "Id,Day,Status,Amount\n1,2026-05-01,PENDING,10.50\n2,2026-05-02,PENDING,20\n3,2026-05-03,PENDING,5\n";
const SECOND: &str =
    "Id,Day,Status,Amount\n1,2026-05-01,PENDING,10.50\n2,2026-05-02,APPROVED,25\n4,2026-05-03,PENDING,7\n";

async fn keyed() -> Mirror {
    Mirror { history: true, ..Mirror::keyed().await }
}

async fn unkeyed() -> Mirror {
    Mirror { history: true, ..Mirror::unkeyed().await }
}

/// Superseded versions: these columns, and from when to when in hours of June 2026, and by which load.
async fn superseded(mirror: &Mirror, columns: &str) -> Vec<String> {
    let columns: Vec<_> = columns.split(' ').map(|column| format!("coalesce(\"{column}\"::text, '-')")).collect();
    let hours = |column: &str| format!("extract(epoch from {column} - timestamptz '2026-06-01 00:00Z')::int / 3600");
    let statement = format!(
        "select concat_ws('|', {}, {}, {}, _superseded_by) from impact.actions_history order by _valid_to, _load_id, _line",
        columns.join(", "),
        hours("_valid_from"),
        hours("_valid_to")
    );
    mirror.query(&statement).await
}

/// What a query of whole rows gives, by the texts of the values that there are, so that neither a new column nor a wider
/// type tells times apart.
async fn contents(mirror: &Mirror, of: &str, but: &[&str]) -> Vec<String> {
    let but = but.join(",");
    mirror
        .query(&format!(
            "select (select string_agg(key || '=' || value, ' ' order by key) \
                     from jsonb_each_text(to_jsonb(t) - '{{{but}}}'::text[]) where value is not null) \
             from {of} t order by 1"
        ))
        .await
}

async fn as_known(mirror: &Mirror, at: DateTime<Utc>, but: &[&str]) -> Vec<String> {
    contents(mirror, &format!("impact.actions_as_known('{at}')"), but).await
}

#[tokio::test]
async fn what_a_load_replaces_or_deletes_is_kept_with_its_lineage() {
    let mut mirror = keyed().await;
    let report = mirror.load(FIRST).await;
    assert_eq!(
        report.table_changes,
        ["created table \"impact\".\"actions\" with 4 columns", "made history \"impact\".\"actions_history\""]
    );
    assert!(superseded(&mirror, "id").await.is_empty());
    assert_eq!(counts(&mirror.load(SECOND).await), [1, 1, 1, 1, 0]);
    assert_eq!(
        superseded(&mirror, "id status amount _account _program _day _load_id _line").await,
        ["2|PENDING|20|acme|1000|2026-05-02|1|3|1|2|2", "3|PENDING|5|acme|1000|2026-05-03|1|4|1|2|2"]
    );
    mirror
        .load("Id,Day,Status,Amount\n1,2026-05-01,PENDING,10.50\n2,2026-05-02,REVERSED,0\n3,2026-05-03,PENDING,5\n")
        .await;
    assert_eq!(superseded(&mirror, "id status").await[2..], ["2|APPROVED|2|3|3", "4|PENDING|2|3|3"]);
    assert_eq!(
        mirror
            .query(
                "select concat_ws('|', id, status, _load_id, _superseded_by, _valid_from = _changed_at, _valid_to is null) \
                 from impact.actions_versions order by id, _valid_from"
            )
            .await,
        [
            "1|PENDING|1|t|t",
            "2|PENDING|1|2|t|f",
            "2|APPROVED|2|3|t|f",
            "2|REVERSED|3|t|t",
            "3|PENDING|1|2|t|f",
            "3|PENDING|3|t|t",
            "4|PENDING|2|3|t|f"
        ]
    );
    let known = |hour: i64| {
        format!(
            "select concat_ws('|', id, status, amount) \
             from impact.actions_as_known(timestamptz '2026-06-01 00:00Z' + interval '{hour} hours') order by id"
        )
    };
    assert!(mirror.query(&known(0)).await.is_empty());
    assert_eq!(mirror.query(&known(1)).await, ["1|PENDING|10.50", "2|PENDING|20", "3|PENDING|5"]);
    assert_eq!(mirror.query(&known(2)).await, ["1|PENDING|10.50", "2|APPROVED|25", "4|PENDING|7"]);
    assert_eq!(mirror.query(&known(3)).await, ["1|PENDING|10.50", "2|REVERSED|0", "3|PENDING|5"]);
}

#[tokio::test]
async fn without_the_setting_nothing_is_made() {
    let mut mirror = Mirror::keyed().await;
    mirror.load(FIRST).await;
    mirror.load(SECOND).await;
    mirror.load("").await;
    assert!(
        mirror
            .query("select relname::text from pg_class where relname ~ 'actions_(history|versions)'")
            .await
            .is_empty()
    );
}

#[tokio::test]
async fn what_did_not_change_is_no_version() {
    for mut mirror in [keyed().await, unkeyed().await] {
        mirror.load(FIRST).await;
        mirror.load(FIRST).await;
        mirror.load(format!("{FIRST}4,2026-05-01,PENDING,1\n")).await;
        mirror.load("Amount,Status,New,Day,Id\n1,PENDING,,2026-05-01,4\n5,PENDING,,2026-05-03,3\n20,PENDING,,2026-05-02,2\n10.50,PENDING,,2026-05-01,1\n").await;
        assert!(superseded(&mirror, "id").await.is_empty());
        assert_eq!(
            mirror.query("select pg_stat_get_tuples_inserted('impact.actions_history'::regclass)::text").await,
            ["0"]
        );
    }
}

#[tokio::test]
async fn without_a_key_each_of_several_equal_rows_is_a_version() {
    let mut mirror = unkeyed().await;
    mirror.load("Id,Cost\na,1\na,1\na,1\nb,2\n").await;
    mirror.load("Id,Cost\na,1\nc,3\n").await;
    assert_eq!(superseded(&mirror, "id _line").await, ["a|3|1|2|2", "a|4|1|2|2", "b|5|1|2|2"]);
    let first = "2026-06-01T01:00:00Z".parse().unwrap();
    let lineage = ["_load_id", "_line", "_row_hash"];
    assert_eq!(as_known(&mirror, first, &lineage).await.len(), 4);
    mirror.load("").await;
    assert_eq!(superseded(&mirror, "id").await.len(), 5);
    assert!(as_known(&mirror, mirror.now, &lineage).await.is_empty());
}

#[tokio::test]
async fn a_file_of_no_bytes_makes_a_history_where_there_is_none() {
    let mut mirror = Mirror::keyed().await;
    mirror.load(FIRST).await;
    mirror.history = true;
    let report = mirror.load("").await;
    assert_eq!(report.table_changes, ["made history \"impact\".\"actions_history\""]);
    assert_eq!(counts(&report), [0, 0, 3, 0, 0]);
    assert_eq!(superseded(&mirror, "id _load_id").await, ["1|1|1|2|2", "2|1|1|2|2", "3|1|1|2|2"]);
    assert_eq!(
        mirror.query("select indexdef from pg_indexes where tablename = 'actions_history' order by indexname").await,
        [
            "CREATE INDEX actions_history_day ON impact.actions_history USING btree (_account, _day)",
            "CREATE INDEX actions_history_key ON impact.actions_history USING btree (_account, id)",
            "CREATE INDEX actions_history_valid_to ON impact.actions_history USING btree (_valid_to)"
        ]
    );
}

#[tokio::test]
async fn switched_on_late_and_off_again_what_stands_stays() {
    let mut mirror = Mirror::keyed().await;
    mirror.load(FIRST).await;
    mirror.history = true;
    assert!(mirror.load(FIRST).await.table_changes[0].starts_with("made history"));
    mirror.load(SECOND).await;
    let first = "2026-06-01T01:00:00Z".parse().unwrap();
    assert_eq!(as_known(&mirror, first, &[]).await.len(), 3, "all that has changed since is known");
    mirror.history = false;
    for (file, what) in [
        ("Id,Day,Status,Amount,New\n1,2026-05-01,PENDING,10.50,x\n2,2026-05-02,REVERSED,25,\n", "a new column"),
        ("Id,Day,Status,Amount,New\n1,2026-05-01,PENDING,10.50,x\n2,2026-05-02,REVERSED,a few,\n", "a wider one"),
    ] {
        mirror.load(file).await;
        assert_eq!(superseded(&mirror, "id").await, ["2|1|3|3", "3|1|3|3"]);
        assert_eq!(contents(&mirror, "impact.actions_versions", &[]).await.len(), 4, "{what} is followed");
        let known = as_known(&mirror, mirror.now, &[]).await;
        assert_eq!(known, contents(&mirror, "impact.actions", &[]).await, "{what} is followed");
    }
}

#[tokio::test]
async fn new_and_wider_columns_are_followed_and_grants_stay() {
    for partition in [Partition::None, Partition::Month] {
        let mut mirror = Mirror { partition, ..keyed().await };
        mirror.load("Id,Day,A,B,C,D\n1,2026-05-01,1,1,2026-05-01,\n2,2026-05-02,7,7,2026-05-02,\n").await;
        mirror.load("Id,Day,A,B,C,D\n1,2026-05-01,2,2,2026-05-03,\n2,2026-05-02,7,7,2026-05-02,\n").await;
        sqlx::raw_sql(
            "do $$ begin if not exists (select 1 from pg_roles where rolname = 'history_reader') then \
                 create role history_reader; end if; exception when duplicate_object or unique_violation then null; end $$; \
             grant select on impact.actions_versions to history_reader with grant option; \
             grant select on impact.actions_versions to public",
        )
        .execute(&mirror.pool)
        .await
        .unwrap();
        let grants = "select acl::text from (select unnest(relacl) as acl from pg_class \
                      where relname = 'actions_versions') a order by 1";
        let before = mirror.query(grants).await;
        let report = mirror
            .load("Id,Day,A,B,C,D,E\n1,2026-05-01,2.5,x,2026-05-03 10:00:00,5,new\n2,2026-05-02,7,7,2026-05-02,,\n")
            .await;
        assert_eq!(counts(&report)[1], 1);
        let types = |table: &str| {
            format!(
                "select concat_ws(' ', attname, format_type(atttypid, -1)) from pg_attribute \
                 where attrelid = 'impact.{table}'::regclass and attnum > 0 and attname in ('a', 'b', 'c', 'd', 'e') order by 1"
            )
        };
        let kinds = ["a numeric", "b text", "c timestamp with time zone", "d bigint", "e text"];
        for table in ["actions", "actions_history", "actions_versions"] {
            assert_eq!(mirror.query(&types(table)).await, kinds, "{table}");
        }
        assert_eq!(
            mirror
                .query(
                    "select concat_ws('|', a, b, c at time zone 'America/New_York', coalesce(d::text, '-'), coalesce(e, '-')) \
                     from impact.actions_versions where id = 1 order by _valid_from"
                )
                .await,
            ["1|1|2026-05-01 00:00:00|-|-", "2|2|2026-05-03 00:00:00|-|-", "2.5|x|2026-05-03 10:00:00|5|new"]
        );
        let first = "2026-06-01T01:00:00Z".parse().unwrap();
        assert_eq!(as_known(&mirror, first, &[]).await.len(), 2);
        assert_eq!(mirror.query(grants).await, before);
        assert_eq!(
            mirror
                .query(
                    "select concat_ws(' / ', col_description('impact.actions_history'::regclass, attnum)) from pg_attribute \
                     where attrelid = 'impact.actions_history'::regclass and attnum > 0 order by attname"
                )
                .await
                .iter()
                .filter(|comment| comment.is_empty())
                .count(),
            0,
            "every column has its comment"
        );
    }
}

#[tokio::test]
async fn a_column_that_somebody_adds_to_the_table_is_in_the_answers_after_the_next_load() {
    let mut mirror = keyed().await;
    mirror.load(FIRST).await;
    mirror.load(SECOND).await;
    sqlx::raw_sql("alter table impact.actions add note varchar(9) default 'own'").execute(&mirror.pool).await.unwrap();
    mirror.load(FIRST).await;
    assert_eq!(
        mirror.query("select concat_ws('|', id, note) from impact.actions_versions order by id, _valid_from").await,
        ["1|own", "2", "2", "2|own", "3", "3|own", "4"]
    );
    assert_eq!(as_known(&mirror, mirror.now, &[]).await, contents(&mirror, "impact.actions", &[]).await);
}

#[tokio::test]
async fn the_index_of_the_key_follows_the_key() {
    let mut mirror = keyed().await;
    mirror.load(FIRST).await;
    mirror.key = vec!["Id".to_owned(), "Day".to_owned()];
    mirror.load(FIRST).await;
    assert_eq!(
        mirror.query("select indexdef from pg_indexes where indexname = 'actions_history_key'").await,
        ["CREATE INDEX actions_history_key ON impact.actions_history USING btree (_account, id, day)"]
    );
}

#[tokio::test]
async fn a_reload_of_the_same_values_makes_no_versions() {
    for mut mirror in [keyed().await, unkeyed().await] {
        let is_keyed = !mirror.key.is_empty();
        let doubles = if is_keyed { "" } else { "3,2026-05-03,PENDING,5\n" };
        mirror.load(format!("{FIRST}{doubles}")).await;
        let changed = "select string_agg(distinct extract(hour from _changed_at at time zone 'UTC')::text, ',') from impact.actions";
        mirror.reloads_all = true;
        let report = mirror.load(format!("{FIRST}{doubles}")).await;
        let rows = if is_keyed { 3 } else { 4 };
        assert_eq!(counts(&report), [0, 0, 0, rows, 0]);
        assert_eq!(report.rows_per_day.values().sum::<u64>(), rows);
        assert_eq!(mirror.query(changed).await, ["1"], "it last changed before");
        assert_eq!(mirror.query("select distinct _load_id::text from impact.actions").await, ["2"]);
        let report = mirror.load(format!("{SECOND}{doubles}")).await;
        assert_eq!(counts(&report), if is_keyed { [1, 1, 1, 1, 0] } else { [2, 0, 2, 2, 0] });
        assert_eq!(superseded(&mirror, "id").await.len(), 2);
        mirror.reloads_all = false;
        assert_eq!(counts(&mirror.load(format!("{SECOND}{doubles}")).await)[3], rows, "the hashes are there again");
    }
}

#[tokio::test]
async fn a_reload_brings_back_a_row_that_went_to_another_program() {
    for partition in [Partition::None, Partition::Month] {
        let mut mirror = Mirror { partition, ..keyed().await };
        mirror.load(FIRST).await;
        let mut other = mirror.beside(Program::new("2000"));
        other.load("Id,Day,Status,Amount\n2,2026-05-02,PENDING,20\n").await;
        mirror.now = other.now;
        mirror.reloads_all = true;
        assert_eq!(counts(&mirror.load(FIRST).await), [0, 1, 0, 2, 0]);
        assert_eq!(mirror.rows("id _program").await, ["1|1000", "2|1000", "3|1000"]);
        assert_eq!(superseded(&mirror, "id _program").await, ["2|1000|1|2|2", "2|2000|2|3|3"]);
    }
}

#[tokio::test]
async fn days_that_are_kept_no_longer_take_their_versions_with_them() {
    let mut mirror = keyed().await;
    mirror.load(FIRST).await;
    mirror.load(SECOND).await;
    let (window, program) = (Window::new(day("2026-05-01"), day("2026-05-02")).unwrap(), mirror.program.clone());
    let mut conn = mirror.pool.acquire().await.unwrap();
    let versions = async |conn: &mut sqlx::PgConnection, from: Option<NaiveDate>| {
        let account = AccountName::new("acme");
        mirror::history::count_versions(conn, "impact", &ExportName::new("actions"), &account, from, day("2026-05-04"))
            .await
            .unwrap()
    };
    assert_eq!(versions(&mut conn, None).await, 2);
    assert_eq!(versions(&mut conn, Some(day("2026-05-03"))).await, 1);
    let deleted =
        mirror::partitions::delete_days(&mut conn, "impact", &mirror.export, &mirror.account, &program, window)
            .await
            .unwrap();
    assert_eq!(deleted, 2);
    assert_eq!(superseded(&mirror, "id").await, ["3|1|2|2"], "of the days that stay");

    let mut mirror = Mirror { partition: Partition::Month, ..keyed().await };
    mirror.window = Window::new(day("2026-04-30"), day("2026-05-01")).unwrap();
    mirror.load("Id,Day,A\n1,2026-04-30,1\n2,2026-05-01,1\n3,2026-04-30,1\n").await;
    mirror.load("Id,Day,A\n1,2026-05-01,1\n2,2026-05-01,2\n3,2026-04-30,2\n").await;
    let mut tx = mirror.pool.begin().await.unwrap();
    mirror::partitions::drop_before(&mut tx, "impact", &mirror.export, day("2026-05-01")).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(superseded(&mirror, "id _day").await, ["2|2026-05-01|1|2|2"]);
}

#[tokio::test]
async fn what_somebody_else_named_so_is_refused_with_the_mend_and_left_alone() {
    for (made, name) in [
        ("create table impact.actions_history (id int)", "\"impact\".\"actions_history\""),
        ("create view impact.actions_versions as select 1 as own", "\"impact\".\"actions_versions\""),
        (
            "create function impact.actions_as_known(timestamptz) returns int language sql as 'select 1'",
            "\"impact\".\"actions_as_known\"(timestamptz)",
        ),
    ] {
        let mut mirror = Mirror::keyed().await;
        mirror.load(FIRST).await;
        sqlx::raw_sql(AssertSqlSafe(made)).execute(&mirror.pool).await.unwrap();
        mirror.history = true;
        let error = mirror.try_load(SECOND).await.unwrap_err();
        assert_eq!(
            error.to_string(),
            format!(
                "{name} is there and does not keep or show the versions of export actions: rename or drop it, or set \
                 exports.actions.history = false"
            )
        );
        mirror.history = false;
        mirror.load(SECOND.replace("25", "a few")).await;
        let left = "select count(*)::text from pg_class where relname in ('actions_history', 'actions_versions')";
        assert_eq!(mirror.query(left).await, [if made.contains("function") { "0" } else { "1" }], "{made}");
    }
}
