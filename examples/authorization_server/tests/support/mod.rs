//! Starts the real server and talks to it. Each test file uses its own part of this.
#![allow(dead_code)]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use reqwest::header::{ACCEPT, CONTENT_TYPE};
use reqwest::{Client, ClientBuilder, RequestBuilder, Response};
use serde_json::Value;

/// Longer than anything here takes on a busy machine; only a hang gets that far.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A running server, ended when dropped.
pub struct Server {
    pub child: Child,
    pub origin: String,
    pub client: Client,
    /// Held open, as a parent process would.
    stdout: BufReader<ChildStdout>,
}

impl Server {
    /// Starts a server with default options.
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// Starts a server with these options and waits until it says that it is ready.
    pub fn start_with(options: &[&str]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_authorization_server"))
            .args(options)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        let origin = line
            .trim_end()
            .strip_prefix("authorization server ready on ");
        let origin = origin
            .unwrap_or_else(|| panic!("not ready but: {line:?}"))
            .to_owned();
        Self {
            child,
            origin,
            client: builder().build().unwrap(),
            stdout,
        }
    }

    pub fn url(&self, path: &str) -> String {
        format!("{}{path}", self.origin)
    }

    /// The token request of the client `gateway` with these further parameters.
    pub async fn token_request(&self, parameters: &[(&str, &str)]) -> Response {
        let request = gateway(self.client.post(self.url("/token")));
        send(form(request, parameters)).await
    }

    /// A new token by client credentials, with these further parameters.
    pub async fn issue(&self, parameters: &[(&str, &str)]) -> String {
        let mut all = vec![("grant_type", "client_credentials")];
        all.extend(parameters);
        let response = self.token_request(&all).await;
        assert_eq!(response.status(), 200);
        json(response).await["access_token"]
            .as_str()
            .unwrap()
            .to_owned()
    }

    /// Introspects a token: `path` with query, the `Accept` to send, the token.
    pub async fn introspect(&self, path: &str, accept: &str, token: &str) -> Response {
        send(self.introspection(path, accept, token)).await
    }

    pub fn introspection(&self, path: &str, accept: &str, token: &str) -> RequestBuilder {
        let request = gateway(self.client.post(self.url(path))).header(ACCEPT, accept);
        form(
            request,
            &[("token", token), ("token_type_hint", "access_token")],
        )
    }

    /// The JWT behind a token.
    pub async fn jwt(&self, token: &str) -> String {
        let response = self
            .introspect("/introspect", "application/jwt", token)
            .await;
        assert_eq!(response.status(), 200);
        response.text().await.unwrap()
    }

    /// Introspects on a connection of its own and returns the pieces that arrive, until the server closes it.
    pub fn raw_pieces(&self, path: &str, accept: &str, token: &str) -> Vec<Vec<u8>> {
        let mut stream = self.raw_introspection(path, accept, token);
        let mut pieces = Vec::new();
        let mut buffer = vec![0; 64 * 1024];
        loop {
            match stream.read(&mut buffer) {
                Ok(0) => return pieces,
                Ok(length) => pieces.push(buffer[..length].to_vec()),
                Err(error) => panic!("after {} pieces: {error}", pieces.len()),
            }
        }
    }

    /// All that arrives, until the server closes the connection.
    pub fn raw(&self, path: &str, accept: &str, token: &str) -> String {
        String::from_utf8(self.raw_pieces(path, accept, token).concat()).unwrap()
    }

    /// A connection on which an introspection request has been sent.
    pub fn raw_introspection(&self, path: &str, accept: &str, token: &str) -> TcpStream {
        let mut stream = self.connect();
        let body = format!("token={token}&client_id=gateway&client_secret=gateway-secret");
        let request = format!(
            "POST {path} HTTP/1.1\r\nHost: localhost\r\nAccept: {accept}\r\nConnection: close\r\n\
             Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(request.as_bytes()).unwrap();
        stream
    }

    pub fn connect(&self) -> TcpStream {
        let address = self.origin.split_once("://").unwrap().1;
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    pub async fn stats(&self) -> Value {
        json(send(self.client.get(self.url("/stats"))).await).await
    }

    /// Sends the signal by name and returns the exit status.
    pub fn end_by(mut self, signal: &str) -> std::process::ExitStatus {
        let sent = Command::new("kill")
            .args(["-s", signal, &self.child.id().to_string()])
            .status()
            .unwrap();
        assert!(sent.success());
        self.child.wait().unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A client that does nothing on its own: no proxy, no redirects.
pub fn builder() -> ClientBuilder {
    Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .timeout(PATIENCE)
}

pub fn gateway(request: RequestBuilder) -> RequestBuilder {
    request.basic_auth("gateway", Some("gateway-secret"))
}

pub fn form(request: RequestBuilder, parameters: &[(&str, &str)]) -> RequestBuilder {
    let body = form_urlencoded::Serializer::new(String::new())
        .extend_pairs(parameters)
        .finish();
    request
        .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
        .body(body)
}

pub async fn send(request: RequestBuilder) -> Response {
    request.send().await.unwrap()
}

pub async fn json(response: Response) -> Value {
    serde_json::from_slice(&response.bytes().await.unwrap()).unwrap()
}

/// The value of a response header.
pub fn header<'a>(response: &'a Response, name: &str) -> Option<&'a str> {
    response
        .headers()
        .get(name)
        .map(|value| value.to_str().unwrap())
}
