//! The endpoints.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http::header::{ACCEPT, ALLOW, CACHE_CONTROL};
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode};
use serde_json::{Map, Value, json};

use crate::client_authentication::{Clients, Form, authorization, same};
use crate::knobs::{self, Dialect, Inactive, Knobs, Settings};
use crate::oauth_error::OAuthError;
use crate::options::{Options, Pair};
use crate::reply::Reply;
use crate::stats::{self, Stats};
use crate::tokens::{self, Signer, Token, Tokens};

/// The most that `padding` may add to a JWT.
const LARGEST_PADDING: usize = 1 << 20;

/// The default scope of tokens.
const DEFAULT_SCOPE: &str = "openid read";

/// The default audience of tokens.
const DEFAULT_AUDIENCE: &str = "api";

/// The authorization server, without the network.
pub struct App {
    issuer: String,
    clients: Clients,
    user: Pair,
    bearer: Option<String>,
    token_lifetime: i64,
    signer: Signer,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    tokens: Tokens,
    stats: Stats,
    knobs: Settings,
}

impl App {
    /// A server that is reachable at `origin`.
    pub fn new(options: &Options, origin: &str) -> Result<Self, String> {
        let mut clients = HashMap::new();
        for client in &options.clients {
            if clients
                .insert(client.name.clone(), client.secret.clone())
                .is_some()
            {
                return Err(format!("client {} is given twice", client.name));
            }
        }
        Ok(Self {
            issuer: options.issuer.clone().unwrap_or_else(|| origin.to_owned()),
            clients: Clients::new(clients),
            user: options.user.clone(),
            bearer: options.bearer.clone(),
            token_lifetime: options.token_lifetime,
            signer: Signer::new()?,
            state: Mutex::default(),
        })
    }

    /// Counts a connection.
    pub fn connected(&self) {
        self.state().stats.connections += 1;
    }

    /// Answers a request.
    pub async fn answer(&self, request: Request<Bytes>) -> Reply {
        let get = [Method::GET, Method::HEAD].contains(request.method());
        let post = request.method() == Method::POST;
        match request.uri().path() {
            "/token" if post => self.token(&request).unwrap_or_else(Reply::from),
            "/introspect" => self.introspect(&request).await,
            "/revoke" if post => self.revoke(&request).unwrap_or_else(Reply::from),
            "/jwks" if get => Reply::json(StatusCode::OK, &json!(self.signer.jwks())),
            "/.well-known/oauth-authorization-server" | "/.well-known/openid-configuration"
                if get =>
            {
                Reply::json(StatusCode::OK, &self.metadata())
            }
            "/health" if get => Reply::json(StatusCode::OK, &json!({ "status": "ok" })),
            "/stats" if get => {
                Reply::json(StatusCode::OK, &self.state().stats.to_json()).no_store()
            }
            "/stats" if request.method() == Method::DELETE => {
                self.state().stats = Stats::default();
                Reply::empty(StatusCode::NO_CONTENT)
            }
            "/knobs" if get => Reply::json(StatusCode::OK, &json!(self.state().knobs)).no_store(),
            "/knobs" if request.method() == Method::PUT => self.set_knobs(request.body()),
            "/knobs" if request.method() == Method::DELETE => {
                self.state().knobs.clear();
                Reply::empty(StatusCode::NO_CONTENT)
            }
            "/token" | "/revoke" => not_allowed("POST"),
            "/stats" => not_allowed("GET, HEAD, DELETE"),
            "/knobs" => not_allowed("GET, HEAD, PUT, DELETE"),
            "/jwks"
            | "/.well-known/oauth-authorization-server"
            | "/.well-known/openid-configuration"
            | "/health" => not_allowed("GET, HEAD"),
            _ => Reply::json(StatusCode::NOT_FOUND, &json!({ "error": "not_found" })),
        }
    }

