//! What an account can look up: itself, its programs, its brands, its reports and their columns.

use axum::http::StatusCode;
use chrono_tz::Tz;
use serde_json::{Value, json};

use super::catalogue;
use super::data;
use super::envelope::{Refusal, Reply};
use super::jobs::page_of;
use super::options::{Account, Persona};
use super::params::Params;
use super::world::World;

/// CompanyInformation: the zone is a display text, and its offset is that of winter.
pub fn company(account: &Account) -> Reply {
    let value = json!({
        "CompanyName": account.name,
        "Currency": account.currency,
        "Timezone": display_zone(account.time_zone),
        "Website": "https://sandbox.example",
    });
    Reply::ok(Some("CompanyInformation"), value)
}

fn display_zone(zone: Tz) -> String {
    match zone {
        Tz::America__New_York => "(GMT -05:00) Eastern Time (US & Canada)".into(),
        Tz::America__Chicago => "(GMT -06:00) Central Time (US & Canada)".into(),
        Tz::America__Denver => "(GMT -07:00) Mountain Time (US & Canada)".into(),
        Tz::America__Los_Angeles => "(GMT -08:00) Pacific Time (US & Canada); Tijuana".into(),
        Tz::Europe__London => "(GMT +00:00) Greenwich Mean Time: Dublin, Edinburgh, Lisbon, London".into(),
        Tz::Europe__Berlin => "(GMT +01:00) Amsterdam, Berlin, Bern, Rome, Stockholm, Vienna".into(),
        Tz::UTC => "(GMT +00:00) UTC".into(),
        other => format!("(GMT) {}", other.name()),
    }
}

/// The programs of a brand, or those that a partner has joined.
pub fn campaigns(world: &World, account: &Account, params: &Params, path: &str) -> Reply {
    let rows = account.programs.iter().map(|(id, name)| match account.persona {
        Persona::Partner => json!({
            "CampaignId": id.to_string(),
            "CampaignName": name,
            "AdvertiserId": "9001",
            "AdvertiserName": "Sandbox Brand",
            "ContractStatus": "Active",
        }),
        Persona::Brand | Persona::Agency => {
            json!({"Id": id, "Name": name, "State": "ACTIVE", "Type": "PERFORMANCE", "Currency": account.currency})
        }
    });
    list(world, account, "Campaigns", rows.collect(), params, path)
}

/// The brands of an agency, each with the (made-up) credential that the real API puts there.
pub fn advertisers(world: &World, account: &Account, params: &Params, path: &str) -> Reply {
    let brands = world.options.accounts.iter().filter(|other| other.persona == Persona::Brand);
    let rows = brands.enumerate().map(|(index, brand)| {
        json!({
            "Id": (9001 + index).to_string(),
            "Name": brand.name,
            "State": "ACTIVE",
            "Timezone": brand.time_zone.name(),
            "Currency": brand.currency,
            "RestAccountURL":
                format!("{0}:made-up-secret-{index}@api.impactradius.com/Advertisers/{0}", brand.sid),
        })
    });
    list(world, account, "Advertisers", rows.collect(), params, path)
}

/// The reports of the account, with some that only people at a screen can run.
pub fn reports(world: &World, account: &Account, params: &Params, path: &str) -> Reply {
    let base = format!("/{}/{}", account.persona.segment(), account.sid);
    let mut rows: Vec<Value> = catalogue::reports(account.persona)
        .map(|report| {
            json!({
                "Name": report.name,
                "Id": report.handle,
                "Category": report.category,
                "Description": format!("{} of the sandbox", report.name),
                "ApiAccessible": true,
                "ApiRunUri": format!("{base}/Reports/{}", report.handle),
                "DeferredApiRunUri": format!("{base}/ReportExport/{}", report.handle),
                "MetaDataUri": meta_data_uri(account, &base, report.handle),
            })
        })
        .collect();
    for (name, id) in catalogue::UI_ONLY {
        let mut row = json!({
            "Name": name,
            "ApiAccessible": false,
            "RunUri": format!("/secure/report/viewReport.report?name={}", name.replace(' ', "+")),
        });
        if let Some(id) = id {
            row["Id"] = json!(id);
            row["Category"] = json!("Compliance");
        }
        rows.push(row);
    }
    list(world, account, "Reports", rows, params, path)
}

fn meta_data_uri(account: &Account, base: &str, handle: &str) -> String {
    match account.persona {
        Persona::Brand => format!("{base}/ReportsMetadata/{handle}"),
        Persona::Partner | Persona::Agency => format!("{base}/Reports/{handle}/MetaData"),
    }
}

/// The filters and columns of a report.
pub fn meta_data(account: &Account, handle: &str) -> Result<Reply, Refusal> {
    let report = catalogue::find(account.persona, handle)
        .ok_or_else(|| Refusal::new(StatusCode::NOT_FOUND, format!("Report {handle} was not found")))?;
    let base = format!("/{}/{}", account.persona.segment(), account.sid);
    let attributes: Vec<Value> = data::attributes(report.feed)
        .into_iter()
        .map(|(name, kind)| json!({"Name": name, "DataType": kind.data_type(), "Description": ""}))
        .collect();
    let date = "Date (yyyy-MM-dd'T'HH:mm:ssZZ)";
    let filters = match account.persona {
        Persona::Agency => ["Start Date", "End Date", "SUBAID", "SUPERSTATUS_MS"],
        Persona::Brand | Persona::Partner => ["START_DATE", "END_DATE", "SUBAID", "SUPERSTATUS_MS"],
    };
    let value = json!({
        "Name": report.name,
        "Id": report.handle,
        "Description": format!("{} of the sandbox", report.name),
        "Filters": [
            {"Name": filters[0], "DataType": date, "Format": "yyyy-MM-dd"},
            {"Name": filters[1], "DataType": date, "Format": "yyyy-MM-dd"},
            {"Name": filters[2], "DataType": "Integer", "Format": ""},
            {"Name": filters[3], "DataType": "String", "Format": ""},
        ],
        "Attributes": attributes,
        "RunUri": format!("{base}/Reports/{}", report.handle),
        "Uri": format!("{base}/Reports/{}/MetaData", report.handle),
    });
    Ok(Reply::ok(Some("ReportMetaData"), value))
}

fn list(world: &World, account: &Account, name: &'static str, rows: Vec<Value>, params: &Params, path: &str) -> Reply {
    let pages = (params.number("Page", 1).max(1), params.number("PageSize", 100).max(1));
    let behaviours = world.behaviours().clone();
    page_of(account.persona, &behaviours, name, rows, pages, path, &params.0)
}
