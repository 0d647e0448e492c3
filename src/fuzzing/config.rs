//! Fuzz target `config`: keys of a configuration and their values.

use std::time::Duration;

use super::assert_fit_for_a_log;
use crate::Config;

/// Lines of a key and its value.
pub fn config(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else {
        return;
    };
    let mut config = Config::new("main");
    for line in text.split('\n').take(40) {
        let (key, value) = line.split_once(' ').unwrap_or((line, ""));
        // Files are read where they are set; none is, here.
        if value.contains(['/', '\\']) && !value.contains("://") {
            continue;
        }
        if let Err(error) = config.set(key, value) {
            assert_about(&error.to_string());
        }
    }
    match config.build() {
        Ok(provider) => {
            assert!(provider.timeout > Duration::ZERO);
            assert!(
                !provider.server.introspection.is_empty()
                    || provider.server.issuer.is_some()
                    || provider.server.token.is_some()
            );
            for warning in &provider.warnings {
                assert_about(warning);
            }
        }
        Err(error) => assert_about(&error.to_string()),
    }
}

fn assert_about(message: &str) {
    assert!(!message.is_empty());
    assert_fit_for_a_log(message);
}
