//! Keeps the views for analysts as tables and configuration have them, and comments on every mirrored table and column.
//!
//! A view is ours if its comment ends as ours do; whatever else has its name is somebody's own and left alone. Ours are replaced in
//! place and never dropped: grants on them, and what people built on them, stay. Nothing is sent where nothing has changed.

mod comments;
mod sources;

use std::collections::BTreeMap;

use sqlx::{AssertSqlSafe, Connection as _, PgConnection};

use super::error::{Error, Place};
use super::rollup;
use super::table::Table;
use super::table::analysts::{
    ACTIONS_CURRENT, CLICKS_DAILY, ON_TABLES, PAYOUTS_MONTHLY, PERFORMANCE_DAILY, RECONCILIATION, VIEWS, View,
};
use super::table::reconciliation::reconciliation;
use super::table::views::{self as text, As, Feeding};
use crate::config::Entry;
use crate::error_chain::Chain;
use crate::export::ExportName;
use crate::failpoint;
use sources::Sources;
pub(super) use sources::feeding_of_clicks;

/// How the comments of our views and functions end, before a hash of their query.
pub(super) const MARK: &str = " Kept by impact-mirror (";

/// Brings views, comments and what adds clicks up to date; says what was done. Comments tell what users say of reports, by handle,
/// over what the built-in catalogue does. Each in a transaction of its own that waits for
/// nobody for long: what could not be done is said, and done when it is tried again.
pub async fn keep(conn: &mut PgConnection, schema: &str, own: &BTreeMap<String, Entry>) -> Result<Vec<String>, Error> {
    let sources = sources::read(conn, schema).await?;
    let mut said = Vec::new();
    for wanted in wanted(schema, &sources) {
        let place = place_of(&wanted);
        let mut tx = begin(conn, &place).await?;
        let kept = wanted.keep(&mut tx, schema, &place).await;
        match kept {
            Ok(done) => {
                failpoint::reach("view-written");
                tx.commit().await.map_err(place.database("commit a view"))?;
                failpoint::reach("view-committed");
                said.extend(done);
            }
            Err(error) => {
                tx.rollback().await.map_err(place.database("leave a view as it is"))?;
                tracing::warn!(error = %Chain(&error), "{} cannot be brought up to date now; a later round does it", wanted.name());
            }
        }
    }
    for feeding in &sources.actions {
        said.extend(help_planning(conn, feeding, &sources.actions).await?);
    }
    for feeding in &sources.clicks {
        said.extend(rollup::fill(conn, feeding).await?);
    }
    said.extend(comments::keep(conn, schema, &sources, own).await?);
    Ok(said)
}

async fn begin<'c>(conn: &'c mut PgConnection, place: &Place) -> Result<sqlx::Transaction<'c, sqlx::Postgres>, Error> {
    let mut tx = conn.begin().await.map_err(place.database("begin to change a view"))?;
    run(&mut tx, "set local lock_timeout = '2s'".to_owned(), place).await?;
    Ok(tx)
}

/// What takes the columns of a table out of our views and statistics, so that they can get other types; nothing where none has them. To
/// be sent before the table is locked: whoever reads a view locks that first.
pub(super) async fn release(conn: &mut PgConnection, table: &Table, place: &Place) -> Result<Option<String>, Error> {
    let names = ON_TABLES.map(|view| view.name.to_owned());
    let readers = sqlx::query_scalar!(
        r#"
        select distinct v.relname::text as "name!"
        from pg_class v
        join pg_namespace n on n.oid = v.relnamespace
        join pg_rewrite r on r.ev_class = v.oid
        join pg_depend d on d.classid = 'pg_rewrite'::regclass and d.objid = r.oid and d.refclassid = 'pg_class'::regclass
        join pg_class t on t.oid = d.refobjid
        where n.nspname = $1 and v.relname = any($2) and v.relkind = 'v' and t.relnamespace = n.oid and t.relname = $3
          and strpos(obj_description(v.oid, 'pg_class'), $4) > 0
        "#,
        table.schema(),
        &names[..],
        table.name(),
        MARK,
    )
    .fetch_all(&mut *conn)
    .await
    .map_err(place.database("look for views of the table"))?;
    let views = ON_TABLES.iter().filter(|view| readers.iter().any(|reader| reader == view.name));
    let mut releases: Vec<String> = views.map(|view| text::replace_by_nothing(table.schema(), view)).collect();
    let statistics = statistics(conn, table, place).await?;
    if !statistics.is_empty() {
        releases.push(table.drop_statistics(&statistics));
    }
    Ok((!releases.is_empty()).then(|| releases.join("; ")))
}

