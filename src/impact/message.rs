//! impact.com's own words, made fit for a log line: no markup, no secrets, not too long.

use secrecy::{ExposeSecret as _, SecretString};
use serde_json::Value;

use super::wire::{Document, Fields};
use crate::account::AccountSid;

/// The most characters of a message that are kept.
const LONGEST: usize = 300;

/// The most bytes of a text that are looked at.
const LOOKED_AT_BYTES: usize = 16 << 10;

/// Stands where a secret was.
const HIDDEN: &str = "[hidden]";

/// Knows the secrets that must not get into a message.
pub(super) struct Cleaner {
    secrets: Vec<SecretString>,
}

impl Cleaner {
    /// A cleaner for the messages to one account.
    pub(super) fn new(sid: &AccountSid, token: &SecretString) -> Self {
        let together = base64(format!("{}:{}", sid.as_str(), token.expose_secret()).as_bytes());
        let secrets = [sid.as_str(), token.expose_secret(), together.trim_end_matches('=')];
        Self { secrets: secrets.into_iter().filter(|secret| !secret.is_empty()).map(SecretString::from).collect() }
    }

    /// One line of plain text: markup, queries of URLs, credentials, the SID and the token are taken out.
    pub(super) fn clean(&self, text: &str) -> String {
        let text = &text[..text.floor_char_boundary(LOOKED_AT_BYTES)];
        let mut line = String::new();
        let mut is_credential = false;
        for word in without_markup(text).split_whitespace() {
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(match word.split_once('?') {
                Some(_) | None if is_credential => HIDDEN,
                Some((path, _)) if path.contains('/') => path,
                Some(_) | None => word,
            });
            is_credential =
                word.to_ascii_lowercase().ends_with("basic") && line.to_ascii_lowercase().contains("authorization");
        }
        for secret in &self.secrets {
            line = line.replace(secret.expose_secret(), HIDDEN);
        }
        match line.char_indices().nth(LONGEST) {
            Some((end, _)) => format!("{}…", &line[..end]),
            None => line,
        }
    }

    /// The message of an error body of any form; `fallback` where it has none.
    pub(super) fn of_body(&self, document: &Document, raw: &[u8], fallback: &str) -> String {
        let found = match document {
            Document::Json(Value::Object(fields)) => of_fields(Fields::new(fields)),
            Document::Json(Value::String(text)) => Some(text.clone()),
            Document::Xml(leaves) => of_leaves(leaves.pairs()),
            Document::Html | Document::Other => Some(String::from_utf8_lossy(raw).into_owned()),
            Document::Json(_) | Document::Empty => None,
        };
        let message = self.clean(&found.unwrap_or_default());
        if message.is_empty() { fallback.to_owned() } else { message }
    }
}

/// The form that SID and token have in a header.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for group in bytes.chunks(3) {
        let number = group.iter().fold(0_u32, |number, byte| number << 8 | u32::from(*byte)) << (8 * (3 - group.len()));
        for place in 0..4 {
            let digit = char::from(DIGITS[(number >> (18 - 6 * place) & 63) as usize]);
            text.push(if place > group.len() { '=' } else { digit });
        }
    }
    text
}

/// The words of the envelope (impact-api §5.1), of a gateway (`title`, impact-api §1.2) or of a job.
fn of_fields(fields: Fields<'_>) -> Option<String> {
    let summary = ["Message", "StatusMessage", "title", "error_description", "Error", "detail"]
        .into_iter()
        .find_map(|name| fields.text(name));
    let details = fields.list("Errors").unwrap_or_default();
    let details = details.iter().filter_map(Value::as_object).filter_map(|detail| {
        let detail = Fields::new(detail);
        let message = detail.text("Message")?;
        Some(detail.text("Field").map_or_else(|| message.clone(), |field| format!("{field}: {message}")))
    });
    let words: Vec<_> = summary.into_iter().chain(details).collect();
    (!words.is_empty()).then(|| words.join("; "))
}

fn of_leaves(leaves: &[(String, String)]) -> Option<String> {
    let mut words = Vec::new();
    let mut field = None;
    for (name, text) in leaves {
        match name.as_str() {
            "Field" => field = Some(text),
            "Message" | "StatusMessage" | "title" | "Code" => {
                words.push(field.take().map_or_else(|| text.clone(), |field| format!("{field}: {text}")));
            }
            _ => {}
        }
    }
    (!words.is_empty()).then(|| words.join("; "))
}

