//! A daemon in this process, on threads of its own: it can be stopped, and it can die between any two steps of its tasks.

use std::sync::Once;
use std::sync::atomic::{AtomicUsize, Ordering};

use impact_mirror::app;
use impact_mirror::config::Settings;
use impact_mirror::error_chain::Chain;
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// What the names of their threads begin with.
const THREAD: &str = "replica";

static PANICS: AtomicUsize = AtomicUsize::new(0);

/// Panics of all replicas so far.
pub fn panics() -> usize {
    PANICS.load(Ordering::Relaxed)
}

fn count_panics() {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if std::thread::current().name().is_some_and(|name| name.starts_with(THREAD)) {
                PANICS.fetch_add(1, Ordering::Relaxed);
            }
            usual(panic);
        }));
    });
}

/// A running daemon.
pub struct Replica {
    runtime: Option<Runtime>,
    stop: CancellationToken,
    running: JoinHandle<()>,
}

impl Replica {
    pub fn start(settings: &Settings) -> Self {
        count_panics();
        let runtime = Builder::new_multi_thread().worker_threads(1).thread_name(THREAD).enable_all().build().unwrap();
        let (stop, settings) = (CancellationToken::new(), settings.clone());
        let running = runtime.spawn(keep_running(settings, stop.clone()));
        Self { runtime: Some(runtime), stop, running }
    }

    /// Lets it end as a shutdown does.
    pub async fn stop(mut self) {
        self.stop.cancel();
        (&mut self.running).await.unwrap();
    }
}

impl Drop for Replica {
    /// It dies: every task ends where it stands, and every connection is closed.
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// What the service manager does: a daemon that ends by itself is started again.
async fn keep_running(settings: Settings, stop: CancellationToken) {
    while !stop.is_cancelled() {
        if let Err(error) = app::run(settings.clone(), None, stop.clone()).await {
            tracing::warn!(error = %Chain(error.as_ref()), "a replica ended");
            tokio::time::sleep(std::time::Duration::from_millis(300)).await;
        }
    }
}
