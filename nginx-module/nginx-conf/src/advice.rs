//! Advice about directives of other modules. Such a directive may answer before a token is checked, keep the JWT from
//! the API, or open a location of this module to everybody.
//!
//! Levels inherit by nginx's rules. Advice changes nothing about how a request is handled.

use phantom_token::gateway::credentials::is_same_name;

use crate::Directive;

/// The severity of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// The configuration is refused.
    Error,
    /// The configuration is used.
    Warning,
}

/// A message about a directive.
#[derive(Debug)]
pub struct Advice {
    /// Its severity.
    pub level: Level,
    /// The problem, and how to fix it.
    pub message: String,
    /// The position in the configuration.
    pub place: String,
}

/// The messages about a configuration. `directives` are those outside of all blocks.
pub fn advise(directives: &[Directive]) -> Vec<Advice> {
    let mut adviser = Adviser::default();
    for http in named(directives, "http") {
        let levels = Levels(vec![&http.block]);
        for server in named(&http.block, "server") {
            // Of this server, and of all.
            adviser.introspecting.clear();
            adviser.introspecting.extend(
                named(&http.block, "phantom_token_introspection_endpoint").map(Directive::value),
            );
            adviser.look_for_introspection(&server.block);
            let levels = levels.and(&server.block);
            adviser.of_level(&levels, server);
            adviser.locations(&levels, &server.block);
        }
    }
    adviser.advice
}

#[derive(Default)]
struct Adviser<'t> {
    advice: Vec<Advice>,
    /// The introspection locations: their headers are for the authorization server.
    introspecting: Vec<&'t str>,
}

/// The blocks from `http` to the current one.
struct Levels<'t>(Vec<&'t [Directive]>);

impl<'t> Levels<'t> {
    fn and(&self, block: &'t [Directive]) -> Self {
        let mut levels = self.0.clone();
        levels.push(block);
        Levels(levels)
    }

    /// The directives that apply at this level, by nginx's rule: those of a level replace those of the level above.
    fn nearest(&self, is_one: impl Fn(&Directive) -> bool) -> Vec<&'t Directive> {
        let of_level = |block: &&'t [Directive]| -> Vec<&'t Directive> {
            block.iter().filter(|directive| is_one(directive)).collect()
        };
        self.0
            .iter()
            .rev()
            .map(of_level)
            .find(|found| !found.is_empty())
            .unwrap_or_default()
    }

    /// The value of a directive that occurs once.
    fn value(&self, name: &str) -> Option<&'t str> {
        self.nearest(|directive| directive.name() == name)
            .first()
            .map(|directive| directive.value())
    }

    /// Whether tokens are resolved at this level.
    fn is_protected(&self) -> bool {
        !matches!(self.value("phantom_token"), None | Some("off"))
    }
}

fn named<'t>(block: &'t [Directive], name: &str) -> impl Iterator<Item = &'t Directive> {
    block
        .iter()
        .filter(move |directive| directive.name() == name)
}

fn has(block: &[Directive], name: &str) -> bool {
    named(block, name).next().is_some()
}

impl<'t> Adviser<'t> {
    fn look_for_introspection(&mut self, block: &'t [Directive]) {
        for directive in block {
            if directive.name() == "phantom_token_introspection_endpoint" {
                self.introspecting.push(directive.value());
            }
            self.look_for_introspection(&directive.block);
        }
    }

    fn locations(&mut self, levels: &Levels<'t>, block: &'t [Directive]) {
        for location in named(block, "location") {
            let levels = levels.and(&location.block);
            let name = location.words.last().map_or("", String::as_str);
            // Clients can't reach them.
            let is_named = location.words.len() == 2 && name.starts_with('@');
            let is_internal = levels.0.iter().any(|block| has(block, "internal"));
            let is_hidden = is_internal || is_named || self.introspecting.contains(&name);
            if !is_hidden {
                self.of_level(&levels, location);
            }
            self.of_content(&levels, &location.block);
            self.locations(&levels, &location.block);
        }
    }

    /// A block in which requests are served.
    fn of_level(&mut self, levels: &Levels<'t>, of: &'t Directive) {
        let block = &of.block;
        if !levels.is_protected() {
            return;
        }
        if let Some(answer) = named(block, "return").find(|answer| is_good(answer)) {
            if has(block, "phantom_token") {
                self.say(
                    Level::Error,
                    "\"return\" answers before a token is looked at, so that \"phantom_token\" beside it protects nothing: \
                     remove one of the two, or give the answer a location of its own"
                        .to_owned(),
                    answer,
                );
            } else {
                self.say(
                    Level::Warning,
                    "\"return\" answers before a token is looked at, although \"phantom_token\" is set around it: write \
                     \"phantom_token off;\" beside it if everybody may have the answer"
                        .to_owned(),
                    answer,
                );
            }
        }
        self.of_upstream(levels, block);
        for inner in named(block, "if") {
            self.of_upstream(&levels.and(&inner.block), &inner.block);
        }
    }

