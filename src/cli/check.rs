//! `check`: a line each, with the mend.

use std::path::Path;

use super::Exit;
use crate::app::check::{Line, Verdict, check as look};
use crate::config::{self, DatabaseUrl};
use crate::figures::counted;
use crate::store;

pub(super) async fn check(path: Option<&Path>) -> anyhow::Result<Exit> {
    let settings = config::load(path)?;
    if let DatabaseUrl::Url(url) = &settings.database.url {
        store::connect_options(url)?;
    }
    let (accounts, exports) = (settings.accounts.len(), settings.exports.len());
    print(&Line::good("configuration", format!("{}, {}", counted(accounts, "account"), counted(exports, "export"))));
    let lines = look(&settings).await;
    lines.iter().for_each(print);
    let is_bad = lines.iter().any(|line| line.verdict == Verdict::Bad);
    Ok(if is_bad { Exit::Failed } else { Exit::Done })
}

fn print(line: &Line) {
    let mark = match line.verdict {
        Verdict::Good => "ok  ",
        Verdict::Warning => "look",
        Verdict::Bad => "BAD ",
    };
    say!("{mark}  {}: {}", line.what, line.found);
    if line.verdict != Verdict::Good && !line.mend.is_empty() {
        say!("      → {}", line.mend);
    }
}
