//! The parameters of a request: found in any case, with or without underscores.

use axum::extract::Query;
use axum::http::Uri;
use chrono::{DateTime, NaiveDate, NaiveDateTime, TimeZone as _, Utc};
use chrono_tz::Tz;

use super::data::request::Bound;
use super::data::table::Format;
use super::envelope::Refusal;

/// Names and values, in the order they came in.
#[derive(Debug, Clone, Default)]
pub struct Params(pub Vec<(String, String)>);

impl Params {
    /// The parameters of a query string.
    pub fn of_query(query: &str) -> Self {
        let pairs = format!("/?{query}")
            .parse::<Uri>()
            .ok()
            .and_then(|uri| Query::<Vec<(String, String)>>::try_from_uri(&uri).ok())
            .map(|Query(pairs)| pairs);
        Self(pairs.unwrap_or_default())
    }

    /// All values of a parameter that are not empty.
    pub fn all<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a str> {
        let name = canonical(name);
        self.0
            .iter()
            .filter(move |(known, value)| canonical(known) == name && !value.is_empty())
            .map(|(_, value)| value.as_str())
    }

    /// The first value of a parameter.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.all(name).next()
    }

    /// A number; the default where it is missing or none.
    pub fn number(&self, name: &str, default: usize) -> usize {
        self.get(name).and_then(|value| value.parse().ok()).unwrap_or(default)
    }

    /// The end of a window.
    pub fn bound(&self, name: &str, zone: Tz) -> Result<Option<Bound>, Refusal> {
        self.get(name).map(|text| parse_bound(name, text, zone)).transpose()
    }

    /// The format of the result file.
    pub fn format(&self) -> Result<Format, Refusal> {
        match self.get("ResultFormat").map(str::to_uppercase).as_deref() {
            None | Some("CSV") => Ok(Format::Csv),
            Some("JSON") => Ok(Format::Json),
            Some("XML") => Ok(Format::Xml),
            Some(_) => Err(Refusal::parameter("ResultFormat", "Not one of CSV, JSON, XML")),
        }
    }

    /// What the parameters mean, whatever their order and spelling: equal for requests that ask for the same.
    pub fn meaning(&self, defaults: &[(&str, &str)]) -> String {
        let mut pairs: Vec<(String, &str)> = self
            .0
            .iter()
            .map(|(name, value)| (canonical(name), value.as_str()))
            .filter(|(name, value)| !value.is_empty() && name != "IRVERSION")
            .collect();
        for (name, value) in defaults {
            if self.get(name).is_none() {
                pairs.push((canonical(name), value));
            }
        }
        pairs.sort_unstable();
        pairs.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join("&")
    }
}

fn canonical(name: &str) -> String {
    name.chars().filter(|letter| *letter != '_').flat_map(char::to_uppercase).collect()
}

fn parse_bound(name: &str, text: &str, zone: Tz) -> Result<Bound, Refusal> {
    if text.contains('.') {
        return Err(Refusal::parameter(name, "Milliseconds are not supported"));
    }
    if let Ok(day) = text.parse::<NaiveDate>() {
        return Ok(Bound::Day(day));
    }
    // A `+` of an offset that was not encoded arrives as a blank.
    if let Ok(at) = DateTime::parse_from_rfc3339(&text.replace(' ', "+")) {
        return Ok(Bound::Instant(at.with_timezone(&Utc)));
    }
    NaiveDateTime::parse_from_str(text, "%Y-%m-%dT%H:%M:%S")
        .ok()
        .and_then(|local| zone.from_local_datetime(&local).earliest())
        .map(|at| Bound::Instant(at.with_timezone(&Utc)))
        .ok_or_else(|| Refusal::parameter(name, "Not a valid date"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_in_any_spelling_and_order_does_not_matter() {
        let one = Params::of_query("START_DATE=2026-01-01&SUBAID=1000&SHOW_AD=1");
        let other = Params::of_query("showAd=1&subaid=1000&StartDate=2026-01-01&resultformat=CSV");
        let defaults = [("ResultFormat", "CSV")];
        assert_eq!(one.get("StartDate"), Some("2026-01-01"));
        assert_eq!(one.meaning(&defaults), other.meaning(&defaults));
        assert_ne!(one.meaning(&defaults), Params::of_query("SUBAID=2000").meaning(&defaults));
    }

    #[test]
    fn dates_are_days_or_instants_but_never_milliseconds() {
        let zone = chrono_tz::America::New_York;
        let bound = |text| parse_bound("START_DATE", text, zone).ok();
        assert_eq!(bound("2026-01-02"), Some(Bound::Day("2026-01-02".parse().unwrap())));
        let noon = Some(Bound::Instant("2026-01-02T12:00:00Z".parse().unwrap()));
        assert_eq!(bound("2026-01-02T12:00:00Z"), noon);
        assert_eq!(bound("2026-01-02T07:00:00"), noon);
        assert_eq!(bound("2026-01-02T12:00:00.000Z"), None);
        assert_eq!(bound("yesterday"), None);
    }
}
