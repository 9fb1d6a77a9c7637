//! `generate`, which the help does not list: man pages and completions of shells, made from the definition of the commands.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::{Args, CommandFactory};
use clap_complete::Shell;

use super::{Cli, Exit};

#[derive(Debug, Args)]
pub(super) struct Options {
    /// Where to write them
    #[arg(value_name = "DIR")]
    dir: PathBuf,
}

pub(super) fn generate(options: &Options) -> anyhow::Result<Exit> {
    let dir = &options.dir;
    let failed = || format!("cannot write into {}", dir.display());
    std::fs::create_dir_all(dir).with_context(failed)?;
    clap_mangen::generate_to(Cli::command(), dir).with_context(failed)?;
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        clap_complete::generate_to(shell, &mut Cli::command(), "impact-mirror", dir).with_context(failed)?;
    }
    Ok(Exit::Done)
}
