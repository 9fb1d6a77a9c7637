//! Takes down what a load learned of the columns: where their types come from, who has them, and which are gone.
//!
//! Nothing here waits for another load: a row that somebody else holds is left to the next file, which says the same.

use std::collections::{BTreeMap, BTreeSet};

use sqlx::PgConnection;

use super::Target;
use super::error::Error;
use super::header::folded;
use super::layout::{Column, Layout, Origin};
use super::load::Load;

/// Brings `mirrored_column` to what the newest file of the account says. A file of no bytes has no header, and so no say; one
/// that is loaded again from the archive says nothing of who has a column now.
pub(super) async fn record(load: &Load<'_>, conn: &mut PgConnection, layout: &Layout) -> Result<(), Error> {
    let origins = Origins::of(load.target);
    let names: Vec<String> = layout.columns.iter().map(|column| column.name.clone()).collect();
    let kinds: Vec<String> = layout.columns.iter().map(|column| column.kind().as_str().to_owned()).collect();
    let types: Vec<Option<String>> =
        layout.columns.iter().map(|column| origins.of_type(column).map(str::to_owned)).collect();
    // Whatever their order is in the file.
    let told: BTreeMap<_, _> = names.iter().zip(kinds.iter().zip(&types)).collect();
    let told = serde_json::to_string(&told).expect("texts are JSON");
    if is_as_before(load, conn, &told).await? || !is_alone(load, conn).await? {
        return Ok(());
    }
    sqlx::query!(
        r#"
        with load_is as (
            select exists (
                select 1 from impact_mirror.load l join impact_mirror.job j on j.id = l.job_id
                where l.id = $6 and j.reload_of is not null) as reload
        ), wanted as materialized (
            select c.column_name, f.column_name is not null as in_file, load_is.reload, f.kind,
                   case when f.type_origin = 'data' and c.type_origin = 'widened' then 'widened' else f.type_origin end as type_origin
            from impact_mirror.mirrored_column c
            cross join load_is
            -- By sub-selects, so that Postgres keeps one plan for all.
            left join unnest((select $3::text[]), (select $4::text[]), (select $5::text[])) as f (column_name, kind, type_origin)
                on f.column_name = c.column_name
            where c.export = $1
              and case when f.column_name is null
                       then not load_is.reload and ($2 = any(c.accounts) or (c.accounts = '{}' and c.vanished_since is null))
                       else not load_is.reload and (not $2 = any(c.accounts) or c.vanished_since is not null) or c.kind <> f.kind
                           or (c.type_origin is distinct from f.type_origin
                               and not (f.type_origin is null or (f.type_origin = 'data' and c.type_origin = 'widened')))
                  end
        ), changed as (
            select wanted.*
            from impact_mirror.mirrored_column c
            join wanted on wanted.column_name = c.column_name
            where c.export = $1
            order by c.column_name
            for no key update of c skip locked
        ), seen as (
            -- Not where there was something to change: what another load held was left.
            insert into impact_mirror.columns_seen as s (export, account, hash)
            select $1, $2, case when not exists (select from wanted) then impact_mirror.columns_now($1, $8) end
            from load_is
            where not reload
            on conflict (export, account) do update set hash = excluded.hash
        )
        update impact_mirror.mirrored_column c
        set kind = coalesce(changed.kind, c.kind),
            type_origin = coalesce(changed.type_origin, c.type_origin),
            first_load_id = coalesce(
                c.first_load_id,
                case when c.first_seen_at = $7 then $6 else (
                    select min(l.id) from impact_mirror.load l
                    where l.export = $1 and l.started_at <= c.first_seen_at and l.committed_at >= c.first_seen_at) end,
                -- Added for a load that failed.
                case when changed.in_file and c.accounts = '{}' then $6 end),
            accounts = case when changed.reload then c.accounts
                            when not changed.in_file then array_remove(c.accounts, $2)
                            when $2 = any(c.accounts) then c.accounts
                            else c.accounts || array[$2] end,
            vanished_since = case when changed.reload then c.vanished_since
                                  when not changed.in_file and array_remove(c.accounts, $2) = '{}'
                                  then coalesce(c.vanished_since, $7) end
        from changed
        where c.export = $1 and c.column_name = changed.column_name
        "#,
        load.place.export.as_str(),
        load.target.account.as_str(),
        &names,
        &kinds,
        &types as &[Option<String>],
        load.id,
        load.now,
        told,
    )
    .execute(conn)
    .await
    .map_err(load.place.database("take down the columns"))?;
    Ok(())
}

/// Whether the last file of the account said the same and was found to change nothing, and nothing but who has which column
/// changed since. That lists were changed by other hands is seen a day later.
async fn is_as_before(load: &Load<'_>, conn: &mut PgConnection, told: &str) -> Result<bool, Error> {
    sqlx::query_scalar!(
        r#"
        select exists (
            select 1
            from impact_mirror.columns_seen
            where export = $1 and account = $2 and hash = impact_mirror.columns_now($1, $3)) as "is_as_before!"
        "#,
        load.place.export.as_str(),
        load.target.account.as_str(),
        told,
    )
    .fetch_one(conn)
    .await
    .map_err(load.place.database("look whether the columns are as before"))
}

/// Whether this is the only load of the account that takes columns down, until the transaction ends. Else it leaves that to the
/// next file.
async fn is_alone(load: &Load<'_>, conn: &mut PgConnection) -> Result<bool, Error> {
    let name = format!("impact_mirror columns {} {}", load.place.export, load.target.account);
    sqlx::query_scalar!(r#"select pg_try_advisory_xact_lock(hashtextextended($1, 0)) as "is_alone!""#, name)
        .fetch_one(conn)
        .await
        .map_err(load.place.database("take down the columns"))
}

/// Who says the type of a column.
struct Origins {
    by_user: BTreeSet<String>,
    configured: BTreeSet<String>,
}

impl Origins {
    fn of(target: &Target<'_>) -> Self {
        Self {
            by_user: target.typed_by_user.iter().map(|name| folded(name)).collect(),
            configured: target.configured.keys().map(|name| folded(name)).collect(),
        }
    }

    /// `None` where the one who once said it says nothing any more.
    fn of_type(&self, column: &Column) -> Option<&'static str> {
        let name = folded(&column.source);
        match column.origin {
            Origin::Configured if self.by_user.contains(&name) => Some("user"),
            Origin::Configured => self.configured.contains(&name).then_some("catalogue"),
            Origin::Metadata => Some("metadata"),
            Origin::Data => Some("data"),
            Origin::Empty => Some("empty"),
        }
    }
}
