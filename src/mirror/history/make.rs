//! Makes what keeps superseded versions and what answers from them, and has it follow the mirrored table.

use std::collections::BTreeMap;

use sqlx::{AssertSqlSafe, PgConnection};

use crate::column::ColumnKind;
use crate::mirror::catalog::{self, kind_of};
use crate::mirror::ddl;
use crate::mirror::error::{Error, Place};
use crate::mirror::layout::{History, Standing};
use crate::mirror::load::Load;
use crate::mirror::table::Table;
use crate::mirror::table::history::{Answered, VALIDITY};
use crate::mirror::value::join;

const STEP: &str = "change what keeps superseded versions";

/// What the columns of the validity are, for people who look at a history.
const COMMENTS: [(&str, &str); 3] = [
    ("_valid_from", "From when on the row stood so: when the load that wrote it did."),
    ("_valid_to", "Until when it did, that time not included; empty for rows that stand."),
    ("_superseded_by", "The load that replaced or deleted it: impact_mirror.load; empty for rows that stand."),
];

/// A column as the catalog has it.
struct Found {
    name: String,
    /// As Postgres writes it.
    type_name: String,
    /// Its bare name.
    bare_type: String,
    comment: Option<String>,
}

/// Makes the history of the load's table where it is wanted and missing.
pub(in crate::mirror) async fn begin(
    load: &Load<'_>,
    conn: &mut PgConnection,
    standing: &Standing,
) -> Result<Vec<String>, Error> {
    if !load.target.history || standing.history == History::Whole {
        return Ok(Vec::new());
    }
    ddl::lock(conn, &load.table, &load.place).await?;
    let folded = crate::mirror::header::folded;
    let key: Vec<&str> = load
        .target
        .key
        .iter()
        .filter_map(|key| standing.columns.iter().find(|column| folded(&column.source) == folded(key)))
        .map(|column| column.name.as_str())
        .collect();
    make(conn, &load.table, &key, Vec::new(), &load.place).await
}

/// Brings the history to the columns of the table, which is locked against other changes, and makes what is missing. `grants` are
/// those of a view that was taken away. Says what was made.
pub(in crate::mirror) async fn make(
    conn: &mut PgConnection,
    table: &Table,
    key: &[&str],
    mut grants: Vec<String>,
    place: &Place,
) -> Result<Vec<String>, Error> {
    let history = table.history();
    let maker = &mut Maker { conn, place };
    let mut said = Vec::new();
    if maker.own_columns(&history).await?.is_empty() {
        maker.run(table.create_history()).await?;
        if table.is_distributed() && maker.is_distributed(table).await? {
            maker.run(history.distribute(Some(table))).await?;
        }
        let comment = format!(
            "Superseded versions of the rows of {}: a row for each that a load replaced or deleted.",
            table.name()
        );
        maker.run(history.comment(&comment)).await?;
        for (column, comment) in COMMENTS {
            maker.run(history.comment_column(column, comment)).await?;
        }
        said.push(format!("made history {}", history.qualified()));
    }
    let answered = maker.follow(table, &history).await?;
    maker.index(table, key).await?;

    let shown = maker.own_columns(&table.versions()).await?;
    let is_behind = !begins(&answered, &shown);
    if is_behind || shown.len() != VALIDITY.len() + answered.len() {
        if is_behind {
            grants.append(&mut take_view_away(maker.conn, table, place).await?);
        }
        maker.show(table, &answered).await?;
        for grant in grants {
            maker.run(grant).await?;
        }
    }
    maker.refuse_other_function(table).await?;
    maker.run(table.create_as_known(&answered)).await?;
    maker.run(table.comment_as_known(&format!("The rows of {} as they stood at a time.", table.name()))).await?;
    Ok(said)
}

/// Drops the view of all versions, if there is one, for it would keep columns from becoming wider; gives the grants on it.
pub(in crate::mirror) async fn take_view_away(
    conn: &mut PgConnection,
    table: &Table,
    place: &Place,
) -> Result<Vec<String>, Error> {
    let view = table.versions();
    let maker = &mut Maker { conn, place };
    if !maker.columns(&view).await?.iter().any(is_validity) {
        return Ok(Vec::new());
    }
    let grants = sqlx::query_scalar!(
        r#"
        select format('grant %s on %I.%I to %s%s', a.privilege_type, n.nspname, c.relname,
                   coalesce(quote_ident(r.rolname), 'public'),
                   case when a.is_grantable then ' with grant option' else '' end) as "grant!"
        from pg_class c
        join pg_namespace n on n.oid = c.relnamespace
        cross join lateral aclexplode(c.relacl) as a
        left join pg_roles r on r.oid = a.grantee
        where n.nspname = $1 and c.relname = $2 and c.relkind = 'v' and a.grantee <> c.relowner
        "#,
        table.schema(),
        view.name(),
    )
    .fetch_all(&mut *maker.conn)
    .await
    .map_err(place.database(STEP))?;
    maker.run(table.drop_versions()).await?;
    Ok(grants)
}

