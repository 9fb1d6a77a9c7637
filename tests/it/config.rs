//! The configuration: what is taken, what is refused, and in which words.

use std::path::Path;
use std::time::Duration;

use impact_mirror::account::{AccountName, Persona};
use impact_mirror::column::ColumnKind;
use impact_mirror::config::{self, DatabaseUrl, EXAMPLE, Environment, Error, Programs, Settings};
use impact_mirror::export::{ExportName, Program, RefreshRule};
use secrecy::ExposeSecret;

use crate::support::state_dir::StateDir;

/// Everything that has no default, for a brand, a partner and an agency.
const BASE: &str = r#"
[database]
url = "embedded"

[accounts.acme]
persona = "brand"
account_sid = "IRacme"
auth_token = { env = "TOKEN" }
time_zone = "America/New_York"

[accounts.blog-eu]
persona = "partner"
account_sid = "IRblog"
auth_token = { env = "TOKEN" }
time_zone = "Europe/Berlin"

[accounts.house]
persona = "agency"
account_sid = "IRhouse"
auth_token = { env = "TOKEN" }
time_zone = "Etc/UTC"
"#;

/// An export that is right, for `BASE`.
const ACTIONS: &str = r#"
[exports.actions]
accounts = ["acme"]
report = "adv_action_listing_pm_only"
since = "2026-01-01"
"#;

fn environment() -> Environment {
    Environment::from([("TOKEN", "s3cret-token"), ("STATE_DIRECTORY", "/var/lib/mirror")])
}

fn check(text: &str) -> Result<Settings, Error> {
    config::check(text, Path::new("mirror.toml"), &environment())
}

fn problems(text: &str) -> Vec<String> {
    match check(text) {
        Ok(_) => Vec::new(),
        Err(Error::Invalid { problems, .. }) => problems.iter().map(ToString::to_string).collect(),
        Err(error) => vec![error.to_string()],
    }
}

/// `BASE` with lines changed, and more behind it.
fn base(from: &str, to: &str, more: &str) -> String {
    assert!(BASE.contains(from), "{from}");
    format!("{}\n{more}", BASE.replacen(from, to, 1))
}

fn export(lines: &str) -> String {
    format!("{BASE}\n[exports.x]\n{lines}")
}

#[test]
fn the_example_loads_and_has_no_surprises() {
    let secret = "a-secret-of-more-than-sixteen-letters";
    let set = [("ACME_AUTH_TOKEN", "t"), ("STATE_DIRECTORY", "/var/lib/mirror"), ("POSTBACK_SECRET", secret)];
    let environment = Environment::from(set);
    let settings = config::check(EXAMPLE, Path::new("example"), &environment).unwrap();
    let actions = &settings.exports[&ExportName::new("actions")];
    assert_eq!(actions.key, ["Action_Id"]);
    assert_eq!(settings.not_yet(), Vec::<String>::new());
}

#[test]
fn what_the_example_comments_out_is_the_default() {
    // A line such as `# key = value` is a setting; a line of prose has no `=` there.
    let is_setting = |line: &str| {
        line.strip_prefix("# ").is_some_and(|rest| {
            let name = rest.split(" = ").next().unwrap_or_default();
            rest.contains(" = ") && name.chars().all(|c| c.is_ascii_lowercase() || c == '_')
        })
    };
    // There is no archive by default.
    // Nor is anybody told of anything.
    let exceptions = [
        "# url",
        "# keep",
        "# auth_token",
        "# dir",
        "# state_dir",
        "# types",
        "# postback_secret",
        "# token",
        "# hosts",
        "# format",
        "# secret",
        "# repeat",
        "# every",
    ];
    let (own, clicks) = EXAMPLE.split_once("# [exports.clicks]").unwrap();
    assert!(clicks.contains("clicks = true"));
    let spelt: Vec<String> = own
        .lines()
        .map(|line| {
            let kept = !is_setting(line) || exceptions.iter().any(|exception| line.starts_with(exception));
            // The example's request shows two parameters of many.
            let kept = kept || line.starts_with("# params");
            if kept { line.to_owned() } else { line[2..].to_owned() }
        })
        .collect();
    let secret = "a-secret-of-more-than-sixteen-letters";
    let set = [("ACME_AUTH_TOKEN", "t"), ("STATE_DIRECTORY", "/var/lib/mirror"), ("POSTBACK_SECRET", secret)];
    let environment = Environment::from(set);
    let load = |text: &str| format!("{:#?}", config::check(text, Path::new("example"), &environment).unwrap());
    assert_eq!(load(&spelt.join("\n")), load(EXAMPLE));
}

