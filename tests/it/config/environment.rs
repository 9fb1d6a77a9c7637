//! Variables, the files of secrets, and that no secret is shown.

use std::path::Path;
use std::time::Duration;

use impact_mirror::account::AccountName;
use impact_mirror::config::{self, DatabaseUrl, Environment, Programs};
use impact_mirror::export::{ExportName, Program};
use secrecy::ExposeSecret;

use super::{ACTIONS, BASE, base, check};
use crate::support::state_dir::StateDir;

#[test]
fn the_environment_wins_over_the_file() {
    let environment = Environment::from([
        ("TOKEN", "t"),
        ("IMPACT_MIRROR__DATABASE__URL", "postgres://u:pw@h/d"),
        ("IMPACT_MIRROR__STATE_DIR", "/srv/state"),
        ("IMPACT_MIRROR__WORKERS__SUBMIT", "7"),
        ("IMPACT_MIRROR__WORKERS__LEASE", "45s"),
        ("IMPACT_MIRROR__ACCOUNTS__BLOG_EU__AUTH_TOKEN", "given-by-the-environment"),
        ("IMPACT_MIRROR__ACCOUNTS__ACME__PROGRAMS", "1000, 2000"),
        ("IMPACT_MIRROR__ACCOUNTS__ACME__QUOTA__SHARE", "0.5"),
        ("IMPACT_MIRROR__EXPORTS__ACTIONS__PARAMS__SHOW_DATE", "0"),
        ("IMPACT_MIRROR__EXPORTS__ACTIONS__PARAMS__SHOW_NEW", "1"),
        ("IMPACT_MIRROR__EXPORTS__ACTIONS__HISTORY", "true"),
        ("IMPACT_MIRROR__EXPORTS__ACTIONS__REFRESH", r#"[{ age = "1d", every = "1h" }]"#),
    ]);
    let text = format!("{BASE}{ACTIONS}params = {{ Show_Date = \"1\" }}\n");
    let settings = config::check(&text, Path::new("mirror.toml"), &environment).unwrap();
    let DatabaseUrl::Url(url) = &settings.database.url else { panic!("embedded") };
    assert_eq!(url.expose_secret(), "postgres://u:pw@h/d");
    assert_eq!(settings.state_dir, Path::new("/srv/state"));
    assert_eq!((settings.workers.submit, settings.workers.lease), (7, Duration::from_secs(45)));
    let acme = &settings.accounts[&AccountName::new("acme")];
    assert_eq!(acme.programs, Programs::Listed(vec![Program::new("1000"), Program::new("2000")]));
    assert!((acme.quota.share - 0.5).abs() < f64::EPSILON);
    let blog = &settings.accounts[&AccountName::new("blog-eu")];
    assert_eq!(blog.auth_token.expose_secret(), "given-by-the-environment");
    let actions = &settings.exports[&ExportName::new("actions")];
    assert_eq!(actions.params["Show_Date"], ["0"]);
    assert_eq!(actions.params["SHOW_NEW"], ["1"]);
    assert!(actions.history && actions.refresh.len() == 1);
}

#[test]
fn a_problem_of_the_environment_names_the_variable() {
    let environment = Environment::from([
        ("TOKEN", "t"),
        ("IMPACT_MIRROR__WORKERS__SUBMIT", "many"),
        ("IMPACT_MIRROR__DATABSE__URL", "embedded"),
    ]);
    let error = config::check(BASE, Path::new("mirror.toml"), &environment).unwrap_err().to_string();
    insta::assert_snapshot!(error, @r#"
    the configuration mirror.toml has 2 problems:
      databse is no key that is known here; did you mean `database`?
      workers.submit (from IMPACT_MIRROR__WORKERS__SUBMIT) holds "many"; allowed is a whole number from 1 to 64
    "#);
}

#[test]
fn secrets_are_read_from_files_and_credentials_without_their_line_end() {
    let directory = StateDir::new();
    let file = directory.path().join("acme");
    let load = |source: &str| {
        let text = base("{ env = \"TOKEN\" }", source, "");
        let directory = directory.path().to_str().unwrap();
        let environment = Environment::from([("TOKEN", "t"), ("CREDENTIALS_DIRECTORY", directory)]);
        config::check(&text, Path::new("mirror.toml"), &environment)
            .map(|settings| settings.accounts[&AccountName::new("acme")].auth_token.expose_secret().to_owned())
            .map_err(|error| error.to_string().lines().last().unwrap().trim().to_owned())
    };
    let by_file = format!("{{ file = {file:?} }}");
    std::fs::write(&file, "from a file\r\n").unwrap();
    assert_eq!(load(&by_file).unwrap(), "from a file");
    assert_eq!(load("{ credential = \"acme\" }").unwrap(), "from a file");
    assert_eq!(
        load("{ credential = \"../acme\" }").unwrap_err(),
        "accounts.acme.auth_token.credential holds \"../acme\"; allowed is the name of a credential, without a path"
    );
    std::fs::write(&file, "\n").unwrap();
    let empty =
        format!("accounts.acme.auth_token.file is empty in the file {}; write the secret there", file.display());
    assert_eq!(load(&by_file).unwrap_err(), empty);
}

#[test]
fn no_secret_is_ever_shown() {
    let text = base("url = \"embedded\"", "url = \"postgres://u:s3cret-password@h/d\"", ACTIONS);
    let shown = format!("{:?}", check(&text).unwrap());
    assert!(!shown.contains("s3cret"), "{shown}");

    for broken in [
        base("url = \"embedded\"", "url = \"postgre://u:s3cret@h/d\"", ""),
        base("url = \"embedded\"", "url = [\"s3cret\"]", ""),
        base("{ env = \"TOKEN\" }", "\"s3cret\"", ""),
        base("{ env = \"TOKEN\" }", "[\"s3cret\"]", ""),
        base("{ env = \"TOKEN\" }", "\"s3cret", ""),
    ] {
        let error = check(&broken).unwrap_err();
        assert!(!format!("{error} {error:?}").contains("s3cret"), "{error:?}");
    }
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let error = config::load(Some(Path::new("/no/such/mirror.toml"))).unwrap_err();
    assert_eq!(
        error.to_string(),
        "cannot read the configuration /no/such/mirror.toml; name another with --config, or have one written by `impact-mirror init`"
    );
}

#[test]
fn receivers_are_spoken_to_safely_and_their_addresses_are_secrets() {
    let environment = |url: &str| {
        Environment::from([
            ("TOKEN", "s3cret-token".to_owned()),
            ("HOOK", url.to_owned()),
            ("SIGN", "a-secret".to_owned()),
            ("STATE_DIRECTORY", "/var/lib/mirror".to_owned()),
        ])
    };
    let told = |section: &str, url: &str| {
        let text = format!("{BASE}{ACTIONS}\n{section}");
        config::check(&text, Path::new("x.toml"), &environment(url)).map_err(|error| error.to_string())
    };
    let alerts =
        "[alerts]\nurl = { env = \"HOOK\" }\nformat = \"slack\"\nsecret = { env = \"SIGN\" }\nrepeat = \"6h\"\n";
    let settings = told(alerts, "https://hooks.example.com/T000/s3cret").unwrap();
    assert!(!format!("{settings:?}").contains("s3cret"));
    let alerts_set = settings.alerts.unwrap();
    assert_eq!((alerts_set.repeat, alerts_set.every), (Duration::from_hours(6), Duration::from_mins(1)));
    assert!(settings.downstream.is_none() && alerts_set.receiver.secret.is_some());
    for url in ["http://127.0.0.1:9/x", "http://localhost/x", "http://[::1]:9/x", "https://10.0.0.1/x"] {
        assert!(told("[downstream]\nurl = { env = \"HOOK\" }\n", url).is_ok(), "{url}");
    }
    for url in ["http://example.com/s3cret", "http://10.0.0.1/s3cret", "ftp://example.com/s3cret", "s3cret"] {
        let error = told("[downstream]\nurl = { env = \"HOOK\" }\n", url).unwrap_err();
        assert!(error.contains("downstream.url is no address that messages may go to"), "{error}");
        assert!(!error.contains("s3cret"), "{error}");
    }
    let error = told("[alerts]\nurl = \"https://hooks.example.com/s3cret\"\n", "").unwrap_err();
    assert!(error.contains("alerts.url must not stand in the file itself") && !error.contains("s3cret"), "{error}");
    let error = told("[alerts]\nformat = \"xml\"\n", "").unwrap_err();
    assert!(error.contains("alerts.url is missing") && error.contains("json | slack"), "{error}");
}
