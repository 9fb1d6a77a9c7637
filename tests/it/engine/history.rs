//! Superseded versions of rows that impact.com restates.

use impact_mirror::app::SyncEnd;

use super::truth::assert_mirrored;
use super::world::{World, actions, clicks};

/// All that rows hold, as text.
fn rows(of: &str) -> String {
    format!("select to_jsonb(t)::text from {of} t order by 1")
}

#[tokio::test]
async fn a_restated_export_is_known_as_it_was_at_each_reading() {
    let world = World::new().await;
    let settings = world.settings(&(actions(30) + "history = true\n" + &clicks(2) + "history = true\n"));
    let mut known = Vec::new();
    for _ in 0..3 {
        world.request_refresh_of_all(&settings).await;
        assert_eq!(world.sync(&settings).await.end, SyncEnd::Done, "{:#?}", world.jobs().await);
        assert_mirrored(&world, &settings).await;
        for table in ["impact.actions", "impact.clicks"] {
            let at = world.value("select clock_timestamp()::text").await;
            known.push((table, at, world.query(rows(table)).await));
        }
        world.pass_days(4);
    }
    assert_ne!(known[0].2, known[2].2, "nothing was restated");
    for (table, at, rows_then) in &known {
        assert_eq!(world.query(rows(&format!("{table}_as_known('{at}')"))).await, *rows_then, "{table} at {at}");
    }
    let lost = "select count(*)::text from impact.actions_history h \
                where not exists (select 1 from impact_mirror.load l where l.id = h._load_id and l.job_id is not null) \
                   or not exists (select 1 from impact_mirror.load l where l.id = h._superseded_by and l.id > h._load_id)";
    assert_eq!(world.value(lost).await, "0", "each version leads to its load and to the one that replaced it");
    assert_ne!(world.value("select count(*)::text from impact.actions_history").await, "0");
    let since = "select concat_ws(' ', history_since is not null, history_since < (select min(_changed_at) from impact.actions)) \
                 from impact_mirror.export where name = 'actions'";
    assert_eq!(world.value(since).await, "t t");

    let off = world.settings(&actions(30));
    world.request_refresh_of_all(&off).await;
    let before = world.value("select count(*)::text from impact.actions_history").await;
    assert_eq!(world.sync(&off).await.end, SyncEnd::Done);
    assert_eq!(world.value("select count(*)::text from impact.actions_history").await, before);
    assert_eq!(
        world.value("select history_since::text from impact_mirror.export where name = 'actions'").await,
        "NULL"
    );
}
