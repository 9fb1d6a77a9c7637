//! Results: redirects, first bytes, lengths.

use impact_mirror::account::Persona;
use impact_mirror::error_chain::Chain;
use impact_mirror::impact::{Body, Call, Download, Error, Limits, RemoteJobId, RemoteStatus};
use impact_mirror::retry::ErrorKind;
use std::future::ready;

use super::fake::{BASIC, Fake, Reply, SID, TOKEN, client, nobody, raw, redirect, reply};

const GZIPPED: &[u8] = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x02\x03\x4b\xd4\x49\xe2\x32\xd4\x31\x1a\x16\x18\x00\xf7\xe3\x81\xae\xcc\x00\x00\x00";
const CSV: &str = "a,b\n1,2\n";
const JOB: &str = r#"{"Id":"j-1","Type":"ApiReport","Status":"RUNNING","StatusMessage":"half way"}"#;

fn id() -> RemoteJobId {
    RemoteJobId::new("j-1")
}

async fn whole(mut body: Body) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    while let Some(chunk) = body.chunk().await? {
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}

async fn download(fake: &Fake) -> Result<Download, Error> {
    fake.client(Persona::Brand).download(&id(), |_| ready(true)).await.result
}

async fn file(fake: &Fake) -> Vec<u8> {
    match download(fake).await.unwrap() {
        Download::File(body) => whole(body).await.unwrap(),
        Download::NotReady(job) => panic!("not ready: {job:?}"),
    }
}

#[tokio::test]
async fn the_credential_stays_with_the_api_when_a_redirect_is_followed() {
    for status in [301, 302, 303, 307, 308] {
        let storage = Fake::start([redirect(302, "/moved?sig=s2"), reply(200, CSV)]).await;
        let api = Fake::start([redirect(status, format!("{}/bucket/file?sig=s1", storage.origin))]).await;
        assert_eq!(file(&api).await, CSV.as_bytes());

        let asked = api.only();
        assert_eq!(asked.target, "/Advertisers/IRtestSid0001/Jobs/j-1/Download");
        assert_eq!(asked.header("authorization"), Some(BASIC));
        let fetched = storage.seen();
        assert_eq!(
            fetched.iter().map(|seen| seen.target.as_str()).collect::<Vec<_>>(),
            ["/bucket/file?sig=s1", "/moved?sig=s2"]
        );
        for seen in fetched {
            assert_eq!(seen.header("authorization"), None);
            assert_eq!(seen.header("ir-version"), None);
            assert_eq!(seen.header("referer"), None);
            assert!(!format!("{seen:?}").contains(SID));
        }
    }
}

#[tokio::test]
async fn a_redirect_within_the_api_goes_without_the_credential_too() {
    let api = Fake::start([redirect(302, "/signed"), reply(200, CSV)]).await;
    assert_eq!(file(&api).await, CSV.as_bytes());
    let auth: Vec<_> = api.seen().iter().map(|seen| seen.header("authorization").is_some()).collect();
    assert_eq!(auth, [true, false]);
}

#[tokio::test]
async fn five_redirects_are_followed_and_no_more() {
    let hops = |n| (0..n).map(|hop| redirect(302, format!("/hop{hop}")));
    let api = Fake::start(hops(5).chain([reply(200, CSV)])).await;
    assert_eq!(file(&api).await, CSV.as_bytes());

    let api = Fake::start(hops(6).chain([reply(200, CSV)])).await;
    assert!(matches!(download(&api).await.unwrap_err(), Error::TooManyRedirects { hops: 5 }));
    assert_eq!(api.seen().len(), 6);
}

#[tokio::test]
async fn unsafe_redirects_are_refused_without_telling_the_signature() {
    for location in
        ["http://example.com/f?sig=s3", "http://user:pw@127.0.0.1/f?sig=s3", "ftp://example.com/f?sig=s3", "http://"]
    {
        let api = Fake::start([redirect(302, location)]).await;
        let error = download(&api).await.unwrap_err();
        assert!(matches!(error, Error::UnsafeRedirect { .. }), "{location}: {error}");
        assert_eq!(error.kind(), ErrorKind::BadFile);
        let told = format!("{error} {error:?}");
        assert!(!told.contains("s3") && !told.contains("pw"), "{told}");
    }
    let api = Fake::start([reply(302, "")]).await;
    assert_eq!(download(&api).await.unwrap_err().kind(), ErrorKind::Transient);
}

