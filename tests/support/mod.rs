//! A fake authorization server whose answers a test defines, byte by byte.
//!
//! The example authorization server behaves like a real one. This one is for answers that no real server should give,
//! and for counting exactly the requests that arrive.

#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use phantom_token::{Client, Config, Error, Provider, Resolution, Token, Verdict};

/// A request that arrived at the test server.
#[derive(Clone, Debug)]
pub struct Call {
    /// The request line and the header lines.
    pub head: String,
    pub body: String,
    /// The number of its connection, counted from 0.
    pub connection: usize,
    /// Its number on that connection, counted from 0.
    pub nth: usize,
}

impl Call {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().skip(1).find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }

    /// The token in the form, decoded.
    pub fn token(&self) -> String {
        form_urlencoded::parse(self.body.as_bytes())
            .find(|(name, _)| name == "token")
            .map(|(_, value)| value.into_owned())
            .unwrap_or_default()
    }
}

/// The test server's reply to a request.
pub enum Reply {
    /// These bytes; the connection stays open.
    Bytes(Vec<u8>),
    /// These bytes, then the connection is closed.
    BytesThenClose(Vec<u8>),
    /// Nothing, until the client disconnects.
    Silence,
}

type Answer = dyn Fn(&Call) -> Reply + Send + Sync;

/// A server on a free port of the loopback interface, until it is dropped.
pub struct Server {
    pub address: SocketAddr,
    calls: Arc<Mutex<Vec<Call>>>,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    stopping: AtomicBool,
    connections: AtomicUsize,
    now: AtomicUsize,
    most: AtomicUsize,
}

impl Server {
    pub fn start(answer: impl Fn(&Call) -> Reply + Send + Sync + 'static) -> Self {
        Self::start_at("127.0.0.1:0".parse().unwrap(), answer)
    }

    /// The same at a given address.
    pub fn start_at(
        address: SocketAddr,
        answer: impl Fn(&Call) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind(address).unwrap();
        let address = listener.local_addr().unwrap();
        let calls = Arc::new(Mutex::new(Vec::new()));
        let state = Arc::new(State::default());
        let answer: Arc<Answer> = Arc::new(answer);
        let server = Server {
            address,
            calls: Arc::clone(&calls),
            state: Arc::clone(&state),
        };
        thread::spawn(move || {
            for stream in listener.incoming() {
                if state.stopping.load(Ordering::SeqCst) {
                    return;
                }
                let Ok(stream) = stream else { continue };
                let connection = state.connections.fetch_add(1, Ordering::SeqCst);
                let (calls, state, answer) =
                    (Arc::clone(&calls), Arc::clone(&state), Arc::clone(&answer));
                thread::spawn(move || serve(stream, connection, &calls, &state, &*answer));
            }
        });
        server
    }

    /// Every request so far.
    pub fn calls(&self) -> Vec<Call> {
        self.calls.lock().unwrap().clone()
    }

    pub fn connections(&self) -> usize {
        self.state.connections.load(Ordering::SeqCst)
    }

    /// The maximum number of concurrent requests.
    pub fn most_at_once(&self) -> usize {
        self.state.most.load(Ordering::SeqCst)
    }

    pub fn url(&self) -> String {
        format!("http://{}/introspect", self.address)
    }

    /// A configuration for this server.
    pub fn config(&self) -> Config {
        config(&self.url())
    }

    /// A started client with these settings.
    pub fn client(&self, settings: &[(&str, &str)]) -> Client {
        Client::start(self.provider(settings)).unwrap()
    }

    pub fn provider(&self, settings: &[(&str, &str)]) -> Arc<Provider> {
        let mut config = self.config();
        for (key, value) in settings {
            config.set(key, value).unwrap();
        }
        config.build().unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.state.stopping.store(true, Ordering::SeqCst);
        // Wakes the accepting thread.
        let _ = TcpStream::connect(self.address);
    }
}

pub const CLIENT_SECRET: &str = "s3cr3t-of-the-gateway";

pub fn config(endpoint: &str) -> Config {
    let mut config = Config::new("test");
    config.set("introspection_endpoint", endpoint).unwrap();
    config.set("client_id", "gateway").unwrap();
    config.set("client_secret", CLIENT_SECRET).unwrap();
    config
}

