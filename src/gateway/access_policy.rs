//! The decision about a request, and the answer to one that is denied: the same for every host.
//!
//! An [`AccessPolicy`] protects a resource. A host uses it in two steps:
//!
//! 1. [`Credentials`] are what a request presents. [`AccessPolicy::token`] returns the token to resolve, if there is
//!    one.
//! 2. With the resolver's result ([`Resolved`]), [`AccessPolicy::decide`] decides whether the request may go on.
//!
//! Two more functions apply the decision: [`AccessPolicy::change_request`] for a request that goes on,
//! [`AccessPolicy::answer`] for a request that is denied. All functions are pure: the time is an argument. Values that
//! are expensive to compute, or that may be requested only once, are requested from the host when they are needed. A
//! request that goes on costs no allocation.
//!
//! ```
//! # fn ask(client: &phantom_token::Client) -> Result<(), phantom_token::gateway::requirements::PolicyError> {
//! use phantom_token::gateway::access_policy::{AccessPolicy, Decision, Resolved};
//! use phantom_token::gateway::credentials::Credentials;
//! use phantom_token::gateway::sender::{Proof, RequestContext, Uri};
//!
//! let mut policy = AccessPolicy::default();
//! policy.set("realm", "orders")?;
//! policy.set("scopes", "orders:read orders:write")?;
//! policy.set("require", r#"tenant acme "big corp" ~^test-"#)?;
//!
//! let headers = [(&b"Authorization"[..], &b"Bearer 8f3c0a..."[..])];
//! let decoded = Default::default();
//! let presented = Credentials::read(policy.sources(), headers.into_iter(), b"/orders", &decoded);
//! let resolved = match policy.token(&presented) {
//!     Ok(Some(token)) => Resolved::from(client.resolve(token, None)),
//!     Ok(None) | Err(_) => Resolved::NotAsked,
//! };
//! let request = RequestContext {
//!     scheme: presented.scheme(),
//!     method: b"GET",
//!     uri: Uri::Whole(b"https://api.example.com/orders"),
//!     proof: Proof::None,
//!     certificate: &|| None,
//! };
//! let now = phantom_token::clock::now().unix;
//! let mut first_use = |proof: &_, time| client.first_use(proof, time);
//! match policy.decide_request(&presented, resolved, &request, now, &mut first_use) {
//!     Decision::Admitted(admitted) => println!("it goes on, with {} bytes upstream", admitted.jwt().len()),
//!     Decision::Anonymous => println!("it goes on without a token"),
//!     Decision::Denied(denial) => println!("{:?}", policy.answer(&denial, now)),
//! }
//! # Ok(())
//! # }
//! ```

use std::borrow::Cow;
use std::fmt;
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use crate::cache::{FirstUse, ProofId, ProofTime};
use crate::gateway::challenge::Challenge;
use crate::gateway::credentials::{
    Credentials, Field, Source, cookies_without, header_name, is_cookie, is_same_name,
    target_without,
};
use crate::gateway::outcome::{DenialReason, ErrorCode, Outcome};
use crate::gateway::requirements::{self, PolicyError, TokenRequirements};
use crate::gateway::sender::{
    self, Constraint as SenderConstraint, NONCE_STEP, Nonces, ProofRules, Proven, RequestContext,
    SenderError, window,
};
use crate::token::Scheme;
use crate::values::{NOT_A_SWITCH, no_key, quoted, switch};
use crate::{Active, Error, ErrorKind, Resolution, Token, Verdict};

/// An access policy: the rules by which a request for a protected resource is admitted or denied. By default it needs
/// only an active token, in `Authorization`; a token that is bound to a key of its sender needs its proof.
#[derive(Debug, Clone)]
pub struct AccessPolicy {
    realm: Option<Box<str>>,
    resource_metadata: Option<Box<str>>,
    /// Empty means `Authorization`.
    sources: Vec<Source>,
    /// `None` means `Authorization`.
    forward: Option<Box<str>>,
    optional: bool,
    sender: SenderConstraint,
    proof_rules: ProofRules,
    requirements: Arc<TokenRequirements>,
    /// Derived from the other fields.
    challenges: Challenges,
}

/// The values of `WWW-Authenticate` that do not depend on the request.
#[derive(Debug, Clone, Default)]
struct Challenges {
    /// The challenge for a request without a token: no error code (RFC 6750 §3.1).
    missing: Box<str>,
    /// The challenges for denied requests, by [`Scheme`] and [`ErrorCode`].
    denied: [[Box<str>; ErrorCode::ALL.len()]; 2],
}

