//! How far a sync or a reload is: a bar on a terminal, now and then a line elsewhere.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use crate::app::ReloadProgress;
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
        Self { bar: bar("windows"), last_line: Instant::now(), shown: Progress::default() }
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

/// Shows on stderr how far a reload is.
pub(super) struct FileDisplay {
    bar: Option<ProgressBar>,
    last_line: Option<Instant>,
}

impl FileDisplay {
    pub fn new() -> Self {
        Self { bar: bar("files"), last_line: None }
    }

    pub fn show(&mut self, progress: &ReloadProgress) {
        let mut words = format!("{} rows", thousands(progress.rows));
        if let Some(job) = progress.waits_for {
            words = format!("{words}, waits for job {} ({})", job.id, job.state);
        }
        let total = progress.files + progress.left;
        if let Some(bar) = &self.bar {
            bar.set_length(total);
            bar.set_position(progress.files);
            bar.set_message(words);
        } else if self.last_line.is_none_or(|last| last.elapsed() >= LINE_EVERY) {
            eprintln!("  {} of {total} files, {words}", progress.files);
            self.last_line = Some(Instant::now());
        }
    }

    pub fn clear(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// A bar, where somebody may see it.
fn bar(what: &str) -> Option<ProgressBar> {
    std::io::stderr().is_terminal().then(|| {
        let bar = ProgressBar::new(0);
        let style = ProgressStyle::with_template(&format!("  {{bar:32}} {{pos}}/{{len}} {what}  {{msg}}  {{elapsed}}"));
        bar.set_style(style.expect("the template is right"));
        bar
    })
}
