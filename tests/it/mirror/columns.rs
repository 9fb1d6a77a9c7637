//! Which columns a file makes.

use std::io::Write as _;

use super::*;

#[tokio::test]
async fn columns_are_named_typed_and_commented() {
    let mut mirror = Mirror::unkeyed().await;
    mirror.load("Action_Id,ProgramId,Sale_zzzAmount,Paid,Action_Date,At,Nothing\n1.2.3,1000,5.0,true,\"May 29, 2026\",2026-05-29T04:33:50-0500,\n").await;
    assert_eq!(
        mirror.types().await,
        [
            "action_id text data",
            "program_id bigint data",
            "sale_zzz_amount numeric data",
            "paid boolean data",
            "action_date date data",
            "at timestamp with time zone data",
            "nothing text empty"
        ]
    );
    assert_eq!(
        mirror
            .query(
                "select col_description('impact.actions'::regclass, 3) || obj_description('impact.actions'::regclass)"
            )
            .await,
        ["source: Sale_zzzAmountMirror of the export actions of impact.com."]
    );
}

#[tokio::test]
async fn hostile_headers_become_harmless() {
    let long = "x".repeat(100);
    let header = format!(
        "\"a\"\"; drop schema impact_mirror cascade; --\",,_account,xmin,1st,{long},{long},Größe,\"new\nline\",\\'x"
    );
    let mut mirror = Mirror::unkeyed().await;
    let report = mirror.load(format!("{header}\n1,2,3,4,5,6,7,8,9,10\n")).await;
    assert_eq!(counts(&report), [1, 0, 0, 0, 0]);
    let names: Vec<_> =
        mirror.types().await.into_iter().map(|line| line.split(' ').next().unwrap().to_owned()).collect();
    assert_eq!(
        names,
        [
            "a_drop_schema_impact_mirror_cascade",
            "column_2",
            "account",
            "xmin_2",
            "c_1st",
            &"x".repeat(63),
            &format!("{}_2", "x".repeat(61)),
            "größe",
            "new_line",
            "x"
        ]
    );
    let again = mirror.load(format!("{header}\n1,2,3,4,5,6,7,8,9,10\n")).await;
    assert_eq!(counts(&again), [0, 0, 0, 1, 0]);
    assert!(again.table_changes.is_empty());
}

#[tokio::test]
async fn new_columns_are_added_and_letter_case_does_not_matter() {
    let mut mirror = Mirror::keyed().await;
    mirror.load("Id,Day\n1,2026-05-01\n").await;
    let report = mirror.load("ID,day,Sale Amount,SALE_AMOUNT\n1,2026-05-01,5,x\n").await;
    assert_eq!(counts(&report), [0, 1, 0, 0, 0]);
    assert_eq!(report.table_changes, ["added column sale_amount (bigint)", "added column sale_amount_2 (text)"]);
    let report = mirror.load("SALE_AMOUNT,Id,Day\nx,1,2026-05-01\n").await;
    assert_eq!(counts(&report), [0, 1, 0, 0, 0]);
    assert_eq!(mirror.rows("id sale_amount sale_amount_2").await, ["1|-|x"], "what the file lacks is gone");
}

#[tokio::test]
async fn a_name_twice_in_a_file_is_two_columns() {
    let mut mirror = Mirror::unkeyed().await;
    mirror.load("Date,date\n1,2\n").await;
    mirror.load("DATE,Date\n1,2\n").await;
    assert_eq!(mirror.rows("date date_2").await, ["1|2"]);
}

#[tokio::test]
async fn a_file_without_its_key_or_date_is_refused() {
    let mut mirror = Mirror::keyed().await;
    let error = mirror.try_load("Identity,Day\n1,2026-05-01\n").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::BadFile);
    assert!(
        error
            .to_string()
            .contains("of export actions has no column \"Id\", which is its key: correct exports.actions.key,"),
        "{error}"
    );
    let error = mirror.try_load("Id,Date\n1,2026-05-01\n").await.unwrap_err();
    assert!(
        error
            .to_string()
            .contains("has no column \"Day\", which is its date column: correct exports.actions.date_column"),
        "{error}"
    );
}

