//! What `reports` tells, to a person and to scripts.

use serde_json::{Value, json};

use crate::app::reports::describe::{Chosen, ColumnFacts, Description};
use crate::app::reports::{Offer, handle};
use crate::config::{Account, duration};
use crate::export::{ExportName, RefreshRule, Source};

use super::super::table::{Table, wrapped};

/// How wide lines are.
const WIDTH: usize = 100;

pub(super) fn print_list(account: &Account, offers: &[Offer]) {
    let (exportable, others): (Vec<&Offer>, Vec<&Offer>) = offers.iter().partition(|offer| offer.exportable);
    say!("Account {} ({}) can export:", account.name, account.persona);
    let mut table = Table::new(&["handle", "name", "mirrored by", "known"]);
    for offer in &exportable {
        let known = if offer.says.is_some() { "yes" } else { "no" };
        table.row(vec![
            handle(offer.source.as_ref()).to_owned(),
            offer.name.clone(),
            listed(&offer.mirrored_by),
            known.to_owned(),
        ]);
    }
    say_as_is!("{table}");
    if !others.is_empty() {
        let names: Vec<&str> = others.iter().map(|offer| offer.name.as_str()).collect();
        say_as_is!("\n{}", wrapped("On the web pages alone: ", &names.join(", "), WIDTH));
    }
    say!("\nWhat one is: impact-mirror reports describe HANDLE. To mirror it: impact-mirror reports add HANDLE.");
}

fn listed(exports: &[ExportName]) -> String {
    exports.iter().map(ExportName::as_str).collect::<Vec<_>>().join(", ")
}

pub(super) fn list_json(account: &Account, offers: &[Offer]) -> Value {
    let reports: Vec<Value> = offers
        .iter()
        .map(|offer| {
            json!({"handle": offer.source.as_ref().map(|source| handle(Some(source))), "name": offer.name,
                   "category": offer.category, "exportable": offer.exportable, "known": offer.says.is_some(),
                   "says": offer.says, "mirrored_by": offer.mirrored_by})
        })
        .collect();
    json!({"account": account.name, "persona": account.persona, "reports": reports})
}

pub(super) fn print_description(described: &Description) {
    let Description { account, persona, source, .. } = described;
    say!("{} ({}) of account {account}, a {persona}\n", described.name(), handle(Some(source)));
    for (first, text) in facts(described) {
        say_as_is!("{}", wrapped(&format!("  {first:<13} "), &text, WIDTH));
    }
    let columns = described.columns();
    if columns.is_empty() {
        say!("\nIts columns are known to nobody before the first file.");
        return;
    }
    say!("\nColumns:");
    let mut table = Table::new(&["column", "type", "sure", "what it holds"]);
    for column in &columns {
        let kind = column.kind.map_or("by the data", |kind| kind.as_str());
        let what = if column.is_in_metadata || described.metadata.is_none() {
            column.says.clone()
        } else {
            format!("(not in the metadata) {}", column.says)
        };
        table.row(vec![column.name.clone(), kind.to_owned(), sure(column).to_owned(), what]);
    }
    say_as_is!("{}", table.within(140));
}

fn sure(column: &ColumnFacts) -> &'static str {
    column.certainty.map_or("metadata", |certainty| certainty.as_str())
}