#[tokio::test]
async fn a_job_in_place_of_the_file_means_not_ready() {
    let xml = "<ImpactRadiusResponse><Id>j-1</Id><Status>RUNNING</Status><StatusMessage>half way</StatusMessage></ImpactRadiusResponse>";
    for (status, body) in [
        (202, JOB),
        (200, JOB),
        (200, "\u{feff} \n {\"Id\":\"J-1\",\"Status\":\"RUNNING\",\"StatusMessage\":\"half way\"}"),
        (202, xml),
        (200, xml),
    ] {
        let api = Fake::start([reply(status, body)]).await;
        let Download::NotReady(job) = download(&api).await.unwrap() else { panic!("a file from {status} {body}") };
        assert_eq!((job.status, job.message.as_str()), (RemoteStatus::Running, "half way"));
    }
    for body in ["", "[]", "<html></html>", "soon"] {
        let api = Fake::start([reply(202, body)]).await;
        let Download::NotReady(job) = download(&api).await.unwrap() else { panic!("a file from {body}") };
        assert_eq!((job.id, job.status), (id(), RemoteStatus::Unknown));
    }
}

#[tokio::test]
async fn error_pages_and_envelopes_with_status_200_are_no_files() {
    let page = "<!DOCTYPE html><html><body>Down for maintenance</body></html>";
    let long_page = format!("<html><body>Down for maintenance{}</body></html>", " ".repeat(200_000));
    let xml = "<?xml version=\"1.0\"?><ImpactRadiusResponse><Status>ERROR</Status><Message>No result</Message></ImpactRadiusResponse>";
    for (body, kind, words) in [
        (page, ErrorKind::Transient, "Down for maintenance"),
        (long_page.as_str(), ErrorKind::Transient, "Down for maintenance"),
        (r#"{"Status":"ERROR","Message":"No result"}"#, ErrorKind::BadFile, "No result"),
        (xml, ErrorKind::BadFile, "No result"),
    ] {
        let storage = Fake::start([reply(200, body)]).await;
        let direct = Fake::start([reply(200, body)]).await;
        let redirected = Fake::start([redirect(302, storage.origin)]).await;
        for api in [direct, redirected] {
            let error = download(&api).await.unwrap_err();
            assert_eq!(error.kind(), kind, "{body}");
            assert!(error.to_string().ends_with(words), "{error}");
        }
    }
}

#[tokio::test]
async fn every_byte_of_a_file_comes_through() {
    let long = format!("a,b\n{}", "1,\"{<[\"\n".repeat(50_000));
    let json = format!("[{}]", "{\"Id\":\"j-1\",\"Status\":\"ERROR\"},".repeat(5_000));
    for text in
        ["", " ", "\n", "\u{feff}a,b\n1,2\n", "a", "  \n{\"Records\":[]}", "{", "<Records/>", "null", &long, &json]
    {
        for answer in [reply(200, text), reply(200, text).chunked()] {
            let api = Fake::start([answer]).await;
            assert_eq!(file(&api).await, text.as_bytes());
        }
    }
}

#[tokio::test]
async fn the_length_is_known_only_where_it_counts_decoded_bytes() {
    let plain = reply(200, CSV).header("content-type", "text/csv");
    let api =
        Fake::start([plain, reply(200, CSV).chunked(), reply(200, GZIPPED).header("content-encoding", "gzip")]).await;
    let mut bodies = Vec::new();
    for _ in 0..3 {
        let Download::File(body) = download(&api).await.unwrap() else { panic!("not ready") };
        bodies.push(body);
    }
    let lengths: Vec<_> = bodies.iter().map(Body::content_length).collect();
    assert_eq!(lengths, [Some(8), None, None]);
    assert_eq!(bodies[0].content_type(), Some("text/csv"));
    let unpacked = whole(bodies.pop().unwrap()).await.unwrap();
    assert_eq!(unpacked, format!("a,b\n{}", "1,2\n".repeat(50)).as_bytes());
}

#[tokio::test]
async fn a_file_in_either_encoding_is_unpacked() {
    let text = format!("a,b\n{}", "1,2\n".repeat(100_000));
    let zstd = zstd::encode_all(text.as_bytes(), 3).unwrap();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    std::io::Write::write_all(&mut gzip, text.as_bytes()).unwrap();
    // More than one packing in a row is one file.
    let twice = [zstd.clone(), zstd.clone()].concat();
    for (encoding, packed, times) in
        [("gzip", gzip.finish().unwrap(), 1), ("zstd", zstd.clone(), 1), ("zstd", twice, 2), ("ZSTD", zstd, 1)]
    {
        for sent in [reply(200, &packed), reply(200, &packed).chunked()] {
            let storage = Fake::start([sent.header("content-encoding", encoding)]).await;
            let api = Fake::start([redirect(302, storage.origin.clone())]).await;
            assert_eq!(file(&api).await, text.repeat(times).as_bytes(), "{encoding}");
            assert_eq!(storage.only().header("accept-encoding"), Some("gzip, zstd"));
        }
    }
}

#[tokio::test]
async fn a_cut_file_is_an_error_and_not_an_end() {
    const CUT: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\na,b\n1,2\n";
    const CUT_CHUNKED: &[u8] = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n8\r\na,b\n1,2\n\r\n";
    for origin in [raw(CUT, false).await, raw(CUT, true).await, raw(CUT_CHUNKED, false).await] {
        let error = match client(&origin, Persona::Brand).download(&id(), |_| ready(true)).await.result {
            Ok(Download::File(body)) => whole(body).await.unwrap_err(),
            Ok(Download::NotReady(job)) => panic!("{job:?}"),
            Err(error) => error,
        };
        assert_eq!(error.kind(), ErrorKind::Transient, "{}", Chain(&error));
    }
    let half: Vec<u8> = GZIPPED[..GZIPPED.len() / 2].to_vec();
    let api = Fake::start([reply(200, half).header("content-encoding", "gzip")]).await;
    let error = match download(&api).await {
        Ok(Download::File(body)) => whole(body).await.unwrap_err(),
        Ok(Download::NotReady(job)) => panic!("{job:?}"),
        Err(error) => error,
    };
    assert_eq!(error.kind(), ErrorKind::Transient, "{}", Chain(&error));
}

#[tokio::test]
async fn a_file_in_an_encoding_that_was_not_asked_for_is_refused() {
    let api = Fake::start([reply(200, "????").header("content-encoding", "br")]).await;
    assert_eq!(download(&api).await.unwrap_err().kind(), ErrorKind::Transient);
    let api = Fake::start([reply(200, CSV).header("content-encoding", "identity")]).await;
    assert_eq!(file(&api).await, CSV.as_bytes());
}

#[tokio::test]
async fn a_result_that_is_gone_is_expired() {
    for (status, kind) in [
        (403, ErrorKind::Expired),
        (404, ErrorKind::Expired),
        (410, ErrorKind::Expired),
        (401, ErrorKind::Credentials),
        (429, ErrorKind::Throttled),
        (400, ErrorKind::Permanent),
        (500, ErrorKind::Transient),
        (520, ErrorKind::Transient),
        (204, ErrorKind::Transient),
    ] {
        let api = Fake::start([reply(status, "")]).await;
        let error = download(&api).await.unwrap_err();
        assert_eq!((error.kind(), api.seen().len()), (kind, 1), "{status}");
        assert!(!error.may_have_taken_effect());
    }
}

#[tokio::test]
async fn a_signed_url_that_storage_refuses_is_renewed_once() {
    for status in [400, 401, 403, 404, 410] {
        let denied =
            reply(status, "<?xml version='1.0'?><Error><Code>AccessDenied</Code><Message>Expired.</Message></Error>");
        let storage = Fake::start([denied.clone(), reply(200, CSV), denied.clone(), denied]).await;
        let fresh = |n| redirect(302, format!("{}/f?sig={n}", storage.origin));
        let api = Fake::start([fresh(1), fresh(2), fresh(3), fresh(4)]).await;
        assert_eq!(file(&api).await, CSV.as_bytes());
        assert_eq!(storage.seen()[1].target, "/f?sig=2");

        let error = download(&api).await.unwrap_err();
        assert_eq!((error.kind(), error.call()), (ErrorKind::Expired, Some(Call::Storage)));
        assert!(error.to_string().ends_with("AccessDenied; Expired."), "{error}");
        assert_eq!(api.seen().len(), 4);
    }
}

#[tokio::test]
async fn storage_in_trouble_is_transient_and_does_not_touch_our_quota() {
    for status in [408, 429, 500, 503] {
        let storage = Fake::start([reply(status, "").header("x-ratelimit-remaining", "0")]).await;
        let api = Fake::start([redirect(302, storage.origin)]).await;
        let error = download(&api).await.unwrap_err();
        assert_eq!((error.kind(), error.limits()), (ErrorKind::Transient, None), "{status}");
    }
    let api = Fake::start([redirect(302, format!("{}/f?sig=s4", nobody().await))]).await;
    let error = download(&api).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Transient);
    let told = format!("{error:?} {}", Chain(&error));
    assert!(!told.contains("s4") && !told.contains(TOKEN), "{told}");
}

