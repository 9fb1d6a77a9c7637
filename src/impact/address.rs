//! Where each call goes: paths per persona and canonical queries (impact-api §1.1, §2).

use std::collections::BTreeMap;

use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use reqwest::header::HeaderValue;
use url::Url;

use super::error::{Call, Error};
use crate::account::Persona;
use crate::config;
use crate::export::{ExportRequest, ReportHandle, Source};

/// The addresses of one account.
pub(super) struct Address {
    /// Origin and base path, such as `https://api.impact.com/Advertisers/{AccountSID}`.
    base: Url,
    persona: Persona,
}

impl Address {
    /// The addresses of `account`.
    pub(super) fn new(account: &config::Account) -> Self {
        let mut base = account.base_url.clone();
        base.set_query(None);
        base.set_fragment(None);
        let persona = match account.persona {
            Persona::Brand => "Advertisers",
            Persona::Partner => "Mediapartners",
            Persona::Agency => "Agencies",
        };
        push(&mut base, &[persona, account.sid.as_str()]);
        Self { base, persona: account.persona }
    }

    /// The version that the client was written against (impact-api §1.3).
    pub(super) const fn version(&self) -> HeaderValue {
        HeaderValue::from_static(match self.persona {
            Persona::Brand => "14",
            Persona::Partner => "16",
            Persona::Agency => "3",
        })
    }

    /// Where the API itself lives.
    pub(super) const fn base(&self) -> &Url {
        &self.base
    }

    /// A path under the account. Segments come from outside and cannot leave their place.
    pub(super) fn path(&self, call: Call, segments: &[&str]) -> Result<Url, Error> {
        if segments.iter().any(|segment| matches!(*segment, "" | "." | "..")) {
            return Err(Error::Unsupported { call, reason: "an empty or dotted id cannot be part of a path" });
        }
        let mut url = self.base.clone();
        push(&mut url, segments);
        Ok(url)
    }

    /// The submission of an export (impact-api §2.2, §2.3). Equal requests give equal addresses, for impact.com keeps one
    /// job per request (impact-api §3.4).
    pub(super) fn submission(&self, request: &ExportRequest) -> Result<Url, Error> {
        let refused = |reason| Err(Error::Unsupported { call: Call::Submit, reason });
        let program = request.program.as_str();
        let (first, last) = (request.window.from().to_string(), request.window.to().to_string());
        let mut ours = vec![("ResultFormat", request.format.parameter().to_owned())];
        let mut url = match (&request.source, self.persona) {
            (Source::Report(handle), _) => {
                ours.extend([("START_DATE", first), ("END_DATE", last)]);
                if !request.program.is_none() {
                    ours.push(("SUBAID", program.to_owned()));
                }
                self.path(Call::Submit, &["ReportExport", handle.as_str()])?
            }
            (Source::Clicks, _) if request.window.len_days() != 1 => {
                return refused("a click export covers one day");
            }
            (Source::Clicks, Persona::Brand) => {
                if request.program.is_none() {
                    return refused("a brand's click export needs a program");
                }
                ours.push(("Date", first));
                self.path(Call::Submit, &["Programs", program, "ClickExport"])?
            }
            (Source::Clicks, Persona::Partner) => {
                ours.push(("Date", first));
                if !request.program.is_none() {
                    ours.push(("ProgramId", program.to_owned()));
                }
                self.path(Call::Submit, &["ClickExport"])?
            }
            (Source::Clicks, Persona::Agency) => return refused("impact.com has no click export for agencies"),
        };
        url.query_pairs_mut().extend_pairs(canonical(request, ours));
        Ok(url)
    }

    /// The list of jobs created in a span (impact-api §2.4): whole seconds where the persona takes times, else whole days
    /// with a day to spare on both sides, for the zone of those days is unknown.
    pub(super) fn jobs(&self, after: DateTime<Utc>, before: DateTime<Utc>) -> Result<Url, Error> {
        let mut url = self.path(Call::Jobs, &["Jobs"])?;
        let (after, before) = match self.persona {
            Persona::Brand => {
                let before = before + TimeDelta::milliseconds(999);
                (after.to_rfc3339_opts(SecondsFormat::Secs, true), before.to_rfc3339_opts(SecondsFormat::Secs, true))
            }
            Persona::Partner | Persona::Agency => {
                let spare = TimeDelta::days(1);
                ((after - spare).date_naive().to_string(), (before + spare).date_naive().to_string())
            }
        };
        url.query_pairs_mut().append_pair("CreatedAfter", &after).append_pair("CreatedBefore", &before);
        Ok(url)
    }

    /// The list of programs (impact-api §2.10).
    pub(super) fn programs(&self) -> Result<Url, Error> {
        let list = match self.persona {
            Persona::Brand | Persona::Partner => "Campaigns",
            Persona::Agency => "Advertisers",
        };
        self.path(Call::Programs, &[list])
    }

    /// The key that the list of programs is wrapped under.
    pub(super) const fn programs_key(&self) -> &'static str {
        match self.persona {
            Persona::Brand | Persona::Partner => "Campaigns",
            Persona::Agency => "Advertisers",
        }
    }

    /// The MetaData of a report (impact-api §2.8).
    pub(super) fn report_columns(&self, handle: &ReportHandle) -> Result<Url, Error> {
        self.path(Call::ReportColumns, &["Reports", handle.as_str(), "MetaData"])
    }

    /// The page behind a link of a list: its path and query on our own origin, whatever host it names (impact-api §1.4).
    pub(super) fn page(&self, link: &str) -> Option<Url> {
        let linked = self.base.join(link).ok()?;
        let mut url = self.base.clone();
        url.set_path(linked.path());
        url.set_query(linked.query());
        Some(url)
    }
}

fn push(url: &mut Url, segments: &[&str]) {
    if let Ok(mut path) = url.path_segments_mut() {
        path.pop_if_empty().extend(segments);
    }
}

/// The parameters by name, then value. What we fix ourselves wins over the configuration in any letter case, for names
/// are read so (impact-api §1.4).
fn canonical(request: &ExportRequest, ours: Vec<(&'static str, String)>) -> Vec<(String, String)> {
    let is_ours = |name: &str| ours.iter().any(|(fixed, _)| fixed.eq_ignore_ascii_case(name));
    let mut pairs: BTreeMap<String, Vec<String>> = request
        .params
        .iter()
        .filter(|(name, _)| !is_ours(name))
        .map(|(name, values)| (name.clone(), values.clone()))
        .collect();
    for (name, value) in ours {
        pairs.insert(name.to_owned(), vec![value]);
    }
    pairs
        .into_iter()
        .flat_map(|(name, mut values)| {
            values.sort();
            values.into_iter().map(move |value| (name.clone(), value))
        })
        .collect()
}
