//! Receives impact.com's word that a job has ended (impact-api §3.6). It is a hint and no more: the jobs it names are looked
//! at sooner, through the API; nothing that it says is kept, believed or followed.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use axum::body::{Body, to_bytes};
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, RawQuery, State};
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse, Response};
use memchr::memmem;
use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest as _, Sha256};
use sqlx::{Connection, PgPool};
use url::form_urlencoded;

use super::{Face, Mirror, answer};
use crate::error_chain::Chain;
use crate::failpoint;
use crate::store;
use crate::store::hint::Followed;

/// How much a postback may hold.
const MOST_BYTES: usize = 64 * 1024;
/// How many may come at once, and in a minute.
const MOST_PER_MINUTE: f64 = 60.0;

/// Whom postbacks are taken from, and how many.
#[derive(Debug)]
pub(super) struct Door {
    secret: SecretString,
    seats: Mutex<Seats>,
}

impl Door {
    /// Opens to those who know `secret`.
    pub(super) fn new(secret: SecretString) -> Self {
        Self { secret, seats: Mutex::new(Seats { left: MOST_PER_MINUTE, at: Instant::now() }) }
    }

    /// Whether `told` is the secret. Takes as long for a good guess as for a bad one: hashes are compared, and whole.
    fn knows(&self, told: &str) -> bool {
        let (ours, theirs) = (Sha256::digest(self.secret.expose_secret()), Sha256::digest(told));
        ours.iter().zip(theirs.iter()).fold(0, |differing, (a, b)| differing | (a ^ b)) == 0
    }

    fn has_room(&self, now: Instant) -> bool {
        self.seats.lock().unwrap_or_else(PoisonError::into_inner).take(now)
    }
}

/// The postbacks that may come now; a minute brings back as many as a minute may bring.
#[derive(Debug)]
struct Seats {
    left: f64,
    at: Instant,
}

impl Seats {
    fn take(&mut self, now: Instant) -> bool {
        let back = now.saturating_duration_since(self.at).as_secs_f64() * MOST_PER_MINUTE / 60.0;
        self.left = (self.left + back).min(MOST_PER_MINUTE);
        self.at = now;
        let has_room = self.left >= 1.0;
        if has_room {
            self.left -= 1.0;
        }
        has_room
    }
}

/// `/postback/{secret}`: 404 to who does not know the secret, whatever they ask.
pub(super) async fn receive(
    State(face): State<Arc<Face>>,
    method: Method,
    told: Result<Path<String>, PathRejection>,
    RawQuery(query): RawQuery,
    body: Body,
) -> Response {
    let door = face.postbacks.get().filter(|door| told.is_ok_and(|Path(told)| door.knows(&told)));
    let Some(door) = door else { return answer::not_found().await };
    if method != Method::GET && method != Method::POST {
        return (StatusCode::METHOD_NOT_ALLOWED, "a postback is a GET or a POST\n").into_response();
    }
    if !door.has_room(Instant::now()) {
        return (StatusCode::TOO_MANY_REQUESTS, "too many postbacks\n").into_response();
    }
    let Ok(body) = to_bytes(body, MOST_BYTES).await else {
        return (StatusCode::PAYLOAD_TOO_LARGE, "a postback holds at most 64 KiB\n").into_response();
    };
    let Some(Mirror { pool, .. }) = face.mirror.get() else {
        return (StatusCode::SERVICE_UNAVAILABLE, "starting\n").into_response();
    };
    let text = Text::of(&[query.unwrap_or_default().as_bytes(), &body]);
    match hurry(&pool, &text).await {
        Ok(()) => StatusCode::NO_CONTENT.into_response(),
        Err(error) => {
            tracing::warn!(error = %Chain(&error), "a postback could not be acted on; the job is looked at in its turn");
            (StatusCode::SERVICE_UNAVAILABLE, "the database does not answer\n").into_response()
        }
    }
}