#[tokio::test]
async fn quota_is_told_by_impact_com_and_not_by_storage() {
    let told = |reply: Reply, left: &str| {
        reply.header("x-ratelimit-limit", "1000").header("x-ratelimit-remaining", left).header("retry-after", "9")
    };
    let left = async |api: &Fake| {
        let answer = api.client(Persona::Brand).download(&id(), |_| ready(true)).await;
        answer.limits.and_then(|limits| limits.remaining)
    };
    for status in [200, 403, 404, 429, 500] {
        let storage = Fake::start([told(reply(status, CSV), "1"), told(reply(status, CSV), "1")]).await;
        let fresh = |left| told(redirect(302, storage.origin.clone()), left);
        let api = Fake::start([fresh("70"), fresh("69")]).await;
        let is_renewed = matches!(status, 403 | 404);
        assert_eq!(left(&api).await, Some(if is_renewed { 69 } else { 70 }), "{status} from storage");
    }
    for status in [200, 202, 401, 403, 404, 429, 500] {
        let api = Fake::start([told(reply(status, CSV), "70")]).await;
        assert_eq!(left(&api).await, Some(70), "{status}");
    }
    assert_eq!(client(&nobody().await, Persona::Brand).download(&id(), |_| ready(true)).await.limits, None);

    // Who pays for a fresh URL is told what the answer before it said.
    let storage = Fake::start([reply(403, "")]).await;
    let api = Fake::start([told(redirect(302, storage.origin.clone()), "70")]).await;
    let heard = std::sync::Mutex::new(Vec::new());
    let pay = |limits: Limits| {
        heard.lock().unwrap().push(limits.remaining);
        ready(false)
    };
    let answer = api.client(Persona::Brand).download(&id(), pay).await;
    assert!(matches!(answer.result, Err(Error::Unpaid { .. })) && answer.limits.is_none());
    assert_eq!(*heard.lock().unwrap(), [Some(70)]);
}

#[tokio::test]
async fn a_body_tells_nothing_of_its_address() {
    let storage = Fake::start([reply(200, CSV)]).await;
    let api = Fake::start([redirect(302, format!("{}/f?sig=s5", storage.origin))]).await;
    let told = format!("{:?}", download(&api).await.unwrap());
    assert!(told.starts_with("File(Body"), "{told}");
    assert!(!told.contains("s5"), "{told}");
}