/// The resolver's result for the token that a request presents. `A` refers to the active verdict.
#[derive(Debug, Clone, Copy)]
pub enum Resolved<A> {
    /// There was no token to resolve.
    NotAsked,
    /// The token is active.
    Active(A),
    /// The token is not active.
    Inactive,
    /// There is no verdict.
    Unavailable {
        /// The kind of failure.
        kind: ErrorKind,
        /// When trying again may help, if that is known.
        retry_after: Option<Duration>,
    },
}

impl From<Result<Verdict, &Error>> for Resolved<Arc<Active>> {
    fn from(resolved: Result<Verdict, &Error>) -> Self {
        match resolved {
            Ok(Verdict::Active(active)) => Resolved::Active(active),
            Ok(Verdict::Inactive) => Resolved::Inactive,
            Err(error) => Resolved::Unavailable {
                kind: error.kind(),
                retry_after: error.retry_after(),
            },
        }
    }
}

impl From<Result<Resolution, Error>> for Resolved<Arc<Active>> {
    fn from(resolved: Result<Resolution, Error>) -> Self {
        match resolved {
            Ok(resolution) => Ok(resolution.verdict).into(),
            Err(error) => Err(&error).into(),
        }
    }
}

/// The decision about a request.
#[derive(Debug)]
pub enum Decision<'p, A> {
    /// The request goes on with the JWT of its token.
    Admitted(Admitted<A>),
    /// The request goes on without a token: it presents none, and the policy needs none.
    Anonymous,
    /// The request is denied: [`AccessPolicy::answer`] makes its answer.
    Denied(Denial<'p>),
}

/// A request that may go on with the JWT of its token. `A` refers to the active verdict.
#[derive(Clone, Copy)]
pub struct Admitted<A> {
    active: A,
    proven: Proven,
    in_query: bool,
}

impl<A: Deref<Target = Active>> Admitted<A> {
    /// The value of the `Authorization` header to send upstream: `Bearer <jwt>`. The byte after it is NUL.
    pub fn authorization(&self) -> &str {
        self.active.authorization_after_sender_check()
    }

    /// The JWT in compact form (RFC 7519 §3). The byte after it is NUL.
    pub fn jwt(&self) -> &str {
        self.active.jwt_after_sender_check()
    }
}

impl<A> Admitted<A> {
    /// The active verdict.
    pub fn active(&self) -> &A {
        &self.active
    }
}

impl<A> fmt::Debug for Admitted<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The value holds the JWT.
        f.write_str("Admitted(..)")
    }
}

/// The reason why a request is denied, and how the request presented its token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Denial<'p> {
    /// The reason.
    pub reason: DenialReason<'p>,
    /// The scheme of the challenge.
    pub scheme: Scheme,
    /// Whether the query presented something as a token.
    pub in_query: bool,
}

impl<'p> Denial<'p> {
    /// The denial of a request with these credentials.
    pub fn new(reason: DenialReason<'p>, credentials: &Credentials<'_>) -> Self {
        Denial {
            reason,
            scheme: match reason {
                DenialReason::Sender(error) => error.scheme(),
                _ => credentials.scheme(),
            },
            in_query: credentials.is_in_query(),
        }
    }

    /// The outcome that is logged and counted.
    pub fn outcome(&self) -> Outcome {
        self.reason.outcome()
    }
}

/// The answer to a denied request: status, headers and body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer<'p> {
    /// The HTTP status (RFC 9110 §15).
    pub status: u16,
    /// `WWW-Authenticate`; `None` where the client is not at fault.
    pub challenge: Option<Cow<'p, str>>,
    /// `DPoP-Nonce` (RFC 9449 §8.2, §9), where proofs must have a nonce.
    pub dpop_nonce: Option<String>,
    /// `Retry-After` in seconds (RFC 9110 §10.2.3), with 503.
    pub retry_after: Option<u64>,
    /// `Cache-Control`, where the query presented something as a token (RFC 6750 §2.3).
    pub cache_control: Option<&'static str>,
    /// The body, as [`Answer::CONTENT_TYPE`].
    pub body: &'static str,
}

