//! The publication of mirrored tables for logical replication: what has to be done that it holds all of them, and that Postgres
//! takes updates and deletes of each.
//!
//! A publication that we made is known by its comment. Loads keep it in step: a table that they make is added, and so is the replica
//! identity of a new partition.

use std::time::Duration;

use sqlx::{AssertSqlSafe, PgConnection};

use super::table::publish;

/// What the comment of a publication of ours begins with.
const MARK: &str = "impact-mirror";

const COMMENT: &str = "impact-mirror keeps it in step: tables that a load makes are added. A subscriber takes them by `alter subscription … \
                       refresh publication`.";

/// A publication of this name that is there already.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// Whether we made it.
    pub is_ours: bool,
    /// Whether we may change it.
    pub is_owned: bool,
}

/// Looks a publication up.
pub async fn find(conn: &mut PgConnection, name: &str) -> Result<Option<Standing>, sqlx::Error> {
    sqlx::query_as!(
        Standing,
        r#"
        select coalesce(starts_with(obj_description(oid, 'pg_publication'), $2), false) as "is_ours!",
               pg_has_role(pubowner, 'usage') as "is_owned!"
        from pg_publication
        where pubname = $1
        "#,
        name,
        MARK,
    )
    .fetch_optional(conn)
    .await
}

/// The statements that make the publication, or bring it in step; none where it is.
pub async fn statements(
    conn: &mut PgConnection,
    schema: &str,
    name: &str,
    standing: Option<&Standing>,
) -> Result<Vec<String>, sqlx::Error> {
    let mut statements = Vec::new();
    match standing {
        None => {
            let tables = tables(conn, schema).await?;
            statements.push(publish::create(name, schema, &tables));
            statements.push(publish::mark(name, COMMENT));
        }
        Some(standing) => {
            if !standing.is_ours {
                statements.push(publish::mark(name, COMMENT));
            }
            let missing = missing(conn, schema, name).await?;
            statements.extend(missing.iter().map(|table| publish::add(name, schema, table)));
        }
    }
    statements.extend(identities(conn, schema).await?);
    Ok(statements)
}

