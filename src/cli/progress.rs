//! How far a sync is: a bar on a terminal, now and then a line elsewhere.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use crate::figures::thousands;
use crate::store::coverage::Progress;

/// Without a terminal, a line this often is enough.
const LINE_EVERY: Duration = Duration::from_secs(5);

/// Shows progress on stderr.
pub(super) struct Display {
    bar: Option<ProgressBar>,
    last_line: Instant,
    shown: Progress,
}

impl Display {
    pub fn new() -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::new(0);
            let style = ProgressStyle::with_template("  {bar:32} {pos}/{len} windows  {msg}  {elapsed}");
            bar.set_style(style.expect("the template is right"));
            bar
        });
        Self { bar, last_line: Instant::now(), shown: Progress::default() }
    }

    pub fn show(&mut self, progress: &Progress) {
        let total = progress.open + progress.loaded + progress.failed;
        let done = progress.loaded + progress.failed;
        let mut words = format!("{} rows", thousands(progress.rows));
        if progress.failed > 0 {
            words = format!("{words}, {} failed", progress.failed);
        }
        if let Some(bar) = &self.bar {
            bar.set_length(total.unsigned_abs());
            bar.set_position(done.unsigned_abs());
            bar.set_message(words);
        } else if *progress != self.shown && self.last_line.elapsed() >= LINE_EVERY {
            eprintln!("  {done} of {total} windows, {words}");
            self.last_line = Instant::now();
            self.shown = *progress;
        }
    }

    pub fn clear(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
