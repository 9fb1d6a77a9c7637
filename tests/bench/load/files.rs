//! An HTTP server with the files of one directory, as storage has them: streamed, with a length.

use std::path::Path;

use axum::Router;
use axum::body::Body;
use axum::extract::Path as UrlPath;
use axum::http::{HeaderMap, HeaderValue, header};
use axum::routing::get;
use tokio_util::io::ReaderStream;

use crate::clicks;

/// How many rows `few.csv` has.
pub const FEW: u64 = 10;

/// Serves the directory, and a small file besides; the URL.
pub async fn serve(dir: &Path) -> String {
    clicks::write(&dir.join("few.csv"), FEW, 0);
    let text = std::fs::read_to_string(dir.join("few.csv")).unwrap();
    // Other clicks, of the day before.
    let text = text.replace("2026-05-29T", "2026-05-28T").replace('\n', "\nx");
    std::fs::write(dir.join("few.csv"), text.trim_end_matches('x')).unwrap();
    let dir = dir.to_owned();
    let file = move |UrlPath(name): UrlPath<String>| async move {
        let file = tokio::fs::File::open(dir.join(name)).await.unwrap();
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(file.metadata().await.unwrap().len()));
        (headers, Body::from_stream(ReaderStream::with_capacity(file, 256 << 10)))
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, Router::new().route("/{name}", get(file))).await.unwrap() });
    url
}