    /// The token endpoint (RFC 6749 §3.2).
    fn token(&self, request: &Request<Bytes>) -> Result<Reply, OAuthError> {
        let form = Form::parse(request.headers(), request.body(), &["audience"])?;
        let client_id = self.clients.authenticate(request.headers(), &form)?;
        let mut granted = None;
        let username = match form.get("grant_type") {
            Some("client_credentials") => None,
            Some("password") => Some(self.user(&form)?),
            Some("refresh_token") => {
                let (username, scope) = self.refreshed(&form, &client_id)?;
                granted = Some(scope);
                username
            }
            Some(_) => {
                return Err(OAuthError::bad_request(
                    "unsupported_grant_type",
                    "no such grant here",
                ));
            }
            None => return Err(OAuthError::invalid_request("grant_type is missing")),
        };
        let scope = form
            .get("scope")
            .or(granted.as_deref())
            .unwrap_or(DEFAULT_SCOPE);
        if !is_scope(scope) {
            return Err(OAuthError::bad_request(
                "invalid_scope",
                "the scope is malformed",
            ));
        }
        let lifetime = match form.get("lifetime") {
            Some(text) => text
                .parse()
                .map_err(|_| OAuthError::invalid_request("lifetime must be a number"))?,
            None => self.token_lifetime,
        };
        let issued_at = now();
        let expires_at = issued_at.saturating_add(lifetime);

        let mut claims = Map::new();
        claims.insert("iss".to_owned(), json!(self.issuer));
        claims.insert(
            "sub".to_owned(),
            json!(username.as_ref().unwrap_or(&client_id)),
        );
        claims.insert("aud".to_owned(), audience(&form));
        claims.insert("client_id".to_owned(), json!(client_id));
        claims.insert("scope".to_owned(), json!(scope));
        claims.insert("iat".to_owned(), json!(issued_at));
        claims.insert("exp".to_owned(), json!(expires_at));
        claims.insert(
            "jti".to_owned(),
            json!(tokens::random().map_err(server_error)?),
        );
        add_extra_claims(&mut claims, &form)?;

        let token_type = token_type(&claims);
        let token = Token::sign(&self.signer, client_id, username, claims, expires_at)
            .map_err(server_error)?;
        let opaque = tokens::random().map_err(server_error)?;
        // OpenID Connect Core 1.0 §11.
        let refresh = match scope.split(' ').any(|one| one == "offline_access") {
            true => Some((tokens::random().map_err(server_error)?, token.refresh())),
            false => None,
        };
        let refresh_token = refresh.as_ref().map(|(opaque, _)| opaque.clone());
        let mut state = self.state();
        state.tokens.insert(&opaque, token, issued_at);
        if let Some((opaque, token)) = refresh {
            state.tokens.insert(&opaque, token, issued_at);
        }
        state.stats.tokens_issued += 1;
        drop(state);
        let mut body = json!({
            "access_token": opaque,
            "token_type": token_type,
            "expires_in": lifetime.max(0),
            "scope": scope,
        });
        if let Some(refresh_token) = refresh_token {
            body["refresh_token"] = json!(refresh_token);
        }
        Ok(Reply::json(StatusCode::OK, &body).no_store())
    }

    /// The user and the scope of a refresh token (RFC 6749 §6).
    fn refreshed(
        &self,
        form: &Form,
        client_id: &str,
    ) -> Result<(Option<String>, String), OAuthError> {
        let opaque = form
            .get("refresh_token")
            .ok_or_else(|| OAuthError::invalid_request("refresh_token is missing"))?;
        let state = self.state();
        let token = state
            .tokens
            .active(&tokens::name(opaque), now())
            .filter(|token| token.is_refresh() && token.client_id == client_id)
            .ok_or_else(|| OAuthError::bad_request("invalid_grant", "no such refresh token"))?;
        let scope = token.claims.get("scope").and_then(Value::as_str);
        Ok((
            token.username.clone(),
            scope.unwrap_or(DEFAULT_SCOPE).to_owned(),
        ))
    }

