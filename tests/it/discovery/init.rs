use std::fmt::Write as _;
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::process::Child;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use impact_mirror::sandbox::Account;
use serde_json::Value;

use super::*;
use crate::support::daemon::eventually;

/// `init` with the flags of a persona's account.
fn flags(persona: Persona, base_url: &str) -> Vec<&str> {
    let (sid, variable) = match persona {
        Persona::Brand => ("IRsandboxBrand0001", "BRAND_TOKEN"),
        Persona::Partner => ("IRsandboxPartner0001", "PARTNER_TOKEN"),
        Persona::Agency => ("IRsandboxAgency0001", "AGENCY_TOKEN"),
    };
    vec!["init", "--account-sid", sid, "--auth-token-env", variable, "--base-url", base_url, "--yes"]
}

/// A brand with many programs.
fn large(programs: u64) -> Options {
    let mut account = Account::new(
        impact_mirror::sandbox::Persona::Brand,
        "IRsandboxBrand0001",
        "sandbox-brand-token",
        "A large brand",
    );
    account.programs = (1..=programs).map(|n| (n * 1000, format!("Program {n}"))).collect();
    Options { accounts: vec![account], ..Options::default() }
}

#[tokio::test]
async fn from_a_credential_to_the_first_answer() {
    let desk = Desk::new(Options::default()).await;
    let base_url = desk.sandbox.base_url();
    let began = Instant::now();
    let mut took = String::new();
    let mut lap = |what: &str| writeln!(took, "{what}: {:.1} s", began.elapsed().as_secs_f64()).unwrap();
    let said = desk.done(&flags(Persona::Brand, &base_url)).await;
    lap("init");
    for words in [
        "\"Sandbox Brand\", a brand: zone America/New_York, USD, 2 programs",
        "performance_by_day",
        "The first week",
        "Wrote impact-mirror.toml",
    ] {
        assert!(said.contains(words), "{words}: {said}");
    }
    let text = desk.config();
    assert!(
        text.contains("[accounts.sandbox-brand]\npersona = \"brand\"")
            && text.contains("# It has 2 programs: 1000 Acme Outdoor"),
        "{text}"
    );
    assert!(!text.contains("sandbox-brand-token") && !said.contains("sandbox-brand-token"));
    desk.done(&["check"]).await;
    lap("check");
    let synced = desk.run(&["sync"]).await;
    // Ten click exports a day are not enough for the backfill of clicks.
    assert!(matches!(synced.status.code(), Some(0 | 3)), "{}{}", stdout(&synced), stderr(&synced));
    lap("sync");
    let query = "select count(*) from impact.actions where status is not null and sale_amount >= 0";
    assert!(desk.count(query).await > 1000);
    assert!(desk.count("select count(*) from impact.clicks").await > 100);
    assert!(desk.count("select count(*) from impact.performance_by_day").await > 10);
    assert!(desk.count("select count(*) from impact.performance_by_partner").await > 10);
    assert_eq!(desk.count("select count(*) from impact_mirror.job where state = 'failed'").await, 0);
    lap("query");
    eprintln!("from a credential to the first answer:\n{took}");
    assert!(began.elapsed().as_secs() < 180, "{took}");
}

#[tokio::test]
async fn each_persona_is_found_by_trying() {
    let desk = Desk::new(Options::default()).await;
    let base_url = desk.sandbox.base_url();
    for persona in [Persona::Partner, Persona::Agency] {
        let file = format!("{persona}.toml");
        desk.done(&[flags(persona, &base_url), vec!["--output", &file, "--account", "ours"]].concat()).await;
        let text = read(&desk.path(&file));
        assert!(text.contains(&format!("[accounts.ours]\npersona = \"{persona}\"")), "{text}");
        desk.done(&["check", "--config", &file]).await;
    }
    let agency = read(&desk.path("agency.toml"));
    assert!(agency.contains("key = [\"ActionId\"]") && agency.contains("date_column = \"ActionDate\""), "{agency}");
    assert!(!agency.contains("made-up-secret"), "the credentials of brands stay where they are");
    assert!(!agency.contains("clicks = true"));
    assert!(read(&desk.path("partner.toml")).contains("clicks = true"));
}

