//! Reading a window again: what is written, what is left alone, what goes.

use super::*;

const FIRST: &str =
    "Id,Day,Status,Amount\n1,2026-05-01,PENDING,10.50\n2,2026-05-02,PENDING,20\n3,2026-05-03,PENDING,5\n";

#[tokio::test]
async fn a_new_window_is_copied_with_its_lineage() {
    let mut mirror = Mirror::keyed().await;
    let report = mirror.load(FIRST).await;
    assert_eq!(counts(&report), [3, 0, 0, 0, 0]);
    assert_eq!(report.rows_read, 3);
    assert_eq!(report.rows_per_day.values().copied().collect::<Vec<_>>(), [1, 1, 1]);
    assert_eq!(
        mirror.rows("id day status amount _account _program _day _load_id _line").await,
        [
            "1|2026-05-01|PENDING|10.50|acme|1000|2026-05-01|1|2",
            "2|2026-05-02|PENDING|20|acme|1000|2026-05-02|1|3",
            "3|2026-05-03|PENDING|5|acme|1000|2026-05-03|1|4",
        ]
    );
    assert_eq!(report.table_changes, ["created table \"impact\".\"actions\" with 4 columns"]);
    let nullable = mirror
        .query(
            "select attname::text from pg_attribute where attrelid = 'impact.actions'::regclass and attnum > 0 \
             and attname like '\\_%' and not attnotnull",
        )
        .await;
    assert!(nullable.is_empty(), "{nullable:?}");
}

/// Rows of 22 MB in no order of their key go in five whole runs and a part of one.
#[tokio::test]
async fn a_new_window_that_is_copied_in_runs_is_whole() {
    const ROWS: u64 = 20_000;
    let mut mirror = Mirror::keyed().await;
    mirror.load("Id,Day,Text,Amount\nfirst,2026-05-01,x,1\n").await;
    mirror.window = Window::day(day("2026-05-04"));
    let id = |row: u64| format!("{:05}", row * 7_919 % 20_011);
    // Two rows are none: the second of them is known for that when the half of it is encoded.
    mirror.on_type_conflict = OnTypeConflict::Quarantine;
    let day_of = |row| if row == 5_000 { "never" } else { "2026-05-04" };
    let amount_of = |row| if row == 15_000 { "many" } else { "1" };
    let text = "x".repeat(1000);
    let rows: Vec<_> = (0..ROWS).map(|row| format!("{},{},{text},{}", id(row), day_of(row), amount_of(row))).collect();
    let report = mirror.load(format!("Id,Day,Text,Amount\n{}\n", rows.join("\n"))).await;
    assert_eq!((report.rows_inserted, report.rows_rejected), (ROWS - 2, 2));

    let stored = "select concat_ws(' ', id, _line, length(text), amount) from impact.actions where _day = '2026-05-04'";
    let is_row = |row: &u64| ![5_000, 15_000].contains(row);
    let expected: BTreeSet<_> = (0..ROWS).filter(is_row).map(|row| format!("{} {} 1000 1", id(row), row + 2)).collect();
    let stored: BTreeSet<_> = mirror.query(stored).await.into_iter().collect();
    let mistaken: Vec<_> = stored.symmetric_difference(&expected).take(5).collect();
    assert!(mistaken.is_empty(), "lost, or not of the file: {mistaken:?} …");
}

#[tokio::test]
async fn a_first_load_leaves_the_table_with_its_indexes() {
    for duplicate in ["", "1,2026-05-01,APPROVED,1\n"] {
        let mut mirror = Mirror::keyed().await;
        let report = mirror.load(format!("{FIRST}{duplicate}")).await;
        assert_eq!(counts(&report)[0], 3);
        assert_eq!(
            mirror.query("select indexdef from pg_indexes where tablename = 'actions' order by indexname").await,
            [
                "CREATE UNIQUE INDEX actions_key ON impact.actions USING btree (_account, id)",
                "CREATE INDEX actions_window ON impact.actions USING btree (_account, _program, _day)"
            ]
        );
    }
}

#[tokio::test]
async fn a_re_read_counts_the_rows_of_each_day_as_they_stand_then() {
    let mut mirror = Mirror::keyed().await;
    mirror.load(FIRST).await;
    mirror.window = Window::new(day("2026-05-01"), day("2026-05-02")).unwrap();
    let report = mirror
        .load("Id,Day,Status,Amount\n1,2026-05-02,PENDING,10.50\n3,2026-05-02,PENDING,5\n5,2026-05-02,PENDING,1\n")
        .await;
    assert_eq!(counts(&report), [1, 2, 1, 0, 0]);
    assert_eq!(report.rows_per_day.values().copied().collect::<Vec<_>>(), [0, 3]);
    assert_eq!(report.days_written, BTreeSet::from([day("2026-05-02")]));
    assert_eq!(
        mirror.query("select concat_ws('|', _day, count(*)) from impact.actions group by _day").await,
        ["2026-05-02|3"]
    );
}

