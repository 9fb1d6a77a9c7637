//! `init`: a commented configuration to start from.

use std::io::Write as _;
use std::path::PathBuf;

use anyhow::Context as _;
use clap::Args;

use super::{Exit, Misuse};
use crate::config;

#[derive(Debug, Args)]
pub(super) struct Options {
    /// Where to write it; `-` prints it
    #[arg(long, default_value = "impact-mirror.toml", value_name = "FILE")]
    output: PathBuf,
}

pub(super) fn init(options: &Options) -> anyhow::Result<Exit> {
    if options.output.as_os_str() == "-" {
        say_as_is!("{}", config::EXAMPLE);
        return Ok(Exit::Done);
    }
    let shown = options.output.display();
    let mut file = match std::fs::File::create_new(&options.output) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            return Err(
                Misuse(format!("{shown} is there already; nothing was changed; name another with --output")).into()
            );
        }
        Err(error) => return Err(error).with_context(|| format!("cannot write {shown}")),
    };
    file.write_all(config::EXAMPLE.as_bytes()).with_context(|| format!("cannot write {shown}"))?;
    say!("Wrote {shown}. Put your account in, then:");
    say!("  impact-mirror check --config {shown}");
    say!("  impact-mirror plan  --config {shown}");
    say!("  impact-mirror sync  --config {shown}");
    Ok(Exit::Done)
}