/// The text between tags; scripts and styles go with their content, an unclosed tag with the rest.
fn without_markup(text: &str) -> String {
    let mut plain = String::with_capacity(text.len().min(4096));
    let mut rest = text;
    while let Some(open) = rest.find('<') {
        plain.push_str(&rest[..open]);
        let tag = &rest[open + 1..];
        if !tag.starts_with(|first: char| first.is_ascii_alphabetic() || "/!?".contains(first)) {
            plain.push('<');
            rest = tag;
            continue;
        }
        plain.push(' ');
        let silent = ["script", "style"]
            .into_iter()
            .find(|name| tag.get(..name.len()).is_some_and(|start| start.eq_ignore_ascii_case(name)));
        rest = match silent {
            Some(name) => after_ignoring_case(tag, &format!("</{name}")).unwrap_or_default(),
            None => tag,
        };
        rest = rest.find('>').map_or("", |close| &rest[close + 1..]);
    }
    plain.push_str(rest);
    plain.retain(|c| !c.is_control() || c.is_whitespace());
    plain
        .replace("&nbsp;", " ")
        .replace("&quot;", "\"")
        .replace("&#39;", "'")
        .replace("&apos;", "'")
        .replace("&amp;", "&")
}

fn after_ignoring_case<'a>(text: &'a str, needle: &str) -> Option<&'a str> {
    let at = text.to_ascii_lowercase().find(needle)?;
    Some(&text[at..])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cleaner() -> Cleaner {
        Cleaner::new(&AccountSid::new("IRsecretsid"), &SecretString::from("tok/en"))
    }

    fn message(body: &str) -> String {
        cleaner().of_body(&Document::read(body.as_bytes()), body.as_bytes(), "Bad Request")
    }

    #[test]
    fn every_form_of_error_body_gives_its_words() {
        for (body, expected) in [
            (r#"{"Status":"ERROR","Message":"No such report"}"#, "No such report"),
            (
                r#"{"Status":"ERROR","Message":"Validation Failed","Errors":[{"Field":"Date","Message":"bad"}]}"#,
                "Validation Failed; Date: bad",
            ),
            (r#"{"title":"Access Denied","status":403}"#, "Access Denied"),
            (r#"{"message":"lower"}"#, "lower"),
            (r#"{"Message":null}"#, "Bad Request"),
            (r#"{"Message":{"deep":1}}"#, "Bad Request"),
            (r#""just words""#, "just words"),
            (
                "<?xml version=\"1.0\"?><ImpactRadiusResponse><Status>ERROR</Status><Message>A &amp; B</Message>\
                 <Errors><Error><Field>Date</Field><Message>bad</Message></Error></Errors></ImpactRadiusResponse>",
                "A & B; Date: bad",
            ),
            (
                "<html><head><title>502</title><style>a{}</style></head><body>Bad  gateway</body></html>",
                "502 Bad gateway",
            ),
            ("<!DOCTYPE html><script>var x = '<b>';</SCRIPT>Sorry", "Sorry"),
            ("<html><body", "Bad Request"),
            ("", "Bad Request"),
            ("null", "Bad Request"),
            ("[1,2]", "Bad Request"),
            ("a < b", "a < b"),
            ("{broken", "{broken"),
        ] {
            assert_eq!(message(body), expected, "{body}");
        }
    }

    #[test]
    fn secrets_and_queries_are_taken_out() {
        for (text, expected) in [
            ("GET /Advertisers/IRsecretsid/Jobs?CreatedAfter=x failed", "GET /Advertisers/[hidden]/Jobs failed"),
            ("https://IRsecretsid:tok/en@host/x", "https://[hidden]:[hidden]@host/x"),
            ("Authorization: Basic SVI6dG9r accepted?", "Authorization: Basic [hidden] accepted?"),
            ("the header \"Basic SVJzZWNyZXRzaWQ6dG9rL2Vu\" is bad", "the header \"Basic [hidden]\" is bad"),
            ("Is this it?", "Is this it?"),
        ] {
            assert_eq!(cleaner().clean(text), expected);
        }
    }

    #[test]
    fn a_long_message_is_cut_between_characters_and_only_after_hiding() {
        let text = format!("{}IRsecretsid", "é".repeat(296));
        let cleaned = cleaner().clean(&text);
        assert_eq!(cleaned.chars().count(), LONGEST + 1);
        assert!(cleaned.ends_with("[hid…"), "{cleaned}");
    }
}