#[tokio::test]
async fn what_is_not_a_header_is_refused() {
    for (file, problem) in [
        (&b"a,\xff\xfe\n1,2\n"[..], "it is not UTF-8"),
        (b"a,b\r1,2\r", "it holds a carriage return"),
        (b"\"a\"x,b\n1,2\n", "text after a closing quote"),
    ] {
        let mut mirror = Mirror::unkeyed().await;
        let error = mirror.try_load(file).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::BadFile);
        assert!(error.to_string().ends_with(problem), "{error}");
    }
}

#[tokio::test]
async fn a_text_that_has_none_of_the_columns_is_a_wrong_file() {
    let page = "upstream connect error or disconnect/reset before headers, reset reason: connection failure\n";
    let mut mirror = Mirror::unkeyed().await;
    mirror.load("A,B\n1,2\n").await;
    let error = mirror.try_load(page).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::BadFile);
    assert!(
        error.to_string().contains("it begins \"upstream connect error or disconnect/reset before headers, "),
        "{error}"
    );
    assert_eq!(mirror.rows("a b").await, ["1|2"]);
    assert_eq!(mirror.types().await.len(), 2);
    mirror.load("").await;
    assert!(mirror.rows("a b").await.is_empty(), "no bytes are no rows as ever");

    // The first file of all, where columns are known before.
    for (configured, metadata) in [("Id", None), ("", Some("Id"))] {
        let mut mirror = Mirror::unkeyed().await;
        mirror.configured = Some(configured)
            .filter(|name| !name.is_empty())
            .map(|name| (name.to_owned(), ColumnKind::Text))
            .into_iter()
            .collect();
        mirror.metadata = metadata.map(|name| (name.to_owned(), ColumnKind::Text)).into_iter().collect();
        assert_eq!(mirror.try_load(page).await.unwrap_err().kind(), ErrorKind::BadFile);
        assert_eq!(counts(&mirror.load("id,Other\n1,2\n").await), [1, 0, 0, 0, 0]);
    }

    // Columns that are all new for once, and told to be.
    let mut mirror = Mirror::unkeyed().await;
    mirror.load("A,B\n1,2\n").await;
    mirror.configured.insert("C".to_owned(), ColumnKind::Bigint);
    assert_eq!(counts(&mirror.load("C,D\n1,2\n").await), [1, 0, 1, 0, 0]);
}

#[tokio::test]
async fn columns_and_rows_of_other_hands_do_not_matter() {
    let mut mirror = Mirror::unkeyed().await;
    mirror.load("A,B\n1,2\n").await;
    sqlx::raw_sql("alter table impact.actions add column c text; alter table impact.actions drop column b; alter table impact.actions alter column a type numeric")
        .execute(&mirror.pool)
        .await
        .unwrap();
    mirror.load("A,B,C\n1,2,3\n4,5,6\n").await;
    assert_eq!(mirror.rows("a b c c_2").await, ["1|-|-|-", "1|2|-|3", "4|5|-|6"].map(str::to_owned)[1..].to_vec());
    sqlx::raw_sql("drop table impact.actions").execute(&mirror.pool).await.unwrap();
    mirror.load("A\n1\n").await;
    assert_eq!(mirror.rows("a b c_2").await, ["1|-|-"]);
}

