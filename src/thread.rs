//! Work that would hold up the runtime, on threads for such.

use tokio::task::JoinHandle;

/// What a thread came to; its panic goes on here. Where the runtime ends before the thread began there is nothing to come to,
/// and nobody left to wait for it.
pub async fn finished<T>(thread: JoinHandle<T>) -> T {
    match thread.await.map_err(tokio::task::JoinError::try_into_panic) {
        Ok(value) => value,
        Err(Ok(panic)) => std::panic::resume_unwind(panic),
        Err(Err(_cancelled)) => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn a_panic_goes_on_and_a_cancelled_thread_is_waited_for() {
        let thread = tokio::task::spawn_blocking(|| 7);
        assert_eq!(finished(thread).await, 7);
        let panics = tokio::spawn(finished(tokio::task::spawn_blocking(|| -> u8 { panic!("on purpose") })));
        assert!(panics.await.unwrap_err().is_panic());
        let cancelled = tokio::spawn(std::future::pending::<u8>());
        cancelled.abort();
        assert!(tokio::time::timeout(Duration::from_millis(50), finished(cancelled)).await.is_err());
    }
}