#[tokio::test]
async fn a_sum_is_empty_where_no_value_is_left() {
    let mut mirror = Mirror::keyed().await;
    mirror.load("Id,Day,Amount\n1,2026-05-01,10.50\n2,2026-05-02,\n").await;
    mirror.load("Id,Day,Amount\n1,2026-05-01,\n2,2026-05-02,\n").await;
    mirror.load("Id,Day,Amount\n1,2026-05-01,\n2,2026-05-02,7\n").await;
    assert_eq!(
        mirror
            .query("select concat_ws('|', rows_changed, coalesce(sum_before::text, '-'), coalesce(sum_after::text, '-')) from impact_mirror.restatement order by load_id")
            .await,
        ["1|10.50|-", "1|-|7"]
    );
}

#[tokio::test]
async fn reading_again_touches_only_what_differs() {
    let mut mirror = Mirror::keyed().await;
    mirror.load(FIRST).await;
    let before = mirror.query("select concat_ws('|', id, xmin) from impact.actions where id = 1").await;
    let report = mirror
        .load("Id,Day,Status,Amount\n1,2026-05-01,PENDING,10.50\n2,2026-05-02,APPROVED,25\n4,2026-05-03,PENDING,7\n")
        .await;
    assert_eq!(counts(&report), [1, 1, 1, 1, 0]);
    assert_eq!(
        mirror.rows("id status amount _load_id").await,
        ["1|PENDING|10.50|1", "2|APPROVED|25|2", "4|PENDING|7|2"]
    );
    assert_eq!(mirror.query("select concat_ws('|', id, xmin) from impact.actions where id = 1").await, before);
    assert_eq!(
        mirror.query("select concat_ws('|', id, _first_seen_at = _changed_at) from impact.actions order by id").await,
        ["1|t", "2|f", "4|t"]
    );
}

#[tokio::test]
async fn what_a_restatement_changed_is_kept() {
    let mut mirror = Mirror::keyed().await;
    mirror.load(FIRST).await;
    assert!(mirror.query("select column_name from impact_mirror.restated_column").await.is_empty());
    mirror
        .load("Id,Day,Status,Amount\n1,2026-05-01,PENDING,10.50\n2,2026-05-02,APPROVED,25\n4,2026-05-03,PENDING,7\n")
        .await;
    assert_eq!(
        mirror
            .query("select concat_ws('|', load_id, column_name, rows_changed, sum_before, sum_after) from impact_mirror.restatement")
            .await,
        ["2|amount|3|35.50|42.50"]
    );
    mirror
        .load("Id,Day,Status,Amount\n1,2026-05-01,PENDING,10.50\n2,2026-05-02,REVERSED,25\n4,2026-05-03,PENDING,7\n")
        .await;
    assert_eq!(mirror.query("select max(load_id)::text from impact_mirror.restatement").await, ["2"]);
}

#[tokio::test]
async fn an_identical_file_changes_nothing() {
    let mut mirror = Mirror::keyed().await;
    mirror.load(FIRST).await;
    let before = mirror.query("select to_jsonb(t)::text || xmin::text from impact.actions t order by id").await;
    let report = mirror.load("Amount,Status,New,Day,Id\n5,PENDING,,2026-05-03,3\n20,PENDING,,2026-05-02,2\n10.50,PENDING,,2026-05-01,1\n").await;
    assert_eq!(counts(&report), [0, 0, 0, 3, 0]);
    let after =
        mirror.query("select (to_jsonb(t) - 'new')::text || xmin::text from impact.actions t order by id").await;
    assert_eq!(after, before, "neither an empty column nor another order is a change");
}

#[tokio::test]
async fn a_key_that_moved_is_updated_not_doubled() {
    let mut mirror = Mirror::keyed().await;
    mirror.load(FIRST).await;
    mirror.window = Window::new(day("2026-05-04"), day("2026-05-05")).unwrap();
    let report = mirror.load("Id,Day,Status,Amount\n3,2026-05-04,PENDING,5\n9,2026-05-05,PENDING,1\n").await;
    assert_eq!(counts(&report), [1, 1, 0, 0, 0]);
    assert_eq!(
        mirror.rows("id _day _load_id").await,
        ["1|2026-05-01|1", "2|2026-05-02|1", "3|2026-05-04|2", "9|2026-05-05|2"]
    );
    assert_eq!(report.rows_per_day.values().copied().collect::<Vec<_>>(), [1, 1]);
}

