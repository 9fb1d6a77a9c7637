//! Postbacks: tells a URL that a job has ended, as the account's event notifications would.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::job::JobStatus;
use super::world::World;

const TRIES: u32 = 3;

/// Sends what the ended job is due: nothing, one postback or two.
pub async fn send(world: &Arc<World>, id: &str) {
    let Some(template) = &world.options.postback_url else { return };
    let Some(job) = world.jobs().get(id).cloned() else { return };
    let Some(persona) = world.account(&job.sid).map(|account| account.persona) else { return };
    let mode = world.behaviours().get("postbacks");
    if job.status != JobStatus::Completed && mode != "also_failures" {
        return;
    }
    let url = template
        .replace("{JobId}", &job.id)
        .replace("{Status}", job.status.word())
        .replace("{Type}", job.kind.word())
        .replace("{ResultUri}", &format!("{}/Download", job.uri(persona)));
    for _ in 0..if mode == "duplicates" { 2 } else { 1 } {
        for pause_ms in (0..TRIES).map(|attempt| 100 << attempt) {
            if get(&url).await.is_some_and(|status| (200..300).contains(&status)) {
                break;
            }
            tokio::time::sleep(Duration::from_millis(pause_ms)).await;
        }
    }
}

/// A GET in its simplest form: the status is all that matters.
async fn get(url: &str) -> Option<u16> {
    let rest = url.strip_prefix("http://")?;
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    let exchange = async {
        let mut stream = TcpStream::connect(host).await.ok()?;
        let request = format!("GET /{path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.ok()?;
        let mut reply = Vec::new();
        stream.take(1024).read_to_end(&mut reply).await.ok()?;
        String::from_utf8_lossy(&reply).split(' ').nth(1)?.parse().ok()
    };
    tokio::time::timeout(Duration::from_secs(10), exchange).await.ok()?
}
