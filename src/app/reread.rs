//! When the configuration is read anew: on SIGHUP, and where that is wanted, when its file or a file of a secret has changed.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::config::{self, Keys, Settings};
use crate::thread::finished;

/// How often it is looked for a change. A change counts once it was seen twice in a row: a file may be half written.
const LOOK: Duration = Duration::from_secs(5);
/// When a configuration that is good, but could not be applied, is tried again.
const AGAIN: Duration = Duration::from_secs(15);

/// The file of a running daemon's configuration.
#[derive(Debug)]
pub struct ConfigFile {
    path: PathBuf,
    hangup: Signal,
    tried: Seen,
    seen: Option<Seen>,
    try_again: bool,
}

/// What a reading came to, for comparing.
type Seen = Result<Keys, String>;

/// A reading that is to be applied.
#[derive(Debug)]
pub(super) struct Reading {
    /// What brought it about.
    pub why: &'static str,
    /// What the file says.
    pub settings: Result<Settings, config::Error>,
}

impl ConfigFile {
    /// Loads the configuration from `path` or a default place, and keeps the place in mind. From here on SIGHUP does not end the
    /// process.
    pub fn load(path: Option<&Path>) -> anyhow::Result<(Settings, Self)> {
        let hangup = signal(SignalKind::hangup())?;
        let path = config::find(path)?;
        let settings = config::load(Some(&path))?;
        let tried = Ok(settings.keys());
        Ok((settings, Self { path, hangup, tried, seen: None, try_again: false }))
    }

    /// Waits until the configuration is to be read anew, and reads it. May be dropped at any time.
    pub(super) async fn next(&mut self, running: &Settings) -> Reading {
        loop {
            let pause = if self.try_again { AGAIN } else { LOOK };
            let is_watched = running.reload_on_change || self.try_again;
            let was_told = tokio::select! {
                biased;
                told = self.hangup.recv() => told.is_some(),
                () = tokio::time::sleep(pause), if is_watched => false,
            };
            let settings = self.read().await;
            let now = seen(&settings);
            let is_settled = self.seen.replace(now.clone()).is_some_and(|before| before == now);
            let is_news = is_settled && now != self.tried && running.reload_on_change;
            let why = match (was_told, self.try_again, is_news) {
                (true, _, _) => "SIGHUP",
                (false, true, _) => "another try",
                (false, false, true) => "a file has changed",
                (false, false, false) => continue,
            };
            self.tried = now;
            self.try_again = false;
            return Reading { why, settings };
        }
    }

    /// Has what was read last tried again after a while, though it has not changed.
    pub(super) fn try_again(&mut self) {
        self.try_again = true;
    }

    async fn read(&self) -> Result<Settings, config::Error> {
        let path = self.path.clone();
        finished(tokio::task::spawn_blocking(move || config::load(Some(&path)))).await
    }
}

fn seen(settings: &Result<Settings, config::Error>) -> Seen {
    settings.as_ref().map(Settings::keys).map_err(|error| crate::error_chain::Chain(error).to_string())
}