#[tokio::test]
async fn loads_at_the_same_time_agree_on_the_columns() {
    let mut one = Mirror::keyed().await;
    one.load("Id,Day\n1,2026-05-01\n").await;
    let mut other = one.beside(Program::new("2000"));
    let (first, second) =
        tokio::join!(one.load("Id,Day,A,B\n1,2026-05-01,5,x\n"), other.load("Id,Day,B,A\n2,2026-05-01,y,5.5\n"));
    assert_eq!(first.rows_updated + second.rows_inserted, 2);
    assert_eq!(
        one.query("select concat_ws('|', id, a, b) from impact.actions order by id").await,
        ["1|5|x", "2|5.5|y"]
    );
    assert_eq!(one.types().await.len(), 4);
}

#[tokio::test]
async fn an_empty_column_that_was_given_a_type_by_hand_keeps_it() {
    let mut mirror = Mirror::unkeyed().await;
    mirror.load("A,B\n1,\n").await;
    sqlx::raw_sql("alter table impact.actions alter column b type numeric using null")
        .execute(&mirror.pool)
        .await
        .unwrap();
    mirror.configured.insert("B".to_owned(), ColumnKind::Bigint);
    mirror.load("A,B\n1,2.5\n").await;
    assert_eq!(mirror.rows("a b").await, ["1|2.5"]);
}

#[tokio::test]
async fn a_column_that_changes_while_a_load_waits_for_the_table_is_seen() {
    let mut mirror = Mirror::keyed().await;
    mirror.load("Id,Day,A\n1,2026-05-01,5\n").await;
    let mut tx = mirror.pool.begin().await.unwrap();
    sqlx::raw_sql(
        "alter table impact.actions alter column a type text; \
         update impact_mirror.mirrored_column set kind = 'text' where column_name = 'a'",
    )
    .execute(&mut *tx)
    .await
    .unwrap();
    let pool = mirror.pool.clone();
    let mut other = mirror.beside(Program::new("2000"));
    let load = tokio::spawn(async move { other.load("Id,Day,A\n2,2026-05-01,7\n").await });
    let waiting = "select exists (select 1 from pg_locks where not granted and relation = 'impact.actions'::regclass)";
    while !sqlx::query_scalar::<_, bool>(waiting).fetch_one(&pool).await.unwrap() {
        tokio::task::yield_now().await;
    }
    tx.commit().await.unwrap();
    load.await.unwrap();
    assert_eq!(mirror.query("select concat_ws('|', id, a) from impact.actions order by id").await, ["1|5", "2|7"]);
}

/// Of every mirrored column: its type's origin, its first load, the accounts that have it, and whether it has vanished.
const KNOWN: &str = "select concat_ws(' ', column_name, kind, type_origin, first_load_id, array_to_string(accounts, ','), \
                     case when vanished_since is not null then 'gone' end) \
                     from impact_mirror.mirrored_column order by column_name";

#[tokio::test]
async fn each_column_says_where_its_type_comes_from_and_which_load_saw_it_first() {
    let mut mirror = Mirror::unkeyed().await;
    mirror.configured =
        [("user", ColumnKind::Numeric), ("Told", ColumnKind::Text)].map(|(n, k)| (n.to_owned(), k)).into();
    mirror.typed_by_user = ["USER".to_owned()].into();
    mirror.metadata = [("Meta".to_owned(), ColumnKind::Bigint)].into();
    mirror.load("User,Told,Meta,Found,Nothing\n1,1,1,1,\n").await;
    mirror.load("User,Told,Meta,Found,Nothing,New\n1,1,1,1.5,,x\n").await;
    assert_eq!(
        mirror.query(KNOWN).await,
        [
            "found numeric widened 1 acme",
            "meta bigint metadata 1 acme",
            "new text data 2 acme",
            "nothing text empty 1 acme",
            "told text catalogue 1 acme",
            "user numeric user 1 acme"
        ]
    );
    let retyped = "select concat_ws(' ', load_id, column_name, from_kind, to_kind, retyped_at at time zone 'UTC') \
                   from impact_mirror.retyped_column order by load_id, column_name";
    assert_eq!(mirror.query(retyped).await, ["2 found bigint numeric 2026-06-01 02:00:00"]);

    let mut other = mirror.beside(Program::new("1000"));
    other.account = AccountName::new("other");
    other.load("Found\n3\n").await;
    assert_eq!(mirror.query(KNOWN).await[0], "found numeric widened 1 acme,other", "whoever comes after");

    mirror.load("User,Told,Meta,Found,Nothing,New\n1,1,1,2,7,x\n").await;
    mirror.typed_by_user = ["user".to_owned(), "found".to_owned()].into();
    mirror.configured.insert("found".to_owned(), ColumnKind::Text);
    mirror.load("User,Told,Meta,Found,Nothing,New\n1,1,1,2,8,x\n").await;
    assert_eq!(
        mirror.query(retyped).await[1..],
        ["4 nothing text bigint 2026-06-01 03:00:00", "5 found numeric text 2026-06-01 04:00:00"]
    );
    let known = mirror.query(KNOWN).await;
    assert_eq!((known[0].as_str(), known[3].as_str()), ("found text user 1 acme,other", "nothing bigint data 1 acme"));
}

