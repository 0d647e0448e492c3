//! Proxy variables of the environment are ignored. This test has a process of its own, because the environment is
//! shared by the whole process.

mod support;

use std::time::Duration;

use phantom_token::Token;
use support::{Reply, Server, active_after};

#[test]
fn proxy_variables_of_the_environment_are_ignored() {
    let proxy = Server::start(|_| Reply::Silence);
    let server = Server::start(active_after(Duration::ZERO));
    for name in [
        "http_proxy",
        "HTTP_PROXY",
        "https_proxy",
        "all_proxy",
        "ALL_PROXY",
    ] {
        // SAFETY: no other thread of this process reads the environment: the servers' threads only serve, and no
        // client has been started yet.
        unsafe { std::env::set_var(name, format!("http://{}", proxy.address)) };
    }
    let client = server.client(&[]);
    client
        .resolve(Token::parse(b"opaque").unwrap(), None)
        .unwrap();
    assert_eq!(server.calls().len(), 1);
    assert!(proxy.calls().is_empty());
}
