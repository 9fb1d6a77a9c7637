//! Reads what impact.com writes, in all the shapes that were seen: JSON or XML, numbers as strings, lists wrapped or bare.

use chrono::{DateTime, NaiveDateTime, TimeZone as _, Utc};
use chrono_tz::Tz;
use serde_json::{Map, Value};

/// The most elements of an XML text that are read; a job has under thirty.
const MOST_LEAVES: usize = 10_000;

/// A response body, by its form.
#[derive(Debug)]
pub(super) enum Document {
    /// What we ask for.
    Json(Value),
    /// What impact.com answers by default (impact-api §1.4).
    Xml(Leaves),
    /// A page of some server in between.
    Html,
    /// Nothing but blanks.
    Empty,
    /// Anything else.
    Other,
}

impl Document {
    /// Tells the form of a body; never fails.
    pub(super) fn read(body: &[u8]) -> Self {
        let body = body.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(body).trim_ascii();
        match body.first() {
            None => Self::Empty,
            Some(b'<') if is_html(body) => Self::Html,
            Some(b'<') => Self::Xml(Leaves::read(&String::from_utf8_lossy(body))),
            Some(_) => serde_json::from_slice(body).map_or(Self::Other, Self::Json),
        }
    }

    /// Its fields, where it is one object.
    pub(super) fn fields(&self) -> Option<Fields<'_>> {
        match self {
            Self::Json(Value::Object(fields)) => Some(Fields::new(fields)),
            Self::Xml(leaves) => Some(Fields::new(&leaves.fields)),
            Self::Json(_) | Self::Html | Self::Empty | Self::Other => None,
        }
    }

    /// The items of a list, wrapped under `key` or bare (impact-api §2.4). An empty list has many shapes (impact-api
    /// §1.5). `None` where the body is no list at all.
    pub(super) fn items(&self, key: &str) -> Option<Vec<Value>> {
        match self {
            Self::Json(Value::Array(items)) => Some(items.clone()),
            Self::Json(Value::Object(fields)) => Fields::new(fields).list(key),
            Self::Json(Value::Null) => Some(Vec::new()),
            Self::Json(_) | Self::Xml(_) | Self::Html | Self::Empty | Self::Other => None,
        }
    }

    /// What it is, for a message.
    pub(super) const fn name(&self) -> &'static str {
        match self {
            Self::Json(_) => "JSON of another shape",
            Self::Xml(_) => "XML of another shape",
            Self::Html => "an HTML page",
            Self::Empty => "nothing",
            Self::Other => "neither JSON nor XML",
        }
    }
}

fn is_html(body: &[u8]) -> bool {
    let head = String::from_utf8_lossy(&body[..body.len().min(1024)]).to_ascii_lowercase();
    head.starts_with("<!doctype html")
        || head.contains("<html")
        || head.starts_with("<head")
        || head.starts_with("<body")
}

/// The fields of one JSON object, or of one XML element. Names are found in any letter case.
#[derive(Clone, Copy)]
pub(super) struct Fields<'a>(&'a Map<String, Value>);

impl<'a> Fields<'a> {
    /// The fields of an object.
    pub(super) const fn new(fields: &'a Map<String, Value>) -> Self {
        Self(fields)
    }

    /// The field, unless it is absent or null.
    fn get(self, name: &str) -> Option<&'a Value> {
        self.0
            .get(name)
            .or_else(|| self.0.iter().find(|(other, _)| other.eq_ignore_ascii_case(name)).map(|(_, value)| value))
            .filter(|value| !value.is_null())
    }

    /// A text, number or boolean as text without blanks around; empty is none.
    pub(super) fn text(self, name: &str) -> Option<String> {
        let text = match self.get(name)? {
            Value::String(text) => text.trim().to_owned(),
            Value::Number(number) => number.to_string(),
            Value::Bool(boolean) => boolean.to_string(),
            Value::Null | Value::Array(_) | Value::Object(_) => return None,
        };
        (!text.is_empty()).then_some(text)
    }

    /// A whole number, native or as text, perhaps with decimals that are zero.
    pub(super) fn integer(self, name: &str) -> Option<i64> {
        let text = self.text(name)?;
        let (whole, decimals) = text.split_once('.').unwrap_or((&text, ""));
        decimals.bytes().all(|digit| digit == b'0').then(|| whole.parse().ok())?
    }

    /// A number that need not be exact.
    pub(super) fn float(self, name: &str) -> Option<f32> {
        self.text(name)?.trim_end_matches('%').parse().ok().filter(|number: &f32| number.is_finite())
    }

    /// A boolean, native or as text.
    pub(super) fn boolean(self, name: &str) -> Option<bool> {
        self.text(name)?.to_ascii_lowercase().parse().ok()
    }

    /// A point in time; one without an offset is in `zone` (impact-api §7.5).
    pub(super) fn time(self, name: &str, zone: Tz) -> Option<DateTime<Utc>> {
        time(&self.text(name)?, zone)
    }

    /// The list under `name`: an array, an object that wraps one, or a lone item; absent, null and `{}` are empty. `None`
    /// where it is a text or a number.
    pub(super) fn list(self, name: &str) -> Option<Vec<Value>> {
        match self.get(name) {
            None => Some(Vec::new()),
            Some(Value::Array(items)) => Some(items.clone()),
            Some(Value::Object(fields)) if fields.is_empty() => Some(Vec::new()),
            Some(Value::Object(fields)) => match fields.values().find(|value| value.is_array()) {
                Some(Value::Array(items)) if fields.len() == 1 => Some(items.clone()),
                _ => Some(vec![Value::Object(fields.clone())]),
            },
            Some(Value::String(text)) if text.trim().is_empty() => Some(Vec::new()),
            Some(_) => None,
        }
    }

    /// Whether this is the envelope of an error (impact-api §5.1), and not a job whose status is ERROR.
    pub(super) fn is_error_envelope(self) -> bool {
        self.text("Status").is_some_and(|status| status.eq_ignore_ascii_case("ERROR"))
            && self.text("Id").is_none()
            && self.text("QueuedUri").is_none()
    }
}

