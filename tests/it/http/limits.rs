//! Clients that are slow, long-winded, many or no clients at all.

use std::time::Instant;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::*;

/// The longest that a client may take over the head of a request is 15 s; this is more than a busy machine adds.
const GIVEN_UP: Duration = Duration::from_secs(45);
/// How many clients are talked to at a time.
const SEATS: usize = 128;
const SECRET: &str = "0123456789abcdef-test";

async fn dial(server: &Server) -> TcpStream {
    let url = server.url();
    TcpStream::connect(url.trim_start_matches("http://").trim_end_matches('/')).await.unwrap()
}

/// Says something and gives the status of the answer; none where the connection just ends.
async fn said(server: &Server, request: &[u8]) -> Option<u16> {
    let mut stream = dial(server).await;
    // The server may hang up in the middle of what it does not like.
    let _ = stream.write_all(request).await;
    let mut answer = [0; 12];
    let read =
        tokio::time::timeout(GIVEN_UP, stream.read_exact(&mut answer)).await.expect("neither an answer nor an end");
    read.ok()?;
    std::str::from_utf8(&answer).ok()?.strip_prefix("HTTP/1.1 ")?.parse().ok()
}

/// Reads until the server ends the connection.
async fn hung_up(stream: &mut TcpStream) -> Duration {
    let began = Instant::now();
    let mut rest = Vec::new();
    let ended = tokio::time::timeout(GIVEN_UP, stream.read_to_end(&mut rest)).await;
    assert!(ended.is_ok(), "still connected after {} s", GIVEN_UP.as_secs());
    began.elapsed()
}

#[tokio::test]
async fn a_request_that_is_too_long_is_refused() {
    let server = start().await;
    let long = "a".repeat(32 * 1024);
    let many = "x-one: y\r\n".repeat(200);
    for (request, statuses) in [
        (format!("GET / HTTP/1.1\r\nhost: localhost\r\nx-long: {long}\r\n\r\n"), [431, 431]),
        (format!("GET / HTTP/1.1\r\nhost: localhost\r\n{many}\r\n"), [431, 431]),
        (format!("GET /{long} HTTP/1.1\r\nhost: localhost\r\n\r\n"), [414, 431]),
    ] {
        let status = said(&server, request.as_bytes()).await;
        assert!(status.is_some_and(|status| statuses.contains(&status)), "{status:?} to {}", &request[..40]);
    }
}

#[tokio::test]
async fn what_is_no_request_gets_no_page_and_does_no_harm() {
    let server = start().await;
    for nonsense in [
        &b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..],
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\0\0\0\0\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: localhost\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nhello",
        b"GET / HTTP/1.1\r\nhost: localhost\r\nbad header\r\n\r\n",
        b"POST / HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
    ] {
        let status = said(&server, nonsense).await;
        assert!(
            matches!(status, None | Some(400 | 405 | 505)),
            "{status:?} to {:?}",
            String::from_utf8_lossy(nonsense)
        );
    }
    assert_eq!(said(&server, b"GET /../../etc/passwd HTTP/1.1\r\nhost: localhost\r\n\r\n").await, Some(404));
    assert_eq!(ask(&server, Method::GET, "/healthz").await.status(), StatusCode::OK);
}

/// A body is never waited for where nobody wants it, and not for long where it is a postback.
#[tokio::test]
async fn a_body_that_does_not_come_holds_up_nothing() {
    let server = start().await;
    server.take_postbacks(SecretString::from(SECRET));
    let head = |path: &str| format!("POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-length: 1000000000\r\n\r\nx");
    assert_eq!(said(&server, head("/").as_bytes()).await, Some(405));
    let head = head(&format!("/postback/{SECRET}")).replace("1000000000", "1000");
    assert_eq!(said(&server, head.as_bytes()).await, Some(503), "after 10 s");
}

#[tokio::test]
async fn clients_that_dawdle_are_hung_up_on() {
    let server = start().await;
    let silent = async {
        let mut stream = dial(&server).await;
        hung_up(&mut stream).await
    };
    let idle = async {
        let mut stream = dial(&server).await;
        stream.write_all(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
        hung_up(&mut stream).await
    };
    let dripping = async {
        let (mut reading, mut writing) = dial(&server).await.into_split();
        let drip = async {
            writing.write_all(b"GET / HTTP/1.1\r\nhost: localhost\r\nx-slow: ").await.unwrap();
            while writing.write_all(b"a").await.is_ok() {
                tokio::time::sleep(Duration::from_millis(300)).await;
            }
            std::future::pending::<()>().await;
        };
        let began = Instant::now();
        let mut rest = Vec::new();
        tokio::select! {
            ended = tokio::time::timeout(GIVEN_UP, reading.read_to_end(&mut rest)) => assert!(ended.is_ok()),
            () = drip => unreachable!("it goes on for ever"),
        }
        began.elapsed()
    };
    let (silent, idle, dripping) = tokio::join!(silent, idle, dripping);
    for took in [silent, idle, dripping] {
        assert!(took > Duration::from_secs(5), "an honest client has time: {took:?}");
    }
}

#[tokio::test]
async fn clients_that_take_all_seats_have_to_give_them_back() {
    let server = start().await;
    let mut greedy = Vec::new();
    for _ in 0..SEATS {
        greedy.push(dial(&server).await);
    }
    let url = format!("{}healthz", server.url());
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let soon = client.get(&url).timeout(Duration::from_secs(1)).send().await;
    assert!(soon.is_err(), "there was one more seat");
    let later = client.get(&url).timeout(GIVEN_UP).send().await.unwrap();
    assert_eq!(later.status(), StatusCode::OK);
    drop(greedy);
}