/// Puts the tables back into the views that they were taken out of, in the same transaction.
pub(super) async fn restore(conn: &mut PgConnection, schema: &str, place: &Place) -> Result<(), Error> {
    let sources = sources::read(conn, schema).await?;
    let is_on_tables = |one: &Wanted| ON_TABLES.iter().any(|view| one.view.name == view.name);
    for wanted in wanted(schema, &sources).into_iter().filter(|one| one.what == What::View && is_on_tables(one)) {
        match wanted.standing(conn, schema, place).await? {
            // A replaced view has its comment still, which says that it is as it should be.
            Some(standing) if standing.comment.contains(MARK) => wanted.write(conn, schema, place).await?,
            Some(_) | None => {}
        }
    }
    Ok(())
}

/// A view, or the function beside it that answers for a time.
struct Wanted {
    view: &'static View,
    what: What,
    query: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum What {
    View,
    Function,
}

/// All that there is to be, what stands on others behind them.
fn wanted(schema: &str, sources: &Sources) -> Vec<Wanted> {
    let Sources { actions, clicks, by_day, .. } = sources;
    let mut wanted = Vec::new();
    for view in VIEWS {
        let query = match view.name {
            name if name == ACTIONS_CURRENT.name => text::actions_current(actions, As::TheyStand),
            name if name == CLICKS_DAILY.name => text::clicks_daily(schema, actions, clicks),
            name if name == PERFORMANCE_DAILY.name => text::performance_daily(schema, actions, clicks),
            name if name == RECONCILIATION.name => reconciliation(actions, by_day),
            _ => text::payouts_monthly(schema, actions, As::TheyStand),
        };
        wanted.push(Wanted { view, what: What::View, query });
    }
    let known = [
        (&ACTIONS_CURRENT, text::actions_current(actions, As::Known)),
        (&PAYOUTS_MONTHLY, text::payouts_monthly(schema, actions, As::Known)),
    ];
    wanted.extend(known.map(|(view, query)| Wanted { view, what: What::Function, query }));
    let answers = actions.iter().any(|feeding| feeding.answers);
    for one in &mut wanted {
        let is_filled = match (one.what, one.view.name) {
            (What::Function, _) => answers,
            (What::View, name) if name == CLICKS_DAILY.name => !clicks.is_empty(),
            (What::View, name) if name == PERFORMANCE_DAILY.name => !actions.is_empty() || !clicks.is_empty(),
            (What::View, name) if name == RECONCILIATION.name => !by_day.is_empty() && !actions.is_empty(),
            (What::View, _) => !actions.is_empty(),
        };
        if !is_filled {
            one.query = text::empty(one.view);
        }
    }
    wanted
}

fn place_of(wanted: &Wanted) -> Place {
    Place { export: ExportName::new(wanted.name()), file: "the view".into() }
}

/// What has a name already.
struct Standing {
    comment: String,
    columns: i64,
}

impl Wanted {
    fn name(&self) -> String {
        match self.what {
            What::View => self.view.name.to_owned(),
            What::Function => text::as_known_name(self.view),
        }
    }

    fn is_empty(&self) -> bool {
        self.query == text::empty(self.view)
    }

