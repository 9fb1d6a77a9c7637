//! A server that cannot prove who it is counts nothing of us, least of all the token.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use impact_mirror::account::Persona;
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::fake::client;

/// Made by `openssl ca -selfsign` for 127.0.0.1, no CA, valid from 2020 to 2120, and used nowhere else.
const CERTIFICATE: &[u8] = include_bytes!("tls/certificate.der");
const KEY: &[u8] = include_bytes!("tls/key.der");

/// What a server has come to.
#[derive(Debug, Default)]
struct Heard {
    connections: AtomicUsize,
    bytes: AtomicUsize,
}

/// A server for loopback whose certificate it has made itself.
async fn self_made() -> (String, Arc<Heard>) {
    let (certificate, key) = (CertificateDer::from(CERTIFICATE), PrivateKeyDer::try_from(KEY).unwrap());
    let config = ServerConfig::builder().with_no_client_auth().with_single_cert(vec![certificate], key).unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let origin = format!("https://{}", listener.local_addr().unwrap());
    let heard = Arc::new(Heard::default());
    let counts = Arc::clone(&heard);
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            counts.connections.fetch_add(1, Ordering::SeqCst);
            let Ok(mut stream) = acceptor.accept(socket).await else { continue };
            let mut request = [0; 4096];
            let read = stream.read(&mut request).await.unwrap_or(0);
            counts.bytes.fetch_add(read, Ordering::SeqCst);
        }
    });
    (origin, heard)
}

#[tokio::test]
async fn a_server_that_nobody_vouches_for_is_told_nothing() {
    let (origin, heard) = self_made().await;
    let error = client(&origin, Persona::Brand).company().await.unwrap_err();
    let words = format!("{:#}", anyhow::Error::from(error));
    assert!(words.contains("invalid peer certificate: UnknownIssuer"), "{words}");
    assert!(heard.connections.load(Ordering::SeqCst) > 0, "it was asked");
    assert_eq!(heard.bytes.load(Ordering::SeqCst), 0);
}
