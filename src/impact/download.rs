//! Fetches the result of a job: redirects by hand, and a look at the first bytes (impact-api §2.6, §8.5).

use std::fmt;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use chrono_tz::Tz;
use reqwest::header::{CONTENT_TYPE, HeaderValue, LOCATION};
use reqwest::{Method, Response, StatusCode};
use url::Url;

use super::address::Address;
use super::error::{Call, Error};
use super::job::{RemoteJob, RemoteJobId};
use super::limits::Limits;
use super::redirect;
use super::transport::{Transport, limits, within};
use super::unpack::Unpacked;
use super::wire::Document;

/// The most redirects that are followed.
const MOST_HOPS: usize = 5;

/// The most bytes that are held back to tell an answer about the job from a file.
const PEEK_BYTES: usize = 64 << 10;

/// The most decoded bytes of a result file. What the disk can take is for the spool to say.
const FILE_BYTES: u64 = 64 << 30;

/// A file that brings fewer bytes a second is given up: it would keep a worker from other files for as long as it likes.
const LEAST_BYTES_PER_SECOND: u64 = 1024;

/// That is reckoned over so many times what a line may be silent.
const SPANS: u32 = 5;

/// What came of a download.
#[derive(Debug)]
pub struct Downloaded {
    /// What the headers of impact.com's own answer said, where there was one; those of storage say nothing of quota.
    pub limits: Option<Limits>,
    /// What was had in the end.
    pub result: Result<Download, Error>,
}

/// What Download answered.
#[derive(Debug)]
pub enum Download {
    /// The file; its bytes are still to be read.
    File(Body),
    /// No file yet; the job as it stands.
    NotReady(Box<RemoteJob>),
}

/// The bytes of a result file, as they arrive. Reading waits for each piece at most as long as a dead line would need to be
/// noticed, and for the whole as long as it takes, unless less than a kilobyte a second comes.
pub struct Body {
    bytes: Unpacked,
    content_type: Option<HeaderValue>,
    call: Call,
    /// Read already, not handed out yet.
    ahead: Bytes,
    /// Decoded bytes that may still come.
    left_bytes: u64,
    pace: Pace,
}

/// How fast bytes come while they are waited for.
struct Pace {
    span: Duration,
    waited: Duration,
    bytes: u64,
}

impl Pace {
    /// Takes down what came and how long that was waited for. After each span gives what came in it, where that was too little.
    fn came(&mut self, bytes: usize, waited: Duration) -> Option<Self> {
        self.bytes += bytes as u64;
        self.waited += waited;
        if self.waited < self.span {
            return None;
        }
        let span = std::mem::replace(self, Self { span: self.span, waited: Duration::ZERO, bytes: 0 });
        let least = u128::from(LEAST_BYTES_PER_SECOND) * span.waited.as_millis() / 1000;
        (u128::from(span.bytes) < least).then_some(span)
    }
}

impl Body {
    async fn new(call: Call, response: Response, silence: Duration) -> Result<Self, Error> {
        let content_type = response.headers().get(CONTENT_TYPE).cloned();
        let bytes = Unpacked::new(call, response).await?;
        let pace = Pace { span: SPANS * silence, waited: Duration::ZERO, bytes: 0 };
        Ok(Self { bytes, content_type, call, ahead: Bytes::new(), left_bytes: FILE_BYTES, pace })
    }

    /// The length in bytes that the file must have; none where it is unknown, as under a content encoding.
    pub fn content_length(&self) -> Option<u64> {
        self.bytes.content_length()
    }

    /// The type that the server gives; it varies and proves nothing (impact-api §8.5).
    pub fn content_type(&self) -> Option<&str> {
        self.content_type.as_ref()?.to_str().ok()
    }