#[tokio::test]
async fn a_large_account_gets_what_its_budget_allows_and_soon() {
    for (programs, limit) in [(25, 100), (60, 100), (150, 100)] {
        let desk = Desk::new(large(programs)).await;
        let base_url = desk.sandbox.base_url();
        let began = Instant::now();
        let said = desk.done(&flags(Persona::Brand, &base_url)).await;
        let took = began.elapsed();
        eprintln!("{programs} programs: {:.1} s\n{said}", took.as_secs_f64());
        assert!(took.as_secs() < 20, "{programs} programs: {took:?}");
        // In the week that it foresees, no day costs more than there is, and no day is late.
        let days: Vec<Vec<u32>> = said
            .lines()
            .filter(|line| line.contains(&format!(" of {limit} ")))
            .map(|line| line.split_whitespace().filter_map(|word| word.parse().ok()).collect())
            .collect();
        assert_eq!(days.len(), 7, "{said}");
        assert!(days.iter().all(|day| day[0] <= limit && day[2] <= 10 && day[4] == 0), "{days:?}");
        let text = desk.config();
        assert!(text.contains("programs = [\"1000\", \"2000\""), "clicks of the first programs: {text}");
        desk.done(&["check"]).await;
        let plan: Value = serde_json::from_str(&desk.done(&["plan", "--json"]).await).unwrap();
        let reports = plan["calls"].as_array().unwrap().iter().filter(|call| call["bucket"] == "report_export").count();
        assert!(reports <= 100 && plan["late"].as_array().unwrap().is_empty(), "{plan}");
    }
}

#[tokio::test]
async fn what_is_missing_or_wrong_is_named() {
    let desk = Desk::new(Options::default()).await;
    let base_url = desk.sandbox.base_url();
    let with = |flags: &[&'static str]| -> Vec<String> {
        let all = [&["init", "--base-url", &base_url][..], flags].concat();
        all.into_iter().map(str::to_owned).collect()
    };
    for (arguments, code, said) in [
        (with(&["--auth-token-env", "BRAND_TOKEN"]), 2, "--account-sid is missing"),
        (with(&["--account-sid", "IRsandboxBrand0001"]), 2, "--auth-token-env or --auth-token-file is missing"),
        (with(&["--account-sid", "IRsandboxBrand0001", "--auth-token-env", "NOT_SET"]), 2, "NOT_SET"),
        (with(&["--account-sid", "IR bad", "--auth-token-env", "BRAND_TOKEN"]), 2, "account_sid"),
        (
            with(&["--account-sid", "IRsandboxBrand0001", "--auth-token-env", "BRAND_TOKEN", "--account", "Big Co"]),
            2,
            "is no name for an account",
        ),
        (
            with(&["--account-sid", "IRsandboxBrand0001", "--auth-token-env", "PARTNER_TOKEN"]),
            1,
            "refuses the credential as brand, as partner, as agency",
        ),
        (
            with(&["--account-sid", "IRsandboxBrand0001", "--auth-token-env", "BRAND_TOKEN", "--persona", "partner"]),
            1,
            "refuses the credential as partner;",
        ),
    ] {
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let output = desk.run(&arguments).await;
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {}", stderr(&output));
        assert!(stderr(&output).contains(said), "{arguments:?}: {}", stderr(&output));
        assert!(!desk.path("impact-mirror.toml").exists(), "{arguments:?}");
    }
}

#[tokio::test]
async fn a_token_in_a_file_and_a_first_day_are_taken() {
    let desk = Desk::new(Options::default()).await;
    let base_url = desk.sandbox.base_url();
    std::fs::write(desk.path("token"), "sandbox-brand-token\n").unwrap();
    let printed = desk
        .done(&[
            "init",
            "--account-sid",
            "IRsandboxBrand0001",
            "--auth-token-file",
            "token",
            "--base-url",
            &base_url,
            "--since",
            "2026-07-01",
            "--output",
            "-",
        ])
        .await;
    assert!(printed.starts_with("# Configuration of impact-mirror"), "{printed}");
    assert_eq!(printed.matches("since = \"2026-07-01\"").count(), 4, "{printed}");
    assert!(printed.contains(&format!("auth_token = {{ file = \"{}\" }}", desk.path("token").display())), "{printed}");
    assert!(!desk.path("impact-mirror.toml").exists());
}

