//! Which days are locked, and which days a load wrote to.

use super::*;

fn rule() -> LockRule {
    LockRule {
        status_column: "Status".to_owned(),
        open: vec!["PENDING".to_owned()],
        date_column: Some("Locking_Date".to_owned()),
        detail_column: Some("Detail".to_owned()),
        open_details: vec!["LOCKED".to_owned(), "it's".to_owned()],
    }
}

/// Whether a day with a locked row and this one is locked, with locking dates of a type.
async fn is_locked(row: &str, kind: ColumnKind) -> bool {
    let mut mirror = Mirror::keyed().await;
    mirror.configured.insert("locking_date".to_owned(), kind);
    mirror.lock_rule = Some(rule());
    let locked = "1,2026-05-01,APPROVED,2026-05-20,PAID";
    mirror
        .load(format!("Id,Day,status,locking_date,Detail\n{locked}\n2,2026-05-01,{row}\n3,2026-05-02,PENDING,,\n"))
        .await;
    assert!(mirror.locked.is_subset(&BTreeSet::from([day("2026-05-01")])), "{:?}", mirror.locked);
    !mirror.locked.is_empty()
}

// The reads are of 2026-06-01 01:00 in UTC, which is 2026-05-31 in New York.
#[tokio::test]
async fn a_day_is_locked_where_every_row_is() {
    for (row, kind, expected) in [
        ("REVERSED,2026-05-31T20:59:00-04:00,PAID", ColumnKind::Timestamptz, true),
        ("REVERSED,2026-05-31T21:01:00-04:00,PAID", ColumnKind::Timestamptz, false),
        ("REVERSED,2026-05-31,PAID", ColumnKind::Date, true),
        ("REVERSED,2026-06-01,PAID", ColumnKind::Date, false),
        ("REVERSED,2026-05-01,PAID", ColumnKind::Text, false),
        ("REVERSED,,PAID", ColumnKind::Date, true),
        ("REVERSED,,", ColumnKind::Date, true),
        ("PENDING,2026-05-01,", ColumnKind::Date, false),
        ("pending,2026-05-01,PAID", ColumnKind::Date, false),
        (",2026-05-01,PAID", ColumnKind::Date, false),
        ("APPROVED,2026-05-01,Locked", ColumnKind::Date, false),
        ("APPROVED,2026-05-01,it's", ColumnKind::Date, false),
    ] {
        assert_eq!(is_locked(row, kind).await, expected, "{row} with {kind}");
    }
}

#[tokio::test]
async fn nothing_is_locked_where_the_table_has_no_status_or_is_not_there() {
    let mut mirror = Mirror::keyed().await;
    mirror.lock_rule = Some(LockRule { status_column: "State".to_owned(), ..rule() });
    mirror.load("").await;
    assert!(mirror.locked.is_empty());
    mirror.load("Id,Day,Status\n1,2026-05-01,APPROVED\n").await;
    assert!(mirror.locked.is_empty());
    mirror.lock_rule = Some(rule());
    mirror.load("Id,Day,Status\n1,2026-05-01,APPROVED\n").await;
    assert_eq!(mirror.locked, BTreeSet::from([day("2026-05-01")]), "the other columns may be missing");
}

#[tokio::test]
async fn a_load_says_which_days_it_wrote_to() {
    let mut mirror = Mirror::keyed().await;
    let report = mirror.load("Id,Day,Amount\n1,2026-05-01,5\n2,2026-05-02,6\n3,2026-05-03,7\n").await;
    assert_eq!(report.days_written.len(), 3);
    let report = mirror.load("Id,Day,Amount\n1,2026-05-01,5\n2,2026-05-02,8\n").await;
    assert_eq!(report.days_written, BTreeSet::from([day("2026-05-02")]));
    assert_eq!(report.rows_per_day[&day("2026-05-03")], 0, "what went shows in the number");
}
