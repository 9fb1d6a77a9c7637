//! What the tests stand on.

pub mod black_hole;
pub mod cluster;
pub mod daemon;
pub mod database;
pub mod proxy;
pub mod small_disk;
pub mod state_dir;
pub mod truth;

/// Runs something on a thread of its own: a database that is dropped blocks it, and must not keep the others from what Postgres
/// waits for.
pub async fn on_a_thread<T: Send + 'static>(work: impl AsyncFnOnce() -> T + Send + 'static) -> Result<T, Panicked> {
    let runtime = tokio::runtime::Handle::current();
    tokio::task::spawn_blocking(move || runtime.block_on(work())).await.map_err(|_panicked| Panicked)
}

/// It said why on stderr.
#[derive(Debug)]
pub struct Panicked;
