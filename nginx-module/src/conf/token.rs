//! How a token comes in and how what it stands for goes on: `phantom_token_source`, `phantom_token_forward`,
//! `phantom_token_set_header`, `phantom_token_optional`; and among which providers a request chooses.

use std::cell::{Ref, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use ngx::ffi::ngx_conf_t;
use phantom_token::gateway::credentials::{self, Source, is_same_name};

use super::location::{invalid, once, switch};
use super::{DirectiveError, LocationConf, Protection, Value, place};
use crate::nginx::headers::HeaderName;

/// A header that is set for the API.
pub struct SetHeader {
    /// Its name.
    pub name: HeaderName,
    /// The header's value.
    pub value: Value,
    /// The place of the directive.
    place: Box<str>,
}

/// The providers among which a request chooses.
pub struct Choice {
    /// The value that names a provider.
    pub value: Value,
    /// Those that it may name: places in [`MainConf::providers`](super::MainConf::providers).
    pub allowed: Vec<usize>,
}

/// The settings for token sources and forwarding.
#[derive(Default)]
pub struct TokenSources {
    sources: Option<Arc<[Source]>>,
    /// `None` inside: `Authorization`.
    forward: Option<Option<Rc<HeaderName>>>,
    headers: Option<Rc<Vec<SetHeader>>>,
    optional: Option<bool>,
    pass_opaque: Option<bool>,
    choice: Option<Rc<Choice>>,
    /// The names of the client's headers that are taken out as soon as the location is known.
    stripped: Rc<[HeaderName]>,
    /// Those that are as soon as the server is: all of its locations take them out.
    stripped_by_server: Option<Rc<RefCell<Vec<HeaderName>>>>,
}

impl TokenSources {
    /// Where a token may be, in the order in which they are read.
    pub fn sources(&self) -> &[Source] {
        self.sources.as_deref().unwrap_or(&[Source::Authorization])
    }

    /// Whether a token may be anywhere but in `Authorization`.
    pub fn looks_elsewhere(&self) -> bool {
        self.sources()
            .iter()
            .any(|source| *source != Source::Authorization)
    }

    /// The header that carries the JWT, if not `Authorization`.
    pub fn forward(&self) -> Option<&HeaderName> {
        self.forward.as_ref()?.as_deref()
    }

    /// The headers that are set.
    pub fn headers(&self) -> &[SetHeader] {
        self.headers.as_deref().map_or(&[], Vec::as_slice)
    }

    /// Whether the gateway fills any header but `Authorization`.
    pub fn fills_headers(&self) -> bool {
        self.forward().is_some() || !self.headers().is_empty()
    }

    /// The names of the client's headers that nothing in this location is to see.
    pub fn stripped(&self) -> &[HeaderName] {
        &self.stripped
    }

    /// The names of the client's headers that nothing in this server is to see.
    pub fn stripped_by_server(&self) -> Option<Ref<'_, Vec<HeaderName>>> {
        self.stripped_by_server
            .as_ref()
            .map(|names| names.borrow())
            .filter(|names| !names.is_empty())
    }

    /// The headers that the gateway fills, without those that it reads itself, as a source or as `is_read` says.
    pub(super) fn stripped_beside(
        &self,
        is_read: impl Fn(&HeaderName) -> bool,
    ) -> Rc<[HeaderName]> {
        let is_source = |name: &HeaderName| {
            self.sources()
                .iter()
                .any(|source| matches!(source, Source::Header(source) if name.is(source)))
        };
        let filled = self.headers().iter().map(|header| &header.name);
        filled
            .chain(self.forward())
            .filter(|name| !is_source(name) && !is_read(name))
            .cloned()
            .collect()
    }

    /// Sets what is taken out of requests early. What a server takes out is what its level and all within it do: the level
    /// above is such a one if this has been set of it.
    pub(super) fn strip(&mut self, above: &Self, stripped: Rc<[HeaderName]>) {
        self.stripped_by_server = Some(match &above.stripped_by_server {
            None => Rc::new(RefCell::new(stripped.to_vec())),
            Some(names) => {
                names
                    .borrow_mut()
                    .retain(|name| stripped.iter().any(|stripped| stripped.is_same(name)));
                Rc::clone(names)
            }
        });
        self.stripped = stripped;
    }

    /// Whether a request without a token may go on.
    pub fn is_optional(&self) -> bool {
        self.optional.unwrap_or_default()
    }

    /// Whether the token of a client goes on from a location that resolves none, after one that does has seen it.
    pub fn passes_opaque(&self) -> bool {
        self.pass_opaque.unwrap_or_default()
    }

    /// The providers among which a request chooses, where it does.
    pub fn choice(&self) -> Option<&Choice> {
        self.choice.as_deref()
    }

    /// Adds a provider to those that may be chosen, before locations inherit them.
    pub(super) fn allow(&mut self, provider: usize) {
        if let Some(choice) = self.choice.as_mut().and_then(Rc::get_mut) {
            choice.allowed.push(provider);
        }
    }

    /// Takes from the level above what is not set here. The error is a message and the place that it is about.
    pub(super) fn merge(
        &mut self,
        above: &Self,
        protection: Protection,
    ) -> Result<(), (String, String)> {
        let same_choice = self.choice.is_none() && protection == Protection::Chosen;
        if same_choice {
            self.choice.clone_from(&above.choice);
        }
        if self.sources.is_none() {
            self.sources.clone_from(&above.sources);
        }
        if self.forward.is_none() {
            self.forward.clone_from(&above.forward);
        }
        // As nginx's own lists of headers: those of the level above apply if there are none here.
        if self.headers.is_none() {
            self.headers.clone_from(&above.headers);
        }
        self.optional = self.optional.or(above.optional);
        self.pass_opaque = self.pass_opaque.or(above.pass_opaque);
        for header in self.headers() {
            let by = if self
                .forward()
                .is_some_and(|name| name.is_same(&header.name))
            {
                "\"phantom_token_forward\" puts the JWT there"
            } else if self
                .sources()
                .iter()
                .any(|source| matches!(source, Source::Header(name) if header.name.is(name)))
            {
                "\"phantom_token_source\" reads the token there"
            } else {
                continue;
            };
            let name = header.name.as_str();
            let message = format!(
                "\"phantom_token_set_header\" cannot set \"{name}\" where {by}: give it another name"
            );
            return Err((message, header.place.to_string()));
        }
        Ok(())
    }
}