#[test]
fn a_short_configuration_is_filled_with_the_defaults() {
    let settings = check(&format!("{BASE}{ACTIONS}")).unwrap();
    assert!(matches!(settings.database.url, DatabaseUrl::Embedded));
    assert_eq!(settings.database.schema, "impact");
    assert_eq!(settings.http.listen.to_string(), "127.0.0.1:9464");
    assert_eq!(settings.workers.poll_max, Duration::from_mins(1));
    assert_eq!(settings.spool_dir, Path::new("/var/lib/mirror/spool"));
    let acme = &settings.accounts[&AccountName::new("acme")];
    assert_eq!((acme.persona, &acme.programs), (Persona::Brand, &Programs::All));
    assert_eq!(acme.base_url.as_str(), "https://api.impact.com/");
    assert_eq!(acme.auth_token.expose_secret(), "s3cret-token");
    let actions = &settings.exports[&ExportName::new("actions")];
    assert!(actions.per_program && actions.include_today);
    assert_eq!(actions.date_column.as_deref(), Some("Action_Date"));
    assert_eq!(actions.params["SUPERSTATUS_MS"].len(), 4);
    assert_eq!(actions.types["Action_Id"], ColumnKind::Text);
    assert_eq!((actions.max_window_days, actions.freshness), (31, Duration::from_hours(26)));
}

#[test]
fn an_unknown_report_gets_the_general_rules() {
    let lines = "accounts = [\"blog-eu\"]\nreport = \"my_own_report\"\nsince = 2026-01-01\ndate_column = \"Day\"";
    let settings = check(&export(lines)).unwrap();
    let export = &settings.exports[&ExportName::new("x")];
    assert!(!export.per_program && export.key.is_empty() && export.include_today);
    let days = |days: u64| Duration::from_hours(24 * days);
    let rules = [(days(3), Duration::from_hours(6)), (days(35), days(1)), (days(190), days(7))];
    assert_eq!(export.refresh, rules.map(|(age, every)| RefreshRule { age, every }));
}

#[test]
fn clicks_are_read_day_by_day() {
    let settings = check(&export("accounts = [\"blog-eu\"]\nclicks = true\nsince = \"2026-01-01\"")).unwrap();
    let clicks = &settings.exports[&ExportName::new("x")];
    assert_eq!((clicks.max_window_days, clicks.per_program, clicks.include_today), (1, false, false));
    assert!(clicks.refresh.is_empty() && clicks.key.is_empty());
    assert_eq!(clicks.types["UniqueClick"], ColumnKind::Boolean);
}

#[test]
fn what_the_user_writes_wins_over_the_catalogue() {
    let lines = r#"
        accounts = ["acme"]
        report = "adv_action_listing_pm_only"
        since = "2026-01-01"
        params = { show_date = 0, SUPERSTATUS_MS = "APPROVED", SHOW_AD = [], ACTION_TYPE = [1, 2] }
        types = { action_id = "bigint" }
        key = []
        date_column = ""
        refresh = []
        locked = {}
        max_rows = 500
    "#;
    let settings = check(&export(lines)).unwrap();
    let export = &settings.exports[&ExportName::new("x")];
    assert_eq!(export.params["show_date"], ["0"]);
    assert_eq!(export.params["SUPERSTATUS_MS"], ["APPROVED"]);
    assert_eq!(export.params["ACTION_TYPE"], ["1", "2"]);
    assert!(!export.params.contains_key("SHOW_DATE") && !export.params.contains_key("SHOW_AD"));
    assert_eq!(export.types["action_id"], ColumnKind::Bigint);
    assert!(!export.types.contains_key("Action_Id"));
    assert!(export.key.is_empty() && export.date_column.is_none() && export.refresh.is_empty());
    assert_eq!(export.max_window_days, 1);
    assert_eq!((&export.locked, export.max_rows), (&None, Some(500)));
}

