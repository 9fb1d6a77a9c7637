//! A new version on the database of an old one.

use std::path::Path;

use sqlx::migrate::Migrator;

use super::*;

/// The schema as it was, in a database that is empty yet.
async fn migrate_to(scene: &Scene, version: i64) {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations");
    let mut migrator = Migrator::new(directory).await.unwrap();
    migrator.dangerous_set_table_name("impact_mirror._sqlx_migrations");
    migrator.create_schema("impact_mirror");
    migrator.run_to(version, scene.pool()).await.unwrap();
}

#[tokio::test]
async fn migrations_give_way_to_who_reads_what_they_change() {
    let scene = actions_alone(QUICK).await;
    migrate_to(&scene, 5).await;
    let mut conn = scene.pool().acquire().await.unwrap();
    let mut reading = conn.begin().await.unwrap();
    // A little earlier than usual, so that it would be the reader who is ended.
    sqlx::query("set local deadlock_timeout = '700ms'").execute(&mut *reading).await.unwrap();
    sqlx::query("select from impact_mirror.job").execute(&mut *reading).await.unwrap();
    let mut migrate = scene.start(&["migrate"]);
    scene.until(&blocked(1)).await;
    // The migration has changed cells and waits for jobs. Who has read jobs wants cells next.
    sqlx::query("select from impact_mirror.cell").execute(&mut *reading).await.unwrap();
    reading.commit().await.unwrap();
    assert_eq!(migrate.exit_code().await, Some(0), "{}", migrate.log());
    let done: i64 = scene.value("select max(version) from impact_mirror._sqlx_migrations where success").await;
    assert!(done > 5, "{done}");
}