/// The statements that take the publication away, and with the last one of ours the replica identities.
pub async fn drop_statements(conn: &mut PgConnection, schema: &str, name: &str) -> Result<Vec<String>, sqlx::Error> {
    let mut statements = vec![publish::drop(name)];
    let others = sqlx::query_scalar!(r#"select count(*) as "count!" from pg_publication where pubname <> $1"#, name,)
        .fetch_one(&mut *conn)
        .await?;
    if others == 0 {
        let members = members(conn, schema).await?;
        let set = members.iter().filter(|member| member.identity != "d");
        statements.extend(set.map(|member| publish::default_identity(schema, &member.name)));
    }
    Ok(statements)
}

/// Brings the publications of ours in step, where there are any; says what was done. One that we may not change is left as it is.
pub(super) async fn keep_in_step(conn: &mut PgConnection, schema: &str) -> Result<Vec<String>, sqlx::Error> {
    let ours = sqlx::query!(
        r#"
        select pubname::text as "name!", pg_has_role(pubowner, 'usage') as "is_owned!"
        from pg_publication
        where starts_with(obj_description(oid, 'pg_publication'), $1)
        order by 1
        "#,
        MARK,
    )
    .fetch_all(&mut *conn)
    .await?;
    let mut done = Vec::new();
    for publication in &ours {
        if !publication.is_owned {
            tracing::warn!(
                publication = publication.name,
                "the publication belongs to another role, so that new tables are not added; call `impact-mirror publish` as its owner"
            );
            continue;
        }
        for table in missing(conn, schema, &publication.name).await? {
            run(conn, publish::add(&publication.name, schema, &table)).await?;
            done.push(format!("added table {table} to publication {}", publication.name));
        }
    }
    if !ours.is_empty() {
        for statement in identities(conn, schema).await? {
            run(conn, statement).await?;
        }
    }
    Ok(done)
}

/// Runs one of the statements.
pub async fn run(conn: &mut PgConnection, statement: String) -> Result<(), sqlx::Error> {
    sqlx::raw_sql(AssertSqlSafe(statement)).execute(conn).await.map(drop)
}

/// The mirrored tables, without their partitions.
async fn tables(conn: &mut PgConnection, schema: &str) -> Result<Vec<String>, sqlx::Error> {
    sqlx::query_scalar!(
        r#"
        select c.relname::text as "name!"
        from pg_class c
        join pg_namespace n on n.oid = c.relnamespace
        where n.nspname = $1 and c.relkind in ('r', 'p') and not c.relispartition
          and c.relname in (select export from impact_mirror.mirrored_column)
        order by 1
        "#,
        schema,
    )
    .fetch_all(conn)
    .await
}

/// The mirrored tables that a publication lacks.
async fn missing(conn: &mut PgConnection, schema: &str, name: &str) -> Result<Vec<String>, sqlx::Error> {
    let published: Vec<String> = sqlx::query_scalar!(
        r#"
        select c.relname::text as "name!"
        from pg_publication p
        join pg_publication_rel r on r.prpubid = p.oid
        join pg_class c on c.oid = r.prrelid
        join pg_namespace n on n.oid = c.relnamespace
        where p.pubname = $1 and n.nspname = $2
        "#,
        name,
        schema,
    )
    .fetch_all(&mut *conn)
    .await?;
    let all = tables(conn, schema).await?;
    Ok(all.into_iter().filter(|table| !published.contains(table)).collect())
}

/// A mirrored table or a partition of one.
struct Member {
    name: String,
    /// As Postgres has it: `d` default, `f` full, `i` by index, `n` none.
    identity: String,
    /// By this index.
    by_index: Option<String>,
    /// A unique index whose columns are never NULL.
    index: Option<String>,
}

async fn members(conn: &mut PgConnection, schema: &str) -> Result<Vec<Member>, sqlx::Error> {
    sqlx::query_as!(
        Member,
        r#"
        with recursive member as (
            select c.oid
            from pg_class c
            join pg_namespace n on n.oid = c.relnamespace
            where n.nspname = $1 and c.relkind in ('r', 'p') and not c.relispartition
              and c.relname in (select export from impact_mirror.mirrored_column)
            union all
            select i.inhrelid from pg_inherits i join member m on m.oid = i.inhparent
        )
        select c.relname::text as "name!", c.relreplident::text as "identity!",
               (select x.relname::text from pg_index i join pg_class x on x.oid = i.indexrelid
                where i.indrelid = c.oid and i.indisreplident) as by_index,
               (select x.relname::text
                from pg_index i
                join pg_class x on x.oid = i.indexrelid
                where i.indrelid = c.oid and i.indisunique and i.indisvalid and i.indimmediate
                  and i.indpred is null and i.indexprs is null
                  and not exists (
                      select 1 from unnest(i.indkey::int2[]) as k (attnum)
                      join pg_attribute a on a.attrelid = c.oid and a.attnum = k.attnum
                      where not a.attnotnull)
                order by i.indnatts, x.relname
                limit 1) as index
        from member m
        join pg_class c on c.oid = m.oid
        join pg_namespace n on n.oid = c.relnamespace
        where n.nspname = $1
        order by c.relname
        "#,
        schema,
    )
    .fetch_all(conn)
    .await
}

/// The statements that give each table, and each partition, the identity it should have.
async fn identities(conn: &mut PgConnection, schema: &str) -> Result<Vec<String>, sqlx::Error> {
    let members = members(conn, schema).await?;
    let statements = members.into_iter().filter(|member| !member.fits());
    Ok(statements.map(|member| publish::identity(schema, &member.name, member.index.as_deref())).collect())
}

impl Member {
    fn fits(&self) -> bool {
        match &self.index {
            Some(_) => self.identity == "i" && self.by_index == self.index,
            None => self.identity == "f",
        }
    }
}

/// Has statements of this transaction fail that wait for a lock for longer.
pub async fn set_lock_timeout(conn: &mut PgConnection, limit: Duration) -> Result<(), sqlx::Error> {
    sqlx::query!("select set_config('lock_timeout', $1, true)", format!("{}ms", limit.as_millis()))
        .fetch_one(conn)
        .await
        .map(drop)
}

/// How much the server writes into its log; subscriptions need `logical`.
pub async fn wal_level(conn: &mut PgConnection) -> Result<String, sqlx::Error> {
    sqlx::query_scalar!(r#"select current_setting('wal_level') as "level!""#).fetch_one(conn).await
}