#[tokio::test]
async fn a_column_has_vanished_once_no_account_has_it_and_comes_back_with_a_file() {
    let mut mirror = Mirror::unkeyed().await;
    mirror.load("A,B\n1,2\n").await;
    let mut other = mirror.beside(Program::new("1000"));
    other.account = AccountName::new("other");
    other.load("A,B\n1,2\n").await;
    mirror.load("A\n1\n").await;
    assert_eq!(mirror.query(KNOWN).await, ["a bigint data 1 acme,other", "b bigint data 1 other"]);
    other.load("A\n3\n").await;
    let gone = "b bigint data 1  gone";
    assert_eq!(mirror.query(KNOWN).await[1], gone);
    let since = "select vanished_since::text from impact_mirror.mirrored_column where column_name = 'b'";
    let first = mirror.query(since).await;
    mirror.load("A\n4\n").await;
    mirror.load("").await;
    assert_eq!(mirror.query(since).await, first, "a later file without it, or without a header, moves nothing");
    assert_eq!(mirror.query("select distinct b::text from impact.actions").await, ["NULL"]);
    mirror.load("A,B\n1,5\n").await;
    assert_eq!(mirror.query(KNOWN).await[1], "b bigint data 1 acme");
}

#[tokio::test]
async fn a_file_that_is_loaded_again_says_nothing_of_who_has_a_column_now() {
    let mut mirror = Mirror::unkeyed().await;
    mirror.load("A,B\n1,2\n").await;
    mirror.load("A,C\n1,x\n").await;
    let now = ["a bigint data 1 acme", "b bigint data 1  gone", "c text data 2 acme"];
    assert_eq!(mirror.query(KNOWN).await, now);
    mirror.reload_of = Some(1);
    mirror.load("A,B\n1,2\n").await;
    assert_eq!(mirror.query(KNOWN).await, now);
    mirror.configured = [("A".to_owned(), ColumnKind::Text)].into();
    mirror.load("A,B\n1,2\n").await;
    assert_eq!(mirror.query(KNOWN).await[0], "a text catalogue 1 acme", "but the types are as they are now");
}

#[tokio::test]
async fn a_table_from_before_the_upgrade_is_filled_by_its_next_load() {
    let mut mirror = Mirror::unkeyed().await;
    mirror.load("A,B\n1,2\n").await;
    let before = "update impact_mirror.mirrored_column set type_origin = null, first_load_id = null, accounts = '{}'";
    sqlx::raw_sql(before).execute(&mirror.pool).await.unwrap();
    mirror.load("A,C\n1,x\n").await;
    assert_eq!(mirror.query(KNOWN).await, ["a bigint data 1 acme", "b bigint 1  gone", "c text data 2 acme"]);
}

