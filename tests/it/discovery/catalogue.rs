use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use chrono::{Days, Utc};
use impact_mirror::column::ColumnKind;
use impact_mirror::config::{self, Account, Environment};
use impact_mirror::export::{ExportRequest, Program, ReportHandle, ResultFormat, Source, Window};
use impact_mirror::impact::{Body, Client, Download, ReportMetaData};

use super::*;

/// What metadata calls times and whole numbers, and the catalogue knows better: days that are written as days, ids.
const KNOWN_BETTER: [(&str, ColumnKind, ColumnKind); 2] = [
    ("date_display", ColumnKind::Timestamptz, ColumnKind::Date),
    ("campaign_id", ColumnKind::Bigint, ColumnKind::Text),
];

fn account(sandbox: &Sandbox, persona: Persona) -> Account {
    let (sid, _) = credential(persona);
    let text = format!(
        "[database]\nurl = \"embedded\"\n[accounts.a]\npersona = \"{persona}\"\naccount_sid = \"{sid}\"\nauth_token = {{ env = \"TOKEN\" }}\n\
         base_url = \"{}\"\ntime_zone = \"America/New_York\"\n",
        sandbox.base_url()
    );
    let environment = Environment::from([("TOKEN", credential(persona).1)]);
    let settings = config::check(&text, Path::new("x.toml"), &environment).unwrap();
    settings.accounts.into_values().next().unwrap()
}

async fn offered(client: &Client) -> BTreeMap<ReportHandle, ReportMetaData> {
    let reports = client.reports(|_| async { true }).await.unwrap().value;
    let mut offered = BTreeMap::new();
    for handle in reports.into_iter().filter(|report| report.api_accessible).filter_map(|report| report.handle) {
        let metadata = client.report_columns(&handle).await.unwrap().value;
        offered.insert(handle, metadata);
    }
    offered
}

/// The header of a file of the day before yesterday, asked for as the catalogue says.
async fn header(client: &Client, persona: Persona, source: Source) -> BTreeSet<String> {
    let entry = config::catalogue().entry(&source, persona).unwrap();
    let is_per_program = persona == Persona::Brand;
    let request = ExportRequest {
        program: if is_per_program { Program::new("1000") } else { Program::none() },
        window: Window::day(Utc::now().date_naive() - Days::new(2)),
        params: entry.params.clone(),
        format: ResultFormat::Csv,
        source,
    };
    let job = client.submit(&request).await.unwrap().value.id;
    loop {
        let downloaded = client.download(&job, |_| async { true }).await;
        if let Download::File(mut body) = downloaded.result.unwrap() {
            return first_line(&mut body).await;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn first_line(body: &mut Body) -> BTreeSet<String> {
    let mut text = Vec::new();
    while let Some(chunk) = body.chunk().await.unwrap() {
        text.extend_from_slice(&chunk);
    }
    let text = String::from_utf8(text).unwrap();
    text.lines().next().unwrap().split(',').map(str::to_owned).collect()
}

#[tokio::test]
async fn whatever_the_simulator_offers_is_in_the_catalogue_and_agrees_with_it() {
    let options = Options { job_duration: Duration::from_millis(10), ..Options::default() };
    let sandbox = Sandbox::start(options).await.unwrap();
    let mut reports = 0;
    for persona in [Persona::Brand, Persona::Partner, Persona::Agency] {
        let client = Client::new(&account(&sandbox, persona)).unwrap();
        for (handle, metadata) in offered(&client).await {
            reports += 1;
            let source = Source::Report(handle.clone());
            let entry = config::catalogue().entry(&source, persona).unwrap_or_else(|| panic!("{handle} is not known"));
            for column in &metadata.attributes {
                let known =
                    entry.column(&column.name).unwrap_or_else(|| panic!("{handle}: {} is not known", column.name));
                let (Some(kind), Some(theirs)) = (known.kind, column.kind) else { continue };
                let agrees = kind == theirs || KNOWN_BETTER.contains(&(column.name.as_str(), theirs, kind));
                assert!(agrees, "{handle}: {} is {kind} here and {theirs} in the metadata", column.name);
            }
            let has = |name: &String| metadata.attributes.iter().any(|column| column.name.eq_ignore_ascii_case(name));
            let named = [&entry.key, &entry.likely_key].into_iter().flatten();
            let named = named.chain(&entry.date_column).chain(&entry.likely_date_column);
            assert!(named.clone().all(has), "{handle}: {:?}", named.collect::<Vec<_>>());
            let filters: BTreeSet<&str> = metadata.filters.iter().map(|filter| filter.parameter.as_str()).collect();
            for parameter in entry.params.keys().filter(|name| !name.starts_with("SHOW_")) {
                assert!(filters.contains(parameter.as_str()), "{handle}: {parameter}");
            }
            // Asked as the catalogue says, the file has what rows are keyed, dated and locked by, and nothing that is unknown.
            let header = header(&client, persona, source).await;
            let lock = entry
                .locked
                .iter()
                .flat_map(|rule| [Some(&rule.status_column), rule.date_column.as_ref(), rule.detail_column.as_ref()]);
            for name in entry.key.iter().chain(&entry.date_column).chain(lock.flatten()) {
                assert!(
                    header.iter().any(|other| other.eq_ignore_ascii_case(name)),
                    "{handle}: {name} is not in {header:?}"
                );
            }
            assert!(header.iter().all(|name| entry.column(name).is_some()), "{handle}: {header:?}");
        }
        if persona != Persona::Agency {
            let entry = config::catalogue().entry(&Source::Clicks, persona).unwrap();
            let header = header(&client, persona, Source::Clicks).await;
            assert!(header.iter().all(|name| entry.columns.contains_key(name)), "clicks: {header:?}");
        }
    }
    assert_eq!(reports, 8);
}
