//! Takes connections and speaks HTTP/1 on them, within limits that an honest client never meets.

use std::io::{self, IoSlice};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::{Extension, Router};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::Sleep;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::action::Peer;

/// Connections at a time; more wait to be taken.
const MOST_CONNECTIONS: usize = 128;
/// How long a client may take to send the head of a request, the wait between two requests included.
const LONGEST_HEAD: Duration = Duration::from_secs(15);
/// How long a client may take to receive an answer, or a piece of one that goes on.
const LONGEST_SENDING: Duration = Duration::from_secs(30);
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
        .serve_connection(TokioIo::new(Sending::over(stream)), TowerToHyperService::new(router));
    let mut connection = pin!(connection);
    tokio::select! {
        biased;
        () = stop.cancelled() => {}
        ended = connection.as_mut() => return ended,
    }
    connection.as_mut().graceful_shutdown();
    connection.await
}

/// A connection that ends where the client does not receive what it asked for: else one that reads a byte now and then would keep
/// its seat for as long as it likes.
struct Sending<S> {
    stream: S,
    /// Since something could not be sent at once; until all of it is.
    until: Option<Pin<Box<Sleep>>>,
}

impl<S> Sending<S> {
    fn over(stream: S) -> Self {
        Self { stream, until: None }
    }

    /// What a write came to, or that the client has had its time.
    fn within<T>(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if written.is_pending() {
            let until = self.until.get_or_insert_with(|| Box::pin(tokio::time::sleep(LONGEST_SENDING)));
            ready!(until.as_mut().poll(cx));
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the client does not receive the answer")));
        }
        written
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Sending<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Sending<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.within(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, pieces);
        self.within(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    /// Asked once nothing is left to be written.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.until = None;
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};
    use tokio::time::Instant;

    use super::*;

    /// Sends so many bytes to a client that takes `bytes` of them every second; how that ended, and after how long.
    async fn sent(length: usize, bytes: usize) -> (Option<io::ErrorKind>, u64) {
        let (ours, theirs) = duplex(64);
        tokio::spawn(take(theirs, bytes));
        let began = Instant::now();
        let mut sending = Sending::over(ours);
        let ended = async {
            sending.write_all(&vec![0; length]).await?;
            sending.flush().await
        };
        (ended.await.err().map(|error| error.kind()), began.elapsed().as_secs())
    }

    async fn take(mut stream: DuplexStream, bytes: usize) {
        let mut taken = vec![0; bytes];
        loop {
            if bytes > 0 && stream.read_exact(&mut taken).await.is_err() {
                return;
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_is_received_in_time_or_not_at_all() {
        let in_time = LONGEST_SENDING.as_secs();
        assert_eq!(sent(10_000, 1000).await, (None, 9));
        assert_eq!(sent(10_000, 0).await, (Some(io::ErrorKind::TimedOut), in_time), "nothing is taken");
        assert_eq!(sent(10_000, 1).await, (Some(io::ErrorKind::TimedOut), in_time), "a byte a second");
    }

    #[tokio::test(start_paused = true)]
    async fn answers_one_after_the_other_have_their_time_each() {
        let (ours, theirs) = duplex(64);
        tokio::spawn(take(theirs, 100));
        let mut sending = Sending::over(ours);
        for _ in 0..5 {
            sending.write_all(&[0; 2000]).await.unwrap();
            sending.flush().await.unwrap();
        }
    }
}