    fn user(&self, form: &Form) -> Result<String, OAuthError> {
        let parameter = |name| {
            form.get(name)
                .ok_or_else(|| OAuthError::invalid_request(format!("{name} is missing")))
        };
        let (username, password) = (parameter("username")?, parameter("password")?);
        if username == self.user.name && same(&self.user.secret, password) {
            Ok(username.to_owned())
        } else {
            Err(OAuthError::bad_request(
                "invalid_grant",
                "wrong username or password",
            ))
        }
    }

    /// The introspection endpoint (RFC 7662), with its knobs.
    async fn introspect(&self, request: &Request<Bytes>) -> Reply {
        let form = Form::parse(request.headers(), request.body(), &[]);
        let name = form
            .as_ref()
            .ok()
            .and_then(|form| form.get("token"))
            .map(tokens::name);
        let mut settings = knobs::from_query(request.uri().query().unwrap_or_default());
        {
            let description = stats::describe(request, form.as_ref().ok());
            let mut state = self.state();
            state.stats.introspections += 1;
            state.stats.last_request = Some(description);
            if let Some(name) = &name {
                *state.stats.by_token.entry(name.clone()).or_default() += 1;
            }
            settings.extend(
                state
                    .knobs
                    .iter()
                    .map(|(name, value)| (name.clone(), value.clone())),
            );
        }
        let knobs = match Knobs::parse(&settings) {
            Ok(knobs) => knobs,
            Err(message) => return OAuthError::invalid_request(message).into(),
        };
        if !knobs.latency.is_zero() {
            tokio::time::sleep(knobs.latency).await;
        }
        let dialect = knobs
            .dialect
            .unwrap_or_else(|| accepted_dialect(request.headers()));
        let mut reply = match knobs.replacement(dialect) {
            Some(reply) => reply,
            None => self
                .verdict(request, form, name, dialect, &knobs)
                .unwrap_or_else(Reply::from),
        };
        match &knobs.cache_control {
            Some(value) => reply.headers.insert(CACHE_CONTROL, value.clone()),
            None => reply.headers.remove(CACHE_CONTROL),
        };
        match knobs.shape(reply).await {
            Ok(reply) => reply,
            Err(error) => server_error(error.to_string()).into(),
        }
    }

    /// The introspection response about a token.
    fn verdict(
        &self,
        request: &Request<Bytes>,
        form: Result<Form, OAuthError>,
        name: Option<String>,
        dialect: Dialect,
        knobs: &Knobs,
    ) -> Result<Reply, OAuthError> {
        if request.method() != Method::POST {
            return Ok(not_allowed("POST"));
        }
        let form = form?;
        if knobs.client_auth && !self.has_bearer(request.headers()) {
            self.clients
                .authenticate(request.headers(), &form)
                .inspect_err(|error| {
                    if error.is_invalid_client() {
                        self.state().stats.unauthorized += 1;
                    }
                })?;
        }
        let name = name.ok_or_else(|| OAuthError::invalid_request("token is missing"))?;

        let mut state = self.state();
        let State { tokens, stats, .. } = &mut *state;
        let token = tokens
            .active(&name, now())
            // A JWT is handed over for an access token only.
            .filter(|token| dialect == Dialect::Json || !token.is_refresh())
            .filter(|_| knobs.active_false.is_none());
        let Some(token) = token else {
            stats.inactive += 1;
            return Ok(inactive(dialect, knobs.active_false));
        };
        stats.active += 1;
        let jwt = token.jwt.as_deref().map(|jwt| knobs.hand_over(jwt));
        Ok(match dialect {
            Dialect::Jwt => Reply::new(
                StatusCode::OK,
                dialect.content_type(),
                jwt.unwrap_or_default(),
            ),
            Dialect::Json => Reply::json(
                StatusCode::OK,
                &introspection_response(token, &knobs.jwt_claim, jwt),
            ),
        })
    }

    fn has_bearer(&self, headers: &HeaderMap) -> bool {
        match (&self.bearer, authorization(headers)) {
            (Some(bearer), Some((scheme, token))) => {
                scheme.eq_ignore_ascii_case("bearer") && same(bearer, token)
            }
            _ => false,
        }
    }

