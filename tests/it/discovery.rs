//! From a credential to the first rows, through the real binary and the real simulator.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use impact_mirror::account::Persona;
use impact_mirror::sandbox::{Options, Sandbox};

use crate::support::database::{TestDatabase, database};
use crate::support::state_dir::StateDir;

/// `reports add`: the file, and what is refused.
mod add;
/// The built-in catalogue beside what the simulator says of itself.
mod catalogue;
/// `init` on an account.
mod init;
/// `reports list` and `reports describe`.
mod look;

/// A sandbox, a database and a place for a configuration.
struct Desk {
    sandbox: Sandbox,
    database: TestDatabase,
    dir: StateDir,
}

/// SID and token of the sandbox's account of a persona.
fn credential(persona: Persona) -> (&'static str, &'static str) {
    match persona {
        Persona::Brand => ("IRsandboxBrand0001", "sandbox-brand-token"),
        Persona::Partner => ("IRsandboxPartner0001", "sandbox-partner-token"),
        Persona::Agency => ("IRsandboxAgency0001", "sandbox-agency-token"),
    }
}

impl Desk {
    async fn new(options: Options) -> Self {
        Self { sandbox: Sandbox::start(options).await.unwrap(), database: database().await, dir: StateDir::new() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Runs a command in the directory of the desk, away from this machine's own files.
    async fn run(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_impact-mirror"));
        command
            .args(arguments)
            .current_dir(self.dir.path())
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.dir.path())
            .env("STATE_DIRECTORY", self.dir.path())
            .env("IMPACT_MIRROR__DATABASE__URL", self.database.url())
            .env("BRAND_TOKEN", credential(Persona::Brand).1)
            .env("PARTNER_TOKEN", credential(Persona::Partner).1)
            .env("AGENCY_TOKEN", credential(Persona::Agency).1)
            .stdin(Stdio::null());
        // The sandbox answers from this process.
        tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
    }

    /// The same, for what is to succeed; what it printed.
    async fn done(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments).await;
        assert_eq!(output.status.code(), Some(0), "{arguments:?}: {}{}", stdout(&output), stderr(&output));
        stdout(&output)
    }

    /// A configuration for accounts of these personas, named after them.
    fn configure(&self, personas: &[Persona], rest: &str) -> String {
        let mut text = String::from("# Kept by hand.\n[database]\nurl = \"embedded\"\n");
        for persona in personas {
            let (sid, _) = credential(*persona);
            write!(
                text,
                "\n[accounts.{persona}]\npersona = \"{persona}\"\naccount_sid = \"{sid}\"\nauth_token = {{ env = \"{}_TOKEN\" }}\n\
                 base_url = \"{}\"\ntime_zone = \"America/New_York\"\n",
                persona.as_str().to_uppercase(),
                self.sandbox.base_url(),
            )
            .unwrap();
        }
        text += rest;
        std::fs::write(self.path("impact-mirror.toml"), &text).unwrap();
        text
    }

    fn config(&self) -> String {
        read(&self.path("impact-mirror.toml"))
    }

    /// How many calls of a kind the sandbox has seen.
    fn calls(&self, kind: &str) -> usize {
        self.sandbox.calls().iter().filter(|call| call.kind == kind).count()
    }

    async fn count(&self, query: &'static str) -> i64 {
        sqlx::query_scalar(query).fetch_one(self.database.pool()).await.unwrap()
    }
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}