#[test]
fn every_error_names_the_key_what_it_holds_and_what_is_allowed() {
    let url = "url = \"embedded\"";
    let sid = "account_sid = \"IRacme\"";
    let token = "auth_token = { env = \"TOKEN\" }";
    let report = "report = \"r\"\nsince = \"2026-01-01\"\naccounts = [\"acme\"]\n";
    let with = |lines: &str| export(&format!("{report}{lines}"));
    let cases: Vec<(String, &str)> = vec![
        // The installation.
        (
            base(url, "", ""),
            "database.url is missing; allowed is \"embedded\", for a private Postgres, or an address as in postgres://user@host:5432/database",
        ),
        (
            base(url, "url = \"mysql://u:pw@h/d\"", ""),
            "database.url is no address of a Postgres; allowed is \"embedded\", for a private Postgres, or an address as in postgres://user@host:5432/database",
        ),
        (
            base(url, "url = \"embedded\"\nschema = \"impact_mirror\"", ""),
            "database.schema holds \"impact_mirror\"; allowed is a schema other than impact_mirror and those of Postgres itself",
        ),
        (
            base(url, "url = \"embedded\"\nschema = \"My Schema\"", ""),
            "database.schema holds \"My Schema\"; allowed is a name of a-z, 0-9 and _, at most 63 long",
        ),
        (
            base(url, "url = \"embedded\"\ndistribution = \"shards\"", ""),
            "database.distribution holds \"shards\"; allowed is none | citus",
        ),
        (
            base("", "[http]\nlisten = \"9464\"", ""),
            "http.listen holds \"9464\"; allowed is an address and a port as in 127.0.0.1:9464 or [::1]:9464",
        ),
        (
            base("", "[http]\npostback_secret = { env = \"TOKEN\" }", ""),
            "http.postback_secret is too weak or does not fit into an address; allowed are 16 or more of A-Z, a-z, 0-9, -, _, . and ~",
        ),
        (base("", "[workers]\nsubmit = 0", ""), "workers.submit holds 0; allowed is a whole number from 1 to 64"),
        (base("", "[workers]\nlease = \"1s\"", ""), "workers.lease holds \"1s\"; allowed is a duration from 2s to 1h"),
        (
            base("", "[workers]\nlease = \"2m\"", ""),
            "workers.lease holds \"2m\"; allowed is a duration such as 200ms, 2s, 15min, 6h or 35d",
        ),
        (
            base("", "[workers]\nlease = 30", ""),
            "workers.lease holds 30; allowed is a duration such as 200ms, 2s, 15min, 6h or 35d",
        ),
        (
            base("", "[workers]\npoll_min = \"2min\"", ""),
            "workers.poll_min holds \"2min\"; allowed is at most workers.poll_max, 1min",
        ),
        (
            base("", "[archive]\nkeep = \"1d\"", ""),
            "archive.url is missing; allowed is an address with file://, s3://, gs:// or az://",
        ),
        (
            base("", "[archive]\nurl = \"ftp://x/y\"", ""),
            "archive.url holds \"ftp://x/y\"; allowed is an address with file://, s3://, gs:// or az://",
        ),
        (base("", "workers = 3", ""), "workers holds 3; allowed is a table"),
        (base("", "[worker]\nlease = \"30s\"", ""), "worker is no key that is known here; did you mean `workers`?"),
        (
            base("", "colour = \"blue\"", ""),
            "colour is no key that is known here; known are reload_on_change, database, http, workers, state_dir, spool, archive, alerts, downstream, accounts, catalogue, exports",
        ),
        // Accounts.
        ("[database]\nurl = \"embedded\"".to_owned(), "accounts holds no account; add a section [accounts.NAME]"),
        (
            base("[accounts.acme]", "[accounts.Acme]", ""),
            "accounts.Acme is no name for an account; allowed are a-z, 0-9, _ and -, the first a letter or digit, at most 63",
        ),
        (
            base("persona = \"brand\"", "persona = \"advertiser\"", ""),
            "accounts.acme.persona holds \"advertiser\"; allowed is brand | partner | agency",
        ),
        (base(sid, "", ""), "accounts.acme.account_sid is missing; allowed is the Account SID, as in IRabc123"),
        (
            base(sid, "account_sid = \"IR/..\"", ""),
            "accounts.acme.account_sid holds \"IR/..\"; allowed is the Account SID: letters and digits",
        ),
        (
            base(token, "auth_token = \"hunter2\"", ""),
            "accounts.acme.auth_token must not stand in the file itself; allowed is { env = \"VARIABLE\" }, { file = \"/path\" } or { credential = \"name\" }",
        ),
        (
            base(token, "auth_token = { env = \"A\", file = \"B\" }", ""),
            "accounts.acme.auth_token must name one source; allowed is { env = \"VARIABLE\" }, { file = \"/path\" } or { credential = \"name\" }",
        ),
        (
            base(token, "auth_token = { env = \"NOBODY_SET_IT\" }", ""),
            "accounts.acme.auth_token.env names the variable NOBODY_SET_IT, which is not set or empty",
        ),
        (
            base(token, "auth_token = { file = \"/no/such/file\" }", ""),
            "accounts.acme.auth_token.file names the file /no/such/file, which cannot be read: No such file or directory (os error 2)",
        ),
        (
            base(token, "auth_token = { credential = \"acme\" }", ""),
            "accounts.acme.auth_token.credential names the credential acme, and systemd passed none; add LoadCredential=acme:/path to the unit",
        ),
        (
            base(sid, "account_sid = \"IRacme\"\nbase_url = \"http://api.impact.com\"", ""),
            "accounts.acme.base_url holds \"http://api.impact.com\"; allowed is the origin of the API: https://host, or http://host only to loopback",
        ),
        (
            base("America/New_York", "America/NewYork", ""),
            "accounts.acme.time_zone holds \"America/NewYork\"; allowed is an IANA time zone as in America/New_York; did you mean \"America/New_York\"?",
        ),
        (
            base(sid, "account_sid = \"IRacme\"\nprograms = []", ""),
            "accounts.acme.programs lists no program; allowed is \"all\" or a list of program ids",
        ),
        (
            base(sid, "account_sid = \"IRacme\"\nprograms = [1, 1]", ""),
            "accounts.acme.programs[1] repeats a program that is already listed",
        ),
        (
            base(sid, "account_sid = \"IRacme\"\nquota = { share = 1.5 }", ""),
            "accounts.acme.quota.share holds 1.5; allowed is a number above 0 and at most 1",
        ),
        // Exports.
        (
            export("accounts = [\"acme\"]\nreport = \"r\"\nsinze = \"2026-01-01\"\nsince = \"2026-01-01\""),
            "exports.x.sinze is no key that is known here; did you mean `since`?",
        ),
        (
            format!("{BASE}\n[exports.\"Bad Name\"]\n{report}"),
            "exports.Bad Name is no name for an export; allowed are a-z, 0-9 and _, the first a letter, at most 51",
        ),
        (
            format!("{BASE}\n[exports.x]\n{report}\n[exports.x_history]\n{report}"),
            "exports.x_history is the name of the history of export x; choose another",
        ),
        (
            format!("{BASE}\n[exports.x]\n{report}\n[exports.x_versions]\n{report}"),
            "exports.x_versions is the name of the view of all versions of export x; choose another",
        ),
        (
            format!("{BASE}\n[exports.x]\n{report}\n[exports.x_as_known]\n{report}"),
            "exports.x_as_known is the name of the function over the versions of export x; choose another",
        ),
        (
            export("report = \"r\"\nsince = \"2026-01-01\"\naccounts = [\"acmee\"]"),
            "exports.x.accounts[0] holds \"acmee\"; allowed is an account of the configuration: acme, blog-eu, house",
        ),
        (
            export("report = \"r\"\nsince = \"2026-01-01\"\naccounts = []"),
            "exports.x.accounts lists no account; allowed is \"all\" or a list of accounts",
        ),
        (
            export("report = \"r\"\nsince = \"2026-01-01\"\naccounts = [\"acme\", \"blog-eu\"]"),
            "exports.x.accounts covers accounts of different personas (acme: brand, blog-eu: partner); make one export for each persona",
        ),
        (
            export("since = \"2026-01-01\"\naccounts = [\"acme\"]"),
            "exports.x.report is missing; allowed is the handle of a report, or `clicks = true` instead",
        ),
        (export(&format!("clicks = true\n{report}")), "exports.x.report and `clicks` exclude each other; keep one"),
        (
            export("clicks = true\naccounts = [\"house\"]\nsince = \"2026-01-01\""),
            "exports.x.clicks asks for clicks of an agency, which impact.com does not export; use accounts of the brands",
        ),
        (
            export("clicks = true\naccounts = [\"acme\"]\nsince = \"2024-01-01\""),
            "exports.x.since holds \"2024-01-01\"; allowed is 2024-04-10 or later, for impact.com exports no clicks before that day",
        ),
        (
            export("clicks = true\naccounts = [\"acme\"]\nsince = \"2026-01-01\"\nmax_window = \"2d\""),
            "exports.x.max_window holds \"2d\"; allowed is 1d, for clicks are exported day by day",
        ),
        (
            base(
                sid,
                "account_sid = \"IRacme\"\nprograms = [1000]",
                "[exports.x]\nclicks = true\naccounts = [\"acme\"]\nsince = \"2026-01-01\"\nprograms = [1000, 9]",
            ),
            "exports.x.programs names 9, not among accounts.acme.programs; add it there",
        ),
        (
            export(
                "report = \"r\"\naccounts = [\"acme\"]\nsince = \"2026-01-01\"\nper_program = false\nprograms = [1000]",
            ),
            "exports.x.programs names programs, but the export is not asked for per program; set per_program = true or take it away",
        ),
        (
            export("clicks = true\naccounts = [\"acme\"]\nsince = \"2026-01-01\"\nper_program = false"),
            "exports.x.per_program holds false; allowed is true, for a brand's clicks are exported program by program",
        ),
        (
            export("report = \"r\"\naccounts = [\"acme\"]"),
            "exports.x.since is missing; allowed is a day as in \"2026-01-31\"",
        ),
        (
            export("report = \"r\"\naccounts = [\"acme\"]\nsince = \"yesterday\""),
            "exports.x.since holds \"yesterday\"; allowed is a day as in \"2026-01-31\"",
        ),
        (
            with("schedule = \"*/15 * * * *\""),
            "exports.x.schedule holds \"*/15 * * * *\"; allowed is a cron of six fields, seconds first, as in \"0 */15 * * * *\"; write \"0 */15 * * * *\"",
        ),
        (
            with("schedule = \"hourly\""),
            "exports.x.schedule holds \"hourly\"; allowed is a cron of six fields, seconds first, as in \"0 */15 * * * *\"",
        ),
        (
            with("params = { START_DATE = \"2026-01-01\" }"),
            "exports.x.params.START_DATE is a parameter that every order sets by itself; take it away",
        ),
        (
            with("params = { SHOW_DATE = { a = 1 } }"),
            "exports.x.params.SHOW_DATE holds a table; allowed is a text, or a list of texts for a parameter that is repeated",
        ),
        (
            with("key = \"Action_Id\""),
            "exports.x.key holds \"Action_Id\"; allowed is a list of columns of the file, or [] for none",
        ),
        (
            with("max_window = \"7d\""),
            "exports.x.max_window holds \"7d\"; allowed is 1d, for rows without a date_column cannot be told apart by day",
        ),
        (
            with("date_column = \"D\"\nmax_window = \"36h\""),
            "exports.x.max_window holds \"36h\"; allowed is whole days as in 31d",
        ),
        (
            with("locked = { open = [\"PENDING\"] }"),
            "exports.x.locked.status_column is missing; allowed is the name of a column",
        ),
        (
            with("locked = { status_column = \"Status\", open = \"PENDING\" }"),
            "exports.x.locked.open holds \"PENDING\"; allowed is a list of words that leave a row open, as in [\"PENDING\"]",
        ),
        (
            with("locked = { status_column = \"Status\", open = [\"PENDING\"], detail_column = \"D\" }"),
            "exports.x.locked.open_details is missing; allowed is a list of words that leave a row open, as in [\"PENDING\"]",
        ),
        (
            with("locked = { status_column = \"Status\", open = [\"PENDING\"], date = \"D\" }"),
            "exports.x.locked.date is no key that is known here; known are status_column, open, date_column, detail_column",
        ),
        (with("max_rows = 0"), "exports.x.max_rows holds 0; allowed is a whole number from 1 to 4294967295"),
        (
            with("refresh = [{ age = \"3d\" }]"),
            "exports.x.refresh[0].every is missing; allowed is a duration such as 200ms, 2s, 15min, 6h or 35d",
        ),
        (
            with("refresh = [{ age = \"3d\", every = \"1d\" }, { age = \"2d\", every = \"1d\" }]"),
            "exports.x.refresh[1].age must be greater than the age before it: the youngest comes first",
        ),
        (with("history = \"yes\""), "exports.x.history holds \"yes\"; allowed is true or false"),
        (
            with("on_type_conflict = \"drop\""),
            "exports.x.on_type_conflict holds \"drop\"; allowed is widen | quarantine",
        ),
        (with("result_format = \"xml\""), "exports.x.result_format holds \"xml\"; allowed is csv | json"),
        (with("result_format = true"), "exports.x.result_format holds true; allowed is csv | json"),
        (
            with("params = { RESULT_FORMAT = \"JSON\" }"),
            "exports.x.params.RESULT_FORMAT is set by `result_format` of the export; take it away",
        ),
        (
            with("on_count_mismatch = \"fail\""),
            "exports.x.on_count_mismatch holds \"fail\"; allowed is ignore | warn | refuse",
        ),
        (with("keep = \"1d\""), "exports.x.keep holds \"1d\"; allowed is a duration from 7d to 36500d"),
        (with("keep = \"180h\""), "exports.x.keep holds \"180h\"; allowed is whole days as in 1095d"),
        (
            with("") + "\n[exports.x_p2026_05]\nreport = \"r\"\naccounts = [\"acme\"]\nsince = \"2026-01-01\"",
            "exports.x_p2026_05 is the name of a partition of export x; choose another",
        ),
        (with("partition = \"year\""), "exports.x.partition holds \"year\"; allowed is none | month"),
        (
            with("types = { A = \"integer\" }"),
            "exports.x.types.A holds \"integer\"; allowed is boolean | bigint | numeric | date | timestamptz | text",
        ),
        // The file.
        (
            "[database]\nurl = \"secret-in-this-line".to_owned(),
            "mirror.toml, line 2: invalid basic string, expected `\"`",
        ),
    ];
    for (text, expected) in cases {
        assert_eq!(problems(&text), [expected], "{text}");
    }
}