    /// The next bytes; none at the end. A body that is cut off is an error, not an end.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, Error> {
        if !self.ahead.is_empty() {
            return Ok(Some(std::mem::take(&mut self.ahead)));
        }
        self.pull().await
    }

    /// The next bytes from the network.
    async fn pull(&mut self) -> Result<Option<Bytes>, Error> {
        let began = Instant::now();
        let Some(chunk) = self.bytes.chunk().await? else { return Ok(None) };
        if let Some(Pace { waited, bytes, .. }) = self.pace.came(chunk.len(), began.elapsed()) {
            return Err(Error::TooSlow { call: self.call, bytes, waited });
        }
        match self.left_bytes.checked_sub(chunk.len() as u64) {
            Some(left) => self.left_bytes = left,
            None => return Err(Error::TooLarge { call: self.call, limit_bytes: FILE_BYTES }),
        }
        Ok(Some(chunk))
    }

    /// Reads ahead until the first bytes tell whether this can be an answer about the job. Gives the whole of a short
    /// body that starts like JSON or a page, else nothing.
    async fn peek(&mut self) -> Result<Option<Bytes>, Error> {
        let mut ahead = BytesMut::new();
        let mut whole = false;
        while ahead.len() < PEEK_BYTES {
            let Some(chunk) = self.pull().await? else {
                whole = true;
                break;
            };
            ahead.extend_from_slice(&chunk);
            if first_byte(&ahead).is_some_and(|first| !b"{[<".contains(&first)) {
                break;
            }
        }
        self.ahead = ahead.freeze();
        let starts_like_an_answer = first_byte(&self.ahead).is_some_and(|first| b"{[<".contains(&first));
        let is_page = first_byte(&self.ahead) == Some(b'<');
        Ok((starts_like_an_answer && (whole || is_page)).then(|| self.ahead.clone()))
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Body")
            .field("content_length", &self.content_length())
            .field("content_type", &self.content_type())
            .finish_non_exhaustive()
    }
}

/// The first byte that is neither blank nor part of a byte order mark.
fn first_byte(head: &[u8]) -> Option<u8> {
    let head = head.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(head);
    head.iter().copied().find(|byte| !byte.is_ascii_whitespace())
}

/// Asks for the result. Where storage refuses the signed URL, which is short-lived, a fresh one is asked for once, if that
/// may be paid.
pub(super) async fn download<F: Future<Output = bool> + Send>(
    address: &Address,
    transport: &Transport,
    zone: Tz,
    id: &RemoteJobId,
    pay: impl Fn(Limits) -> F + Send,
) -> Downloaded {
    let first = attempt(address, transport, zone, id).await;
    match (&first.result, first.limits) {
        (Err(Error::Expired(refusal)), Some(limits)) if refusal.call == Call::Storage => {
            if !pay(limits).await {
                return Downloaded { limits: None, result: Err(Error::Unpaid { call: Call::Download }) };
            }
            attempt(address, transport, zone, id).await
        }
        (Ok(_) | Err(_), _) => first,
    }
}

async fn attempt(address: &Address, transport: &Transport, zone: Tz, id: &RemoteJobId) -> Downloaded {
    let asked = async {
        let url = address.path(Call::Download, &["Jobs", id.as_str(), "Download"])?;
        let response = transport.ask(Call::Download, Method::GET, url.clone()).await?;
        Ok((url, response))
    };
    match asked.await {
        Ok((url, response)) => {
            let limits = Some(limits(response.headers()));
            Downloaded { limits, result: follow(address, transport, zone, id, url, response).await }
        }
        Err(error) => Downloaded { limits: None, result: Err(error) },
    }
}