#[tokio::test]
async fn accounts_and_programs_do_not_touch_each_other() {
    let mut mirror = Mirror::keyed().await;
    mirror.load(FIRST).await;
    mirror.account = AccountName::new("other");
    assert_eq!(counts(&mirror.load(FIRST).await), [3, 0, 0, 0, 0]);
    mirror.program = Program::new("2000");
    assert_eq!(counts(&mirror.load("Id,Day,Status,Amount\n8,2026-05-01,PENDING,1\n").await), [1, 0, 0, 0, 0]);
    assert_eq!(mirror.query("select count(*)::text from impact.actions").await, ["7"]);
}

#[tokio::test]
async fn a_key_that_moved_to_another_program_is_updated_even_where_nothing_else_differs() {
    let mut mirror = Mirror::keyed().await;
    mirror.load(FIRST).await;
    mirror.program = Program::new("2000");
    let report = mirror.load(FIRST).await;
    assert_eq!(counts(&report), [0, 3, 0, 0, 0]);
    assert_eq!(mirror.rows("id _program").await, ["1|2000", "2|2000", "3|2000"]);
    mirror.program = Program::new("1000");
    assert_eq!(counts(&mirror.load("Id,Day\n").await), [0; 5]);
}

#[tokio::test]
async fn the_first_of_several_records_with_one_key_stands() {
    let file = "Id,Day,Note\n1,2026-05-01,\"first\nnote\"\n2,2026-05-01,b\n1,2026-05-02,\"second\nnote\"\n1,2026-05-02,third\n";
    let mut mirror = Mirror::keyed().await;
    let report = mirror.load(file).await;
    assert_eq!(counts(&report), [2, 0, 0, 0, 2]);
    assert_eq!(mirror.rows("id note").await, ["1|first\nnote", "2|b"]);
    assert_eq!(mirror.rejected().await, ["5|-|duplicate key (line 2)", "7|-|duplicate key (line 2)"]);
    assert_eq!(
        mirror.query("select raw from impact_mirror.rejected_row order by line").await,
        ["1,2026-05-02,\"second\nnote\"", "1,2026-05-02,third"]
    );
    let again = mirror.load(file).await;
    assert_eq!(counts(&again), [0, 0, 0, 2, 2]);
}

#[tokio::test]
async fn an_empty_file_empties_the_window_and_nothing_else() {
    for empty in ["", "\u{feff}", "Id,Day,Status,Amount\n", "Id,Day,Status,Amount"] {
        let mut mirror = Mirror::keyed().await;
        mirror.load(FIRST).await;
        mirror.window = Window::new(day("2026-05-02"), day("2026-05-03")).unwrap();
        let report = mirror.load(empty).await;
        assert_eq!(counts(&report), [0, 0, 2, 0, 0], "{empty:?}");
        assert_eq!(report.rows_per_day.values().copied().collect::<Vec<_>>(), [0, 0]);
        assert_eq!(mirror.rows("id").await, ["1"]);
    }
}

#[tokio::test]
async fn a_file_of_no_bytes_makes_no_table() {
    let mut mirror = Mirror::keyed().await;
    let report = mirror.load("").await;
    assert_eq!(report.rows_per_day.len(), 3);
    assert_eq!(mirror.query("select to_regclass('impact.actions')::text").await, ["NULL"]);
}

#[tokio::test]
async fn rows_dated_outside_stay_under_the_nearest_day() {
    let mut mirror = Mirror::keyed().await;
    let report = mirror.load("Id,Day\n1,2026-04-30\n2,2026-05-02\n3,2026-06-01\n4,\n").await;
    assert_eq!(report.rows_outside, 3);
    assert_eq!(mirror.rows("id _day").await, ["1|2026-05-01", "2|2026-05-02", "3|2026-05-03", "4|2026-05-01"]);
}

