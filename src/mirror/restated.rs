//! The ledger of restatements: what a load changed in the numbers of a window that had been loaded before.

use sqlx::PgConnection;

use super::error::Error;
use super::layout::Layout;
use super::load::Load;
use super::table::merge::Merge;

const STEP: &str = "take down what changed";

/// What a load does to the numbers of its window, one entry for each. Sums are texts of exact numbers, absent without a value.
#[derive(Default)]
pub(super) struct Figures {
    /// Written rows in which it differs.
    pub changed: Vec<i64>,
    pub before: Vec<Option<String>>,
    pub rows_before: Vec<i64>,
    pub less_by_change: Vec<Option<String>>,
    pub rows_less_by_change: Vec<i64>,
    pub less_by_loss: Vec<Option<String>>,
    pub rows_less_by_loss: Vec<i64>,
    pub more: Vec<Option<String>>,
    pub rows_more: Vec<i64>,
}

impl Figures {
    pub fn restated(&self, merge: &Merge<'_>) -> Vec<Restated> {
        let count = |of: &[i64], at: usize| of.get(at).copied().unwrap_or_default();
        let sum = |of: &[Option<String>], at: usize| of.get(at).cloned().flatten();
        let restated = merge.numbers().into_iter().enumerate().map(|(at, column)| {
            let lost = count(&self.rows_less_by_loss, at);
            let left = count(&self.rows_before, at) - count(&self.rows_less_by_change, at) - lost;
            Restated {
                column: column.to_owned(),
                rows_changed: count(&self.changed, at) + lost,
                sum_before: sum(&self.before, at),
                less: [sum(&self.less_by_change, at), sum(&self.less_by_loss, at)],
                more: sum(&self.more, at),
                has_values: left + count(&self.rows_more, at) > 0,
            }
        });
        restated.filter(|restated| restated.rows_changed > 0).collect()
    }
}

/// A number column that the load changes: its sum before, what is taken from it, and what is added.
pub(super) struct Restated {
    pub column: String,
    pub rows_changed: i64,
    pub sum_before: Option<String>,
    pub less: [Option<String>; 2],
    pub more: Option<String>,
    /// Whether a value is left.
    pub has_values: bool,
}

/// Takes down what the load changes in the window's numbers.
pub(super) async fn keep(load: &Load<'_>, conn: &mut PgConnection, restated: Vec<Restated>) -> Result<(), Error> {
    if restated.is_empty() {
        return Ok(());
    }
    let mut names = Vec::new();
    let mut rows_changed = Vec::new();
    let mut sums_before = Vec::new();
    let mut terms = [const { Vec::new() }; 3];
    let mut have_values = Vec::new();
    for column in restated {
        names.push(column.column);
        rows_changed.push(column.rows_changed);
        sums_before.push(column.sum_before);
        have_values.push(column.has_values);
        let [one, other] = column.less;
        for (terms, term) in terms.iter_mut().zip([one, other, column.more]) {
            terms.push(term.unwrap_or_else(|| "0".to_owned()));
        }
    }
    let [less_by_change, less_by_loss, more] = terms;
    sqlx::query!(
        r#"
        insert into impact_mirror.restated_column (load_id, column_name, rows_changed, sum_before, sum_after)
        select $1, column_name, rows_changed, sum_before::numeric,
            case when has_values
                then coalesce(sum_before::numeric, 0) - less_by_change::numeric - less_by_loss::numeric + more::numeric end
        from unnest($2::text[], $3::bigint[], $4::text[], $5::text[], $6::text[], $7::text[], $8::boolean[])
            as restated (column_name, rows_changed, sum_before, less_by_change, less_by_loss, more, has_values)
        "#,
        load.id,
        &names,
        &rows_changed,
        &sums_before as &[Option<String>],
        &less_by_change,
        &less_by_loss,
        &more,
        &have_values,
    )
    .execute(conn)
    .await
    .map_err(load.place.database(STEP))?;
    Ok(())
}

/// Takes down what a window holds that was copied into, if it had been loaded before and held nothing.
pub(super) async fn keep_refilled(load: &Load<'_>, conn: &mut PgConnection, layout: &Layout) -> Result<(), Error> {
    let merge = Merge::new(&load.table, layout);
    let numbers = merge.numbers();
    if numbers.is_empty() || !was_loaded(load, conn).await? {
        return Ok(());
    }
    let row = load.bind_window(load.table.window_figures(&numbers)).fetch_one(&mut *conn).await;
    let (rows_more, more) =
        sqlx::FromRow::from_row(&row.map_err(load.place.database(STEP))?).map_err(load.place.database(STEP))?;
    let figures = Figures { changed: Vec::clone(&rows_more), rows_more, more, ..Figures::default() };
    keep(load, conn, figures.restated(&merge)).await
}

/// Whether a day of the window was loaded before.
async fn was_loaded(load: &Load<'_>, conn: &mut PgConnection) -> Result<bool, Error> {
    sqlx::query_scalar!(
        r#"
        select exists (
            select 1 from impact_mirror.cell
            where export = $1 and account = $2 and program = $3 and day between $4 and $5 and loaded_at is not null
        ) as "was_loaded!"
        "#,
        load.place.export.as_str(),
        load.target.account.as_str(),
        load.target.program.as_str(),
        load.target.window.from(),
        load.target.window.to(),
    )
    .fetch_one(conn)
    .await
    .map_err(load.place.database(STEP))
}
