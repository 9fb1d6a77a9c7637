//! What is refused, and in which words.

use super::{BASE, base, check, export, problems};

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
            "accounts.acme.auth_token.env names the variable NOBODY_SET_IT, which is not set or empty; export it, or name a file as { file = \"/path\" }",
        ),
        (
            base(token, "auth_token = { file = \"/no/such/file\" }", ""),
            "accounts.acme.auth_token.file names the file /no/such/file, which cannot be read: No such file or directory (os error 2); write the secret there, or give this user the right to read it",
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
