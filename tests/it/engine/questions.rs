//! The questions under `deploy/questions`, asked for real.

use std::fs;
use std::path::Path;

use impact_mirror::app::SyncEnd;
use sqlx::{AssertSqlSafe, Row as _};

use super::world::{World, actions, clicks};

#[tokio::test]
async fn every_question_has_a_title_and_an_answer() {
    let world = World::new().await;
    let settings = world.settings(&(actions(9) + &clicks(4)));
    assert_eq!(world.sync(&settings).await.end, SyncEnd::Done, "{:#?}", world.jobs().await);
    world.pass_days(6);
    world.request_refresh_of_all(&settings).await;
    world.sync_in_a_hurry(&settings).await;
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/questions");
    let mut asked = 0;
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "sql") {
            continue;
        }
        let text = fs::read_to_string(&path).unwrap();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let (title, rest) = text.split_once('\n').unwrap();
        assert!(title.starts_with("-- Title: ") && title.ends_with('?'), "{name}: {title}");
        assert!(rest.starts_with("-- One row is "), "{name} does not say what a row is");
        let rows = sqlx::query(AssertSqlSafe(text.clone())).fetch_all(world.pool()).await;
        let rows = rows.unwrap_or_else(|error| panic!("{name}: {error}"));
        assert!(!rows.is_empty(), "{name} has no answer");
        assert!(rows[0].len() > 1, "{name}");
        asked += 1;
    }
    assert_eq!(asked, 8);
}