    fn comment(&self) -> String {
        let hash =
            xxhash_rust::xxh3::xxh3_64(format!("{}{}{:?}", self.query, self.view.says, self.view.columns).as_bytes());
        let says = match self.what {
            What::View => self.view.says.to_owned(),
            What::Function => format!(
                "The rows of {} as they were known at a time, of exports that keep history. {}",
                self.view.name, self.view.says
            ),
        };
        let nothing = if self.is_empty() { " Nothing that is configured has rows for it." } else { "" };
        format!("{says}{nothing}{MARK}{hash:016x}).")
    }

    /// Makes or replaces it where it is not as it should be; says so.
    async fn keep(&self, conn: &mut PgConnection, schema: &str, place: &Place) -> Result<Option<String>, Error> {
        let (name, comment) = (self.name(), self.comment());
        let standing = self.standing(conn, schema, place).await?;
        match &standing {
            Some(standing) if standing.comment == comment => return Ok(None),
            Some(standing) if !standing.comment.contains(MARK) => {
                tracing::warn!(
                    "{schema}.{name} is somebody's own: it is left alone, and the view of that name is not made until it is renamed"
                );
                return Ok(None);
            }
            Some(standing) if standing.columns > i64::try_from(self.view.columns.len()).unwrap_or(0) => {
                tracing::warn!("{schema}.{name} is of a newer version of impact-mirror and left as it is");
                return Ok(None);
            }
            None if self.is_empty() => return Ok(None),
            Some(_) | None => {}
        }
        if !self.stands_on_ours(conn, schema, place).await? {
            return Ok(None);
        }
        self.write(conn, schema, place).await?;
        let word = if standing.is_some() { "brought up to date" } else { "made" };
        Ok(Some(format!("{schema}.{name} {word}")))
    }

    async fn write(&self, conn: &mut PgConnection, schema: &str, place: &Place) -> Result<(), Error> {
        let comment = self.comment();
        let statements = match self.what {
            What::View => {
                [text::replace(schema, self.view, &self.query), text::comment_view(schema, self.view, &comment)]
            }
            What::Function => [
                text::replace_function(schema, self.view, &self.query),
                text::comment_function(schema, self.view, &comment),
            ],
        };
        for statement in statements {
            run(conn, statement, place).await?;
        }
        Ok(())
    }

    /// Whether what it reads or is typed by is a view of ours.
    async fn stands_on_ours(&self, conn: &mut PgConnection, schema: &str, place: &Place) -> Result<bool, Error> {
        if self.what == What::View && self.view.name == ACTIONS_CURRENT.name
            || !self.query.contains(ACTIONS_CURRENT.name)
        {
            return Ok(true);
        }
        let base = Self { view: &ACTIONS_CURRENT, what: What::View, query: String::new() };
        let found = base.standing(conn, schema, place).await?;
        Ok(found.is_some_and(|found| found.comment.contains(MARK)))
    }

