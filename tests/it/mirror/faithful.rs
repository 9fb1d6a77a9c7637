//! What stands in the table is what Postgres itself reads from the same texts, whatever they are.

use std::fmt::Write as _;

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

use super::*;

/// A row as text: text, numeric, date, timestamptz, boolean, bigint; an empty one is NULL.
type Texts = [String; 6];

fn texts() -> impl Strategy<Value = Texts> {
    let or_empty = |text: BoxedStrategy<String>| prop_oneof![9 => text, 1 => Just(String::new())];
    let text =
        prop_oneof![4 => any::<String>(), 2 => "[a-c,\"\n\r\t ]{0,8}", 1 => "\r\n|\r|\n|\"|\"\"|n/a|\u{feff}|\0x"];
    let numeric =
        prop_oneof!["-?(0|[1-9][0-9]{0,30})(\\.[0-9]{1,20})?", "-?\\.[0-9]{1,9}", "-?[1-9]0{3,12}(\\.0{1,12}1?)?"];
    let day = (1_i32..=9999, 1_u32..=12, 1_u32..=31)
        .prop_filter_map("a day of the calendar", |(year, month, day)| NaiveDate::from_ymd_opt(year, month, day));
    let date = (day, any::<bool>()).prop_map(
        |(day, iso)| {
            if iso { day.to_string() } else { day.format("%B %-d, %Y").to_string() }
        },
    );
    let clock = "(19[7-9][0-9]|20[0-3][0-6])-(0[1-9]|1[0-2])-(0[1-9]|1[0-9]|2[0-8])[T ](0[3-9]|1[0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\\.[0-9]{1,6})?(Z|[+-]0[0-9]:?[0-5][0-9]|[+-]1[0-4])?";
    (
        or_empty(text.boxed()),
        or_empty(numeric.boxed()),
        or_empty(date.boxed()),
        or_empty(clock.boxed()),
        or_empty("true|false|TRUE|False".boxed()),
        or_empty(any::<i64>().prop_map(|number| number.to_string()).boxed()),
    )
        .prop_map(|(text, numeric, date, time, boolean, bigint)| [text, numeric, date, time, boolean, bigint])
}

/// The rows as a file, and the line on which each begins.
fn file(rows: &[Texts], windows: bool, marked: bool) -> (String, Vec<u64>) {
    let end = if windows { "\r\n" } else { "\n" };
    let mut file = format!("{}Id,T,N,D,Ts,B,I{end}", if marked { "\u{feff}" } else { "" });
    let mut lines = Vec::new();
    for (id, row) in rows.iter().enumerate() {
        lines.push(1 + file.matches('\n').count() as u64);
        let fields: Vec<_> = row.iter().map(|field| format!("\"{}\"", field.replace('"', "\"\""))).collect();
        write!(file, "{id},{}{end}", fields.join(",")).unwrap();
    }
    (file, lines)
}

/// Rows whose values are not those that Postgres reads from the texts, or that are missing, or too many.
async fn mistaken(mirror: &Mirror, rows: &[Texts]) -> Vec<String> {
    let mut conn = mirror.pool.acquire().await.unwrap();
    sqlx::raw_sql("set time zone 'America/New_York'").execute(&mut *conn).await.unwrap();
    let good = || rows.iter().enumerate().filter(|(_, row)| !row[0].contains('\0'));
    let column = |at: usize| good().map(|(_, row)| row[at].clone()).collect::<Vec<_>>();
    let ids: Vec<i64> = good().map(|(id, _)| i64::try_from(id).unwrap()).collect();
    let found = sqlx::query_scalar(
        "select concat_ws('|', e.id, a.id, a.t, e.t, a.n, e.n, a.d, e.d, a.ts, e.ts, a.b, e.b, a.i, e.i)
         from unnest($1::bigint[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[])
             as e (id, t, n, d, ts, b, i)
         full join impact.actions a on a.id = e.id
         where a.id is null or e.id is null
            or (a.t, a.n, a.d, a.ts, a.b, a.i) is distinct from (nullif(e.t, ''), nullif(e.n, '')::numeric,
                nullif(e.d, '')::date, nullif(e.ts, '')::timestamptz, nullif(e.b, '')::boolean, nullif(e.i, '')::bigint)",
    )
    .bind(ids)
    .bind(column(0))
    .bind(column(1))
    .bind(column(2))
    .bind(column(3))
    .bind(column(4))
    .bind(column(5))
    .fetch_all(&mut *conn)
    .await
    .unwrap();
    sqlx::raw_sql("reset time zone").execute(&mut *conn).await.unwrap();
    found
}

async fn are_faithful(mut mirror: Mirror, keyed: bool) {
    if keyed {
        mirror.key = vec!["Id".to_owned()];
    }
    for (name, kind) in [
        ("Id", ColumnKind::Bigint),
        ("T", ColumnKind::Text),
        ("N", ColumnKind::Numeric),
        ("D", ColumnKind::Date),
        ("Ts", ColumnKind::Timestamptz),
        ("B", ColumnKind::Boolean),
        ("I", ColumnKind::Bigint),
    ] {
        mirror.configured.insert(name.to_owned(), kind);
    }
    let mut runner = TestRunner::deterministic();
    let some_rows = prop::collection::vec(texts(), 150);
    let mut rows = some_rows.new_tree(&mut runner).unwrap().current();
    for round in 0..6 {
        // Every third row is another one from the second round on: read a second time, and written over the old one.
        let other = some_rows.new_tree(&mut runner).unwrap().current();
        if round > 0 {
            rows.iter_mut().zip(other).skip(round % 3).step_by(3).for_each(|(row, other)| *row = other);
        }
        let (file, lines) = file(&rows, round % 2 == 0, round % 3 == 0);
        let report = mirror.load(&file).await;
        let nul: Vec<_> =
            rows.iter().zip(&lines).filter(|(row, _)| row[0].contains('\0')).map(|(_, line)| line).collect();
        let told: Vec<_> = nul.iter().map(|line| format!("{line}|t|holds a NUL byte")).collect();
        assert_eq!(mirror.rejected().await, told);
        assert_eq!(report.rows_read, 150);
        if nul.is_empty() {
            assert_eq!(mistaken(&mirror, &rows).await, Vec::<String>::new(), "round {round}");
            let again = mirror.load(&file).await;
            assert_eq!(counts(&again), [0, 0, 0, 150, 0]);
        }
        // A rejected row keeps what was loaded before, so that later rounds would compare with older texts.
        rows.iter_mut().filter(|row| row[0].contains('\0')).for_each(|row| row[0] = row[0].replace('\0', ""));
        mirror.load(&self::file(&rows, false, false).0).await;
        assert_eq!(mistaken(&mirror, &rows).await, Vec::<String>::new(), "round {round}, without NUL");
    }
}

#[tokio::test]
async fn values_are_what_postgres_reads_with_a_key() {
    are_faithful(Mirror::unkeyed().await, true).await;
}

#[tokio::test]
async fn values_are_what_postgres_reads_without_a_key() {
    are_faithful(Mirror::unkeyed().await, false).await;
}
