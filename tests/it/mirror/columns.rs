//! Which columns a file makes.

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
    assert!(error.to_string().ends_with("of export actions has no column \"Id\", which is its key"), "{error}");
    let error = mirror.try_load("Id,Date\n1,2026-05-01\n").await.unwrap_err();
    assert!(error.to_string().ends_with("has no column \"Day\", which is its date column"), "{error}");
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