#[tokio::test]
async fn without_a_key_the_window_is_replaced_as_a_multiset() {
    let mut mirror = Mirror::unkeyed().await;
    let report = mirror.load("Id,Cost\na,1\na,1\na,1\nb,2\nc,3\n").await;
    assert_eq!(counts(&report), [5, 0, 0, 0, 0]);
    assert_eq!(mirror.rows("id").await, ["a", "a", "a", "b", "c"]);
    let report = mirror.load("Id,Cost\nc,3\na,1\nd,4\na,1\nd,4\n").await;
    assert_eq!(counts(&report), [2, 0, 2, 3, 0]);
    assert_eq!(mirror.query("select id from impact.actions order by id").await, ["a", "a", "c", "d", "d"]);
    assert_eq!(
        mirror
            .query(
                "select concat_ws('|', column_name, rows_changed, sum_before, sum_after) from impact_mirror.restatement"
            )
            .await,
        ["cost|4|8|13"]
    );
}

#[tokio::test]
async fn what_was_loaded_under_the_key_of_a_rejected_row_stays() {
    let mut mirror = Mirror::keyed().await;
    mirror.on_type_conflict = OnTypeConflict::Quarantine;
    mirror.load(FIRST).await;
    let report = mirror.load("Id,Day,Status,Amount\n1,2026-05-01,PENDING,bad\n2,2026-05-02,PENDING,20\n").await;
    assert_eq!(counts(&report), [0, 0, 1, 1, 1]);
    assert!(!report.kept_deletions);
    assert_eq!(mirror.rows("id amount").await, ["1|10.50", "2|20"]);
}

#[tokio::test]
async fn a_rejected_row_without_a_key_keeps_all_rows() {
    let mut mirror = Mirror::keyed().await;
    mirror.load(FIRST).await;
    let report = mirror.load("Id,Day,Status,Amount\n1,2026-05-01\n2,2026-05-02,PENDING,21\n").await;
    assert_eq!(counts(&report), [0, 1, 0, 0, 1]);
    assert!(report.kept_deletions);
    assert_eq!(
        mirror.query("select concat_ws('|', id, amount) from impact.actions order by id").await,
        ["1|10.50", "2|21", "3|5"]
    );
    let report = mirror.load("Id,Day,Status,Amount\n2,2026-05-02,PENDING,21\n").await;
    assert_eq!(counts(&report), [0, 0, 2, 1, 0], "the next whole file deletes them");
}

#[tokio::test]
async fn without_a_key_a_rejected_row_keeps_all_rows_until_the_next_whole_file() {
    let mut mirror = Mirror::unkeyed().await;
    mirror.load("Id,Cost\na,1\nb,2\n").await;
    let report = mirror.load("Id,Cost\na\nb,3\n").await;
    assert_eq!(counts(&report), [1, 0, 0, 0, 1]);
    assert!(report.kept_deletions);
    assert_eq!(
        mirror.query("select concat_ws('|', id, cost) from impact.actions order by id, cost").await,
        ["a|1", "b|2", "b|3"]
    );
    let report = mirror.load("Id,Cost\na,4\nb,3\n").await;
    assert_eq!(counts(&report), [1, 0, 2, 1, 0]);
}

#[tokio::test]
async fn another_key_gets_another_index() {
    let mut mirror = Mirror::keyed().await;
    mirror.load("Id,Sku,Day\n1,x,2026-05-01\n").await;
    mirror.key = vec!["id".to_owned(), "SKU".to_owned()];
    let report = mirror.load("Id,Sku,Day\n1,x,2026-05-01\n1,y,2026-05-01\n").await;
    assert_eq!(counts(&report), [1, 0, 0, 1, 0]);
    mirror.key.clear();
    let report = mirror.load("Id,Sku,Day\n1,x,2026-05-01\n1,y,2026-05-01\n1,y,2026-05-01\n").await;
    assert_eq!(counts(&report), [1, 0, 0, 2, 0]);
}

/// The ledger of the last load: its keys, and each number's rows and sums.
async fn ledger(mirror: &Mirror) -> (String, Vec<String>) {
    let keys = "select concat_ws(' ', rows_inserted, rows_updated, rows_deleted) from impact_mirror.load order by id desc limit 1";
    let numbers = "select concat_ws('|', column_name, rows_changed, coalesce(sum_before, -1), coalesce(sum_after, -1)) \
                   from impact_mirror.restatement where load_id = (select max(id) from impact_mirror.load) order by column_name";
    (mirror.query(keys).await.remove(0), mirror.query(numbers).await)
}