/// What there is to say besides columns, by a word or two each.
fn facts(described: &Description) -> Vec<(&'static str, String)> {
    let mut facts = Vec::new();
    let mut fact = |first, text: String| {
        if !text.is_empty() {
            facts.push((first, text));
        }
    };
    fact("mirrored by", listed(&described.mirrored_by));
    match &described.entry {
        None => fact("catalogue", "does not know it; [catalogue.HANDLE] of the configuration can".to_owned()),
        Some(entry) => {
            let whose = if described.is_own { "your own; " } else { "" };
            fact("one row", entry.says.clone());
            fact("rows", entry.changes.map_or_else(String::new, |changes| changes.says().to_owned()));
            fact("key", chosen(&described.key()));
            fact("date", chosen(&described.date_column()));
            fact("limits", entry.limits.clone().unwrap_or_default());
            fact("rows a file", entry.max_rows.map_or_else(String::new, |rows| format!("at most {rows}")));
            fact("asked with", parameters(entry.params.iter()));
            let needs = entry.needs.iter().map(|(name, says)| format!("{name} ({says})"));
            fact("needs", needs.collect::<Vec<_>>().join(" "));
            fact("read again", again(entry.refresh.as_deref(), &described.source));
            let (report, grain) = (entry.certainty.as_str(), entry.grain.as_str());
            fact("certainty", format!("{whose}the report: {report}; what one row is: {grain}"));
        }
    }
    if !described.missing().is_empty() {
        fact(
            "look at",
            format!("the metadata does not have {}; a toggle may bring it", described.missing().join(", ")),
        );
    }
    let filters = described.date_filters().into_iter().map(|filter| match &filter.format {
        Some(format) if !format.is_empty() => format!("{} ({format})", filter.parameter),
        Some(_) | None => filter.parameter.clone(),
    });
    fact("date filters", filters.collect::<Vec<_>>().join(", "));
    let others = described.metadata.iter().flat_map(|metadata| &metadata.filters);
    let dated: Vec<&str> = described.date_filters().iter().map(|filter| filter.parameter.as_str()).collect();
    let others = others.map(|filter| filter.parameter.as_str()).filter(|name| !dated.contains(name));
    fact("filters", others.collect::<Vec<_>>().join(", "));
    if described.metadata.is_none() && described.source != Source::Clicks {
        fact("metadata", "impact.com has none for it".to_owned());
    }
    facts
}

fn chosen(chosen: &Chosen) -> String {
    match chosen {
        Chosen::Known(columns) => columns.join(", "),
        Chosen::Confirmed(columns) => {
            format!("likely {}, which the metadata has; `reports add` writes it", columns.join(", "))
        }
        Chosen::Guess(columns) => format!("likely {}, which the metadata does not have", columns.join(", ")),
        Chosen::Unknown => String::new(),
    }
}

fn parameters<'a>(params: impl Iterator<Item = (&'a String, &'a Vec<String>)>) -> String {
    params.map(|(name, values)| format!("{name}={}", values.join("|"))).collect::<Vec<_>>().join(" ")
}

fn again(rules: Option<&[RefreshRule]>, source: &Source) -> String {
    match rules {
        None if *source == Source::Clicks => "never".to_owned(),
        None => "by the general rules".to_owned(),
        Some([]) => "never".to_owned(),
        Some(rules) => {
            let rule = |rule: &RefreshRule| {
                format!("up to {} old every {}", duration::write(rule.age), duration::write(rule.every))
            };
            rules.iter().map(rule).collect::<Vec<_>>().join(", ")
        }
    }
}

pub(super) fn description_json(described: &Description) -> Value {
    let columns: Vec<Value> = described
        .columns()
        .iter()
        .map(|column| {
            json!({"name": column.name, "type": column.kind, "in_metadata": column.is_in_metadata,
                   "says": column.says, "certainty": column.certainty})
        })
        .collect();
    let filters: Vec<Value> = described
        .metadata
        .iter()
        .flat_map(|metadata| &metadata.filters)
        .map(|filter| json!({"parameter": filter.parameter, "type": filter.data_type, "format": filter.format}))
        .collect();
    let entry = described.entry.as_ref();
    let refresh = entry.and_then(|entry| entry.refresh.as_ref()).map(|rules| {
        let rule = |rule: &RefreshRule| json!({"age": duration::write(rule.age), "every": duration::write(rule.every)});
        rules.iter().map(rule).collect::<Vec<_>>()
    });
    json!({
        "account": described.account, "persona": described.persona, "handle": handle(Some(&described.source)),
        "name": described.name(), "says": entry.map(|entry| &entry.says),
        "certainty": entry.map(|entry| entry.certainty), "grain": entry.map(|entry| entry.grain),
        "own": described.is_own, "changes": entry.and_then(|entry| entry.changes),
        "key": chosen_json(&described.key()), "date_column": chosen_json(&described.date_column()),
        "params": entry.map(|entry| &entry.params), "needs": entry.map(|entry| &entry.needs), "refresh": refresh,
        "max_rows": entry.and_then(|entry| entry.max_rows), "limits": entry.and_then(|entry| entry.limits.as_ref()),
        "columns": columns, "filters": filters, "mirrored_by": described.mirrored_by,
    })
}

fn chosen_json(chosen: &Chosen) -> Value {
    match chosen {
        Chosen::Known(columns) => json!({"columns": columns, "standing": "known"}),
        Chosen::Confirmed(columns) => json!({"columns": columns, "standing": "likely"}),
        Chosen::Guess(columns) => json!({"columns": columns, "standing": "guess"}),
        Chosen::Unknown => Value::Null,
    }
}
