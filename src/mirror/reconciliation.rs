//! The view `reconciliation`: an account's listing of actions against its report by day.
//!
//! A column that the view reads cannot change its type: whoever changes one takes the view away before, and makes it again, in one
//! transaction.

use sqlx::{AssertSqlSafe, PgConnection};

use super::header::folded;
use super::table::reconciliation::{Tables, create, drop};
use crate::account::AccountName;
use crate::export::ExportName;

/// The name of the view, in the schema of the mirrored tables.
pub const VIEW: &str = "reconciliation";

/// Reports that are listings of actions, and reports by day, with the same persona side by side.
pub const REPORTS: [(&str, &str); 2] = [
    ("adv_action_listing_pm_only", "att_adv_performance_by_day_pm_only"),
    ("mp_action_listing_fast", "partner_performance_by_day"),
];

/// An account that has both.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pair {
    /// The account.
    pub account: AccountName,
    /// The export with its listing of actions.
    pub listing: ExportName,
    /// The export with its report by day.
    pub by_day: ExportName,
}

/// Makes the view anew, for the pairs whose tables are there; takes it away where there is none. A view or table of this name that is not ours is left
/// alone.
pub async fn ensure(conn: &mut PgConnection, schema: &str, pairs: &[Pair]) -> Result<(), sqlx::Error> {
    if is_foreign(conn, schema).await? {
        tracing::warn!("{schema}.{VIEW} is not a view of impact-mirror, which is why it makes none");
        return Ok(());
    }
    take_away(conn, schema).await?;
    let mut tables = Vec::new();
    for pair in pairs {
        tables.extend(tables_of(conn, schema, pair).await?);
    }
    if tables.is_empty() {
        return Ok(());
    }
    sqlx::raw_sql(AssertSqlSafe(create(schema, VIEW, &tables))).execute(conn).await.map(std::mem::drop)
}

/// Takes the view away, before a column that it reads changes.
pub async fn take_away(conn: &mut PgConnection, schema: &str) -> Result<(), sqlx::Error> {
    if is_foreign(conn, schema).await? {
        return Ok(());
    }
    sqlx::raw_sql(AssertSqlSafe(drop(schema, VIEW))).execute(conn).await.map(std::mem::drop)
}

/// Whether something of the view's name is there that reads none of our bookkeeping.
async fn is_foreign(conn: &mut PgConnection, schema: &str) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar!(
        r#"
        select exists (
            select 1
            from pg_class c
            join pg_namespace n on n.oid = c.relnamespace
            where n.nspname = $1 and c.relname = $2
              and (c.relkind <> 'v' or not coalesce(obj_description(c.oid, 'pg_class'), '') like 'The listing of actions against%')
        ) as "is_foreign!"
        "#,
        schema,
        VIEW,
    )
    .fetch_one(conn)
    .await
}

/// The columns that a pair has by now; none where a table is missing.
async fn tables_of(conn: &mut PgConnection, schema: &str, pair: &Pair) -> Result<Option<Tables>, sqlx::Error> {
    let found = sqlx::query!(
        r#"
        select m.export as "export!", m.source_name as "source!", m.column_name as "name!", t.typname::text as "kind!"
        from impact_mirror.mirrored_column m
        join pg_namespace n on n.nspname = $1
        join pg_class c on c.relnamespace = n.oid and c.relname = m.export
        join pg_attribute a on a.attrelid = c.oid and a.attname = m.column_name and not a.attisdropped
        join pg_type t on t.oid = a.atttypid
        where m.export in ($2, $3)
        "#,
        schema,
        pair.listing.as_str(),
        pair.by_day.as_str(),
    )
    .fetch_all(conn)
    .await?;
    let column = |export: &ExportName, names: &[&str], kinds: &[&str]| {
        names.iter().find_map(|wanted| {
            found
                .iter()
                .find(|one| {
                    one.export == export.as_str()
                        && folded(&one.source) == folded(wanted)
                        && kinds.contains(&one.kind.as_str())
                })
                .map(|one| one.name.clone())
        })
    };
    let has = |export: &ExportName| found.iter().any(|one| one.export == export.as_str());
    if !has(&pair.listing) || !has(&pair.by_day) {
        return Ok(None);
    }
    let number = ["int8", "numeric"];
    Ok(Some(Tables {
        account: pair.account.as_str().to_owned(),
        listing: pair.listing.as_str().to_owned(),
        by_day: pair.by_day.as_str().to_owned(),
        status: column(&pair.listing, &["Status"], &["text"]),
        sale: column(&pair.listing, &["Sale_Amount"], &number),
        cost: column(&pair.listing, &["Payout"], &number),
        actions: column(&pair.by_day, &["Actions"], &number),
        revenue: column(&pair.by_day, &["Revenue", "Sale_zzzAmount"], &number),
        action_cost: column(&pair.by_day, &["ActionCost", "Action_Cost"], &number),
    }))
}
