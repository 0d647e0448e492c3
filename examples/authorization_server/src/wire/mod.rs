//! The network: plain and TLS connections, HTTP/1.1 and HTTP/2 on both.
//!
//! HTTP/2 is left to hyper. HTTP/1.1 is written by hand in [`http1`], because most misbehaviours are about bytes
//! that a proper server would never send.

mod http1;
mod http2;

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use crate::app::App;

/// The largest request body that is read.
const LARGEST_BODY: usize = 1 << 20;

/// The pause between two pieces of a response that is split, long enough for each to be seen alone.
const SPLIT_PAUSE: Duration = Duration::from_millis(2);

/// The first bytes of an HTTP/2 connection (RFC 9113 §3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Reads a certificate chain and its key.
pub fn tls_acceptor(certificate: &Path, key: &Path) -> Result<TlsAcceptor, String> {
    let cannot = |path: &Path, error: &dyn std::fmt::Display| {
        format!("cannot use {}: {error}", path.display())
    };
    let chain =
        CertificateDer::pem_file_iter(certificate).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let chain = chain.map_err(|error| cannot(certificate, &error))?;
    let private_key = PrivateKeyDer::from_pem_file(key).map_err(|error| cannot(key, &error))?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| format!("cannot set up TLS: {error}"))?
        .with_no_client_auth()
        .with_single_cert(chain, private_key)
        .map_err(|error| cannot(certificate, &error))?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// Accepts connections for ever.
pub async fn serve(listener: TcpListener, tls: Option<TlsAcceptor>, app: Arc<App>) {
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Too many open files, most likely: it passes when a connection closes.
                eprintln!("authorization_server: cannot accept a connection: {error}");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        app.connected();
        let (tls, app) = (tls.clone(), Arc::clone(&app));
        tokio::spawn(async move {
            // A connection that fails is the peer's doing or was asked for by a knob: nothing to report.
            let _ = connection(stream, tls, app).await;
        });
    }
}

async fn connection(stream: TcpStream, tls: Option<TlsAcceptor>, app: Arc<App>) -> io::Result<()> {
    stream.set_nodelay(true)?;
    match tls {
        Some(acceptor) => {
            let stream = acceptor.accept(stream).await?;
            if stream.get_ref().1.alpn_protocol() == Some(b"h2") {
                http2::serve(stream, app).await
            } else {
                http1::serve(stream, BytesMut::new(), app).await
            }
        }
        None => plain(stream, app).await,
    }
}

/// Tells HTTP/2 with prior knowledge from HTTP/1.1 by the first bytes.
async fn plain<S>(mut stream: S, app: Arc<App>) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut buffer = BytesMut::with_capacity(4096);
    while buffer.len() < PREFACE.len() && PREFACE.starts_with(&buffer) {
        if stream.read_buf(&mut buffer).await? == 0 {
            return Ok(());
        }
    }
    if buffer.starts_with(PREFACE) {
        let (reader, writer) = tokio::io::split(stream);
        http2::serve(
            tokio::io::join(io::Cursor::new(buffer.freeze()).chain(reader), writer),
            app,
        )
        .await
    } else {
        http1::serve(stream, buffer, app).await
    }
}