/// The elements of an XML text that hold text only, in order. Enough for one flat object; not a parser.
#[derive(Debug, Default)]
pub(super) struct Leaves {
    pairs: Vec<(String, String)>,
    fields: Map<String, Value>,
}

impl Leaves {
    fn read(xml: &str) -> Self {
        let mut pairs = Vec::new();
        let mut opened: Option<(&str, usize)> = None;
        let mut at = 0;
        while pairs.len() < MOST_LEAVES
            && let Some(start) = xml[at..].find('<').map(|found| at + found)
        {
            if xml[start..].starts_with("<![CDATA[") {
                at = xml[start..].find("]]>").map_or(xml.len(), |end| start + end + 3);
                continue;
            }
            let Some(end) = xml[start..].find('>').map(|found| start + found) else { break };
            let tag = &xml[start + 1..end];
            if let Some(name) = tag.strip_prefix('/') {
                if let Some((open, text)) = opened.take().filter(|(open, _)| *open == name.trim()) {
                    pairs.push((open.to_owned(), unescape(&xml[text..start])));
                }
            } else if !tag.starts_with(['?', '!']) {
                let name = tag.trim_end_matches('/').split_ascii_whitespace().next().unwrap_or_default();
                opened = (!tag.ends_with('/')).then_some((name, end + 1));
            }
            at = end + 1;
        }
        let mut fields = Map::new();
        for (name, text) in &pairs {
            fields.entry(name.clone()).or_insert_with(|| Value::String(text.clone()));
        }
        Self { pairs, fields }
    }

    /// Name and text of each, in order.
    pub(super) fn pairs(&self) -> &[(String, String)] {
        &self.pairs
    }
}

fn unescape(text: &str) -> String {
    let text = text.trim();
    if let Some(raw) = text.strip_prefix("<![CDATA[").and_then(|raw| raw.strip_suffix("]]>")) {
        return raw.to_owned();
    }
    let text = text.replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", "\"");
    text.replace("&#39;", "'").replace("&apos;", "'").replace("&amp;", "&")
}

