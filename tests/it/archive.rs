//! The archive by itself: in a directory, and in a bucket of a server that speaks as much S3 as is needed here.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{Method, Response, StatusCode, Uri, header};
use impact_mirror::archive::{Archive, Error};
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;
use tokio::net::TcpListener;
use url::Url;

use crate::support::daemon::{Mirrored, Scene, Wishes, still};

/// Bytes that do not shrink.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

fn spooled(dir: &TempDir, bytes: &[u8]) -> (std::path::PathBuf, [u8; 32]) {
    let path = dir.path().join("1.spool");
    fs::write(&path, bytes).unwrap();
    (path, Sha256::digest(bytes).into())
}

async fn read(archive: &Archive, key: &str) -> Result<Vec<u8>, Error> {
    let mut body = archive.get(key).await?;
    let mut bytes = Vec::new();
    while let Some(chunk) = body.chunk().await? {
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}

fn in_directory(dir: &Path) -> Archive {
    Archive::open(&Url::from_directory_path(dir).unwrap()).unwrap()
}

fn objects(dir: &Path) -> usize {
    fs::read_dir(dir)
        .unwrap()
        .flatten()
        .map(|entry| if entry.path().is_dir() { objects(&entry.path()) } else { 1 })
        .sum()
}

#[tokio::test]
async fn what_goes_in_comes_out_in_parts_or_whole() {
    let (spool, dir) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let archive = in_directory(dir.path());
    for (key, bytes) in
        [("a/empty.csv.zst", Vec::new()), ("a/small.csv.zst", noise(1000)), ("a/big.csv.zst", noise(20 << 20))]
    {
        let (path, sha256) = spooled(&spool, &bytes);
        let stored_bytes = archive.put(key, &path, &sha256).await.unwrap();
        assert_eq!(fs::metadata(dir.path().join(key)).unwrap().len(), stored_bytes);
        assert!(read(&archive, key).await.unwrap() == bytes, "{key}");
        archive.remove(key).await.unwrap();
        archive.remove(key).await.unwrap();
        assert!(matches!(read(&archive, key).await, Err(Error::Missing { .. })), "{key}");
    }
    assert_eq!(objects(dir.path()), 0);
}

#[tokio::test]
async fn another_file_than_was_meant_is_not_kept() {
    let (spool, dir) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let archive = in_directory(dir.path());
    for length in [1000, 20 << 20] {
        let (path, _) = spooled(&spool, &noise(length));
        assert!(matches!(archive.put("a/b.csv.zst", &path, &[0; 32]).await, Err(Error::OtherFile { .. })));
        assert_eq!(objects(dir.path()), 0, "nothing is left of {length} bytes");
    }
}

#[tokio::test]
async fn what_a_kill_left_unfinished_goes_with_its_object() {
    let (spool, dir) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let archive = in_directory(dir.path());
    let (path, sha256) = spooled(&spool, b"x");
    archive.put("a/b.csv.zst", &path, &sha256).await.unwrap();
    for name in ["b.csv.zst#1", "b.csv.zst#12", "b.csv.zst#mine", "b.csv.zst.1"] {
        fs::write(dir.path().join("a").join(name), "half").unwrap();
    }
    archive.remove("a/b.csv.zst").await.unwrap();
    let mut left: Vec<_> =
        fs::read_dir(dir.path().join("a")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    left.sort();
    assert_eq!(left, ["b.csv.zst#mine", "b.csv.zst.1"]);
}

#[tokio::test]
async fn a_file_cut_in_the_archive_is_not_taken_for_whole() {
    let (spool, dir) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let archive = in_directory(dir.path());
    let (path, sha256) = spooled(&spool, &noise(1 << 20));
    archive.put("a.csv.zst", &path, &sha256).await.unwrap();
    let stored = fs::read(dir.path().join("a.csv.zst")).unwrap();
    for bytes in [&stored[..stored.len() - 1], &stored[..stored.len() / 2], b"no zstd at all"] {
        fs::write(dir.path().join("a.csv.zst"), bytes).unwrap();
        assert!(matches!(read(&archive, "a.csv.zst").await, Err(Error::Read { .. })));
    }
}

#[tokio::test]
async fn an_archive_that_failed_is_left_alone_for_a_while() {
    let (spool, dir) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let archive = in_directory(dir.path());
    fs::write(dir.path().join("a"), "in the way").unwrap();
    let (path, sha256) = spooled(&spool, b"x");
    assert!(matches!(archive.put("a/b", &path, &sha256).await, Err(Error::Store { .. })));
    assert!(matches!(archive.put("c/d", &path, &sha256).await, Err(Error::Resting)));
}

/// A bucket in memory.
#[derive(Default)]
struct Bucket {
    objects: BTreeMap<String, Bytes>,
}

type Shared = Arc<Mutex<Bucket>>;

async fn s3(State(bucket): State<Shared>, method: Method, uri: Uri, body: Bytes) -> Response<Body> {
    let mut bucket = bucket.lock().unwrap();
    let key = uri.path().to_owned();
    let answer = |status: StatusCode, body: Body| {
        let answer = Response::builder().status(status).header(header::ETAG, "\"tag\"");
        answer.header(header::LAST_MODIFIED, "Tue, 24 Nov 2026 00:00:00 GMT").body(body).unwrap()
    };
    match method {
        Method::PUT => {
            bucket.objects.insert(key, body);
            answer(StatusCode::OK, Body::empty())
        }
        Method::GET => match bucket.objects.get(&key) {
            Some(object) => answer(StatusCode::OK, Body::from(object.clone())),
            None => answer(StatusCode::NOT_FOUND, Body::from("<Error><Code>NoSuchKey</Code></Error>")),
        },
        Method::DELETE => {
            bucket.objects.remove(&key);
            answer(StatusCode::NO_CONTENT, Body::empty())
        }
        _ => answer(StatusCode::METHOD_NOT_ALLOWED, Body::empty()),
    }
}

/// Serves a bucket; gives its address.
async fn serve(bucket: Shared) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let app = axum::Router::new().fallback(s3).with_state(bucket).layer(DefaultBodyLimit::disable());
    tokio::spawn(async move { axum::serve(listener, app).await });
    format!("http://{address}")
}

#[tokio::test]
async fn the_program_works_with_a_bucket_and_credentials_from_the_environment() {
    let bucket = Shared::default();
    let wishes = Wishes { exports: &[Mirrored::Actions], ..Wishes::default() };
    let mut scene = Scene::with(still(Duration::from_millis(20)), wishes).await;
    scene.env = vec![
        ("AWS_ENDPOINT", serve(Arc::clone(&bucket)).await),
        ("AWS_ALLOW_HTTP", "true".to_owned()),
        ("AWS_REGION", "us-east-1".to_owned()),
        ("AWS_ACCESS_KEY_ID", "key".to_owned()),
        ("AWS_SECRET_ACCESS_KEY", "very-secret".to_owned()),
    ];
    scene.edit_config(|text| text + "[archive]\nurl = \"s3://bucket/deep/down\"\n");
    let run = async |arguments: &[&str]| {
        let mut process = scene.start(arguments);
        let code = process.exit_code().await;
        let said = process.log();
        assert!(!said.contains("very-secret"), "{said}");
        (code, said)
    };

    let (_, said) = run(&["check"]).await;
    assert!(said.contains("s3://bucket/deep/down: written, read and removed"), "{said}");
    assert!(bucket.lock().unwrap().objects.is_empty());
    assert_eq!(run(&["sync"]).await.0, Some(0));
    let keys: Vec<String> = bucket.lock().unwrap().objects.keys().cloned().collect();
    assert!(
        keys.len() == 2 && keys.iter().all(|key| key.starts_with("/bucket/deep/down/acme/actions/1000/")),
        "{keys:?}"
    );

    let id: String = scene.value("select action_id from impact.actions limit 1").await;
    let (code, said) = run(&["explain", "actions", &id]).await;
    let key: String = scene.value("select archive_key from impact_mirror.load").await;
    let line: i64 = scene.value(&format!("select _line from impact.actions where action_id = '{id}'")).await;
    assert_eq!(code, Some(0), "{said}");
    for part in ["Row\n", "Load 1\n", "remote job", "request", &key, &format!("\nLine {line}\n")] {
        assert!(said.contains(part), "{part}: {said}");
    }
    assert!(said.rsplit("Line ").next().unwrap().contains(&id), "{said}");
    assert_eq!(run(&["explain", "actions", "no-such-action"]).await.0, Some(1));
    assert_eq!(run(&["explain", "actions", "no_such_column=1"]).await.0, Some(2));

    let (first, last) = ("2000-01-01", "2100-01-01");
    let calls = scene.sandbox.calls().len();
    let (code, said) = run(&["reload", "actions", "--from", first, "--to", last]).await;
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("1 files of actions"), "{said}");
    assert_eq!(scene.sandbox.calls().len(), calls);
    assert_eq!(run(&["reload", "actions", "--from", last, "--to", first]).await.0, Some(2));
    assert_eq!(run(&["reload", "actions", "--from", first, "--to", last, "--account", "other"]).await.0, Some(2));
    bucket.lock().unwrap().objects.clear();
    let (code, said) = run(&["reload", "actions", "--from", first, "--to", last]).await;
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("is not in the archive"), "{said}");
    scene.edit_config(|text| text.replace("[archive]\nurl = \"s3://bucket/deep/down\"\n", ""));
    let (code, said) = run(&["reload", "actions", "--from", first, "--to", last]).await;
    assert_eq!(code, Some(2), "{said}");
    let (_, said) = run(&["explain", "actions", &id]).await;
    assert!(said.contains("no [archive] is configured"), "{said}");
}

#[tokio::test]
async fn check_says_what_is_wrong_with_the_archive() {
    let wishes = Wishes { exports: &[Mirrored::Actions], ..Wishes::default() };
    let scene = Scene::with(still(Duration::from_millis(20)), wishes).await;
    let taken = scene.dir.path().join("taken");
    fs::write(&taken, "a file").unwrap();
    scene.edit_config(|text| format!("{text}[archive]\nurl = \"file://{}\"\n", taken.display()));
    let mut check = scene.start(&["check"]);
    assert_eq!(check.exit_code().await, Some(1));
    assert!(check.log().contains("or name another in archive.url"), "{}", check.log());
}