    async fn standing(&self, conn: &mut PgConnection, schema: &str, place: &Place) -> Result<Option<Standing>, Error> {
        let name = self.name();
        match self.what {
            What::View => sqlx::query_as!(
                Standing,
                r#"
                select coalesce(obj_description(c.oid, 'pg_class'), '') as "comment!", c.relnatts::bigint as "columns!"
                from pg_class c join pg_namespace n on n.oid = c.relnamespace
                where n.nspname = $1 and c.relname = $2
                "#,
                schema,
                name,
            )
            .fetch_optional(conn)
            .await
            .map_err(place.database("look for the view")),
            What::Function => sqlx::query_as!(
                Standing,
                r#"
                select coalesce(obj_description(p.oid, 'pg_proc'), '') as "comment!", 0::bigint as "columns!"
                from pg_proc p join pg_namespace n on n.oid = p.pronamespace
                where n.nspname = $1 and p.proname = $2 and p.proargtypes = array['timestamptz'::regtype::oid]::oidvector
                "#,
                schema,
                name,
            )
            .fetch_optional(conn)
            .await
            .map_err(place.database("look for the function")),
        }
    }
}

/// Makes what finds a month of actions, an index, for which writers of the table wait once, and what tells Postgres how many groups
/// the views have: without it, it sorts on disk what fits into memory.
async fn help_planning(conn: &mut PgConnection, feeding: &Feeding, actions: &[Feeding]) -> Result<Vec<String>, Error> {
    let table = &feeding.table;
    let place = Place::without_file(&ExportName::new(table.name()));
    let index = super::layout::index_name(table.name(), "month");
    let stands = sqlx::query_scalar!(
        r#"
        select exists (
            select 1 from pg_class c join pg_namespace n on n.oid = c.relnamespace
            where n.nspname = $1 and c.relname = $2) as "stands!"
        "#,
        table.schema(),
        index,
    )
    .fetch_one(&mut *conn)
    .await
    .map_err(place.database("look for an index"))?;
    let mut said = Vec::new();
    if !stands {
        said.extend(help(conn, "index", &index, table.create_month_index(&index), &place).await?);
    }
    let groups = feeding.groups(actions);
    let wanted = super::layout::index_name(
        table.name(),
        &format!("{GROUPS}{:08x}", xxhash_rust::xxh3::xxh3_64(groups.as_bytes()) >> 32),
    );
    let standing = statistics(conn, table, &place).await?;
    if standing.contains(&wanted) || !may_have_statistics(conn, table, &place).await? {
        return Ok(said);
    }
    let mut statement = table.create_statistics(&wanted, &groups);
    if !standing.is_empty() {
        statement = format!("{}; {statement}", table.drop_statistics(&standing));
    }
    said.extend(help(conn, "statistics", &wanted, statement, &place).await?);
    Ok(said)
}

async fn help(
    conn: &mut PgConnection,
    what: &str,
    name: &str,
    statement: String,
    place: &Place,
) -> Result<Option<String>, Error> {
    let mut tx = begin(conn, place).await?;
    match run(&mut tx, statement, place).await {
        Ok(()) => {
            failpoint::reach("help-written");
            tx.commit().await.map_err(place.database("commit what helps queries"))?;
            failpoint::reach("help-committed");
            Ok(Some(format!("made {what} {name}")))
        }
        Err(error) => {
            tx.rollback().await.map_err(place.database("leave the table as it is"))?;
            tracing::warn!(error = %Chain(&error), "{what} {name} cannot be made now; a later round does it");
            Ok(None)
        }
    }
}

/// How the names of our statistics go on behind the table's, before a hash of what they are on.
pub(super) const GROUPS: &str = "groups_";

/// Our statistics of a table.
async fn statistics(conn: &mut PgConnection, table: &Table, place: &Place) -> Result<Vec<String>, Error> {
    sqlx::query_scalar!(
        r#"
        select s.stxname::text as "name!"
        from pg_statistic_ext s
        join pg_class c on c.oid = s.stxrelid
        join pg_namespace n on n.oid = c.relnamespace
        where n.nspname = $1 and c.relname = $2 and s.stxnamespace = n.oid and s.stxname ~ ('_' || $3 || '[0-9a-f]{8}$')
        "#,
        table.schema(),
        table.name(),
        GROUPS,
    )
    .fetch_all(conn)
    .await
    .map_err(place.database("look for statistics of the table"))
}

/// Not of a table by month, which nobody analyzes anew, nor of one that Citus has distributed, which takes none on expressions.
async fn may_have_statistics(conn: &mut PgConnection, table: &Table, place: &Place) -> Result<bool, Error> {
    let is_plain = sqlx::query_scalar!(
        r#"
        select exists (
            select 1 from pg_class c join pg_namespace n on n.oid = c.relnamespace
            where n.nspname = $1 and c.relname = $2 and c.relkind = 'r')
            and not exists (select 1 from pg_extension where extname = 'citus') as "is_plain!"
        "#,
        table.schema(),
        table.name(),
    )
    .fetch_one(conn)
    .await
    .map_err(place.database("look at the table"))?;
    Ok(is_plain)
}

async fn run(conn: &mut PgConnection, statement: String, place: &Place) -> Result<(), Error> {
    sqlx::raw_sql(AssertSqlSafe(statement))
        .execute(conn)
        .await
        .map_err(place.database("keep the views for analysts"))?;
    Ok(())
}
