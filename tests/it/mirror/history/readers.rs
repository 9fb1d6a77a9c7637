//! Those who read versions: by which way, and what holds them up.

use std::time::Duration;

use super::*;

#[tokio::test]
async fn the_table_as_known_is_read_by_its_indexes() {
    let mut mirror = keyed().await;
    mirror.load(FIRST).await;
    let plan = mirror
        .query("explain (costs off) select id from impact.actions_as_known(now()) where _account = 'acme' and id = 1")
        .await;
    assert!(plan.iter().all(|line| !line.contains("Function Scan")), "{plan:#?}");
    let mut conn = mirror.pool.acquire().await.unwrap();
    sqlx::raw_sql("set enable_seqscan = off").execute(&mut *conn).await.unwrap();
    let plan: Vec<String> = sqlx::query_scalar(
        "explain (costs off) select id from impact.actions_as_known(now()) where _account = 'acme' and id = 1",
    )
    .fetch_all(&mut *conn)
    .await
    .unwrap();
    let plan = plan.join("\n");
    assert!(plan.contains("actions_key") && plan.contains("actions_history_key"), "{plan}");
}

#[tokio::test]
async fn a_column_becomes_wider_once_the_readers_of_all_versions_are_done() {
    let mut mirror = keyed().await;
    mirror.load(FIRST).await;
    mirror.load(SECOND).await;
    let mut reader = mirror.pool.begin().await.unwrap();
    sqlx::raw_sql("set local lock_timeout = '20s'; select from impact.actions_versions")
        .execute(&mut *reader)
        .await
        .unwrap();
    let load = mirror.load(SECOND.replace("PENDING,7", "PENDING,seven"));
    let reading = async {
        // Whoever reads again while the change waits is not held up for long, and not ended.
        for _ in 0..6 {
            tokio::time::sleep(Duration::from_millis(300)).await;
            sqlx::raw_sql("select from impact.actions_versions; select from impact.actions_as_known(now()); select from impact.actions")
                .execute(&mut *reader)
                .await
                .unwrap();
        }
        reader.rollback().await.unwrap();
    };
    let (report, ()) =
        tokio::time::timeout(Duration::from_mins(1), async { tokio::join!(load, reading) }).await.unwrap();
    assert_eq!(counts(&report)[1], 1);
    assert_eq!(
        mirror.query("select amount from impact.actions_versions where id = 4 order by _valid_from").await,
        ["7", "seven"]
    );
}

#[tokio::test]
async fn those_who_keep_reading_all_versions_while_columns_become_wider_are_never_in_a_deadlock() {
    let mut mirror = keyed().await;
    let file = |words: usize| {
        let values: Vec<_> = (0..5).map(|column| if column < words { "word" } else { "1" }).collect();
        format!("Id,Day,A,B,C,D,E\n1,2026-05-01,{}\n", values.join(","))
    };
    mirror.load(file(0)).await;
    let pool = mirror.pool.clone();
    let stop = tokio_util::sync::CancellationToken::new();
    let readers: Vec<_> = (0..3)
        .map(|_| {
            let (pool, stop) = (pool.clone(), stop.clone());
            tokio::spawn(async move {
                while !stop.is_cancelled() {
                    let statement = "select count(*) from impact.actions_versions";
                    sqlx::query_scalar::<_, i64>(statement).persistent(false).fetch_one(&pool).await.unwrap();
                }
            })
        })
        .collect();
    for words in 1..=5 {
        mirror.load(file(words)).await;
    }
    stop.cancel();
    for reader in readers {
        reader.await.unwrap();
    }
    assert_eq!(superseded(&mirror, "id").await.len(), 5);
}
