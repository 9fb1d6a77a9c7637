//! Tells open pages when there is something new: one small event, the same for all, whereupon they fetch themselves anew. However
//! many look, the database is read once.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use tokio::sync::Semaphore;

use super::snapshot::Snapshots;
use super::{Face, Mirror};

/// Pages that are told at a time; others refresh by hand. Connections are 128, so that there is always room for more than these.
const MOST: usize = 96;
/// How often it is looked.
const EVERY: Duration = Duration::from_secs(2);

/// The seats of those who are told.
#[derive(Debug)]
pub(super) struct Seats(Arc<Semaphore>);

impl Default for Seats {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(MOST)))
    }
}

/// `/events`: the mark of the snapshot now, then whenever it changes.
pub(super) async fn events(State(face): State<Arc<Face>>) -> Response {
    let Ok(seat) = Arc::clone(&face.seats.0).try_acquire_owned() else {
        return (StatusCode::SERVICE_UNAVAILABLE, "too many pages are told already\n").into_response();
    };
    let marks = stream::unfold((face, None, seat), |(face, told, seat)| async move {
        loop {
            let mark = mark(&face).await;
            if mark != told
                && let Some(mark) = mark
            {
                let event = Event::default().event("changed").data(format!("{mark:016x}"));
                return Some((Ok::<_, Infallible>(event), (face, Some(mark), seat)));
            }
            tokio::select! {
                biased;
                () = face.stop.cancelled() => return None,
                () = tokio::time::sleep(EVERY) => {}
            }
        }
    });
    Sse::new(marks).keep_alive(KeepAlive::new().interval(Duration::from_secs(20))).into_response()
}

async fn mark(face: &Arc<Face>) -> Option<u64> {
    let Mirror { pool, .. } = face.mirror.get()?;
    let snapshot = Snapshots::shown(face, &pool).await.ok()?;
    Some(face.configuration.now().mark(snapshot.mark))
}