#[test]
fn all_problems_are_told_at_once() {
    let text = base("url = \"embedded\"", "ulr = \"embedded\"", "[workers]\nlease = \"1s\"\n[exports.x]\nsince = 5\n");
    let error = check(&text).unwrap_err().to_string();
    insta::assert_snapshot!(error, @r#"
    the configuration mirror.toml has 6 problems:
      database.ulr is no key that is known here; did you mean `url`?
      database.url is missing; allowed is "embedded", for a private Postgres, or an address as in postgres://user@host:5432/database
      exports.x.accounts covers accounts of different personas (acme: brand, blog-eu: partner, house: agency); make one export for each persona
      exports.x.report is missing; allowed is the handle of a report, or `clicks = true` instead
      exports.x.since holds 5; allowed is a day as in "2026-01-31"
      workers.lease holds "1s"; allowed is a duration from 2s to 1h
    "#);
}

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
    let empty = format!("accounts.acme.auth_token.file is empty in the file {}", file.display());
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
fn what_has_no_effect_yet_is_told() {
    let lines = "report = \"r\"\nsince = \"2026-01-01\"\naccounts = [\"acme\"]";
    let text = base("url = \"embedded\"", "url = \"embedded\"\ndistribution = \"citus\"", "");
    let settings = check(&format!("{text}[exports.x]\n{lines}")).unwrap();
    assert_eq!(settings.not_yet(), ["database.distribution = \"citus\" has no effect in this version",]);
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let error = config::load(Some(Path::new("/no/such/mirror.toml"))).unwrap_err();
    assert_eq!(error.to_string(), "cannot read the configuration /no/such/mirror.toml");
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

/// An entry of the user's own, and an export of its report.
fn with_entry(lines: &str) -> String {
    let export = "[exports.stores]\naccounts = [\"acme\"]\nreport = \"stores\"\nsince = \"2026-01-01\"\n";
    format!("{BASE}{export}\n[catalogue.stores]\n{lines}\n")
}

#[test]
fn an_entry_of_the_users_own_is_used_like_a_built_in_one() {
    let lines = r#"
        persona = "brand"
        key = ["Store", "Day"]
        date_column = "Day"
        refresh = [{ age = "10d", every = "1d" }]
        params = { SHOW_DATE = ["1"] }
        max_rows = 7
        columns = { Store = { kind = "text", says = "The number of the store." }, Day = { says = "The day." } }
    "#;
    let settings = check(&with_entry(lines)).unwrap();
    let export = &settings.exports[&ExportName::new("stores")];
    assert_eq!(
        (&export.key[..], export.date_column.as_deref()),
        (&["Store".to_owned(), "Day".to_owned()][..], Some("Day"))
    );
    assert_eq!((export.refresh.len(), export.max_rows), (1, Some(7)));
    assert_eq!(export.params["SHOW_DATE"], ["1"]);
    assert_eq!(export.types, [("Store".to_owned(), ColumnKind::Text)].into());

    let nothing =
        check(&with_entry("persona = \"brand\"\nlikely_key = [\"Store\"]\nlikely_date_column = \"Day\"")).unwrap();
    let export = &nothing.exports[&ExportName::new("stores")];
    assert!(export.key.is_empty() && export.date_column.is_none(), "a guess is used by nobody");

    let of_another = check(&with_entry("persona = \"partner\"\nkey = [\"Store\"]")).unwrap();
    assert!(of_another.exports[&ExportName::new("stores")].key.is_empty(), "an entry is for its persona");
}

#[test]
fn an_entry_of_the_users_own_stands_in_the_place_of_the_built_in_one() {
    let entry = "[catalogue.adv_action_listing_pm_only]\npersona = \"brand\"\nkey = [\"OID\"]\nrefresh = []\n";
    let settings = check(&format!("{BASE}{ACTIONS}{entry}")).unwrap();
    let actions = &settings.exports[&ExportName::new("actions")];
    assert_eq!((&actions.key[..], &actions.date_column), (&["OID".to_owned()][..], &None));
    assert!(actions.refresh.is_empty() && actions.params.is_empty() && actions.types.is_empty());
    let own = "[exports.actions]\naccounts = [\"acme\"]\nreport = \"adv_action_listing_pm_only\"\nsince = \"2026-01-01\"\nkey = [\"Action_Id\"]\n";
    let settings = check(&format!("{BASE}{own}{entry}")).unwrap();
    assert_eq!(settings.exports[&ExportName::new("actions")].key, ["Action_Id"], "the export itself has the last word");
}

#[test]
fn a_mistake_in_an_entry_of_the_users_own_names_the_key() {
    let brand = "persona = \"brand\"\n";
    for (lines, said) in [
        ("key = [\"A\"]".to_owned(), "catalogue.stores"),
        (format!("{brand}kee = [\"A\"]"), "kee"),
        (format!("{brand}columns = {{ A = {{ kind = \"money\" }} }}"), "catalogue.stores.columns.A.kind"),
        (format!("{brand}columns = {{ A = {{ sais = \"x\" }} }}"), "sais"),
        (format!("{brand}refresh = [{{ age = \"soon\", every = \"1d\" }}]"), "catalogue.stores.refresh"),
        (
            format!("{brand}refresh = [{{ age = \"9d\", every = \"1d\" }}, {{ age = \"3d\", every = \"1d\" }}]"),
            "catalogue.stores.refresh must have the youngest age first",
        ),
        (
            format!("{brand}key = [\"A\"]\nlikely_key = [\"B\"]"),
            "catalogue.stores.likely_key and `key` exclude each other",
        ),
        (format!("{brand}certainty = \"surely\""), "catalogue.stores.certainty"),
        ("persona = \"agent\"".to_owned(), "catalogue.stores.persona"),
    ] {
        let problems = problems(&with_entry(&lines));
        assert!(
            problems.len() == 1 && problems[0].starts_with("catalogue.stores") && problems[0].contains(said),
            "{lines}: {problems:?}"
        );
    }
    let problems = problems(&format!("{BASE}{ACTIONS}[catalogue.\"a b\"]\npersona = \"brand\"\n"));
    assert!(problems[0].contains("is no handle"), "{problems:?}");
}

#[test]
fn the_entry_of_the_example_is_one() {
    let (_, own) = EXAMPLE.split_once("# [catalogue.my_custom_report]\n").unwrap();
    let guesses = |line: &&str| !line.starts_with("likely_");
    let lines =
        own.lines().filter_map(|line| line.strip_prefix("# ")).filter(|line| line.contains(" = ")).filter(guesses);
    let text = format!("{BASE}{ACTIONS}[catalogue.my_custom_report]\n{}\n", lines.collect::<Vec<_>>().join("\n"));
    let settings = check(&text).unwrap();
    assert_eq!(settings.catalogue["my_custom_report"].key, ["Store", "Day"]);
}