    /// The revocation endpoint (RFC 7009).
    fn revoke(&self, request: &Request<Bytes>) -> Result<Reply, OAuthError> {
        let form = Form::parse(request.headers(), request.body(), &[])?;
        let client_id = self.clients.authenticate(request.headers(), &form)?;
        let opaque = form
            .get("token")
            .ok_or_else(|| OAuthError::invalid_request("token is missing"))?;
        let name = tokens::name(opaque);
        let mut state = self.state();
        if state
            .tokens
            .active(&name, now())
            .is_some_and(|token| token.client_id != client_id)
        {
            return Err(OAuthError::bad_request(
                "invalid_grant",
                "the token was issued to another client",
            ));
        }
        state.tokens.remove(&name);
        Ok(Reply::empty(StatusCode::OK))
    }

    /// Authorization server metadata (RFC 8414).
    fn metadata(&self) -> Value {
        let issuer = &self.issuer;
        let base = issuer.trim_end_matches('/');
        let methods = ["client_secret_basic", "client_secret_post"];
        json!({
            "issuer": issuer,
            "token_endpoint": format!("{base}/token"),
            "token_endpoint_auth_methods_supported": methods,
            "introspection_endpoint": format!("{base}/introspect"),
            "introspection_endpoint_auth_methods_supported": methods,
            "revocation_endpoint": format!("{base}/revoke"),
            "revocation_endpoint_auth_methods_supported": methods,
            "jwks_uri": format!("{base}/jwks"),
            "grant_types_supported": ["client_credentials", "password", "refresh_token"],
            "response_types_supported": [],
        })
    }