impl Answer<'_> {
    /// The media type of [`Answer::body`].
    pub const CONTENT_TYPE: &'static str = "application/json";

    /// All headers of the answer, in the order in which they are sent. The host adds the header that delimits the body.
    pub fn headers(&self) -> impl Iterator<Item = (&'static str, Cow<'_, str>)> {
        let text = |text| Cow::Borrowed(text);
        [
            (
                "WWW-Authenticate",
                self.challenge.as_deref().map(Cow::Borrowed),
            ),
            ("DPoP-Nonce", self.dpop_nonce.as_deref().map(text)),
            (
                "Retry-After",
                self.retry_after
                    .map(|seconds| Cow::Owned(seconds.to_string())),
            ),
            ("Cache-Control", self.cache_control.map(text)),
            ("Content-Type", Some(text(Self::CONTENT_TYPE))),
        ]
        .into_iter()
        .filter_map(|(name, value)| Some((name, value?)))
    }
}

/// The headers that are added to the API's answer to a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AddedHeaders {
    /// `DPoP-Nonce`, where the nonce of the proof will soon no longer be accepted (RFC 9449 §8.2).
    pub dpop_nonce: Option<String>,
    /// `Cache-Control`, where the token was in the query: no shared cache may store the answer (RFC 6750 §2.3).
    pub cache_control: Option<&'static str>,
}

impl AddedHeaders {
    /// All added headers, as names and values.
    pub fn headers(&self) -> impl Iterator<Item = (&'static str, &str)> {
        [
            ("DPoP-Nonce", self.dpop_nonce.as_deref()),
            ("Cache-Control", self.cache_control),
        ]
        .into_iter()
        .filter_map(|(name, value)| Some((name, value?)))
    }
}

/// A change to the headers of a request that goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HeaderChange<'a> {
    /// Removes all headers of this name. The name is compared exactly as it is written.
    Remove(&'a [u8]),
    /// Sets one header, which replaces all headers of this name.
    Set(&'a str, Cow<'a, [u8]>),
}

/// The time after which a client should try again, where the real time is not known.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// The keys of [`AccessPolicy::set`] that [`TokenRequirements`] does not have.
const OWN: [&str; 8] = [
    "realm",
    "resource_metadata",
    "source",
    "forward",
    "optional",
    "sender_constraint",
    "dpop_window",
    "dpop_nonce",
];

/// The keys of [`AccessPolicy::set`].
static KEYS: [&str; requirements::KEYS.len() + OWN.len()] = {
    let mut keys = [""; requirements::KEYS.len() + OWN.len()];
    let mut at = 0;
    while at < keys.len() {
        keys[at] = if at < requirements::KEYS.len() {
            requirements::KEYS[at]
        } else {
            OWN[at - requirements::KEYS.len()]
        };
        at += 1;
    }
    keys
};

/// The parts of an [`AccessPolicy`], for a host that reads its settings itself.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// The name of the protected resource in challenges (RFC 9110 §11.5).
    pub realm: Option<Box<str>>,
    /// The URL of the resource's metadata (RFC 9728), for challenges.
    pub resource_metadata: Option<Box<str>>,
    /// The places where a token may be, in the order in which they are read. Empty means `Authorization`.
    pub sources: Vec<Source>,
    /// The header that carries the JWT upstream. `None` means `Authorization`.
    pub forward: Option<Box<str>>,
    /// Whether a request without a token may go on.
    pub optional: bool,
    /// How tokens that are bound to a key of their sender are handled.
    pub sender: SenderConstraint,
    /// The requirements on DPoP proofs.
    pub proof_rules: ProofRules,
    /// The requirements on tokens.
    pub requirements: Arc<TokenRequirements>,
}

impl From<Settings> for AccessPolicy {
    fn from(settings: Settings) -> Self {
        let mut policy = AccessPolicy {
            realm: settings.realm,
            resource_metadata: settings.resource_metadata,
            sources: settings.sources,
            forward: settings.forward,
            optional: settings.optional,
            sender: settings.sender,
            proof_rules: settings.proof_rules,
            requirements: settings.requirements,
            challenges: Challenges::default(),
        };
        policy.make_challenges();
        policy
    }
}

impl Default for AccessPolicy {
    fn default() -> Self {
        Settings::default().into()
    }
}

