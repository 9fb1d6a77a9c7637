//! `init`: a commented configuration to start from, made of what the account says where a credential is given.

mod words;

use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use chrono::NaiveDate;
use chrono_tz::Tz;
use clap::{Args, ValueEnum};

use super::{Exit, Misuse, ask};
use crate::account::Persona;
use crate::app::init::{self as app_init, TokenPlace, Wishes};
use crate::clock::Clock;
use crate::config;

#[derive(Debug, Args)]
pub(super) struct Options {
    /// Where to write it; `-` prints it
    #[arg(long, default_value = "impact-mirror.toml", value_name = "FILE")]
    output: PathBuf,
    /// The Account SID: ask the account what it has, and write exports that fit its budget
    #[arg(long, value_name = "SID")]
    account_sid: Option<String>,
    /// The environment variable that holds the Auth Token
    #[arg(long, value_name = "NAME", conflicts_with = "auth_token_file")]
    auth_token_env: Option<String>,
    /// The file that holds the Auth Token
    #[arg(long, value_name = "FILE")]
    auth_token_file: Option<PathBuf>,
    /// What the account is to be called [default: after its company]
    #[arg(long, value_name = "NAME")]
    account: Option<String>,
    /// What kind of account it is [default: found out by trying]
    #[arg(long, value_enum)]
    persona: Option<PersonaWord>,
    /// The account's zone, as in America/New_York [default: what impact.com says]
    #[arg(long, value_name = "ZONE")]
    time_zone: Option<Tz>,
    /// The origin of the API [default: https://api.impact.com]
    #[arg(long, value_name = "URL")]
    base_url: Option<String>,
    /// The first day to mirror, as in 2026-01-31 [default: as far back as the budget allows]
    #[arg(long, value_name = "DAY")]
    since: Option<NaiveDate>,
    /// Write the file without asking whether it is right
    #[arg(long)]
    yes: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum PersonaWord {
    Brand,
    Partner,
    Agency,
}

impl From<PersonaWord> for Persona {
    fn from(word: PersonaWord) -> Self {
        match word {
            PersonaWord::Brand => Self::Brand,
            PersonaWord::Partner => Self::Partner,
            PersonaWord::Agency => Self::Agency,
        }
    }
}

impl Options {
    /// Whether anything is said of an account.
    fn names_an_account(&self) -> bool {
        self.account_sid.is_some()
            || self.auth_token_env.is_some()
            || self.auth_token_file.is_some()
            || self.account.is_some()
            || self.persona.is_some()
            || self.time_zone.is_some()
            || self.base_url.is_some()
            || self.since.is_some()
    }
}

pub(super) async fn init(mut options: Options) -> anyhow::Result<Exit> {
    let prints = options.output.as_os_str() == "-";
    if !prints && options.output.exists() {
        return Err(is_there(&options.output));
    }
    let asks = !prints && ask::somebody();
    if asks && !options.names_an_account() {
        let sid = ask::line("Account SID of impact.com, or nothing for an example to fill in:")?;
        options.account_sid = Some(sid).filter(|sid| !sid.is_empty());
    }
    if !options.names_an_account() {
        return example(&options.output);
    }
    let (wishes, mut typed) = options.wishes(asks)?;
    let found = app_init::discover(&wishes).await?;
    let now = Clock.now();
    let proposal = app_init::propose(&wishes, &found, now).await?;
    if prints {
        say_as_is!("{}", proposal.text);
        return Ok(Exit::Done);
    }
    words::print(&found, &proposal);
    let shown = options.output.display();
    if asks && !options.yes {
        let answer = ask::line(&format!("\nWrite {shown}? [Y/n]"))?;
        if !(answer.is_empty() || answer.eq_ignore_ascii_case("y") || answer.eq_ignore_ascii_case("yes")) {
            say!("Nothing was written.");
            return Ok(Exit::Failed);
        }
    }
    write(&options.output, &proposal.text)?;
    if let Some(token) = &mut typed {
        token.is_kept = true;
        say!("\nThe token is in {}, for your eyes alone.", token.path.display());
    }
    say!("\nWrote {shown}. Next:");
    next(&options.output);
    Ok(Exit::Done)
}

impl Options {
    /// What the flags say, and where somebody is there, what they answer. A token that is typed goes into a file of its own.
    fn wishes(&self, asks: bool) -> anyhow::Result<(Wishes, Option<TypedToken>)> {
        let missing = |flag: &str| {
            Misuse(format!("{flag} is missing, and nobody is there to be asked; give it, or run this at a terminal"))
        };
        let account_sid = match &self.account_sid {
            Some(sid) => sid.clone(),
            None if asks => ask::line("Account SID:")?,
            None => return Err(missing("--account-sid").into()),
        };
        let mut typed = None;
        let auth_token = match (&self.auth_token_env, &self.auth_token_file) {
            (Some(variable), _) => TokenPlace::Env(variable.clone()),
            (None, Some(file)) => TokenPlace::File(absolute(file)?),
            (None, None) if asks => {
                let token = typed.insert(TypedToken::ask(&self.output)?);
                TokenPlace::File(token.path.clone())
            }
            (None, None) => return Err(missing("--auth-token-env or --auth-token-file").into()),
        };
        let wishes = Wishes {
            account: self.account.clone(),
            account_sid,
            auth_token,
            base_url: self.base_url.clone(),
            persona: self.persona.map(Persona::from),
            time_zone: self.time_zone,
            since: self.since,
        };
        Ok((wishes, typed))
    }
}

fn absolute(path: &Path) -> anyhow::Result<PathBuf> {
    std::path::absolute(path).with_context(|| format!("cannot name {}", path.display()))
}

/// A token that somebody typed, in a file beside the configuration for the eyes of this user alone. It goes again with this value
/// unless it is to be kept.
struct TypedToken {
    path: PathBuf,
    is_kept: bool,
}

impl TypedToken {
    fn ask(output: &Path) -> anyhow::Result<Self> {
        let token = ask::secret("Auth Token (not shown):")?;
        if token.is_empty() {
            return Err(Misuse(
                "without a token nothing can be asked; type it, or name it with --auth-token-env or --auth-token-file"
                    .to_owned(),
            )
            .into());
        }
        let path = absolute(&output.with_extension("token"))?;
        let failed = || {
            format!("cannot write the token into {}; name a file that has it with --auth-token-file", path.display())
        };
        let mut options = std::fs::OpenOptions::new();
        let mut file = options.write(true).create_new(true).mode(0o600).open(&path).with_context(failed)?;
        writeln!(file, "{token}").with_context(failed)?;
        Ok(Self { path, is_kept: false })
    }
}

impl Drop for TypedToken {
    fn drop(&mut self) {
        if !self.is_kept {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// The commented example, for who has no credential at hand.
fn example(output: &Path) -> anyhow::Result<Exit> {
    if output.as_os_str() == "-" {
        say_as_is!("{}", config::EXAMPLE);
        return Ok(Exit::Done);
    }
    write(output, config::EXAMPLE)?;
    say!("Wrote {}. Put your account in, then:", output.display());
    next(output);
    Ok(Exit::Done)
}

fn next(output: &Path) {
    let shown = output.display();
    say!("  impact-mirror check --config {shown}");
    say!("  impact-mirror plan  --config {shown}");
    say!("  impact-mirror sync  --config {shown}");
}

fn is_there(output: &Path) -> anyhow::Error {
    Misuse(format!("{} is there already; nothing was changed; name another with --output", output.display())).into()
}

fn write(output: &Path, text: &str) -> anyhow::Result<()> {
    let failed = || format!("cannot write {}; --output names a file in a directory that is there", output.display());
    match std::fs::File::create_new(output) {
        Ok(mut file) => file.write_all(text.as_bytes()).with_context(failed),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Err(is_there(output)),
        Err(error) => Err(error).with_context(failed),
    }
}
