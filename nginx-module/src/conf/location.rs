//! The configuration of a location, and how it is inherited: `phantom_token`, `phantom_token_realm`,
//! `phantom_token_preflight`, `phantom_token_phase`. What it asks of a token is in `policy.rs`, what it serves itself in
//! `content.rs`.

use std::rc::Rc;
use std::sync::Arc;

use ngx::ffi::ngx_conf_t;
use phantom_token::config::{NOT_A_SWITCH, switch as switch_of};
use phantom_token::gateway::access_policy::{AccessPolicy, Settings};
use phantom_token::gateway::requirements::TokenRequirements;
use phantom_token::gateway::sender::Nonces;

use super::exposure::Written;
use super::{
    Content, DirectiveError, Purpose, Resource, SenderConfig, TokenSources, Value, place,
    remember_use, token,
};

/// Whether and how a location resolves tokens.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub enum Protection {
    /// Unset: inherited from the level above.
    #[default]
    Unset,
    /// Tokens are not resolved.
    Off,
    /// Resolves them with the provider at this place in [`MainConf::providers`](super::MainConf::providers).
    On(usize),
    /// Resolves them with one of several, which the request chooses: see [`TokenSources::choice`].
    Chosen,
    /// Will be `On` or an error when all providers are known, and those made that no block defines.
    Named,
}

impl Protection {
    /// Whether there is a provider.
    pub fn is_on(self) -> bool {
        matches!(self, Protection::On(_) | Protection::Chosen)
    }
}

/// The handling of a CORS preflight.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub enum Preflight {
    /// It is answered here.
    #[default]
    Answer,
    /// It goes on, without `Authorization`.
    Pass,
    /// It needs a token like any other request.
    Deny,
}

/// When a token is resolved.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub enum Phase {
    /// In the access phase, after `allow`, `deny` and the limits.
    #[default]
    Access,
    /// Before `limit_req` and `limit_conn`, so that these can count by what a token says.
    Preaccess,
}

/// The configuration of a location.
#[derive(Default)]
pub struct LocationConf {
    /// Whether and how tokens are resolved.
    pub protection: Protection,
    /// The requirements for every token, as far as they are set.
    pub requirements: Option<Arc<TokenRequirements>>,
    /// The requirements for a client that presents a token bound to a key.
    pub sender: SenderConfig,
    /// The sources of the token, and how the JWT is forwarded.
    pub token: TokenSources,
    /// The protected resource, as clients know it.
    pub resource: Resource,
    /// The parts of the policy that are set at this level, of those that may be set once.
    pub(super) seen: Vec<String>,
    /// The content that the module serves here.
    pub content: Option<Content>,
    /// The directive that sets `content`, and its place in the configuration.
    pub(super) content_at: Option<(&'static str, Arc<str>)>,
    /// The location that introspects tokens where `phantom_token` is `on`, and the place of that directive.
    pub(super) introspection_endpoint: Option<(Arc<str>, Arc<str>)>,
    /// The additional cache key of introspection results.
    pub(super) cache_key: Option<Rc<Value>>,
    /// The first directive of this level that says something about tokens that are resolved.
    pub(super) written: Option<Written>,
    /// The place of `phantom_token on`.
    pub(super) on_at: Option<Arc<str>>,
    preflight: Option<Preflight>,
    phase: Option<Phase>,
    realm: Option<Arc<str>>,
    policy: Option<Arc<AccessPolicy>>,
}

impl LocationConf {
    /// The handling of a CORS preflight.
    pub fn preflight(&self) -> Preflight {
        self.preflight.unwrap_or_default()
    }

    /// When a token is resolved.
    pub fn phase(&self) -> Phase {
        self.phase.unwrap_or_default()
    }

    /// The additional cache key of introspection results, if it is set.
    pub fn cache_key(&self) -> Option<&Value> {
        self.cache_key.as_deref()
    }

    /// The access policy, if there is a provider.
    pub fn policy(&self) -> Option<&AccessPolicy> {
        self.policy.as_deref()
    }

    /// Takes from the level above what is not set here. Returns whether anything is that is part of the access policy.
    pub(super) fn merge(
        &mut self,
        above: &Self,
        nonces: &mut Option<Arc<Nonces>>,
    ) -> Result<bool, &'static str> {
        if self.protection == Protection::Unset {
            self.protection = above.protection;
        }
        self.preflight = self.preflight.or(above.preflight);
        self.phase = self.phase.or(above.phase);
        let own = self.sender.merge(&above.sender, nonces)? | self.resource.merge(&above.resource)
            || self.realm.is_some()
            || self.requirements.is_some();
        if self.realm.is_none() {
            self.realm.clone_from(&above.realm);
        }
        match (&mut self.requirements, &above.requirements) {
            (Some(own), Some(above)) => Arc::make_mut(own).inherit(above),
            (Some(_), None) => {}
            // Locations that only inherit share it.
            (own, above) => own.clone_from(above),
        }
        Ok(own)
    }