fn is_validity(column: &Found) -> bool {
    VALIDITY.contains(&column.name.as_str())
}

/// Whether the view has just the first of these columns, so that more can be put behind them.
fn begins(answered: &[Answered], shown: &[Found]) -> bool {
    let shown = shown.iter().skip(VALIDITY.len());
    shown.clone().count() <= answered.len()
        && shown.zip(answered).all(|(found, wanted)| found.name == wanted.name && found.type_name == wanted.type_name)
}

struct Maker<'a> {
    conn: &'a mut PgConnection,
    place: &'a Place,
}

impl Maker<'_> {
    /// Whether the table lies on the workers of the cluster: one that was there before the setting does not.
    async fn is_distributed(&mut self, table: &Table) -> Result<bool, Error> {
        let has_list = "select to_regclass('pg_catalog.pg_dist_partition') is not null";
        let failed = || self.place.database(STEP);
        let has_list: bool = sqlx::query_scalar(has_list).fetch_one(&mut *self.conn).await.map_err(failed())?;
        if !has_list {
            return Ok(true);
        }
        sqlx::query_scalar(AssertSqlSafe(table.is_listed_as_distributed()))
            .persistent(false)
            .fetch_one(&mut *self.conn)
            .await
            .map_err(failed())
    }

    async fn run(&mut self, statement: String) -> Result<(), Error> {
        sqlx::raw_sql(AssertSqlSafe(statement)).execute(&mut *self.conn).await.map_err(self.place.database(STEP))?;
        Ok(())
    }

    /// The columns of a history or of the view over it; none where it is yet to be made. Fails where something else has the name.
    async fn own_columns(&mut self, of: &Table) -> Result<Vec<Found>, Error> {
        let columns = self.columns(of).await?;
        if columns.is_empty() || columns.iter().any(is_validity) {
            Ok(columns)
        } else {
            Err(self.taken(of.qualified().to_owned()))
        }
    }

    /// The columns of a table or view; none where there is no such thing.
    async fn columns(&mut self, of: &Table) -> Result<Vec<Found>, Error> {
        sqlx::query_as!(
            Found,
            r#"
            select a.attname::text as "name!", format_type(a.atttypid, a.atttypmod) as "type_name!",
                   t.typname::text as "bare_type!", col_description(a.attrelid, a.attnum) as comment
            from pg_attribute a
            join pg_class c on c.oid = a.attrelid
            join pg_namespace n on n.oid = c.relnamespace
            join pg_type t on t.oid = a.atttypid
            where n.nspname = $1 and c.relname = $2 and a.attnum > 0 and not a.attisdropped
            order by a.attnum
            "#,
            of.schema(),
            of.name(),
        )
        .fetch_all(&mut *self.conn)
        .await
        .map_err(self.place.database(STEP))
    }

    /// Gives the history the columns of the table, and types that hold both their values; says what the answers show.
    async fn follow(&mut self, table: &Table, history: &Table) -> Result<Vec<Answered>, Error> {
        let standing = catalog::read(self.conn, table, self.place).await?;
        let mirrored: BTreeMap<_, _> =
            standing.columns.iter().map(|column| (column.name.as_str(), column.kind)).collect();
        let kept: BTreeMap<String, Found> =
            self.columns(history).await?.into_iter().map(|column| (column.name.clone(), column)).collect();
        let zones = ddl::zones(self.conn, self.place).await?;
        let mut answered = Vec::new();
        let mut retypes = Vec::new();
        for Found { name, type_name, comment, .. } in self.columns(table).await? {
            let old = kept.get(&name);
            let is_kept = match (mirrored.get(name.as_str()), old) {
                (Some(kind), None) => {
                    self.run(history.add_column(&name, *kind)).await?;
                    true
                }
                (Some(kind), Some(old)) => {
                    let from = kind_of(&old.bare_type);
                    let wider = match from {
                        // A column that never held a value has got its type.
                        Some(ColumnKind::Text)
                            if *kind != ColumnKind::Text && !self.has_values(history, &name).await? =>
                        {
                            Some(*kind)
                        }
                        // A history may hold what the table cannot any more, if somebody made that anew.
                        Some(from) => Some(join(from, *kind)),
                        None => None,
                    };
                    if let Some((from, wider)) = from.zip(wider).filter(|(from, wider)| from != wider) {
                        retypes.push(Table::retype_column(&name, from, wider, &zones));
                    }
                    wider == Some(*kind)
                }
                // The lineage; a column that is not ours is not kept.
                (None, old) => old.is_some_and(|old| old.type_name == type_name),
            };
            if let Some(comment) =
                comment.filter(|comment| is_kept && old.and_then(|old| old.comment.as_ref()) != Some(comment))
            {
                self.run(history.comment_column(&name, &comment)).await?;
            }
            answered.push(Answered { name, type_name, is_kept });
        }
        if !retypes.is_empty() {
            self.run(history.retype_columns(&retypes)).await?;
        }
        Ok(answered)
    }

    /// Makes the view of all versions, or puts columns behind those that it has.
    async fn show(&mut self, table: &Table, answered: &[Answered]) -> Result<(), Error> {
        self.run(table.create_versions(answered)).await?;
        let (name, history) = (table.name(), table.history());
        let comment = format!("All versions of the rows of {name}: those that stand, and those of {}.", history.name());
        self.run(table.comment_versions(&comment)).await?;
        for (column, comment) in COMMENTS {
            self.run(table.versions().comment_column(column, comment)).await?;
        }
        Ok(())
    }

    async fn has_values(&mut self, history: &Table, column: &str) -> Result<bool, Error> {
        sqlx::query_scalar(AssertSqlSafe(history.has_values(column)))
            .persistent(false)
            .fetch_one(&mut *self.conn)
            .await
            .map_err(self.place.database(STEP))
    }

    /// Makes the indexes that are missing, or of another key.
    async fn index(&mut self, table: &Table, key: &[&str]) -> Result<(), Error> {
        let history = table.history();
        let found = sqlx::query!(
            r#"
            select c.relname::text as "name!", array_agg(a.attname::text order by k.position) as "columns!"
            from pg_index i
            join pg_class c on c.oid = i.indexrelid
            join pg_class h on h.oid = i.indrelid
            join pg_namespace n on n.oid = h.relnamespace
            cross join lateral unnest(i.indkey::int2[]) with ordinality as k (attnum, position)
            join pg_attribute a on a.attrelid = i.indrelid and a.attnum = k.attnum
            where n.nspname = $1 and h.relname = $2
            group by c.relname
            "#,
            history.schema(),
            history.name(),
        )
        .fetch_all(&mut *self.conn)
        .await
        .map_err(self.place.database(STEP))?;
        let found: BTreeMap<_, _> = found.into_iter().map(|index| (index.name, index.columns)).collect();
        for (name, columns) in table.history_indexes(key) {
            let standing = found.get(&name);
            if standing.is_some_and(|standing| *standing == columns) {
                continue;
            }
            if standing.is_some() {
                self.run(history.drop_index(&name)).await?;
            }
            self.run(history.create_index(&name, &columns)).await?;
        }
        Ok(())
    }

    /// Fails where another function has the name of ours.
    async fn refuse_other_function(&mut self, table: &Table) -> Result<(), Error> {
        let taken = sqlx::query_scalar!(
            r#"
            select exists (
                select 1 from pg_proc p join pg_namespace n on n.oid = p.pronamespace
                where n.nspname = $1 and p.proname = $3 and p.proargtypes = array['timestamptz'::regtype::oid]::oidvector
                  and p.prorettype not in (
                      select c.reltype from pg_class c where c.relnamespace = n.oid and c.relname = $2)) as "taken!"
            "#,
            table.schema(),
            table.name(),
            table.as_known_name(),
        )
        .fetch_one(&mut *self.conn)
        .await
        .map_err(self.place.database(STEP))?;
        if taken { Err(self.taken(table.as_known())) } else { Ok(()) }
    }

    fn taken(&self, name: String) -> Error {
        Error::NameTaken { export: self.place.export.clone(), name }
    }
}