/// `phantom_token_source authorization | header NAME | cookie NAME | query NAME …`
pub fn source(
    _: *mut ngx_conf_t,
    location: &mut LocationConf,
    directive: &str,
    values: &[&str],
) -> Result<(), DirectiveError> {
    let mut sources = location.token.sources.take().unwrap_or_default().to_vec();
    Source::parse_into(&mut sources, directive, values).map_err(|error| error.to_string())?;
    location.token.sources = Some(sources.into());
    Ok(())
}

/// `phantom_token_forward authorization | header NAME`
pub fn forward(
    _: *mut ngx_conf_t,
    location: &mut LocationConf,
    directive: &str,
    values: &[&str],
) -> Result<(), DirectiveError> {
    let forward = match values {
        ["authorization"] => None,
        ["header", name] => Some(Rc::new(header_name(directive, name)?)),
        _ => return Err(invalid(directive, values, "authorization or header NAME")),
    };
    once(&mut location.token.forward, forward)
}

/// `phantom_token_set_header NAME VALUE`
pub fn set_header(
    cf: *mut ngx_conf_t,
    location: &mut LocationConf,
    directive: &str,
    values: &[&str],
) -> Result<(), DirectiveError> {
    let [name, text] = values else {
        return Err(invalid(directive, values, "NAME VALUE"));
    };
    if is_same_name(name.as_bytes(), b"authorization") {
        return Err(
            "\"phantom_token_set_header\" cannot set \"Authorization\": \"phantom_token_forward\" says where the JWT goes"
                .into(),
        );
    }
    let name = header_name(directive, name)?;
    if text.bytes().any(|byte| byte.is_ascii_control()) {
        return Err(format!(
            "the value in \"{directive}\" has a control character: it is sent in a header"
        )
        .into());
    }
    let headers = location.token.headers.get_or_insert_default();
    if headers.iter().any(|known| known.name.is_same(&name)) {
        return Err(format!(
            "\"{directive}\" sets \"{}\" twice here: remove one of them",
            name.as_str()
        )
        .into());
    }
    let value = Value::compile(cf, text)?;
    // SAFETY: `cf` is what nginx gave to the handler of the directive.
    let place = unsafe { place(cf) }.into();
    // Nothing has inherited it yet.
    if let Some(headers) = Rc::get_mut(headers) {
        headers.push(SetHeader { name, value, place });
    }
    Ok(())
}

/// `phantom_token_optional on | off`
pub fn optional(
    _: *mut ngx_conf_t,
    location: &mut LocationConf,
    directive: &str,
    values: &[&str],
) -> Result<(), DirectiveError> {
    once(&mut location.token.optional, switch(directive, values)?)
}

/// `phantom_token_pass_opaque on | off`
pub fn pass_opaque(
    _: *mut ngx_conf_t,
    location: &mut LocationConf,
    directive: &str,
    values: &[&str],
) -> Result<(), DirectiveError> {
    once(&mut location.token.pass_opaque, switch(directive, values)?)
}

/// Sets the variable that selects the provider in `phantom_token $VARIABLE NAME…`.
pub(super) fn choose(
    cf: *mut ngx_conf_t,
    location: &mut LocationConf,
    text: &str,
) -> Result<(), DirectiveError> {
    location.token.choice = Some(Rc::new(Choice {
        value: Value::compile(cf, text)?,
        allowed: Vec::new(),
    }));
    Ok(())
}

/// The name of a header that may be ours.
fn header_name(directive: &str, name: &str) -> Result<HeaderName, DirectiveError> {
    credentials::header_name(directive, name)
        .map(HeaderName::new)
        .map_err(|error| error.to_string().into())
}