    /// Checks the headers that are passed to an upstream, if the block has one.
    fn of_upstream(&mut self, levels: &Levels<'t>, block: &'t [Directive]) {
        /// The directives that pass a request to an upstream. For each: the directive that sets headers, whether
        /// `HTTP_` precedes their names, and the directive that omits the client's headers.
        const WAYS: [(&str, &str, bool, &str); 5] = [
            (
                "proxy_pass",
                "proxy_set_header",
                false,
                "proxy_pass_request_headers",
            ),
            ("grpc_pass", "grpc_set_header", false, ""),
            (
                "fastcgi_pass",
                "fastcgi_param",
                true,
                "fastcgi_pass_request_headers",
            ),
            (
                "uwsgi_pass",
                "uwsgi_param",
                true,
                "uwsgi_pass_request_headers",
            ),
            ("scgi_pass", "scgi_param", true, "scgi_pass_request_headers"),
        ];
        let forward = levels.nearest(|directive| directive.name() == "phantom_token_forward");
        let carrier = match forward.first().map(|directive| directive.words.as_slice()) {
            Some([_, kind, name]) if kind == "header" => name,
            _ => "Authorization",
        };
        for (pass, set, is_cgi, pass_headers) in WAYS {
            if !has(block, pass) {
                continue;
            }
            let name = if is_cgi {
                format!("HTTP_{carrier}")
            } else {
                carrier.to_owned()
            };
            let is_it = |directive: &&&Directive| {
                is_same_name(directive.value().as_bytes(), name.as_bytes())
            };
            let sets = levels.nearest(|directive| directive.name() == set);
            let own: Vec<_> = sets.iter().filter(is_it).collect();
            // The value of a variable is not known here.
            let is_constant = |directive: &Directive| {
                let value = directive.words.get(2).map_or("", String::as_str);
                !value.contains('$')
            };
            if let Some(constant) = own.iter().find(|directive| is_constant(directive)) {
                let message = format!(
                    "\"{set} {}\" throws the JWT away: remove it, or have \"phantom_token_forward\" put the JWT elsewhere",
                    constant.value()
                );
                self.say(Level::Warning, message, constant);
            } else if own.is_empty() && levels.value(pass_headers) == Some("off") {
                let message = format!(
                    "\"{pass_headers} off\" throws the JWT away: add \"{set} {name} ${};\"",
                    variable_of(carrier)
                );
                let off = levels.nearest(|directive| directive.name() == pass_headers);
                if let Some(off) = off.first() {
                    self.say(Level::Warning, message, off);
                }
            }
        }
    }

    /// Checks a location that shows or purges what not everybody should.
    fn of_content(&mut self, levels: &Levels<'t>, block: &'t [Directive]) {
        let Some(content) = block.iter().find(|directive| {
            matches!(
                directive.name(),
                "phantom_token_purge" | "phantom_token_status"
            )
        }) else {
            return;
        };
        let is_on = |name: &str| !matches!(levels.value(name), None | Some("off"));
        let rules = levels.nearest(|directive| matches!(directive.name(), "allow" | "deny"));
        let has_deny = rules.iter().any(|rule| rule.name() == "deny");
        // One check is enough then, and this one lets everybody in.
        let lets_all_in = levels.value("satisfy") == Some("any") && !rules.is_empty() && !has_deny;
        let is_optional = levels
            .value("phantom_token_optional")
            .is_some_and(|value| value.eq_ignore_ascii_case("on"));
        let is_authenticated = (levels.is_protected() && !is_optional)
            || has_deny
            || ["auth_basic", "auth_request", "auth_jwt"]
                .into_iter()
                .any(is_on);
        let is_checked = (is_authenticated && !lets_all_in)
            || levels.value("ssl_verify_client") == Some("on")
            || levels.0.iter().any(|block| {
                block.iter().any(|directive| {
                    directive.name() == "internal" || directive.name().starts_with("access_by_")
                })
            });
        let server = levels.0.get(1).copied().unwrap_or_default();
        let mut listens = named(server, "listen").peekable();
        let is_local =
            listens.peek().is_some() && listens.all(|listen| is_loopback(listen.value()));
        if !is_checked && !is_local {
            let message = format!(
                "\"{}\" is open to everybody who reaches the server: write \"allow ADDRESS;\" and \"deny all;\" beside it, \
                 or let the server listen on 127.0.0.1 alone",
                content.name()
            );
            self.say(Level::Warning, message, content);
        }
    }

    /// Adds a message about a directive, once: several locations may inherit it.
    fn say(&mut self, level: Level, message: String, of: &Directive) {
        let place = of.place();
        let is_said = |said: &Advice| said.place == place && said.message == message;
        if !self.advice.iter().any(is_said) {
            self.advice.push(Advice {
                level,
                message,
                place,
            });
        }
    }
}

/// Whether `return` serves a response itself: it neither refuses the request nor redirects it.
fn is_good(answer: &Directive) -> bool {
    answer.value().parse::<u16>().is_ok_and(|code| code < 300)
}

/// The variable that holds a header of the request.
fn variable_of(header: &str) -> String {
    format!("http_{}", header.to_ascii_lowercase().replace('-', "_"))
}

/// Whether an address of `listen` can be reached from this machine only.
fn is_loopback(address: &str) -> bool {
    ["127.", "[::1]", "localhost", "unix:"]
        .iter()
        .any(|start| address.starts_with(start))
}

#[cfg(test)]
mod tests;
