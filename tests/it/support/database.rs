//! A fresh, migrated database for each test.

use sqlx::{AssertSqlSafe, Connection, PgConnection, PgPool};

/// The server that databases are made on.
fn server() -> String {
    std::env::var("TEST_DATABASE_URL").unwrap_or_else(|_| "postgres://postgres@127.0.0.1:54329/".to_owned())
}

/// A new database of its own. A missing server fails the test.
pub async fn database() -> PgPool {
    let mut url = url::Url::parse(&server()).expect("TEST_DATABASE_URL is a URL");
    let name = format!("mirror_test_{}", uuid::Uuid::new_v4().simple());
    url.set_path("postgres");
    let mut conn = PgConnection::connect(url.as_str()).await.expect("a Postgres to test on");
    sqlx::raw_sql(AssertSqlSafe(format!("create database {name}")))
        .execute(&mut conn)
        .await
        .expect("the right to make databases");
    url.set_path(&name);
    let pool = PgPool::connect(url.as_str()).await.expect("the new database");
    sqlx::migrate!("./migrations").run(&pool).await.expect("the migrations apply");
    pool
}