#[tokio::test]
async fn the_same_columns_again_write_nothing_about_them() {
    let mut mirror = Mirror::unkeyed().await;
    mirror.load("A,B\n1,2\n").await;
    let versions = "select xmin::text from impact_mirror.mirrored_column order by column_name";
    let before = mirror.query(versions).await;
    mirror.load("B,A\n7,8\n").await;
    assert_eq!(mirror.query(versions).await, before);
}

#[tokio::test]
async fn who_has_a_column_is_looked_up_again_once_something_has_changed() {
    let mut mirror = Mirror::unkeyed().await;
    mirror.load("A,B\n1,2\n").await;
    let seen = "select (hash is not null)::text from impact_mirror.columns_seen where account = 'acme'";
    assert_eq!(mirror.query(seen).await, ["false"], "the file brought both columns");
    mirror.load("B,A\n1,2\n").await;
    assert_eq!(mirror.query(seen).await, ["true"]);

    let forget = "update impact_mirror.mirrored_column set accounts = '{}' where column_name = 'a'";
    sqlx::raw_sql(forget).execute(&mirror.pool).await.unwrap();
    mirror.load("A,B\n3,4\n").await;
    let known = ["a bigint data 1 ", "b bigint data 1 acme"];
    assert_eq!(mirror.query(KNOWN).await, known, "the lists themselves are not looked at");
    let tomorrow = "update impact_mirror.columns_seen set hash = 'yesterday''s'";
    sqlx::raw_sql(tomorrow).execute(&mirror.pool).await.unwrap();
    mirror.load("A,B\n5,6\n").await;
    assert_eq!(mirror.query(KNOWN).await[0], "a bigint data 1 acme");

    mirror.load("A,B\n7,8\n").await;
    let failed = "insert into impact_mirror.mirrored_column (export, column_name, source_name, kind, origin, first_seen_at) \
                  values ('actions', 'c', 'C', 'text', 'data', now())";
    sqlx::raw_sql(failed).execute(&mirror.pool).await.unwrap();
    mirror.load("A,B\n9,10\n").await;
    assert!(mirror.query(KNOWN).await[2].ends_with("gone"), "added for a load that failed, and in no file");
    mirror.load("A\n11\n").await;
    assert_eq!(mirror.query(KNOWN).await[1], "b bigint data 1  gone");
    mirror.load("A\n12\n").await;
    mirror.load("A,B\n13,14\n").await;
    assert_eq!(mirror.query(KNOWN).await[1], "b bigint data 1 acme");
}

#[tokio::test]
async fn a_column_that_comes_back_with_a_file_as_before_is_taken_down() {
    let mut mirror = Mirror::unkeyed().await;
    let mut other = mirror.beside(Program::new("1000"));
    other.account = AccountName::new("other");
    other.load("A,B\n1,2\n").await;
    for _ in 0..2 {
        mirror.load("A,B\n1,2\n").await;
    }
    mirror.load("A\n1\n").await;
    assert_eq!(mirror.query(KNOWN).await[1], "b bigint data 1 other");
    mirror.load("A,B\n1,2\n").await;
    assert_eq!(mirror.query(KNOWN).await[1], "b bigint data 1 other,acme");
}

