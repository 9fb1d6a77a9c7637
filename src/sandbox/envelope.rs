//! Replies: the envelope as JSON or XML, errors, redirects and files.

use std::fmt::Write as _;

use axum::body::Body;
use axum::http::{HeaderValue, Response, StatusCode, header};
use serde_json::{Map, Value, json};

use super::content::Content;
use super::data::table::xml_text;

/// What a call is answered with.
#[derive(Debug)]
pub struct Reply {
    /// The status.
    pub status: StatusCode,
    /// The body.
    pub body: Payload,
}

/// The body of a reply.
#[derive(Debug)]
pub enum Payload {
    /// A value, as JSON or XML. In XML `element` is put around it.
    Envelope { element: Option<&'static str>, value: Value },
    /// The rows of a list alone: a bare array in JSON.
    Bare { list: &'static str, rows: Vec<Value> },
    /// A redirect.
    Redirect(String),
    /// A result file.
    File(Box<Content>),
    /// Something that is no envelope.
    Raw { content_type: &'static str, text: String },
}

impl Reply {
    /// 200 with a value.
    pub fn ok(element: Option<&'static str>, value: Value) -> Self {
        Self { status: StatusCode::OK, body: Payload::Envelope { element, value } }
    }

    /// Text that is no envelope.
    pub fn raw(status: StatusCode, content_type: &'static str, text: impl Into<String>) -> Self {
        Self { status, body: Payload::Raw { content_type, text: text.into() } }
    }

    /// The error envelope.
    pub fn error(status: StatusCode, message: &str) -> Self {
        Self {
            status,
            body: Payload::Envelope { element: None, value: json!({"Status": "ERROR", "Message": message}) },
        }
    }

    /// The reply on the wire. A file must have been opened before.
    pub fn into_response(self, wants_json: bool) -> Response<Body> {
        let (content_type, text) = match self.body {
            Payload::File(content) => return content.into_response(),
            Payload::Redirect(target) => {
                let page = format!("<html><body><a href=\"{}\">Found</a></body></html>", xml_text(&target));
                let mut response = text_response(self.status, "text/html", page);
                if let Ok(target) = HeaderValue::from_str(&target) {
                    response.headers_mut().insert(header::LOCATION, target);
                }
                return response;
            }
            Payload::Raw { content_type, text } => (content_type, text),
            Payload::Envelope { value, .. } if wants_json => ("application/json", value.to_string()),
            Payload::Bare { rows, .. } if wants_json => ("application/json", Value::Array(rows).to_string()),
            Payload::Envelope { element, value } => ("application/xml", xml_document(element, &value)),
            Payload::Bare { list, rows } => ("application/xml", xml_document(None, &json!({ list: rows }))),
        };
        text_response(self.status, content_type, text)
    }
}

fn text_response(status: StatusCode, content_type: &'static str, text: String) -> Response<Body> {
    let mut response = Response::new(Body::from(text));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// A refusal: the status and impact.com's words.
#[derive(Debug)]
pub struct Refusal {
    /// The status.
    pub status: StatusCode,
    /// The message.
    pub message: String,
    /// The field that is wrong.
    pub field: Option<String>,
}

impl Refusal {
    /// A refusal without a field.
    pub fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self { status, message: message.into(), field: None }
    }

    /// 400 for a parameter.
    pub fn parameter(field: &str, message: &str) -> Self {
        Self { status: StatusCode::BAD_REQUEST, message: message.to_owned(), field: Some(field.to_owned()) }
    }
}

impl From<Refusal> for Reply {
    fn from(refusal: Refusal) -> Self {
        let value = match refusal.field {
            None => json!({"Status": "ERROR", "Message": refusal.message}),
            Some(field) => json!({
                "Status": "ERROR",
                "Message": "Validation Failed",
                "Errors": [{"Field": field, "Message": refusal.message}],
            }),
        };
        Self { status: refusal.status, body: Payload::Envelope { element: None, value } }
    }
}

fn xml_document(element: Option<&'static str>, value: &Value) -> String {
    let mut out = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<ImpactRadiusResponse>");
    match element {
        Some(name) => write_element(name, "", value, &mut out),
        None => write_children(value, &mut out),
    }
    out.push_str("</ImpactRadiusResponse>\n");
    out
}

/// The children of an object; its `@` keys become attributes of the lists in it.
fn write_children(value: &Value, out: &mut String) {
    let Value::Object(fields) = value else { return write_text(value, out) };
    let attributes = attributes(fields);
    for (name, value) in fields.iter().filter(|(name, _)| !name.starts_with('@')) {
        let attributes = if value.is_array() { attributes.as_str() } else { "" };
        write_element(name, attributes, value, out);
    }
}

fn attributes(fields: &Map<String, Value>) -> String {
    let mut out = String::new();
    for (name, value) in fields {
        if let (Some(name), Some(value)) = (name.strip_prefix('@'), value.as_str()) {
            let _ = write!(out, " {name}=\"{}\"", xml_text(value));
        }
    }
    out
}

fn write_element(name: &str, attributes: &str, value: &Value, out: &mut String) {
    let _ = write!(out, "<{name}{attributes}>");
    match value {
        Value::Array(rows) => {
            let one = name.strip_suffix('s').unwrap_or("Item");
            for row in rows {
                write_element(one, "", row, out);
            }
        }
        Value::Object(_) => write_children(value, out),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => write_text(value, out),
    }
    let _ = write!(out, "</{name}>");
}

fn write_text(value: &Value, out: &mut String) {
    match value {
        Value::Null => {}
        Value::String(text) => out.push_str(&xml_text(text)),
        Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => out.push_str(&value.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_get_their_paging_as_attributes_and_their_rows_in_the_singular() {
        let xml = xml_document(None, &json!({"@page": "1", "Jobs": [{"Id": "a<b", "FailedDate": null}]}));
        assert!(xml.ends_with(
            "<ImpactRadiusResponse><Jobs page=\"1\"><Job><FailedDate></FailedDate><Id>a&lt;b</Id></Job></Jobs>\
             </ImpactRadiusResponse>\n"
        ));
    }
}