    fn set_knobs(&self, body: &[u8]) -> Reply {
        let settings =
            knobs::from_json(body).and_then(|settings| Knobs::parse(&settings).map(|_| settings));
        match settings {
            Ok(settings) => {
                self.state().knobs = settings;
                Reply::empty(StatusCode::NO_CONTENT)
            }
            Err(message) => OAuthError::invalid_request(message).into(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing is left half done under the lock, so a panic elsewhere does not make the state unusable.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The token type: `DPoP` if the token is bound to a key of its client (RFC 9449 §5).
fn token_type(claims: &Map<String, Value>) -> &'static str {
    if claims.get("cnf").is_some_and(|cnf| cnf["jkt"].is_string()) {
        "DPoP"
    } else {
        "Bearer"
    }
}

/// The body of an RFC 7662 response for an active token.
fn introspection_response(token: &Token, jwt_claim: &str, jwt: Option<String>) -> Value {
    let mut response = token.claims.clone();
    response.insert("active".to_owned(), json!(true));
    if token.is_refresh() {
        response.remove("aud");
        response.insert("exp".to_owned(), json!(token.expires_at));
    } else {
        response.insert("token_type".to_owned(), json!(token_type(&token.claims)));
    }
    if let Some(username) = &token.username {
        response.insert("username".to_owned(), json!(username));
    }
    if let Some(jwt) = jwt.filter(|_| !jwt_claim.is_empty()) {
        response.insert(jwt_claim.to_owned(), json!(jwt));
    }
    Value::Object(response)
}

fn inactive(dialect: Dialect, way: Option<Inactive>) -> Reply {
    let json = || Reply::json(StatusCode::OK, &json!({ "active": false }));
    match (way, dialect) {
        (Some(Inactive::Json), _) | (None, Dialect::Json) => json(),
        (Some(Inactive::NoContent), _) | (None, Dialect::Jwt) => {
            Reply::empty(StatusCode::NO_CONTENT)
        }
        (Some(Inactive::NoContentWithBody), _) => {
            let mut reply = json();
            reply.status = StatusCode::NO_CONTENT;
            reply.delivery.body_after_204 = true;
            reply
        }
    }
}

/// The dialect that `Accept` asks for: a bare JWT where it names `application/jwt` and does not prefer JSON.
fn accepted_dialect(headers: &HeaderMap) -> Dialect {
    let (mut jwt, mut json) = (0.0, 0.0);
    for value in headers
        .get_all(ACCEPT)
        .iter()
        .filter_map(|value| value.to_str().ok())
    {
        for range in value.split(',') {
            let mut parts = range.split(';').map(str::trim);
            let media_type = parts.next().unwrap_or_default();
            let quality = parts
                .find_map(|part| part.strip_prefix("q="))
                .map_or(Ok(1.0_f32), str::parse);
            let quality = quality.unwrap_or(0.0);
            if media_type.eq_ignore_ascii_case("application/jwt") {
                jwt = quality;
            } else if media_type.eq_ignore_ascii_case("application/json") {
                json = quality;
            }
        }
    }
    if jwt > 0.0 && jwt >= json {
        Dialect::Jwt
    } else {
        Dialect::Json
    }
}

/// `aud`: a string, or an array when the request names several.
fn audience(form: &Form) -> Value {
    let audience: Vec<&str> = form.all("audience").collect();
    match audience[..] {
        [] => json!(DEFAULT_AUDIENCE),
        [one] => json!(one),
        _ => json!(audience),
    }
}

/// Adds the claims that only demos and tests ask for: `padding` and `claim.NAME`. A claim set to `null` goes away.
fn add_extra_claims(claims: &mut Map<String, Value>, form: &Form) -> Result<(), OAuthError> {
    if let Some(padding) = form.get("padding") {
        let length = padding
            .parse()
            .ok()
            .filter(|length| *length <= LARGEST_PADDING);
        let length = length
            .ok_or_else(|| OAuthError::invalid_request("padding must be a number up to 1048576"))?;
        claims.insert("padding".to_owned(), "x".repeat(length).into());
    }
    for (name, value) in form.iter() {
        let Some(name) = name.strip_prefix("claim.") else {
            continue;
        };
        match serde_json::from_str(value) {
            Ok(Value::Null) => claims.remove(name),
            Ok(value) => claims.insert(name.to_owned(), value),
            Err(_) => claims.insert(name.to_owned(), value.into()),
        };
    }
    Ok(())
}

/// Whether this is a list of scope tokens (RFC 6749 §3.3).
fn is_scope(scope: &str) -> bool {
    let is_scope_byte = |byte| matches!(byte, 0x21 | 0x23..=0x5b | 0x5d..=0x7e);
    scope
        .split(' ')
        .all(|token| !token.is_empty() && token.bytes().all(is_scope_byte))
}

fn not_allowed(allowed: &'static str) -> Reply {
    Reply::json(
        StatusCode::METHOD_NOT_ALLOWED,
        &json!({ "error": "method_not_allowed" }),
    )
    .with(ALLOW, HeaderValue::from_static(allowed))
}

fn server_error(message: String) -> OAuthError {
    eprintln!("authorization_server: {message}");
    OAuthError::server_error()
}

/// Seconds since the epoch.
fn now() -> i64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dialect(accept: &str) -> &'static str {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, accept.parse().unwrap());
        accepted_dialect(&headers).content_type()
    }

    #[test]
    fn accept_chooses_the_dialect() {
        assert_eq!(dialect("application/jwt"), "application/jwt");
        assert_eq!(dialect("application/JWT; q=0.5, */*"), "application/jwt");
        assert_eq!(
            dialect("application/jwt, application/json"),
            "application/jwt"
        );
        assert_eq!(
            dialect("application/json, application/jwt;q=0.9"),
            "application/json"
        );
        assert_eq!(dialect("application/jwt;q=0"), "application/json");
        assert_eq!(dialect("*/*"), "application/json");
        assert_eq!(
            accepted_dialect(&HeaderMap::new()).content_type(),
            "application/json"
        );
    }

    #[test]
    fn a_scope_is_a_list_of_tokens_with_one_space_between_them() {
        assert!(is_scope("openid read:all https://a.example/b"));
        for malformed in ["", " ", "a  b", " a", "a ", "a\"b", "a\\b", "a\tb", "ä"] {
            assert!(!is_scope(malformed), "{malformed:?}");
        }
    }
}