impl AccessPolicy {
    /// Sets one key. The keys are those of [`TokenRequirements::set`], with values separated by spaces, and these:
    ///
    /// | key | value |
    /// | --- | --- |
    /// | `realm` | the name of the protected resource in challenges (RFC 9110 §11.5) |
    /// | `resource_metadata` | the URL of the resource's metadata (RFC 9728), for challenges |
    /// | `source` | the places where the token may be: `authorization`, `header NAME`, `cookie NAME`, `query NAME`, or several; the places of several calls add up |
    /// | `forward` | the header that carries the JWT upstream: `authorization` or `header NAME` |
    /// | `optional` | whether a request without a token may go on: `on` or `off` |
    /// | `sender_constraint` | `enforce`, `require` or `ignore`: see [`SenderConstraint`] |
    /// | `dpop_window` | how long a proof is accepted, counted from its `iat`: from `1s` to `10m`; by default `60s` |
    /// | `dpop_nonce` | whether a proof must hold a nonce of this process (RFC 9449 §9): `on` or `off` |
    ///
    /// A value with spaces in it is written in double or single quotes. In it, a backslash escapes a quote or a
    /// backslash; any other backslash is literal.
    ///
    /// # Errors
    /// [`PolicyError`] when the key does not exist, or the value is not valid for it. The policy is unchanged then.
    pub fn set(&mut self, key: &str, value: &str) -> Result<(), PolicyError> {
        if !KEYS.contains(&key) {
            return Err(PolicyError::plain(no_key(&KEYS, key)));
        }
        let refused = |complaint: &str| PolicyError::plain(format!("{key}: {complaint}"));
        let values = words(value).ok_or_else(|| refused("a quote is not closed"))?;
        let values: Vec<_> = values.iter().map(String::as_str).collect();
        if requirements::KEYS.contains(&key) {
            Arc::make_mut(&mut self.requirements).set(key, &values)?;
            self.make_challenges();
            return Ok(());
        }
        if values.iter().any(|value| value.contains(char::is_control)) {
            return Err(refused("the value has a control character"));
        }
        let value = values.join(" ");
        let wrong = |why: &str| refused(&format!("{} {why}", quoted(&value)));
        let on = || switch(&value).ok_or_else(|| wrong(NOT_A_SWITCH));
        match (key, &*values) {
            ("realm", values) => self.realm = Some(values.join(" ").into()),
            ("resource_metadata", &[url]) if is_url(url) => {
                self.resource_metadata = Some(url.into());
            }
            ("resource_metadata", _) => {
                return Err(refused(
                    "an https or http URL without spaces and quotes is needed",
                ));
            }
            ("source", values) => {
                Source::parse_into(&mut self.sources, key, values)?;
            }
            ("forward", ["authorization"]) => self.forward = None,
            ("forward", ["header", name]) => self.forward = Some(header_name(key, name)?.into()),
            ("forward", _) => return Err(refused("it is authorization or header NAME")),
            ("optional", _) => self.optional = on()?,
            ("sender_constraint", values) => {
                self.sender = match values {
                    [name] => SenderConstraint::from_name(name),
                    _ => None,
                }
                .ok_or_else(|| refused("it is enforce, require or ignore"))?;
            }
            ("dpop_window", _) => self.proof_rules.window = window(&value).map_err(wrong)?,
            _ => {
                self.proof_rules.nonces = match on()? {
                    true => Some(Arc::new(Nonces::random(NONCE_STEP).map_err(refused)?)),
                    false => None,
                }
            }
        }
        self.make_challenges();
        Ok(())
    }

