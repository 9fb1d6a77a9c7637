//! Sends messages to receivers of the operator's own choice, signed. What is said, and when it is tried again, is decided elsewhere.

use std::fmt::Write as _;
use std::time::Duration;

use hmac::{Hmac, KeyInit as _, Mac as _};
use reqwest::header::{CONTENT_TYPE, HeaderValue};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};
use sha2::Sha256;

use crate::config::{MessageFormat, Receiver};

/// How long a receiver may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// The number of a message: one that comes twice has the same.
const DELIVERY: &str = "impact-mirror-delivery";
/// When a message was sent and what proves it ours, as in `t=1767225600,v1=HEX`.
const SIGNATURE: &str = "impact-mirror-signature";

/// Why a message was not taken. Never with the address, which is a secret.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nobody answered.
    #[error("the receiver of {section} does not answer; look whether its url is right and can be reached from here")]
    Transport {
        /// Whose address it is.
        section: &'static str,
        /// Why not.
        source: reqwest::Error,
    },
    /// It was answered with something other than 2xx.
    #[error("the receiver of {section} answered {status}; {}", of_answer(*status))]
    Refused {
        /// Whose address it is.
        section: &'static str,
        /// What it answered.
        status: u16,
    },
}

impl Error {
    /// Whether the receiver will not take this message, however often it comes.
    pub fn is_final(&self) -> bool {
        match self {
            Self::Transport { .. } => false,
            Self::Refused { status, .. } => {
                (400..500).contains(status) && !matches!(status, 401 | 403 | 404 | 408 | 425 | 429)
            }
        }
    }
}

/// What the operator does about an answer.
const fn of_answer(status: u16) -> &'static str {
    match status {
        300..=399 => "redirects are not followed: name the address that it leads to in url",
        401 | 403 => "look whether url holds the right key, or secret is the receiver's",
        404 | 410 => "look whether url is right; the receiver may have been removed",
        408 | 425 | 429 => "it is sent again more slowly",
        400..=499 => "look whether format is the one that the receiver takes",
        _ => "look into the receiver's own log",
    }
}

/// A receiver that can be spoken to.
#[derive(Debug, Clone)]
pub struct Webhook {
    section: &'static str,
    client: reqwest::Client,
    url: SecretString,
    format: MessageFormat,
    secret: Option<SecretString>,
}

impl Webhook {
    /// The receiver that a section of the configuration names; sends nothing yet.
    pub fn new(section: &'static str, receiver: &Receiver) -> Result<Self, Error> {
        let client = reqwest::Client::builder()
            .user_agent(concat!("impact-mirror/", env!("CARGO_PKG_VERSION")))
            .redirect(reqwest::redirect::Policy::none()) // the address is the operator's, not the receiver's, to choose
            .timeout(PATIENCE)
            .build()
            .map_err(|source| Error::Transport { section, source })?;
        let Receiver { url, format, secret } = receiver.clone();
        Ok(Self { section, client, url, format, secret })
    }

    /// The section of the configuration that names it.
    pub fn section(&self) -> &'static str {
        self.section
    }

    /// Sends a message; `now` is in seconds since 1970.
    pub async fn send(&self, id: i64, body: &Value, now: i64) -> Result<(), Error> {
        let body = written(self.format, body).to_string();
        let mut request = self
            .client
            .post(self.url.expose_secret())
            .header(CONTENT_TYPE, HeaderValue::from_static("application/json"))
            .header(DELIVERY, id);
        if let Some(secret) = &self.secret {
            request = request.header(SIGNATURE, format!("t={now},v1={}", signature(secret, now, &body)));
        }
        let answer = request.body(body).send().await;
        let answer = answer.map_err(|error| Error::Transport { section: self.section, source: error.without_url() })?;
        if answer.status().is_success() {
            return Ok(());
        }
        Err(Error::Refused { section: self.section, status: answer.status().as_u16() })
    }
}

/// HMAC-SHA256 over `TIMESTAMP.BODY`, in hexadecimal.
fn signature(secret: &SecretString, now: i64, body: &str) -> String {
    let key = secret.expose_secret().as_bytes();
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("a key of any length will do");
    mac.update(now.to_string().as_bytes());
    mac.update(b".");
    mac.update(body.as_bytes());
    mac.finalize().into_bytes().iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}"); // writing to a String does not fail
        text
    })
}

fn written(format: MessageFormat, body: &Value) -> Value {
    match format {
        MessageFormat::Json => body.clone(),
        MessageFormat::Slack => {
            let word = |name: &str| body[name].as_str().unwrap_or_default();
            let text = if word("status") == "resolved" {
                format!(":white_check_mark: resolved: {}", word("summary"))
            } else {
                format!(":warning: {}\n{}\n{}", word("summary"), word("mend"), word("runbook"))
            };
            json!({"text": escaped(&text)})
        }
    }
}

/// As Slack wants texts: nothing in them is markup of links, or a call to everybody.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Computed with `printf '%s' '1700000000.{"a":1}' | openssl dgst -sha256 -hmac s3cret`.
    #[test]
    fn a_signature_is_what_others_compute() {
        let computed = "1698a50bc74d1ff1db85c4e0a5297c2ad9fdba245d5737cdb789e4cc6e098940";
        assert_eq!(signature(&SecretString::from("s3cret"), 1_700_000_000, "{\"a\":1}"), computed);
    }

    #[test]
    fn a_text_for_slack_calls_nobody() {
        let body = json!({"status": "firing", "summary": "<!channel> a & b", "mend": "status", "runbook": "docs"});
        let text = written(MessageFormat::Slack, &body);
        assert_eq!(text["text"], ":warning: &lt;!channel&gt; a &amp; b\nstatus\ndocs");
    }

    #[test]
    fn what_will_never_be_taken_is_told_from_what_may_be() {
        let refused = |status| Error::Refused { section: "alerts", status };
        assert!(refused(400).is_final() && refused(413).is_final());
        for status in [301, 401, 404, 408, 429, 500, 503] {
            assert!(!refused(status).is_final(), "{status}");
        }
    }
}
