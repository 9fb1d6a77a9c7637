//! `plan`: the next 24 hours call by call, what waits, and when each backfill ends. Calls nothing and changes nothing.

mod view;
mod words;

use std::path::Path;

use sqlx::Connection;

use super::{Exit, open, scope};
use crate::app::{self, Database};
use crate::config::{self, Settings};
use crate::store;
use crate::telemetry::Form;
use view::View;

pub(super) use words::Length;

pub(super) async fn plan(
    path: Option<&Path>,
    exports: &[String],
    changes: &[String],
    length: Length,
    form: Form,
) -> anyhow::Result<Exit> {
    let settings = config::load(path)?;
    let tried = if changes.is_empty() { None } else { Some(config::load_with(path, changes)?) };
    let scope = scope(&settings, exports)?;
    let database = open(&settings).await?;
    let views = async {
        let before = look(&settings, &database, scope.clone()).await?;
        let after = match &tried {
            Some(tried) => Some(look(tried, &database, scope).await?),
            None => None,
        };
        anyhow::Ok((before, after))
    };
    let views = views.await;
    database.close().await?;
    match (views?, form) {
        ((view, None), Form::Json) => say!("{:#}", view.json()),
        ((view, None), Form::Text) => words::print(&view, length),
        ((before, Some(after)), Form::Json) => {
            say!("{:#}", serde_json::json!({"before": before.json(), "after": after.json()}));
        }
        ((before, Some(after)), Form::Text) => words::compare(&before, &after, changes),
    }
    Ok(Exit::Done)
}

/// Looks ahead with these settings: what they come to is read in a transaction that is rolled back before anything is made
/// of it, for settings that the database does not hold yet keep others from the ledger meanwhile.
async fn look(settings: &Settings, database: &Database, scope: app::Scope) -> anyhow::Result<View> {
    let mut conn = database.pool().acquire().await?;
    let mut tx = conn.begin().await?;
    store::current::sync_if_other(&mut tx, settings).await?;
    let planner = app::planner(database.pool(), settings, scope);
    let outlook = planner.outlook(&mut tx).await?;
    let now = outlook.now;
    let drops = app::retention::foresee(&mut tx, settings, &planner.exports, now).await?;
    let undiscovered = store::configured::without_feeds(&mut tx, &planner.exports).await?;
    let quota = store::status::quota(&mut tx).await?;
    let paused = store::account::paused(&mut tx).await?;
    tx.rollback().await?;
    let accounts = settings.accounts.keys().cloned().collect();
    Ok(View::new(outlook.forecasts(), now, accounts, quota, paused, undiscovered).with_drops(drops))
}
