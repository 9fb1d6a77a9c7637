//! Takes connections and speaks HTTP/1 on them, within limits that an honest client never meets.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::{Extension, Router};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::action::Peer;

/// Connections at a time; more wait to be taken.
const MOST_CONNECTIONS: usize = 128;
/// How long a client may take to send the head of a request, the wait between two requests included.
const LONGEST_HEAD: Duration = Duration::from_secs(15);
/// How much the head of a request may hold.
const HEAD_BYTES: usize = 16 * 1024;
/// How many headers a request may have.
const HEADERS: usize = 64;
/// A pause after a connection could not be taken, as where file descriptors have run out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// Serves until told to stop; connections are tasks of their own.
pub(super) async fn serve(listener: TcpListener, router: Router, tasks: TaskTracker, stop: CancellationToken) {
    let seats = Arc::new(Semaphore::new(MOST_CONNECTIONS));
    loop {
        let next = async {
            let seat = Arc::clone(&seats).acquire_owned().await.expect("the semaphore is never closed");
            (seat, listener.accept().await)
        };
        let (seat, accepted) = tokio::select! {
            biased;
            () = stop.cancelled() => return,
            next = next => next,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::debug!(%error, "cannot take a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let (router, stop) = (router.clone().layer(Extension(Peer(peer))), stop.clone());
        tasks.spawn(async move {
            if let Err(error) = converse(stream, router, stop).await {
                tracing::debug!(%error, "a connection ended badly");
            }
            drop(seat);
        });
    }
}

async fn converse(stream: TcpStream, router: Router, stop: CancellationToken) -> hyper::Result<()> {
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(LONGEST_HEAD)
        .max_buf_size(HEAD_BYTES)
        .max_headers(HEADERS)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    let mut connection = pin!(connection);
    tokio::select! {
        biased;
        () = stop.cancelled() => {}
        ended = connection.as_mut() => return ended,
    }
    connection.as_mut().graceful_shutdown();
    connection.await
}