    /// The keys of [`AccessPolicy::set`].
    pub fn keys() -> &'static [&'static str] {
        &KEYS
    }

    /// The places where a token may be, in the order in which they are read.
    pub fn sources(&self) -> &[Source] {
        match &*self.sources {
            [] => &[Source::Authorization],
            sources => sources,
        }
    }

    /// The header that carries the JWT upstream, if it is not `Authorization`.
    pub fn forward(&self) -> Option<&str> {
        self.forward.as_deref()
    }

    /// The requirements on a token beyond being active and presented by its owner.
    pub fn requirements(&self) -> &TokenRequirements {
        &self.requirements
    }

    /// How tokens that are bound to a key of their sender are handled.
    pub fn sender_constraint(&self) -> SenderConstraint {
        self.sender
    }

    /// The requirements on DPoP proofs.
    pub fn proof_rules(&self) -> &ProofRules {
        &self.proof_rules
    }

    /// The token to resolve; `None` if the request presents none and the policy needs none.
    ///
    /// # Errors
    /// [`Denial`] of a request that presents no token where one is needed, or no usable token.
    #[inline]
    pub fn token<'a>(
        &self,
        credentials: &Credentials<'a>,
    ) -> Result<Option<Token<'a>>, Denial<'static>> {
        let reason = match credentials.token() {
            Ok(Some(token)) => return Ok(Some(token)),
            Ok(None) if self.optional => return Ok(None),
            Ok(None) => DenialReason::Missing,
            Err(malformation) => DenialReason::Malformed(malformation),
        };
        Err(Denial::new(reason, credentials))
    }

    /// Decides about a request whose token has been resolved. `now` is in seconds since the epoch.
    ///
    /// The host supplies the values that only it knows, when they are needed. `sender` must call
    /// [`AccessPolicy::check_sender`], once for each request, since a proof may be used once. `values` returns the
    /// host's value of each [`Expected::Slot`](requirements::Expected::Slot). Nothing is allocated.
    pub fn decide<'v, A: Deref<Target = Active>>(
        &self,
        credentials: &Credentials<'_>,
        resolved: Resolved<A>,
        now: i64,
        sender: impl FnOnce(&A) -> Result<Proven, SenderError>,
        values: &mut dyn FnMut(usize) -> Option<&'v [u8]>,
    ) -> Decision<'_, A> {
        match (self.token(credentials), resolved) {
            (Err(denial), _) => Decision::Denied(denial),
            (Ok(None), Resolved::NotAsked) => Decision::Anonymous,
            (Ok(Some(_)), resolved) => {
                self.decide_resolved(credentials, resolved, now, sender, values)
            }
            // A verdict without a token.
            (Ok(None), _) => Decision::Denied(Denial::new(DenialReason::Failed, credentials)),
        }
    }

    /// [`AccessPolicy::decide`] for a host that has the token already, from [`AccessPolicy::token`] or from elsewhere.
    pub fn decide_resolved<'v, A: Deref<Target = Active>>(
        &self,
        credentials: &Credentials<'_>,
        resolved: Resolved<A>,
        now: i64,
        sender: impl FnOnce(&A) -> Result<Proven, SenderError>,
        values: &mut dyn FnMut(usize) -> Option<&'v [u8]>,
    ) -> Decision<'_, A> {
        let denied = |reason| Decision::Denied(Denial::new(reason, credentials));
        let active = match resolved {
            // There is a token, so it must be resolved.
            Resolved::NotAsked => return denied(DenialReason::Failed),
            Resolved::Inactive => return denied(DenialReason::Inactive),
            Resolved::Unavailable { kind, retry_after } => {
                return denied(DenialReason::Unavailable { kind, retry_after });
            }
            Resolved::Active(active) => active,
        };
        let proven = match self.sender.applies_to(&active, credentials.scheme()) {
            Ok(false) => Ok(Proven::default()),
            Ok(true) => sender(&active),
            Err(error) => Err(error),
        };
        let proven = match proven {
            Ok(proven) => proven,
            Err(error) => return denied(DenialReason::Sender(error)),
        };
        if !self.requirements.is_empty()
            && let Err(unmet) = self.requirements.check(active.claims(), now, values)
        {
            return denied(DenialReason::Requirement(unmet));
        }
        Decision::Admitted(Admitted {
            active,
            proven,
            in_query: credentials.is_in_query(),
        })
    }

    /// [`AccessPolicy::decide`] for a host that decides once about a request, and knows all parts of the request.
    ///
    /// `first_use` is called last, for a proof that passed all other checks, and must record that the proof is used
    /// ([`Client::first_use`](crate::Client::first_use) does).
    pub fn decide_request<A: Deref<Target = Active>>(
        &self,
        credentials: &Credentials<'_>,
        resolved: Resolved<A>,
        request: &RequestContext<'_>,
        now: i64,
        first_use: &mut dyn FnMut(&ProofId, ProofTime) -> FirstUse,
    ) -> Decision<'_, A> {
        let sender = self.sender_check(credentials, request, now, first_use);
        self.decide(credentials, resolved, now, sender, &mut |_| None)
    }

    /// [`AccessPolicy::decide_request`] with a verdict alone: for a host that has found the token by itself, and may
    /// not say where it was.
    pub fn decide_verdict<A: Deref<Target = Active>>(
        &self,
        credentials: &Credentials<'_>,
        verdict: Option<A>,
        request: &RequestContext<'_>,
        now: i64,
        first_use: &mut dyn FnMut(&ProofId, ProofTime) -> FirstUse,
    ) -> Decision<'_, A> {
        let resolved = verdict.map_or(Resolved::Inactive, Resolved::Active);
        let sender = self.sender_check(credentials, request, now, first_use);
        self.decide_resolved(credentials, resolved, now, sender, &mut |_| None)
    }

    fn sender_check<A: Deref<Target = Active>>(
        &self,
        credentials: &Credentials<'_>,
        request: &RequestContext<'_>,
        now: i64,
        first_use: &mut dyn FnMut(&ProofId, ProofTime) -> FirstUse,
    ) -> impl FnOnce(&A) -> Result<Proven, SenderError> {
        move |active| match credentials.token() {
            Ok(Some(token)) => self.check_sender(active, token, request, now, first_use),
            // It is not known how the token was presented. That matters only if the sender must prove something.
            _ if active.is_bound() => Err(SenderError::NotPresented),
            _ => Ok(Proven::default()),
        }
    }

    /// Checks that a token is presented by the client that it was issued to: see [`sender::check`].
    ///
    /// # Errors
    /// [`SenderError`] when it is not, or when this can't be determined.
    pub fn check_sender(
        &self,
        active: &Active,
        token: Token<'_>,
        request: &RequestContext<'_>,
        now: i64,
        first_use: &mut dyn FnMut(&ProofId, ProofTime) -> FirstUse,
    ) -> Result<Proven, SenderError> {
        sender::check(active, token, request, &self.proof_rules, now, first_use)
    }

    /// The answer to a denied request. `now` is in seconds since the epoch.
    pub fn answer<'p>(&'p self, denial: &Denial<'_>, now: i64) -> Answer<'p> {
        let status = denial.reason.http_status();
        let challenge = match (denial.reason, denial.reason.error()) {
            (DenialReason::Missing, _) => Some(Cow::Borrowed(&*self.challenges.missing)),
            (_, None) => None,
            (DenialReason::Sender(sender), Some(error)) if sender != SenderError::NotPresented => {
                let description = sender.to_string();
                let challenge = self.challenge(denial.scheme, Some(error), Some(&description));
                Some(Cow::Owned(challenge))
            }
            (_, Some(error)) => Some(Cow::Borrowed(self.challenges.denied(denial.scheme, error))),
        };
        let seconds = |after: Duration| {
            // The header has whole seconds: round up.
            (after.as_secs() + u64::from(after.subsec_nanos() > 0)).max(1)
        };
        let retry_after = match denial.reason {
            DenialReason::Unavailable { retry_after, .. } => retry_after,
            _ => None,
        };
        // With the nonce, the client's next proof can succeed at once.
        let is_about_proof = denial.scheme == Scheme::Dpop
            && matches!(denial.reason, DenialReason::Sender(error) if error != SenderError::Host)
            && challenge.is_some();
        Answer {
            status,
            challenge,
            dpop_nonce: self.nonce(now).filter(|_| is_about_proof),
            retry_after: (status == 503).then(|| seconds(retry_after.unwrap_or(RETRY_AFTER))),
            cache_control: denial.in_query.then_some("no-store"),
            body: denial.reason.body(),
        }
    }

    /// The headers that are added to the API's answer, for a request that goes on; `None` for most requests.
    pub fn added_headers<A>(&self, admitted: &Admitted<A>, now: i64) -> Option<AddedHeaders> {
        let renews = admitted.proven.renew_nonce;
        (renews || admitted.in_query).then(|| AddedHeaders {
            dpop_nonce: renews.then(|| self.nonce(now)).flatten(),
            cache_control: admitted.in_query.then_some("private"),
        })
    }

    /// The nonce that a proof must have, where the policy requires one.
    fn nonce(&self, now: i64) -> Option<String> {
        self.proof_rules.nonces.as_ref().map(|one| one.current(now))
    }

    /// Changes the headers of a request that goes on, with or without the JWT of its token. The header for the JWT
    /// holds nothing from the client, and the header that held the token is removed. Removals come first.
    pub fn change_request<'a, A: Deref<Target = Active>>(
        &'a self,
        admitted: Option<&'a Admitted<A>>,
        headers: impl Iterator<Item = Field<'a>> + Clone,
        change: &mut dyn FnMut(HeaderChange<'a>),
    ) {
        let forward = self.forward.as_deref();
        // A header that is set replaces these.
        let replaced = admitted.map(|_| forward.unwrap_or("authorization").as_bytes());
        let is_ours = |name: &[u8]| {
            name.eq_ignore_ascii_case(b"authorization")
                || forward.is_some_and(|forward| is_same_name(name, forward.as_bytes()))
                || self.sources.iter().any(|source| {
                    matches!(source, Source::Header(held) if is_same_name(name, held.as_bytes()))
                })
        };
        for (name, _) in headers.clone() {
            if is_ours(name) && !replaced.is_some_and(|other| other.eq_ignore_ascii_case(name)) {
                change(HeaderChange::Remove(name));
            }
        }
        let cookies = headers.filter(|(name, _)| is_cookie(name));
        if let Some(rest) = cookies_without(&self.sources, cookies.clone().map(|(_, value)| value))
        {
            for (name, _) in cookies {
                if rest.is_empty() || !name.eq_ignore_ascii_case(b"cookie") {
                    change(HeaderChange::Remove(name));
                }
            }
            if !rest.is_empty() {
                change(HeaderChange::Set("Cookie", Cow::Owned(rest)));
            }
        }
        if let Some(admitted) = admitted {
            let (name, value) = match forward {
                None => ("Authorization", admitted.authorization()),
                Some(name) => (name, admitted.jwt()),
            };
            change(HeaderChange::Set(name, Cow::Borrowed(value.as_bytes())));
        }
    }

    /// The target (path and query) of a request that goes on, without the parameter that held the token; `None` if the
    /// target stays unchanged.
    pub fn change_target(&self, target: &[u8]) -> Option<Vec<u8>> {
        target_without(&self.sources, target)
    }

    fn make_challenges(&mut self) {
        let challenge = |scheme, error| self.challenge(scheme, error, None).into_boxed_str();
        let mut missing = challenge(Scheme::Bearer, None);
        if self.sender == SenderConstraint::Require || self.proof_rules.nonces.is_some() {
            // Both challenges in one field, which is a list (RFC 9110 §11.6.1).
            missing = format!("{missing}, {}", challenge(Scheme::Dpop, None)).into_boxed_str();
        }
        let denied = [Scheme::Bearer, Scheme::Dpop].map(|scheme| {
            std::array::from_fn(|code| challenge(scheme, ErrorCode::ALL.get(code).copied()))
        });
        self.challenges = Challenges { missing, denied };
    }

    fn challenge(
        &self,
        scheme: Scheme,
        error: Option<ErrorCode>,
        description: Option<&str>,
    ) -> String {
        let algorithms = match scheme {
            Scheme::Bearer => None,
            Scheme::Dpop => Some(sender::algorithms()),
        };
        Challenge {
            realm: self.realm.as_deref(),
            error_description: description,
            resource_metadata: self.resource_metadata.as_deref(),
            algs: algorithms.as_deref(),
            ..Challenge::new(scheme, error, &self.requirements)
        }
        .to_string()
    }
}

