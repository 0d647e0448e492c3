//! A small OAuth authorization server, to try phantom-token with and to test it against.
//!
//! It issues opaque access tokens, introspects them (RFC 7662) in the dialects that phantom-token speaks,
//! revokes them (RFC 7009) and signs the JWTs behind them with ES256. It keeps everything in memory, has one
//! fixed user and, on request, misbehaves in all the ways that a client of an introspection endpoint must
//! survive. It is no server for production.

mod app;
mod client_authentication;
mod knobs;
mod oauth_error;
mod options;
mod reply;
mod stats;
mod tokens;
mod wire;

use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Parser;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

use crate::app::App;
use crate::options::Options;

fn main() -> ExitCode {
    let options = Options::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("authorization_server: cannot start the runtime: {error}");
            return ExitCode::FAILURE;
        }
    };
    let outcome = runtime.block_on(run(options));
    // Not by dropping it: that would wait for a gzip bomb that is still being packed.
    runtime.shutdown_background();
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("authorization_server: {message}");
            ExitCode::FAILURE
        }
    }
}

async fn run(options: Options) -> Result<(), String> {
    let tls = match (&options.tls_certificate, &options.tls_key) {
        (Some(certificate), Some(key)) => Some(wire::tls_acceptor(certificate, key)?),
        _ => None,
    };
    // Before the port is announced: a reader of the announcement may send a signal at once.
    let mut terminate = signal(SignalKind::terminate())
        .map_err(|error| format!("cannot handle SIGTERM: {error}"))?;
    let mut interrupt = signal(SignalKind::interrupt())
        .map_err(|error| format!("cannot handle SIGINT: {error}"))?;

    let cannot_listen = |error| format!("cannot listen on {}: {error}", options.listen);
    let listener = TcpListener::bind(options.listen)
        .await
        .map_err(cannot_listen)?;
    let address = listener.local_addr().map_err(cannot_listen)?;
    let origin = format!(
        "{}://{address}",
        if tls.is_some() { "https" } else { "http" }
    );
    let app = Arc::new(App::new(&options, &origin)?);

    if let Some(path) = &options.port_file {
        write_port_file(path, address.port())
            .map_err(|error| format!("cannot write the port file {}: {error}", path.display()))?;
    }
    // The parent process may have closed the pipe without reading the line: no reason to stop.
    let mut stdout = io::stdout();
    let _ =
        writeln!(stdout, "authorization server ready on {origin}").and_then(|()| stdout.flush());

    tokio::select! {
        () = wire::serve(listener, tls, app) => {}
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}

/// Writes the port so that a reader finds either no file or the whole number.
fn write_port_file(path: &Path, port: u16) -> io::Result<()> {
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(format!(".{}", std::process::id()));
    std::fs::write(&temporary, format!("{port}\n"))?;
    std::fs::rename(&temporary, path)
}
