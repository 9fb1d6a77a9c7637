//! Whether the daemon works: asked by its own process for the service manager, and by another over HTTP.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{Face, reachable};
use crate::pulse::Why;
use crate::store;

/// How long the database may take to answer a probe.
pub(super) const PATIENCE: Duration = Duration::from_secs(3);
/// How long a daemon may take to say how it does.
const ANSWER: Duration = Duration::from_secs(8);
/// The longest answer that is read.
const LONGEST: u64 = 64 * 1024;

/// What a process is to be done with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// The engine is not there yet.
    Starting,
    /// It goes on, or would if its database were there.
    Works,
    /// It does not go on; a restart mends that.
    Stuck,
}

/// How the daemon of this process does.
#[derive(Debug, Clone)]
pub struct Health {
    pub(super) face: Arc<Face>,
}

impl Health {
    /// Its state, with a word for people: all loops of the engine go round, or which do not. Loops that go round and fail,
    /// for the database is away, are for `readyz` to tell: a restart would bring back no database.
    pub async fn ask(&self) -> (State, String) {
        let mirror = self.face.mirror.get();
        let late = mirror.as_ref().map_or(&self.face.start, |mirror| &mirror.pulse).late(Instant::now());
        if late.is_empty() && mirror.is_none() {
            return (State::Starting, "starting\n".to_owned());
        }
        if late.is_empty() {
            let words = self.face.configuration.now().words();
            return (State::Works, words.map_or_else(|| "ok\n".to_owned(), |words| format!("ok; {words}\n")));
        }
        let fail_only = late.iter().all(|late| matches!(late.why, Why::Failing(_)));
        if let (true, Some(mirror)) = (fail_only, &mirror)
            && store::is_away(&mirror.pool, PATIENCE).await
        {
            return (State::Works, "the database is away\n".to_owned());
        }
        (State::Stuck, late.iter().fold(String::new(), |text, late| format!("{text}{late}\n")))
    }
}

/// Asks the daemon that listens on `listen` how it does: its own words, or why they are no good.
pub async fn ask(listen: SocketAddr) -> Result<String, String> {
    let addr = reachable(listen);
    let answer = tokio::time::timeout(ANSWER, get(addr)).await;
    let answer = answer.map_err(|_| {
        format!(
            "no answer from http://{addr}/healthz within {} s: the daemon hangs; look into its log",
            ANSWER.as_secs()
        )
    })?;
    let answer = answer.map_err(|error| {
        format!("no answer from http://{addr}/healthz: {error}; look whether `impact-mirror run` is up with this http.listen")
    })?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let status = head.lines().next().and_then(|line| line.strip_prefix("HTTP/1.1 "));
    match status {
        Some(status) if status.starts_with("200 ") => Ok(body.to_owned()),
        Some(status) => Err(format!(
            "http://{addr}/healthz answered {status}: {}; look into the daemon's log, then restart it",
            body.trim_end()
        )),
        None => Err(format!("what listens on {addr} is no daemon of ours; look at http.listen")),
    }
}

async fn get(addr: SocketAddr) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(addr).await?;
    let request = format!("GET /healthz HTTP/1.1\r\nHost: {addr}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.take(LONGEST).read_to_end(&mut answer).await?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}