#[tokio::test]
async fn a_change_of_type_waits_for_a_long_query_and_lets_others_read() {
    let mut mirror = Mirror::keyed().await;
    mirror.load("Id,Day,A\n1,2026-05-01,5\n").await;
    let mut reader = mirror.pool.begin().await.unwrap();
    sqlx::raw_sql("select * from impact.actions").execute(&mut *reader).await.unwrap();
    let pool = mirror.pool.clone();
    let mut loading = mirror.beside(Program::new("2000"));
    let file = loading.dir.path().join("result.csv");
    let load = tokio::spawn(async move { loading.load("Id,Day,A\n2,2026-05-01,x\n").await });
    let waiting = "select exists (select 1 from pg_locks where not granted and mode = 'AccessExclusiveLock' \
                   and relation = 'impact.actions'::regclass)";
    while !sqlx::query_scalar::<_, bool>(waiting).fetch_one(&pool).await.unwrap() {
        tokio::task::yield_now().await;
    }
    // A file that is read no more may grow.
    std::fs::OpenOptions::new().append(true).open(file).unwrap().write_all(b"3,2026-05-01,y\n").unwrap();
    // The reader does not end before others have read: a load that held its place in the queue would never let them.
    let rows =
        tokio::time::timeout(std::time::Duration::from_secs(30), mirror.query("select a::text from impact.actions"));
    assert_eq!(rows.await.unwrap(), ["5"]);
    reader.rollback().await.unwrap();
    assert_eq!(counts(&load.await.unwrap()), [1, 0, 0, 0, 0]);
    assert_eq!(mirror.query("select concat_ws('|', id, a) from impact.actions order by id").await, ["1|5", "2|x"]);
}

#[tokio::test]
async fn a_new_column_keeps_nobody_from_reading_while_its_file_is_loaded() {
    for (partition, history) in [(Partition::None, false), (Partition::Month, true)] {
        let mut mirror = Mirror { partition, history, ..Mirror::keyed().await };
        mirror.load("Id,Day\n1,2026-05-01\n").await;
        // The load stands still where it puts its rejected row away.
        let mut lock = mirror.pool.begin().await.unwrap();
        sqlx::raw_sql("lock table impact_mirror.rejected_row in share mode").execute(&mut *lock).await.unwrap();
        let pool = mirror.pool.clone();
        let mut loading = mirror.beside(Program::new("2000"));
        let load = tokio::spawn(async move { loading.load("Id,Day,A\n2,2026-05-01,5\n3,never,6\n").await });
        let waiting = "select exists (select 1 from pg_locks where not granted \
                       and relation = 'impact_mirror.rejected_row'::regclass)";
        while !sqlx::query_scalar::<_, bool>(waiting).fetch_one(&pool).await.unwrap() {
            tokio::task::yield_now().await;
        }
        for table in ["actions", "actions_versions"].into_iter().take(1 + usize::from(history)) {
            let statement = format!("select a::text from impact.{table}");
            let rows = tokio::time::timeout(std::time::Duration::from_secs(20), mirror.query(&statement));
            assert_eq!(rows.await.expect("readers wait for the load"), ["NULL"]);
        }
        lock.rollback().await.unwrap();
        let report = load.await.unwrap();
        assert_eq!(report.table_changes, ["added column a (bigint)"]);
        assert_eq!(counts(&report), [1, 0, 0, 0, 1]);
    }
}

#[tokio::test]
async fn a_column_that_was_added_for_a_load_that_failed_does_no_harm() {
    let mut mirror = Mirror::keyed().await;
    mirror.load("Id,Day\n1,2026-05-01\n").await;
    let file = mirror.dir.path().join("failed.csv");
    std::fs::write(&file, "Id,Day,A\n1,2026-05-01,5\n").unwrap();
    let mut conn = mirror.pool.acquire().await.unwrap();
    let at = mirror.now + TimeDelta::minutes(1);
    for added in [vec!["added column a (bigint)".to_owned()], Vec::new()] {
        let target = mirror.target();
        assert_eq!(mirror::add_columns(&mut conn, &file, mirror.format, &target, at).await.unwrap(), added);
    }
    std::fs::remove_file(&file).unwrap();
    assert_eq!(counts(&mirror.load("Id,Day\n1,2026-05-01\n").await), [0, 0, 0, 1, 0]);
    assert_eq!(counts(&mirror.load("Id,Day,A\n1,2026-05-01,5.5\n").await), [0, 1, 0, 0, 0]);
    assert_eq!(mirror.rows("id a").await, ["1|5.5"]);
    assert_eq!(mirror.query(KNOWN).await[0], "a numeric widened 3 acme");
}