fn serve(
    mut stream: TcpStream,
    connection: usize,
    calls: &Mutex<Vec<Call>>,
    state: &State,
    answer: &Answer,
) {
    stream.set_nodelay(true).unwrap();
    let mut buffer = Vec::new();
    for nth in 0.. {
        let Some((head, body)) = read_request(&mut stream, &mut buffer) else {
            return;
        };
        let call = Call {
            head,
            body,
            connection,
            nth,
        };
        calls.lock().unwrap().push(call.clone());
        let now = state.now.fetch_add(1, Ordering::SeqCst) + 1;
        state.most.fetch_max(now, Ordering::SeqCst);
        let reply = answer(&call);
        state.now.fetch_sub(1, Ordering::SeqCst);
        match reply {
            Reply::Bytes(bytes) => {
                if stream.write_all(&bytes).is_err() {
                    return;
                }
            }
            Reply::BytesThenClose(bytes) => {
                let _ = stream.write_all(&bytes);
                let _ = stream.shutdown(Shutdown::Both);
                return;
            }
            Reply::Silence => {
                // Until the client disconnects.
                let _ = stream.read(&mut [0; 64]);
                return;
            }
        }
    }
}

/// The next request on a connection: its head and its body. `None` when the client has disconnected.
pub fn read_request(stream: &mut impl Read, buffer: &mut Vec<u8>) -> Option<(String, String)> {
    let mut chunk = [0; 16 * 1024];
    loop {
        if let Some(end) = buffer.windows(4).position(|window| window == b"\r\n\r\n") {
            let head = String::from_utf8(buffer[..end].to_vec()).ok()?;
            let length: usize = head
                .lines()
                .find_map(|line| {
                    let (name, value) = line.split_once(':')?;
                    name.eq_ignore_ascii_case("content-length")
                        .then(|| value.trim().parse().ok())?
                })
                .unwrap_or(0);
            if buffer.len() >= end + 4 + length {
                let body = String::from_utf8(buffer[end + 4..end + 4 + length].to_vec()).ok()?;
                buffer.drain(..end + 4 + length);
                return Some((head, body));
            }
        }
        let count = stream.read(&mut chunk).ok()?;
        if count == 0 {
            return None;
        }
        buffer.extend_from_slice(&chunk[..count]);
    }
}

/// An HTTP response of this status, type and body.
pub fn response(status: u16, headers: &[(&str, &str)], body: &str) -> Vec<u8> {
    let mut text = format!(
        "HTTP/1.1 {status} Said\r\nContent-Length: {}\r\n",
        body.len()
    );
    for (name, value) in headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    text.push_str("\r\n");
    text.push_str(body);
    text.into_bytes()
}

/// 200 with a bare JWT.
pub fn bare_jwt(jwt: &str) -> Reply {
    Reply::Bytes(response(200, &[("Content-Type", "application/jwt")], jwt))
}

/// 200 with an inactive token.
pub fn inactive() -> Reply {
    Reply::Bytes(response(
        200,
        &[("Content-Type", "application/json")],
        r#"{"active":false}"#,
    ))
}

/// An active answer for any token, after `latency`.
pub fn active_after(latency: Duration) -> impl Fn(&Call) -> Reply {
    move |call| {
        thread::sleep(latency);
        bare_jwt(&jwt_of(&call.token()))
    }
}

pub fn token(text: &str) -> Token<'_> {
    Token::parse(text.as_bytes()).unwrap()
}

pub fn resolve(client: &Client, text: &str) -> Result<Resolution, Error> {
    client.resolve(token(text), None)
}

/// The subject of the token, or `inactive`.
pub fn subject(resolution: &Resolution) -> String {
    match &resolution.verdict {
        Verdict::Active(active) => active
            .claims()
            .sub
            .as_deref()
            .unwrap_or_default()
            .to_owned(),
        Verdict::Inactive => "inactive".to_owned(),
    }
}

/// A JWT with these claims (a JSON object). Its signature is not checked.
pub fn jwt(claims: &str) -> String {
    format!(
        "{}.{}.{}",
        URL_SAFE_NO_PAD.encode(r#"{"alg":"ES256","typ":"at+jwt"}"#),
        URL_SAFE_NO_PAD.encode(claims),
        URL_SAFE_NO_PAD.encode([7; 64])
    )
}

/// A JWT whose subject is the token that it replaces.
pub fn jwt_of(token: &str) -> String {
    jwt(&format!(r#"{{"sub":"{token}","scope":"read"}}"#))
}