/// Follows impact.com's answer to the file.
async fn follow(
    address: &Address,
    transport: &Transport,
    zone: Tz,
    id: &RemoteJobId,
    mut from: Url,
    mut response: Response,
) -> Result<Download, Error> {
    let mut call = Call::Download;
    let mut hops = 0;
    while is_redirect(response.status()) {
        if hops == MOST_HOPS {
            return Err(Error::TooManyRedirects { hops });
        }
        hops += 1;
        let Some(location) = response.headers().get(LOCATION).and_then(|location| location.to_str().ok()) else {
            return Err(Error::Unreadable { call, problem: "it redirects to nowhere".to_owned() });
        };
        from = redirect::target(address.base(), &from, location)?;
        call = Call::Storage;
        response = transport.fetch(from.clone()).await?;
    }
    match response.status() {
        StatusCode::OK => file_or_job(call, response, transport, zone, id).await,
        StatusCode::ACCEPTED if call == Call::Download => {
            let answer = within(call, transport.patience.envelope, transport.read_envelope(call, response)).await?;
            let job = answer.value.fields().and_then(|fields| RemoteJob::read(fields, zone, &transport.cleaner));
            Ok(Download::NotReady(Box::new(job.unwrap_or_else(|| RemoteJob::unknown(id.clone())))))
        }
        _ => Err(transport.refusal(call, response).await),
    }
}

/// Tells a file from an answer about the job that came with status 200 all the same (impact-api §2.6).
async fn file_or_job(
    call: Call,
    response: Response,
    transport: &Transport,
    zone: Tz,
    id: &RemoteJobId,
) -> Result<Download, Error> {
    let mut body =
        within(call, transport.patience.envelope, Body::new(call, response, transport.patience.idle)).await?;
    let Some(head) = within(call, transport.patience.envelope, body.peek()).await? else {
        return Ok(Download::File(body));
    };
    let document = Document::read(&head);
    let message = || transport.cleaner.of_body(&document, &head, "it gave no reason");
    if matches!(document, Document::Html) {
        return Err(Error::HtmlPage { message: message() });
    }
    let Some(fields) = document.fields() else { return Ok(Download::File(body)) };
    if fields.is_error_envelope() {
        return Err(Error::ErrorEnvelope { message: message() });
    }
    let is_job = fields.text("Status").is_some()
        && fields.text("Id").is_some_and(|named| named.eq_ignore_ascii_case(id.as_str()));
    match RemoteJob::read(fields, zone, &transport.cleaner) {
        Some(job) if is_job => Ok(Download::NotReady(Box::new(job))),
        Some(_) | None => Ok(Download::File(body)),
    }
}