/// A program at a terminal, and the person before it.
struct Terminal {
    keys: File,
    screen: Arc<Mutex<Vec<u8>>>,
}

impl Terminal {
    fn start(desk: &Desk, arguments: &[&str]) -> (Self, Child) {
        let pair = nix::pty::openpty(None, None).unwrap();
        let end = || Stdio::from(pair.slave.try_clone().unwrap());
        let child = Command::new(env!("CARGO_BIN_EXE_impact-mirror"))
            .args(arguments)
            .current_dir(desk.dir.path())
            .env("STATE_DIRECTORY", desk.dir.path())
            .stdin(end())
            .stdout(end())
            .stderr(end())
            .spawn()
            .unwrap();
        let screen = Arc::new(Mutex::new(Vec::new()));
        let (seen, mut master) = (Arc::clone(&screen), File::from(pair.master.try_clone().unwrap()));
        std::thread::spawn(move || {
            let mut some = [0; 4096];
            // It ends with an error once the program is gone.
            while let Ok(count @ 1..) = master.read(&mut some) {
                seen.lock().unwrap().extend_from_slice(&some[..count]);
            }
        });
        (Self { keys: File::from(pair.master), screen }, child)
    }

    fn shown(&self) -> String {
        String::from_utf8_lossy(&self.screen.lock().unwrap()).into_owned()
    }

    async fn answer(&mut self, question: &str, answer: &str) {
        eventually(question, async || self.shown().contains(question)).await;
        writeln!(self.keys, "{answer}").unwrap();
    }
}

#[tokio::test]
async fn on_a_terminal_what_is_missing_is_asked_and_the_token_is_not_shown() {
    let desk = Desk::new(Options::default()).await;
    let base_url = desk.sandbox.base_url();
    let (mut terminal, mut child) = Terminal::start(&desk, &["init", "--base-url", &base_url]);
    terminal.answer("Account SID:", "IRsandboxBrand0001").await;
    terminal.answer("Auth Token (not shown):", "sandbox-brand-token").await;
    terminal.answer("Write impact-mirror.toml? [Y/n]", "y").await;
    eventually("it ends", async || child.try_wait().unwrap().is_some()).await;
    let shown = terminal.shown();
    assert!(shown.contains("IRsandboxBrand0001") && !shown.contains("sandbox-brand-token"), "{shown}");
    let token = desk.path("impact-mirror.token");
    assert_eq!(read(&token), "sandbox-brand-token\n");
    assert_eq!(std::fs::metadata(&token).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(desk.config().contains(&format!("auth_token = {{ file = \"{}\" }}", token.display())));

    // Who says no leaves nothing behind.
    let (mut terminal, mut child) =
        Terminal::start(&desk, &["init", "--base-url", &base_url, "--output", "other.toml"]);
    terminal.answer("Account SID:", "IRsandboxBrand0001").await;
    terminal.answer("Auth Token (not shown):", "sandbox-brand-token").await;
    terminal.answer("Write other.toml? [Y/n]", "n").await;
    eventually("it ends", async || child.try_wait().unwrap().is_some()).await;
    assert!(!desk.path("other.toml").exists() && !desk.path("other.token").exists());
}

#[tokio::test]
async fn on_a_terminal_the_example_is_a_key_away() {
    let desk = Desk::new(Options::default()).await;
    let (mut terminal, mut child) = Terminal::start(&desk, &["init"]);
    terminal.answer("or nothing for an example to fill in:", "").await;
    eventually("it ends", async || child.try_wait().unwrap().is_some()).await;
    assert_eq!(desk.config(), impact_mirror::config::EXAMPLE);
}