/// Reads a point in time in any rendering of impact-api §7.5.
pub(super) fn time(text: &str, zone: Tz) -> Option<DateTime<Utc>> {
    let text = text.trim().replacen(' ', "T", 1);
    if let Ok(time) = DateTime::parse_from_str(&text, "%Y-%m-%dT%H:%M:%S%.f%#z") {
        return Some(time.with_timezone(&Utc));
    }
    let local = NaiveDateTime::parse_from_str(&text, "%Y-%m-%dT%H:%M:%S%.f").ok()?;
    zone.from_local_datetime(&local).earliest().map(|time| time.with_timezone(&Utc))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn times_are_read_in_every_rendering() {
        for (text, expected) in [
            ("2026-05-29T04:33:50-05:00", Some("2026-05-29T09:33:50+00:00")),
            ("2026-05-29T04:33:50-0500", Some("2026-05-29T09:33:50+00:00")),
            ("2026-05-29T04:33:50-05", Some("2026-05-29T09:33:50+00:00")),
            ("2026-05-29T04:33:50Z", Some("2026-05-29T04:33:50+00:00")),
            ("2026-05-29T04:33:50.123Z", Some("2026-05-29T04:33:50.123+00:00")),
            ("2026-05-29 04:33:50.5+02:00", Some("2026-05-29T02:33:50.500+00:00")),
            ("2026-05-29T04:33:50", Some("2026-05-29T08:33:50+00:00")),
            ("2026-05-29 04:33:50", Some("2026-05-29T08:33:50+00:00")),
            ("", None),
            ("yesterday", None),
            ("2026-13-29T04:33:50Z", None),
        ] {
            let read = time(text, chrono_tz::America::New_York).map(|time| time.to_rfc3339());
            assert_eq!(read.as_deref(), expected, "{text:?}");
        }
    }

    #[test]
    fn numbers_and_booleans_are_read_natively_or_as_text() {
        let value = json!({
            "a": 250, "b": "250", "c": "250.00", "d": "2.5", "e": "", "f": null, "g": true, "H": "TRUE", "i": "maybe",
            "j": [1], "k": 99.5, "l": "99.5%", "m": "NaN", "n": 1e300,
        });
        let fields = Fields::new(value.as_object().expect("an object"));
        assert_eq!(["a", "b", "c", "d", "e", "f", "j", "z"].map(|name| fields.integer(name)), {
            [Some(250), Some(250), Some(250), None, None, None, None, None]
        });
        assert_eq!(["g", "h", "i", "a"].map(|name| fields.boolean(name)), [Some(true), Some(true), None, None]);
        assert_eq!(["k", "l", "m", "n", "e"].map(|name| fields.float(name)), {
            [Some(99.5), Some(99.5), None, None, None]
        });
    }

    #[test]
    fn lists_are_wrapped_or_bare_and_empty_in_many_shapes() {
        for (body, expected) in [
            (r#"[{"Id":1},{"Id":2}]"#, Some(2)),
            (r#"{"@page":"1","Jobs":[{"Id":1}]}"#, Some(1)),
            (r#"{"Jobs":{"Job":[{"Id":1},{"Id":2}]}}"#, Some(2)),
            (r#"{"Jobs":{"Id":1}}"#, Some(1)),
            (r#"{"Jobs":[]}"#, Some(0)),
            (r#"{"Jobs":{}}"#, Some(0)),
            (r#"{"Jobs":null}"#, Some(0)),
            (r#"{"Jobs":""}"#, Some(0)),
            (r#"{"@page":"1"}"#, Some(0)),
            ("{}", Some(0)),
            ("[]", Some(0)),
            ("null", Some(0)),
            (r#"{"Jobs":7}"#, None),
            ("7", None),
            ("", None),
            ("<html></html>", None),
            ("<Jobs><Job><Id>1</Id></Job></Jobs>", None),
            ("{", None),
        ] {
            let items = Document::read(body.as_bytes()).items("Jobs").map(|items| items.len());
            assert_eq!(items, expected, "{body}");
        }
    }

    #[test]
    fn a_flat_xml_object_is_read_like_json() {
        let xml = "\u{feff}<?xml version=\"1.0\"?><!-- note --><Job><Id a=\"b\">x-1</Id><Empty/><Status> RUNNING </Status>\
                   <StatusMessage><![CDATA[a <b> & c]]></StatusMessage><Records></Records></Job>";
        let document = Document::read(xml.as_bytes());
        let fields = document.fields().expect("an object");
        assert_eq!(fields.text("Id").as_deref(), Some("x-1"));
        assert_eq!(fields.text("Status").as_deref(), Some("RUNNING"));
        assert_eq!(fields.text("StatusMessage").as_deref(), Some("a <b> & c"));
        assert_eq!(fields.text("Empty"), None);
    }

    #[test]
    fn broken_bodies_are_told_apart_without_a_panic() {
        for body in
            ["<", "<a", "<a>", "</a>", "<a></b>", "<![CDATA[", "<é>é</é>", "{\"a\":", "\u{0}", "<a><", "<>", "</>"]
        {
            let _ = Document::read(body.as_bytes());
        }
        let deep = "[".repeat(100_000);
        assert!(matches!(Document::read(deep.as_bytes()), Document::Other));
        assert!(matches!(Document::read(b"\xff\xfe\x00"), Document::Other));
    }

    #[test]
    fn an_error_envelope_is_not_a_job_in_error() {
        for (value, expected) in [
            (json!({"Status": "ERROR", "Message": "no"}), true),
            (json!({"status": "error", "QueuedUri": ""}), true),
            (json!({"Status": "ERROR", "Id": "1"}), false),
            (json!({"Status": "ERROR", "QueuedUri": "/Jobs/1"}), false),
            (json!({"Status": "QUEUED"}), false),
            (json!({}), false),
        ] {
            assert_eq!(Fields::new(value.as_object().expect("an object")).is_error_envelope(), expected, "{value}");
        }
    }
}