#[tokio::test]
async fn the_ledger_of_a_reread_counts_keys_and_adds_up_numbers_of_new_and_wider_columns_too() {
    let mut mirror = Mirror::keyed().await;
    mirror.load("Id,Day,Amount,Units,Rate\n1,2026-05-01,10,1,1\n2,2026-05-02,20,2,2\n3,2026-05-03,30,3,3\n").await;
    // Amount becomes numeric, Bonus is new, Rate becomes a text and with it no number; Units stays.
    mirror
        .load("Id,Day,Amount,Units,Rate,Bonus\n1,2026-05-01,10.5,1,x,4\n2,2026-05-02,20,2,2,\n4,2026-05-03,40,4,4,6\n")
        .await;
    let (keys, numbers) = ledger(&mirror).await;
    assert_eq!(keys, "1 2 1", "all rows are written for the new texts");
    assert_eq!(numbers, ["amount|3|60|70.5", "bonus|2|-1|10", "units|2|6|7"]);
    let sums = "select concat_ws('|', sum(amount), sum(bonus), sum(units)) from impact.actions";
    assert_eq!(mirror.query(sums).await, ["70.5|10|7"]);

    // A column that the file no longer has is NULL from now on, which is a restatement too.
    mirror.load("Id,Day,Amount\n1,2026-05-01,10.5\n2,2026-05-02,20\n4,2026-05-03,40\n").await;
    let (keys, numbers) = ledger(&mirror).await;
    assert_eq!((keys.as_str(), numbers), ("0 3 0", ["bonus|2|10|-1", "units|3|7|-1"].map(str::to_owned).to_vec()));
}

#[tokio::test]
async fn the_ledger_says_what_came_into_a_window_that_had_been_loaded_empty() {
    let mut mirror = Mirror::keyed().await;
    mirror.load("Id,Day,Status,Amount\n").await;
    mirror.load(FIRST).await;
    assert!(ledger(&mirror).await.1.is_empty(), "nobody had loaded it before");

    mirror.window = Window::day(day("2026-05-09"));
    mirror
        .query(
            "insert into impact_mirror.cell (export, account, program, day, rows, loaded_at, as_of, job_id) \
             select 'actions', 'acme', '1000', '2026-05-09', 0, now(), now(), max(id) from impact_mirror.job returning 'ok'",
        )
        .await;
    mirror.load("Id,Day,Status,Amount\n8,2026-05-09,PENDING,5\n9,2026-05-09,PENDING,\n").await;
    assert_eq!(ledger(&mirror).await, ("2 0 0".to_owned(), vec!["amount|1|-1|5".to_owned()]));
    let keys = "select concat_ws(' ', rows_inserted, rows_updated, rows_deleted) from impact_mirror.restatement";
    assert_eq!(mirror.query(keys).await, ["2 0 0"]);
}

#[tokio::test]
async fn the_ledger_without_a_key_counts_rows_that_came_and_went() {
    let mut mirror = Mirror::unkeyed().await;
    mirror.load("Id,Cost\na,1\na,1\nb,2\nc,\n").await;
    mirror.load("Id,Cost,Fee\na,1,\nb,2.5,7\nc,,\n").await;
    let (keys, numbers) = ledger(&mirror).await;
    assert_eq!(keys, "1 0 2", "a row that changed went and came");
    assert_eq!(numbers, ["cost|3|4|3.5", "fee|1|-1|7"]);
}

#[tokio::test]
async fn the_ledger_of_a_file_of_no_bytes_says_what_went() {
    for partition in [Partition::None, Partition::Month] {
        let mut mirror = Mirror { partition, ..Mirror::keyed().await };
        mirror.load(FIRST).await;
        mirror.window = Window::new(day("2026-05-02"), day("2026-05-03")).unwrap();
        mirror.load("").await;
        assert_eq!(ledger(&mirror).await, ("0 0 2".to_owned(), vec!["amount|2|25|-1".to_owned()]));
    }
}

#[tokio::test]
async fn the_ledger_of_a_key_that_moved_within_a_table_by_month_is_that_of_any_other() {
    let mut sums = Vec::new();
    for partition in [Partition::None, Partition::Month] {
        let mut mirror = Mirror { partition, ..Mirror::keyed().await };
        mirror.window = Window::new(day("2026-04-30"), day("2026-05-01")).unwrap();
        mirror.load("Id,Day,Amount\n1,2026-04-30,5\n2,2026-05-01,6\n").await;
        mirror.load("Id,Day,Amount\n1,2026-05-01,7\n2,2026-05-01,6\n").await;
        sums.push(ledger(&mirror).await);
    }
    assert_eq!(sums[0], ("0 1 0".to_owned(), vec!["amount|1|11|13".to_owned()]));
    assert_eq!(sums[0], sums[1]);
}
