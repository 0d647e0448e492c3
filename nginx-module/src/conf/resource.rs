//! The protected resource, by the name that clients and authorization servers know it by: `phantom_token_resource`, and
//! `phantom_token_resource_metadata`, which publishes what a client needs to know of it (RFC 9728).

use std::rc::Rc;
use std::sync::Arc;

use ngx::ffi::ngx_conf_t;
use phantom_token::gateway::credentials::Source;
use phantom_token::gateway::requirements::TokenRequirements;
use phantom_token::gateway::resource::{Metadata, is_identifier, metadata_url, origin};
use phantom_token::gateway::sender::{Constraint, algorithms};

use super::location::{invalid, once};
use super::{Content, DirectiveError, LocationConf, MainConf, Protection, Value};

/// The settings of the protected resource.
#[derive(Default)]
pub struct Resource {
    /// The identifier.
    identifier: Option<Arc<str>>,
    /// The metadata parameters of this location, by name and value.
    said: Option<Vec<(String, String)>>,
    /// The document, as JSON.
    document: Option<Rc<str>>,
}

impl Resource {
    /// The URL of the metadata, which challenges contain (RFC 9728 §5.1).
    pub fn metadata_url(&self) -> Option<String> {
        metadata_url(self.identifier.as_deref()?)
    }

    /// The URI that clients request, if the identifier determines it: its scheme, host and port, and the path of the request.
    pub(super) fn uri(&self, cf: *mut ngx_conf_t) -> Option<Value> {
        let origin = origin(self.identifier.as_deref()?)?;
        // It would be the name of a variable.
        if origin.contains('$') {
            return None;
        }
        Value::compile(cf, &format!("{origin}$request_uri")).ok()
    }

    /// The metadata, where a location publishes it.
    pub fn document(&self) -> Option<&str> {
        self.document.as_deref()
    }

    /// Takes from the level above what is not set here. Returns whether anything is that challenges tell.
    pub(super) fn merge(&mut self, above: &Self) -> bool {
        let own = self.identifier.is_some();
        if !own {
            self.identifier.clone_from(&above.identifier);
        }
        own
    }

    /// Takes the document of the location that this one is a part of.
    pub(super) fn inherit_document(&mut self, above: &Self) {
        self.document.clone_from(&above.document);
    }
}

/// `phantom_token_resource URL`
pub fn identifier(
    _: *mut ngx_conf_t,
    location: &mut LocationConf,
    directive: &str,
    values: &[&str],
) -> Result<(), DirectiveError> {
    let identifier = values.first().copied().unwrap_or_default();
    if !is_identifier(identifier) {
        return Err(invalid(
            directive,
            values,
            "an https URL without a fragment, such as https://api.example.com",
        ));
    }
    once(&mut location.resource.identifier, Arc::from(identifier))
}

/// The parameters of `phantom_token_resource_metadata`.
const PARAMETERS: [&str; 7] = [
    "scopes",
    "authorization_servers",
    "jwks_uri",
    "name",
    "documentation",
    "policy_uri",
    "tos_uri",
];

/// `phantom_token_resource_metadata [PARAMETER=VALUE …]`
pub fn metadata(
    cf: *mut ngx_conf_t,
    location: &mut LocationConf,
    directive: &str,
    values: &[&str],
) -> Result<(), DirectiveError> {
    let mut said = Vec::new();
    for value in values {
        let known = value
            .split_once('=')
            .filter(|(key, value)| PARAMETERS.contains(key) && !value.is_empty());
        let Some((key, value)) = known else {
            let wanted = format!("one of {}= with a value", PARAMETERS.join("=, "));
            return Err(invalid(directive, &[value], &wanted));
        };
        if said.iter().any(|(other, _)| *other == key) {
            return Err(
                format!("\"{key}\" is in \"{directive}\" twice: remove one of them").into(),
            );
        }
        said.push((key.to_owned(), value.to_owned()));
    }
    super::content::handle(cf, location, directive, Content::Metadata)?;
    location.content = Some(Content::Metadata);
    location.resource.said = Some(said);
    Ok(())
}

/// Makes the document of a location that publishes it, of what applies there, and lets it in without a token: it is for
/// those who have none yet. The error is a message.
pub fn finish(conf: &mut LocationConf, main: &MainConf) -> Result<(), String> {
    let Some(said) = conf.resource.said.take() else {
        return Ok(());
    };
    let Some(identifier) = conf.resource.identifier.as_deref() else {
        return Err(
            "\"phantom_token_resource_metadata\" needs to know what it describes: write \"phantom_token_resource URL;\" \
             beside it or around it"
                .to_owned(),
        );
    };
    let one = |key: &str| {
        let found = said.iter().find(|(known, _)| known == key);
        found.map(|(_, value)| value.as_str())
    };
    let list = |key| one(key).map(|text| text.split_ascii_whitespace().collect::<Vec<_>>());
    let authorization_servers = match list("authorization_servers") {
        Some(servers) => servers,
        None => issuers(conf, main)?,
    };
    let requirements = conf.requirements.as_deref();
    let scopes = list("scopes")
        .or_else(|| requirements.map(TokenRequirements::scopes_supported))
        .unwrap_or_default();
    let methods = conf
        .token
        .sources()
        .iter()
        .filter_map(|source| match source {
            Source::Authorization => Some("header"),
            Source::Query(name) if **name == *"access_token" => Some("query"),
            // No methods of RFC 6750.
            Source::Header(_) | Source::Cookie(_) | Source::Query(_) => None,
        });
    // Proofs are checked where they come, but with this.
    let checks = conf.sender.constraint() != Constraint::Ignore;
    let algorithms = algorithms();
    let metadata = Metadata {
        resource: identifier,
        authorization_servers,
        jwks_uri: one("jwks_uri"),
        scopes,
        bearer_methods: methods.collect(),
        name: one("name"),
        documentation: one("documentation"),
        policy_uri: one("policy_uri"),
        tos_uri: one("tos_uri"),
        certificate_bound: checks,
        dpop_algorithms: algorithms.split(' ').filter(|_| checks).collect(),
        // A certificate is as good.
        dpop_required: false,
    };
    let document = metadata.json();
    conf.resource.document = Some(document.into());
    conf.protection = Protection::Off;
    Ok(())
}

/// The issuers of the providers that tokens are resolved with here.
fn issuers<'a>(conf: &LocationConf, main: &'a MainConf) -> Result<Vec<&'a str>, String> {
    let providers = match conf.protection {
        Protection::On(provider) => vec![provider],
        Protection::Chosen => conf
            .token
            .choice()
            .map_or(Vec::new(), |choice| choice.allowed.clone()),
        Protection::Unset | Protection::Off | Protection::Named => Vec::new(),
    };
    if providers.is_empty() {
        return Err(
            "\"phantom_token_resource_metadata\" needs to know which authorization servers there are: write \
             \"phantom_token NAME;\" around it, or name them in authorization_servers="
                .to_owned(),
        );
    }
    let mut issuers = Vec::new();
    for defined in providers
        .into_iter()
        .filter_map(|index| main.providers.get(index))
    {
        let Some(issuer) = defined.provider.issuer() else {
            return Err(format!(
                "\"phantom_token_resource_metadata\" names authorization servers by their issuer, and provider \"{}\" has \
                 none: set issuer in it, or name them in authorization_servers=",
                defined.provider.name()
            ));
        };
        if !issuers.contains(&issuer) {
            issuers.push(issuer);
        }
    }
    Ok(issuers)
}
