//! The spool: whole files only, and nothing left behind.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use impact_mirror::error_chain::Chain;
use impact_mirror::export::ResultFormat;
use impact_mirror::retry::ErrorKind;
use impact_mirror::spool::{Error, FileKind, Spool, SpoolFile};
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;

use crate::support::small_disk::SmallDisk;

fn spool() -> (TempDir, Spool) {
    let dir = TempDir::new().unwrap();
    let spool = Spool::open(dir.path()).unwrap();
    (dir, spool)
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

async fn spooled(spool: &Spool, bytes: &[u8], expected_bytes: Option<u64>) -> Result<SpoolFile, Error> {
    spooled_as(ResultFormat::Csv, spool, bytes, expected_bytes).await
}

async fn spooled_as(
    format: ResultFormat,
    spool: &Spool,
    bytes: &[u8],
    expected_bytes: Option<u64>,
) -> Result<SpoolFile, Error> {
    let mut writer = spool.writer(1, format).await.unwrap();
    for chunk in bytes.chunks(3) {
        writer.write(chunk.to_vec()).await.unwrap();
    }
    writer.finish(expected_bytes).await
}

#[tokio::test]
async fn a_file_is_counted_hashed_and_removed_when_dropped() {
    let (dir, spool) = spool();
    let bytes = b"a,b\n1,2\n".repeat(1000);
    let file = spooled(&spool, &bytes, Some(8000)).await.unwrap();
    assert_eq!(fs::read(&file.path).unwrap(), bytes);
    assert_eq!((file.bytes, file.sha256), (8000, <[u8; 32]>::from(Sha256::digest(&bytes))));
    assert_eq!(fs::metadata(&file.path).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(names(dir.path()).len(), 1);
    drop(file);
    assert!(names(dir.path()).is_empty());
}

#[tokio::test]
async fn a_file_given_up_half_way_is_removed() {
    let (dir, spool) = spool();
    let mut writer = spool.writer(1, ResultFormat::Csv).await.unwrap();
    writer.write(&b"a,b\n"[..]).await.unwrap();
    drop(writer);
    assert!(names(dir.path()).is_empty());
}

#[tokio::test]
async fn a_file_without_end_leaves_room_to_others() {
    const DISK: u64 = 8 << 20;
    let Some(disk) = SmallDisk::mount(DISK) else {
        eprintln!("only root may mount the small disk of this test");
        return;
    };
    let spool = Spool::open(disk.path()).unwrap();
    spool.look_for_room().unwrap();
    let mut writer = spool.writer(1, ResultFormat::Csv).await.unwrap();
    let piece = bytes::Bytes::from(vec![b'0'; 4 << 10]);
    let mut written = 0;
    let error = loop {
        match writer.write(piece.clone()).await {
            Ok(()) => written += piece.len() as u64,
            Err(error) => break error,
        }
        // Some pieces are on their way.
        assert!(written < DISK, "the disk was filled");
    };
    assert!(matches!(error, Error::NoRoom { .. }) && error.kind() == ErrorKind::NoRoom, "{error}");
    assert!(Chain(&error).to_string().contains("left to others"), "{}", Chain(&error));
    assert!(written > DISK / 2, "there was room for more than {written}");
    assert!(disk.free_bytes() >= DISK / 20 / 2, "{}", disk.free_bytes());
    drop(writer);
    assert!(names(disk.path()).is_empty());
    disk.fill();
    assert!(matches!(spool.look_for_room(), Err(Error::NoRoom { .. })));
}

#[tokio::test]
async fn a_wrong_length_is_refused() {
    for expected in [0, 7, 9] {
        let (dir, spool) = spool();
        let error = spooled(&spool, b"a,b\n1,2\n", Some(expected)).await.unwrap_err();
        assert!(matches!(error, Error::WrongLength { got: 8, .. }), "{error}");
        assert_eq!(error.kind(), ErrorKind::Transient);
        assert!(names(dir.path()).is_empty());
    }
}

#[tokio::test]
async fn the_json_of_a_result_is_taken_in_all_its_shapes() {
    for file in
        ["", "[]", "null", "{}", "{\"Records\":[{\"A\":\"\\\"]\"}]}\n", "\u{feff}{\"@page\":\"1\",\"Clicks\":[{}]}"]
    {
        let (_dir, spool) = spool();
        let spooled = spooled_as(ResultFormat::Json, &spool, file.as_bytes(), None).await;
        assert!(spooled.is_ok(), "{file}: {spooled:?}");
    }
}

#[tokio::test]
async fn what_is_not_the_json_of_a_result_is_refused_and_told() {
    for (file, told) in [
        ("<html>502</html>", "the result file is an HTML page and not JSON; it begins \"<html>502</html>\""),
        ("<?xml version='1.0'?><x/>", "the result file is XML and not JSON; it begins \"<?xml version='1.0'?><x/>\""),
        ("A,B\n1,2\n", "the result file is CSV or another text and not JSON; it begins \"A,B1,2\""),
        (
            "{\"Records\":[{\"A\":1},{\"A\"",
            "the result file is not the JSON of a result; it begins \"{\\\"Records\\\":[{\\\"A\\\":1},{\\\"A\\\"\": \
             it is cut off after 24 bytes, behind 1 whole records",
        ),
        (
            "[{}]\n{}",
            "the result file is not the JSON of a result; it begins \"[{}]{}\": \
             byte 5 is '{', where the end of the file should be",
        ),
        (
            "{\"Status\":\"ERROR\",\"Message\":\"no\"}",
            "the result file is not the JSON of a result; it begins \"{\\\"Status\\\":\\\"ERROR\\\",\\\"Message\\\":\\\"no\\\"}\": \
             it says that the export failed: no",
        ),
    ] {
        let (dir, spool) = spool();
        let error = spooled_as(ResultFormat::Json, &spool, file.as_bytes(), None).await.unwrap_err();
        assert_eq!(Chain(&error).to_string(), told);
        assert_eq!(error.kind(), ErrorKind::BadFile);
        assert!(names(dir.path()).is_empty());
    }
}

#[tokio::test]
async fn what_cannot_be_csv_is_refused_and_shown() {
    for (bytes, kind) in [
        (&b"<!DOCTYPE HTML><title>502</title>"[..], FileKind::Html),
        (b" \n <HTML><body>no</body>", FileKind::Html),
        (b"\xEF\xBB\xBF<html>", FileKind::Html),
        (b"<?xml version=\"1.0\"?><ImpactRadiusResponse/>", FileKind::Xml),
        (b"{\"Records\":[]}", FileKind::Json),
        (b"\r\n[", FileKind::Json),
        (b"\x1f\x8b\x08\x00", FileKind::Binary),
        (b"PK\x03\x04", FileKind::Binary),
        (b"\xff\xfea\x00", FileKind::Binary),
    ] {
        let (dir, spool) = spool();
        let error = spooled(&spool, bytes, None).await.unwrap_err();
        assert!(matches!(&error, Error::NotAFile { kind: found, .. } if *found == kind), "{error}");
        assert_eq!(error.kind(), ErrorKind::BadFile);
        assert!(names(dir.path()).is_empty());
    }
    let (_dir, spool) = spool();
    let error = spooled(&spool, b"[]", None).await.unwrap_err();
    assert_eq!(error.to_string(), "the result file is JSON and not CSV; it begins \"[]\"");
    let error = spooled(&spool, "<html>\u{1b}[31m".repeat(99).as_bytes(), None).await.unwrap_err();
    let Error::NotAFile { head, .. } = error else { panic!("{error}") };
    assert!(head.starts_with("<html>[31m<html>") && head.chars().count() == 80, "{head}");
}

#[tokio::test]
async fn what_can_be_csv_is_kept_byte_for_byte() {
    for bytes in [&b""[..], b"\n", b"\xEF\xBB\xBFa,b\r\n", b"a", b"\"<html>\",b\n", b"\xff", b"null"] {
        let (_dir, spool) = spool();
        let file = spooled(&spool, bytes, Some(bytes.len() as u64)).await.unwrap();
        assert_eq!(fs::read(&file.path).unwrap(), bytes);
    }
}

#[tokio::test]
async fn a_sweep_takes_leftovers_and_nothing_else() {
    let (dir, spool) = spool();
    let leftover = |job: i64| format!("{job}-0123456789abcdef0123456789abcdef.spool");
    for name in [leftover(1), leftover(2), "1-notours.spool".to_owned(), "notes.txt".to_owned()] {
        fs::write(dir.path().join(name), "x").unwrap();
    }
    let mut writer = spool.writer(1, ResultFormat::Csv).await.unwrap();
    let finished = spooled(&spool, b"a\n", None).await.unwrap();
    let other_process = Spool::open(dir.path()).unwrap();

    assert_eq!(other_process.sweep(|job| job == 2), 1);
    let left = names(dir.path());
    assert!(!left.contains(&leftover(1)) && left.contains(&leftover(2)), "{left:?}");
    assert!(left.contains(&"1-notours.spool".to_owned()) && left.contains(&"notes.txt".to_owned()));
    assert_eq!(fs::read(&finished.path).unwrap(), b"a\n");
    writer.write(&b"b\n"[..]).await.unwrap();
    let written = writer.finish(Some(2)).await.unwrap();
    assert_eq!(fs::read(&written.path).unwrap(), b"b\n");

    assert_eq!(other_process.sweep(|_| false), 1);
    assert_eq!(names(dir.path()).len(), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sweep_that_races_with_new_files_takes_none_of_them() {
    let (dir, spool) = spool();
    let sweeper = Spool::open(dir.path()).unwrap();
    let sweeping = tokio::task::spawn_blocking(move || (0..300).map(|_| sweeper.sweep(|_| false)).sum::<usize>());
    for _ in 0..100 {
        let file = spooled(&spool, b"a\n", Some(2)).await.unwrap();
        assert_eq!(fs::read(&file.path).unwrap(), b"a\n");
    }
    sweeping.await.unwrap();
}

#[test]
fn the_directory_is_made_for_the_owner_only() {
    let dir = TempDir::new().unwrap();
    let inner = dir.path().join("a/b");
    Spool::open(&inner).unwrap();
    assert_eq!(fs::metadata(&inner).unwrap().permissions().mode() & 0o777, 0o700);
    assert!(names(&inner).is_empty());
}

#[test]
fn a_directory_that_cannot_be_used_is_told_with_the_mend() {
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "").unwrap();
    for path in [file.clone(), file.join("below"), "/proc/no-such-place".into()] {
        let error = Spool::open(&path).unwrap_err().to_string();
        assert!(error.contains(path.to_str().unwrap()) && error.contains("spool.dir"), "{error}");
    }
}
