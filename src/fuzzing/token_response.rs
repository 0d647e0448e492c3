//! Fuzz target `token_response`: answers to a request for our own access token (RFC 6749 §4.4).

use std::sync::{Arc, LazyLock};

use serde_json::Value;

use super::message::Message;
use super::{NOW, assert_fit_for_a_log, is_unambiguous};
use crate::introspection::client_credentials::read;
use crate::oauth::ClientAuth;
use crate::{Config, Provider, Token};

const A_DAY: u64 = 86_400;

static PROVIDER: LazyLock<Arc<Provider>> = LazyLock::new(|| {
    let mut config = Config::new("main");
    for (key, value) in [
        (
            "introspection_endpoint",
            "https://as.example.com/introspect",
        ),
        ("token_endpoint", "https://as.example.com/token"),
        ("client_id", "gateway"),
        ("client_secret", "a-made-up-secret"),
        ("client_auth", "client_credentials"),
    ] {
        config.set(key, value).expect("it can be set");
    }
    config.build().expect("it can be built")
});

/// An answer: see `Message`.
pub fn token_response(input: &[u8]) {
    let Some(message) = Message::read(input) else {
        return;
    };
    let provider = &**PROVIDER;
    let endpoint = provider.server.token.as_ref().expect("it is configured");
    let answer = (message.status, &message.headers, &*message.body);
    match read(
        provider,
        endpoint,
        ClientAuth::ClientSecretBasic,
        answer,
        NOW,
    ) {
        Ok(granted) => {
            assert_eq!(message.status, 200);
            assert!(is_unambiguous(&message.body));
            let document: Value = serde_json::from_slice(&message.body).expect("it is JSON");
            let token = granted.token.expose();
            assert_eq!(document["access_token"], token);
            assert!(
                Token::parse(token.as_bytes()).is_ok(),
                "it may stand in a header"
            );
            let kind = document["token_type"].as_str().unwrap_or_default();
            assert!(kind.eq_ignore_ascii_case("bearer"));
            assert!(granted.lifetime <= A_DAY);
            if let Some(seconds) = document["expires_in"].as_u64() {
                assert!(granted.lifetime <= seconds);
            }
        }
        Err(error) => {
            let text = error.message();
            assert_fit_for_a_log(text);
            let document: Value = serde_json::from_slice(&message.body).unwrap_or_default();
            let token = document["access_token"].as_str().unwrap_or_default();
            assert!(
                token.len() < 64 || !text.contains(token),
                "an error shows a token"
            );
        }
    }
}
