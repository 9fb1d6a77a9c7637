//! Mirrored tables that are distributed by account, for the tests that load.
//!
//! `TEST_CITUS_URL` is the address of a superuser in a database of a Citus coordinator that knows its workers: every test's database is
//! then made there and on each worker. `TEST_DISTRIBUTED=stand-in` has tables distributed in name: a function of that name does nothing,
//! and the statements are those for a cluster all the same.

use std::str::FromStr;

use impact_mirror::config::Distribution;
use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use url::Url;

/// What Citus calls it, where there is none.
pub const STAND_IN: &str = "create function create_distributed_table(regclass, text, colocate_with text default 'default') \
                            returns void language sql as 'select'";

/// How the tables of the tests are distributed.
pub fn distribution() -> Distribution {
    if coordinator().is_some() || is_stand_in() { Distribution::Citus } else { Distribution::None }
}

/// The line of `[database]` that says so.
pub fn setting() -> &'static str {
    match distribution() {
        Distribution::Citus => "distribution = \"citus\"\n",
        Distribution::None => "",
    }
}

/// The address of the cluster's coordinator.
pub fn coordinator() -> Option<String> {
    std::env::var("TEST_CITUS_URL").ok()
}

fn is_stand_in() -> bool {
    std::env::var("TEST_DISTRIBUTED").is_ok_and(|word| word == "stand-in")
}

/// Makes a new database one that tables can be distributed from.
pub async fn prepare(admin_url: String, database: String) -> Result<(), sqlx::Error> {
    let (admin_url, database) = (admin_url.as_str(), database.as_str());
    if coordinator().is_none() {
        return if is_stand_in() { run(&at(admin_url, None, database), STAND_IN).await } else { Ok(()) };
    }
    let nodes = nodes(admin_url).await?;
    for (group, host, port) in &nodes {
        if *group != 0 {
            let worker = Some((host.as_str(), *port));
            create(&at(admin_url, worker, "postgres"), database).await?;
            run(&at(admin_url, worker, database), "create extension if not exists citus").await?;
        }
    }
    let coordinator = at(admin_url, None, database);
    run(&coordinator, "create extension if not exists citus").await?;
    for (group, host, port) in &nodes {
        let function = if *group == 0 { "citus_set_coordinator_host" } else { "citus_add_node" };
        run(&coordinator, &format!("select {function}('{}', {port})", host.replace('\'', "''"))).await?;
    }
    Ok(())
}

/// Drops a database from the workers.
pub async fn forget(admin_url: &str, database: &str) -> Result<(), sqlx::Error> {
    if coordinator().is_none() {
        return Ok(());
    }
    for (group, host, port) in nodes(admin_url).await? {
        if group != 0 {
            let worker = at(admin_url, Some((&host, port)), "postgres");
            run(&worker, &format!("drop database if exists {database} with (force)")).await?;
        }
    }
    Ok(())
}

/// Group, host and port of the coordinator and of the workers; the coordinator's first.
async fn nodes(admin_url: &str) -> Result<Vec<(i32, String, i32)>, sqlx::Error> {
    let mut conn = PgConnection::connect(admin_url).await?;
    let nodes = "select groupid, nodename, nodeport from pg_dist_node where noderole = 'primary' order by groupid";
    let nodes = sqlx::query_as(nodes).fetch_all(&mut conn).await?;
    conn.close().await?;
    Ok(nodes)
}

/// A coordinator may have made it there already.
async fn create(worker: &str, database: &str) -> Result<(), sqlx::Error> {
    let mut conn = PgConnection::connect(worker).await?;
    let exists: bool = sqlx::query_scalar("select exists (select 1 from pg_database where datname = $1)")
        .bind(database)
        .fetch_one(&mut conn)
        .await?;
    if !exists {
        sqlx::raw_sql(AssertSqlSafe(format!("create database {database}"))).execute(&mut conn).await?;
    }
    conn.close().await
}

fn at(admin_url: &str, node: Option<(&str, i32)>, database: &str) -> String {
    let mut url = Url::parse(admin_url).expect("checked when the server was found");
    if let Some((host, port)) = node {
        url.set_host(Some(host)).expect("the coordinator knows the host");
        url.set_port(u16::try_from(port).ok()).expect("an address of a Postgres has a port");
    }
    url.set_path(database);
    url.into()
}

async fn run(url: &str, statement: &str) -> Result<(), sqlx::Error> {
    let mut conn = PgConnection::connect_with(&PgConnectOptions::from_str(url)?).await?;
    sqlx::raw_sql(AssertSqlSafe(statement)).execute(&mut conn).await?;
    conn.close().await
}