impl Challenges {
    fn denied(&self, scheme: Scheme, error: ErrorCode) -> &str {
        &self.denied[scheme as usize][error as usize]
    }
}

fn is_url(text: &str) -> bool {
    url::Url::parse(text).is_ok_and(|url| matches!(url.scheme(), "http" | "https"))
        && text
            .bytes()
            .all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\\'))
}

/// The words of a text, read as nginx reads the arguments of a directive; `None` when a quote is not closed.
fn words(text: &str) -> Option<Vec<String>> {
    let mut words = Vec::new();
    let mut rest = text.trim_start_matches(is_space).chars().peekable();
    while let Some(&first) = rest.peek() {
        let quote = matches!(first, '"' | '\'').then_some(first);
        if quote.is_some() {
            rest.next();
        }
        let mut word = String::new();
        loop {
            match (rest.next(), quote) {
                (None, Some(_)) => return None,
                (None, None) => break,
                (Some(character), Some(quote)) if character == quote => break,
                (Some(character), None) if is_space(character) => break,
                (Some('\\'), _) => {
                    let escaped = rest.next_if(|next| matches!(next, '"' | '\'' | '\\'));
                    word.push(escaped.unwrap_or('\\'));
                }
                (Some(character), _) => word.push(character),
            }
        }
        words.push(word);
        while rest.next_if(|next| is_space(*next)).is_some() {}
    }
    Some(words)
}

fn is_space(character: char) -> bool {
    matches!(character, ' ' | '\t' | '\r' | '\n')
}

#[cfg(test)]
mod tests;
