//! Which mirrored tables the views for analysts are made of: read from our own list of exports and from the catalog.

use std::collections::BTreeMap;

use sqlx::PgConnection;

use crate::account::Persona;
use crate::config::{Entry, catalogue};
use crate::error_chain::Chain;
use crate::export::ExportName;
use crate::mirror::catalog;
use crate::mirror::error::{Error, Place};
use crate::mirror::header::folded;
use crate::mirror::layout::{History, Standing, index_name};
use crate::mirror::table::Table;
use crate::mirror::table::views::Feeding;

/// The reports by day of a brand and of a partner: a row is a day of what was asked for, with its actions, sales and costs.
const BY_DAY: [&str; 2] = ["att_adv_performance_by_day_pm_only", "partner_performance_by_day"];

/// All mirrored tables of configured exports.
#[derive(Debug, Default)]
pub(super) struct Sources {
    pub actions: Vec<Feeding>,
    pub clicks: Vec<Feeding>,
    /// Reports that add actions up by day, to be held against the listings.
    pub by_day: Vec<Feeding>,
    /// Every table, for its comments.
    pub tables: Vec<Mirrored>,
}

/// A mirrored table and what is known of its export.
#[derive(Debug)]
pub(super) struct Mirrored {
    pub table: Table,
    pub standing: Standing,
    pub report: Option<String>,
    /// Whose accounts it is mirrored for.
    persona: Option<Persona>,
    is_clicks: bool,
}

impl Mirrored {
    /// What is known of the export: what users say over what the built-in catalogue does.
    pub fn entry<'a>(&self, own: &'a BTreeMap<String, Entry>) -> Option<&'a Entry> {
        match &self.report {
            Some(report) => {
                let own = own.get(report).filter(|entry| self.persona.is_none_or(|persona| entry.persona == persona));
                own.or_else(|| catalogue().reports.get(report))
            }
            None if self.is_clicks => catalogue().clicks.get(self.persona?.as_str()),
            None => None,
        }
    }
}

/// Reads them.
pub(super) async fn read(conn: &mut PgConnection, schema: &str) -> Result<Sources, Error> {
    let place = Place { export: ExportName::new("all"), file: "the catalog".into() };
    let exports = sqlx::query!(
        r#"
        select e.name, e.report, e.bucket = 'click_export' as "is_clicks!", min(a.persona) as persona,
               coalesce(array_agg(a.name order by a.name) filter (where a.name is not null), '{}') as "accounts!"
        from impact_mirror.export e
        left join impact_mirror.export_account x on x.export = e.name
        left join impact_mirror.account a on a.name = x.account and a.active
        where e.active and e.table_name = $1 || '.' || e.name
        group by e.name
        order by e.name
        "#,
        schema,
    )
    .fetch_all(&mut *conn)
    .await
    .map_err(place.database("read the exports"))?;
    let mut sources = Sources::default();
    let mut listings = Vec::new();
    for export in exports {
        let name = ExportName::new(export.name);
        let table = Table::new(schema, &name);
        let standing = match catalog::read(conn, &table, &Place::without_file(&name)).await {
            Ok(standing) => standing,
            Err(error @ Error::ForeignType { .. }) => {
                tracing::warn!(error = %Chain(&error), "the views for analysts do without {name}");
                continue;
            }
            Err(error) => return Err(error),
        };
        let persona = export.persona.as_deref().and_then(persona);
        if let Some(persona) = persona.filter(|_| standing.exists) {
            let feeding = feeding(&table, persona, &standing);
            match &export.report {
                None if export.is_clicks => sources.clicks.push(feeding),
                Some(report) if is_action_listing(report) && feeding.tells("action_id") => {
                    listings.push((report.clone(), export.accounts, feeding));
                }
                Some(report) if BY_DAY.contains(&report.as_str()) => sources.by_day.push(feeding),
                Some(_) | None => {}
            }
        }
        if standing.exists {
            let is_clicks = export.is_clicks;
            sources.tables.push(Mirrored { table, standing, report: export.report, persona, is_clicks });
        }
    }
    sources.actions = one_listing_of_each_account(listings);
    Ok(sources)
}

fn persona(word: &str) -> Option<Persona> {
    [Persona::Brand, Persona::Partner, Persona::Agency].into_iter().find(|persona| persona.as_str() == word)
}

fn feeding(table: &Table, persona: Persona, standing: &Standing) -> Feeding {
    let columns = standing.columns.iter().filter(|column| column.in_table);
    Feeding {
        table: table.clone(),
        persona,
        only: Vec::new(),
        columns: columns.map(|column| (folded(&column.source), column.name.clone(), column.kind)).collect(),
        keyed: standing.indexes.contains_key(&index_name(table.name(), "key")),
        answers: standing.history == History::Whole,
    }
}

/// Whether a row of a report is an action. Those of payments and clicks list it once for each of these.
fn is_action_listing(report: &str) -> bool {
    const OTHERS: [&str; 5] = ["paystub", "withdrawal", "clearing", "cpc", "click"];
    report.contains("action_listing") && !OTHERS.iter().any(|other| report.contains(other))
}

/// Of several reports that list the actions of an account, the one with a key that tells most; else its actions would count twice.
fn one_listing_of_each_account(listings: Vec<(String, Vec<String>, Feeding)>) -> Vec<Feeding> {
    let mut best: BTreeMap<&str, (bool, usize, &str)> = BTreeMap::new();
    for (report, accounts, feeding) in &listings {
        let rank = (feeding.keyed, feeding.columns.len(), report.as_str());
        for account in accounts {
            let known = best.entry(account).or_insert(rank);
            *known = rank.max(*known);
        }
    }
    let best: BTreeMap<String, String> =
        best.into_iter().map(|(account, (_, _, report))| (account.to_owned(), report.to_owned())).collect();
    let chosen = listings.into_iter().filter_map(|(report, accounts, feeding)| {
        let only: Vec<String> =
            accounts.iter().filter(|account| best.get(*account) == Some(&report)).cloned().collect();
        match only.len() {
            0 => None,
            all if all == accounts.len() => Some(feeding),
            _ => Some(Feeding { only, ..feeding }),
        }
    });
    chosen.collect()
}

/// The table of an export of clicks; `None` where it is none, or nobody has configured it.
pub(in crate::mirror) async fn feeding_of_clicks(
    conn: &mut PgConnection,
    table: &Table,
    place: &Place,
) -> Result<Option<Feeding>, Error> {
    let persona_of = sqlx::query_scalar!(
        r#"
        select min(a.persona)
        from impact_mirror.export e
        join impact_mirror.export_account x on x.export = e.name
        join impact_mirror.account a on a.name = x.account
        where e.name = $1 and e.bucket = 'click_export'
        "#,
        place.export.as_str(),
    )
    .fetch_one(&mut *conn)
    .await
    .map_err(place.database("look whether the export is one of clicks"))?;
    let Some(persona) = persona_of.as_deref().and_then(persona) else { return Ok(None) };
    let standing = catalog::read(conn, table, place).await?;
    Ok(standing.exists.then(|| feeding(table, persona, &standing)))
}