const fn is_redirect(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::MOVED_PERMANENTLY
            | StatusCode::FOUND
            | StatusCode::SEE_OTHER
            | StatusCode::TEMPORARY_REDIRECT
            | StatusCode::PERMANENT_REDIRECT
    )
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use secrecy::SecretString;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;
    use crate::account::{AccountName, AccountSid, Persona};
    use crate::config::{Account, Programs, Quota};
    use crate::impact::Client;
    use crate::impact::transport::Patience;
    use crate::retry::ErrorKind;

    const SHORT: Duration = Duration::from_millis(200);

    /// A server that writes a head, then a byte now and then, and at last says nothing more.
    async fn drip(head: &'static str, bytes: usize, every: Duration) -> Client {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base_url = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
        tokio::spawn(async move {
            let (mut socket, _) = listener.accept().await.unwrap();
            let mut request = [0; 4096];
            let _ = socket.read(&mut request).await;
            let _ = socket.write_all(head.as_bytes()).await;
            for _ in 0..bytes {
                tokio::time::sleep(every).await;
                let _ = socket.write_all(b"x").await;
            }
            std::future::pending::<()>().await;
        });
        let account = Account {
            name: AccountName::new("acme"),
            persona: Persona::Brand,
            sid: AccountSid::new("IRx"),
            auth_token: SecretString::from("t"),
            base_url,
            time_zone: chrono_tz::UTC,
            programs: Programs::All,
            quota: Quota {
                report_export_per_day: 1,
                click_export_per_day: 1,
                requests_per_hour: 1,
                share: 1.0,
                replay_cost: 1,
                duplicate_cost: 1,
                refused_cost: 1,
            },
        };
        Client::with_patience(&account, Patience { connect: SHORT, envelope: 2 * SHORT, idle: SHORT }).unwrap()
    }

    async fn body(client: &Client) -> Body {
        match client.download(&RemoteJobId::new("j"), |_| std::future::ready(true)).await.result.unwrap() {
            Download::File(body) => body,
            Download::NotReady(job) => panic!("{job:?}"),
        }
    }

    #[tokio::test]
    async fn a_slow_file_is_waited_for_as_long_as_bytes_come() {
        let client = drip("HTTP/1.1 200 OK\r\ncontent-length: 13\r\n\r\nx", 12, SHORT / 3).await;
        let mut body = body(&client).await;
        let mut bytes = 0;
        while let Some(chunk) = body.chunk().await.unwrap() {
            bytes += chunk.len();
        }
        assert_eq!(bytes, 13);
    }

    #[tokio::test]
    async fn a_file_that_drips_is_given_up() {
        let client = drip("HTTP/1.1 200 OK\r\ncontent-length: 999\r\n\r\nx", 998, SHORT / 4).await;
        let mut body = body(&client).await;
        let began = Instant::now();
        let error = loop {
            match body.chunk().await {
                Ok(chunk) => assert!(chunk.is_some() && began.elapsed() < 50 * SHORT),
                Err(error) => break error,
            }
        };
        assert!(began.elapsed() > SPANS * SHORT / 2, "it had its time");
        assert!(matches!(error, Error::TooSlow { bytes: 5..200, .. }), "{error}");
        assert_eq!(error.kind(), ErrorKind::Transient);
    }

    #[test]
    fn a_pace_is_that_of_its_span() {
        let second = Duration::from_secs(1);
        let mut pace = Pace { span: 5 * second, waited: Duration::ZERO, bytes: 0 };
        assert!((0..10).all(|_| pace.came(1024, second).is_none()), "just fast enough");
        assert!((0..4).all(|_| pace.came(1000, second).is_none()), "the span is not over");
        assert!(pace.came(1000, second).is_some_and(|slow| slow.bytes == 5000));
        assert!(pace.came(0, 4 * second).is_none() && pace.came(1 << 20, second).is_none(), "a pause is not a pace");
    }

    #[tokio::test]
    async fn a_silent_server_is_given_up_at_every_stage() {
        let call = |error: &Error| (error.kind(), error.may_have_taken_effect());
        let silent = drip("", 0, SHORT).await;
        assert_eq!(call(&silent.replay(&RemoteJobId::new("j")).await.unwrap_err()), (ErrorKind::Transient, true));
        let silent = drip("", 0, SHORT).await;
        assert_eq!(
            call(&silent.download(&RemoteJobId::new("j"), |_| std::future::ready(true)).await.result.unwrap_err()).0,
            ErrorKind::Transient
        );
        let stalled = drip("HTTP/1.1 200 OK\r\ncontent-length: 13\r\n\r\nx", 0, SHORT).await;
        let mut body = body(&stalled).await;
        assert!(body.chunk().await.unwrap().is_some());
        assert_eq!(call(&body.chunk().await.unwrap_err()).0, ErrorKind::Transient);
    }

    #[tokio::test]
    async fn an_envelope_that_drips_is_given_up_in_all() {
        for head in ["HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\n{", "HTTP/1.1 202 OK\r\ncontent-length: 99\r\n\r\n{"]
        {
            let client = drip(head, 99, SHORT / 4).await;
            let error = client.download(&RemoteJobId::new("j"), |_| std::future::ready(true)).await.result.unwrap_err();
            assert!(matches!(error, Error::TimedOut { .. }), "{error}");
        }
        let client = drip("HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\n{", 99, SHORT / 4).await;
        let error = client.company().await.unwrap_err();
        assert!(matches!(error, Error::TimedOut { .. }), "{error}");
    }

    #[tokio::test]
    async fn a_file_beyond_all_reason_is_refused() {
        let client = drip("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nx", 8, SHORT / 4).await;
        let mut body = body(&client).await;
        body.left_bytes = 3;
        let error = loop {
            match body.chunk().await {
                Ok(chunk) => assert!(chunk.is_some(), "the whole file came through"),
                Err(error) => break error,
            }
        };
        assert!(matches!(error, Error::TooLarge { .. }), "{error}");
    }
}