/// Has the jobs that are named looked at now; where none of ours is, all that wait.
async fn hurry(pool: &PgPool, text: &Text) -> Result<(), store::Error> {
    let mut conn = pool.acquire().await.map_err(store::failed("get a connection"))?;
    let mut tx = conn.begin().await.map_err(store::failed("begin"))?;
    let followed = store::hint::followed(&mut tx).await?;
    let jobs = meant(&followed, text);
    if !jobs.is_empty() && store::hint::hurry(&mut tx, &jobs).await? > 0 {
        store::wake::notify(&mut tx).await?;
    }
    failpoint::reach("hint-written");
    tx.commit().await.map_err(store::failed("commit a hint"))?;
    failpoint::reach("hint-committed");
    tracing::debug!(job_count = jobs.len(), "a postback came");
    Ok(())
}

/// The waiting jobs that a postback is about. One that names a job which is past waiting is a repeat and about none.
fn meant(followed: &[Followed], text: &Text) -> Vec<i64> {
    let named: Vec<&Followed> = followed.iter().filter(|one| text.names(&one.remote_job_id)).collect();
    let about = if named.is_empty() { followed.iter().collect() } else { named };
    about.into_iter().filter(|one| one.is_waiting).map(|one| one.job_id).collect()
}

/// All that a postback says, in lower case, as it came and with form encoding undone. Nobody reads its structure: the
/// names of its fields are unknown, and an id is one wherever it stands (impact-api §9, 35).
struct Text(Vec<u8>);

impl Text {
    fn of(parts: &[&[u8]]) -> Self {
        let mut text = Vec::new();
        for part in parts {
            text.extend_from_slice(part);
            for (name, value) in form_urlencoded::parse(part) {
                text.push(b'\n');
                text.extend_from_slice(name.as_bytes());
                text.push(b'\n');
                text.extend_from_slice(value.as_bytes());
            }
            text.push(b'\n');
        }
        text.make_ascii_lowercase();
        Self(text)
    }

    fn names(&self, remote_job_id: &str) -> bool {
        !remote_job_id.is_empty() && memmem::find(&self.0, remote_job_id.to_ascii_lowercase().as_bytes()).is_some()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const ID: &str = "18edc7d5-0000-4000-8000-cd351635ebd9";

    #[test]
    fn an_id_is_found_wherever_it_stands() {
        for text in [
            format!("anything={ID}"),
            format!("u=%2FAdvertisers%2FIR1%2FJobs%2F{ID}%2FDownload"),
            format!("id={}", ID.replace('-', "%2D")),
            format!("{{\"a\":[{{\"b\":\"/Jobs/{ID}\"}}]}}"),
            format!("<Job><Id>{}</Id></Job>", ID.to_uppercase()),
        ] {
            assert!(Text::of(&[text.as_bytes()]).names(ID), "{text}");
            assert!(Text::of(&[b"", text.as_bytes()]).names(ID), "{text}");
        }
        assert!(!Text::of(&[&ID.as_bytes()[1..]]).names(ID));
    }

    #[test]
    fn a_postback_is_about_the_jobs_it_names_or_else_about_all_that_wait() {
        let followed = |job_id, remote_job_id: &str, is_waiting| Followed {
            job_id,
            remote_job_id: remote_job_id.to_owned(),
            is_waiting,
        };
        let jobs = [followed(1, "first", true), followed(2, "second", true), followed(3, "third", false)];
        let meant = |text: &str| meant(&jobs, &Text::of(&[text.as_bytes()]));
        assert_eq!(meant("id=second"), [2]);
        assert_eq!(meant("id=third"), [0; 0], "a repeat");
        assert_eq!(meant("id=unknown"), [1, 2]);
    }

    #[test]
    fn a_minute_has_sixty_seats() {
        let now = Instant::now();
        let door = Door::new(SecretString::from("0123456789abcdef"));
        assert!((0..60).all(|_| door.has_room(now)) && !door.has_room(now));
        let later = now + Duration::from_millis(2500);
        assert!(door.has_room(later) && door.has_room(later) && !door.has_room(later));
    }

    #[test]
    fn only_the_whole_secret_opens() {
        let door = Door::new(SecretString::from("0123456789abcdef"));
        assert!(door.knows("0123456789abcdef"));
        for told in ["", "0123456789abcde", "0123456789abcdeF", "0123456789abcdef0"] {
            assert!(!door.knows(told), "{told}");
        }
    }
}