    /// Builds the access policy from the merged settings; `own` is whether any of them is set at this level.
    pub(super) fn make_policy(&mut self, above: &Self, own: bool) {
        if !self.protection.is_on() {
            return;
        }
        let optional = self.token.is_optional();
        self.policy = match &above.policy {
            Some(policy) if !own && above.token.is_optional() == optional => {
                Some(Arc::clone(policy))
            }
            _ => {
                let settings = Settings {
                    realm: Some(self.realm.as_deref().unwrap_or("api").into()),
                    resource_metadata: self.resource.metadata_url().map(Into::into),
                    optional,
                    sender: self.sender.constraint(),
                    proof_rules: self.sender.rules().clone(),
                    requirements: self.requirements.clone().unwrap_or_default(),
                    // The module has lists of headers of its own.
                    ..Settings::default()
                };
                Some(Arc::new(settings.into()))
            }
        };
    }
}

/// Sets a value that may be set only once.
pub(super) fn once<T>(place: &mut Option<T>, value: T) -> Result<(), DirectiveError> {
    match place.replace(value) {
        None => Ok(()),
        Some(_) => Err(DirectiveError::Duplicate),
    }
}

/// The error for a value that a directive does not accept.
pub(super) fn invalid(directive: &str, values: &[&str], wanted: &str) -> DirectiveError {
    format!(
        "invalid value \"{}\" in \"{directive}\": it is {wanted}",
        values.join(" ")
    )
    .into()
}

/// Parses the value of a directive that is `on` or `off`.
pub(super) fn switch(directive: &str, values: &[&str]) -> Result<bool, DirectiveError> {
    let text = values.join(" ");
    switch_of(&text).ok_or_else(|| format!("\"{directive}\" {text:?} {NOT_A_SWITCH}").into())
}

/// `phantom_token NAME | $VARIABLE NAME… | on | off`
pub fn provider(
    cf: *mut ngx_conf_t,
    location: &mut LocationConf,
    _: &str,
    values: &[&str],
) -> Result<(), DirectiveError> {
    if location.protection != Protection::Unset {
        return Err(DirectiveError::Duplicate);
    }
    match values {
        ["off"] => {
            location.protection = Protection::Off;
            Ok(())
        }
        ["on"] => {
            location.protection = Protection::Named;
            // SAFETY: `cf` is what nginx gave to the handler of the directive.
            location.on_at = Some(unsafe { place(cf) }.into());
            Ok(())
        }
        [""] | [] => Err("\"phantom_token\" needs the name of a provider, on or off".into()),
        [text, names @ ..] if text.contains('$') => {
            if names.is_empty() {
                return Err(format!(
                    "\"phantom_token {text}\" needs the names of the providers that it may choose: write them after it"
                )
                .into());
            }
            token::choose(cf, location, text)?;
            location.protection = Protection::Chosen;
            for name in names {
                // SAFETY: `cf` is what nginx gave to the handler of the directive.
                unsafe { remember_use(cf, location, name, Purpose::Allow)? };
            }
            Ok(())
        }
        [name] => {
            location.protection = Protection::Named;
            // SAFETY: `cf` is what nginx gave to the handler of the directive.
            unsafe { remember_use(cf, location, name, Purpose::Resolve) }
        }
        _ => Err(
            "\"phantom_token\" takes one name; to choose among several write a variable before them, such as \
             \"phantom_token $tenant one two\""
                .into(),
        ),
    }
}

/// `phantom_token_realm STRING`
pub fn realm(
    _: *mut ngx_conf_t,
    location: &mut LocationConf,
    directive: &str,
    values: &[&str],
) -> Result<(), DirectiveError> {
    let realm = values.first().copied().unwrap_or_default();
    if realm.chars().any(char::is_control) {
        return Err(format!(
            "\"{directive}\" must not contain control characters: it is sent in a header"
        )
        .into());
    }
    once(&mut location.realm, Arc::from(realm))
}

/// `phantom_token_preflight answer | pass | deny`
pub fn preflight(
    _: *mut ngx_conf_t,
    location: &mut LocationConf,
    directive: &str,
    values: &[&str],
) -> Result<(), DirectiveError> {
    let preflight = match values {
        ["answer"] => Preflight::Answer,
        ["pass"] => Preflight::Pass,
        ["deny"] => Preflight::Deny,
        _ => return Err(invalid(directive, values, "answer, pass or deny")),
    };
    once(&mut location.preflight, preflight)
}

/// `phantom_token_phase access | preaccess`
pub fn phase(
    _: *mut ngx_conf_t,
    location: &mut LocationConf,
    directive: &str,
    values: &[&str],
) -> Result<(), DirectiveError> {
    let phase = match values {
        ["access"] => Phase::Access,
        ["preaccess"] => Phase::Preaccess,
        _ => return Err(invalid(directive, values, "access or preaccess")),
    };
    once(&mut location.phase, phase)
}
