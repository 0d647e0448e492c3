//! The state of one request, kept as long as the request: it survives internal redirects, which run the access
//! handler again on a header that holds a JWT by then.

use std::cell::{Cell, Ref, RefCell};
use std::ffi::c_void;
use std::ptr::NonNull;
use std::sync::Arc;

use ngx::ffi::{ngx_pool_cleanup_pt, ngx_pool_t, ngx_table_elt_t};
use phantom_token::gateway::credentials::Credentials;
use phantom_token::gateway::outcome::Outcome;
use phantom_token::gateway::sender::{Proven, SenderError};
use phantom_token::token::{Context, TokenId};
use phantom_token::{Active, CacheStatus, Error, Resolution, Verdict};

use crate::conf::LocationConf;
use crate::conf::MainConf;
use crate::conf::forget;
use crate::nginx::bits;
use crate::nginx::evaluated::Secrets;
use crate::nginx::headers::{Header, HeaderName};
use crate::nginx::index;
use crate::nginx::panic::contained;
use crate::nginx::pool;
use crate::nginx::request::{Authorization, Request};
use crate::process::Process;
use crate::process::metrics::WorkerMetrics;
use crate::process::subrequest::SubrequestHandle;
use crate::process::suspend::{Pending, Suspension};

/// The result of the check of a request's sender.
pub struct SenderFinding {
    /// The location in which it was checked.
    pub place: NonNull<LocationConf>,
    /// The token's verdict. It is held, so that no other can be at the same address.
    pub active: Arc<Active>,
    /// The result.
    pub found: Result<Proven, SenderError>,
}

/// The state of one request.
///
/// nginx evaluates variables of ours while a request is decided about, and those read the state. So it is shared only, and
/// what changes is in cells; a cell of more than a word is never borrowed while nginx is called, except to be read.
#[derive(Default)]
pub struct State {
    /// `$phantom_token_result`
    pub result: Cell<Option<Outcome>>,
    /// `$phantom_token_reason`: one word more, part of the program or of the configuration.
    pub reason: Cell<&'static str>,
    /// The provider that is asked about the token: a place in [`MainConf::providers`](crate::conf::MainConf::providers).
    pub provider: Cell<Option<usize>>,
    /// `$phantom_token_cache`
    pub cache: Cell<Option<CacheStatus>>,
    /// `$phantom_token_time`, in milliseconds.
    pub time: Cell<Option<usize>>,
    /// The value of `Authorization` that has been read: where it begins in the request's own memory. The header may hold a
    /// JWT of ours by now.
    pub original: Cell<Option<NonNull<u8>>>,
    /// Whether something has been taken in that nobody has acted on.
    pub taken: Cell<bool>,
    /// The location in which the headers that the gateway fills were filled last, for the main request.
    pub settled: Cell<Option<NonNull<LocationConf>>>,
    /// The last location with a provider that the request has come into.
    pub guard: Cell<Option<NonNull<LocationConf>>>,
    /// The cache key context of the verdict, where a location introspects.
    pub context: Cell<Option<Context>>,
    /// Whether the verdict has just arrived: it is for the decision that has waited for it.
    pub resumed: Cell<bool>,
    /// Which of several providers was chosen, and where.
    pub chosen: Cell<Option<(NonNull<LocationConf>, Option<usize>)>>,
    /// The client's credentials, from all locations that have looked for them. They are in the request's own memory, as long as
    /// this state is: nobody may keep them for longer, although their type would allow it.
    pub credentials: Cell<Credentials<'static>>,
    /// The token as the client has written it, where that is something else: percent-encoded. In the same memory.
    pub written: Cell<Option<&'static [u8]>>,
    /// The answer about the token, and the provider that gave it.
    pub verdict: RefCell<Option<(usize, Result<Resolution, Error>)>>,
    /// Whether the token comes from its sender, as far as that has been checked.
    pub sender: RefCell<Option<SenderFinding>>,
    /// Whether the answer has the nonce for the client's next proof.
    pub has_nonce: Cell<bool>,
    /// Whether the answer says which caches may keep it.
    pub restricts_caches: Cell<bool>,
    /// Whether its DPoP proof is noted as used.
    pub proof_counted: Cell<bool>,
    /// Set while a verdict is being waited for.
    pub pending: RefCell<Option<Pending>>,
    /// The subrequest that was started for it while it waits. After `pending`, so that it is dropped after that.
    pub carried: RefCell<Option<SubrequestHandle>>,
    /// The memory of the last suspension, for the next.
    pub suspension: Cell<Option<NonNull<Suspension>>>,
    /// The challenge that we have sent or are about to.
    pub challenge: Cell<Option<NonNull<ngx_table_elt_t>>>,
    /// Where it is counted when it ends.
    metrics: Option<NonNull<WorkerMetrics>>,
    /// The source of the JWT that is in a header: nginx points into it.
    current: RefCell<Option<Arc<Active>>>,
    /// Whether that is a header of its own, and not `Authorization`.
    pub moved: Cell<bool>,
    /// The headers that we have filled, in the request's memory.
    filled: RefCell<Vec<NonNull<ngx_table_elt_t>>>,
    /// The values that our variables had when values of variables were forgotten last.
    shown: Cell<Shown>,
    /// Those that were there before: a variable that was evaluated meanwhile may still point into them.
    former: RefCell<Vec<Arc<Active>>>,
}

/// All that our variables show.
#[derive(Clone, Copy, Default, PartialEq)]
struct Shown {
    result: Option<Outcome>,
    reason: &'static str,
    provider: Option<usize>,
    cache: Option<CacheStatus>,
    time: Option<usize>,
    token: Option<NonNull<u8>>,
    active: Option<NonNull<Active>>,
}

/// Its address marks the state among the cleanups of a pool.
const CLEANUP: ngx_pool_cleanup_pt = Some(cleanup);

impl State {
    /// The state of a request, if it has one. An internal redirect makes nginx forget the pointer, so that it is
    /// looked for where it was left then: among the pool's cleanups. A subrequest finds that of its main request.
    pub fn of<'a>(request: Request) -> Option<&'a Self> {
        // SAFETY: nginx has one slot per module, and ours is NULL or a `State` of this request's pool, which is shared only.
        unsafe {
            let slot = (*request.as_ptr()).ctx.add(index());
            if let Some(state) = (*slot).cast::<State>().as_ref() {
                return Some(state);
            }
            if !may_be_lost(request) {
                return None;
            }
            let found = State::find(request.pool())?;
            *slot = found.as_ptr().cast();
            Some(&*found.as_ptr())
        }
    }

    /// The same; made if there is none. `None` when there is no memory.
    pub fn of_or_new<'a>(request: Request) -> Option<&'a Self> {
        if let Some(state) = Self::of(request) {
            return Some(state);
        }
        let made = State::create(request)?;
        // SAFETY: as above; it was just made in the request's pool.
        unsafe {
            *(*request.as_ptr()).ctx.add(index()) = made.as_ptr().cast();
            Some(&*made.as_ptr())
        }
    }

    /// Makes the state of a request, which the request's pool will drop.
    pub fn create(request: Request) -> Option<NonNull<State>> {
        let state = State {
            metrics: Process::of(request)
                .and_then(|process| process.metrics.as_deref())
                .map(NonNull::from),
            ..State::default()
        };
        // SAFETY: the request lives and so does its pool; `cleanup` is made for a `State`.
        unsafe { pool::emplace_with(request.pool(), state, CLEANUP) }
    }

    /// Finds the state that was made in a pool.
    ///
    /// # Safety
    /// `pool` must be that of a live request.
    pub unsafe fn find(pool: *mut ngx_pool_t) -> Option<NonNull<State>> {
        // SAFETY: the pool is live, so that its cleanups are a list of valid ones; one with our handler was made
        // with a `State`.
        unsafe {
            let mut next = (*pool).cleanup;
            while let Some(entry) = next.as_ref() {
                let is_ours = entry.handler.is_some_and(|handler| {
                    std::ptr::fn_addr_eq(handler, cleanup as unsafe extern "C" fn(*mut c_void))
                });
                if is_ours {
                    return NonNull::new(entry.data.cast());
                }
                next = entry.next;
            }
            None
        }
    }

    /// Counts the request, which ends. One whose client has left before there was a verdict has come to nothing.
    fn count(&self) {
        if let (Some(metrics), Some(provider), Some(result)) =
            (self.metrics, self.provider.get(), self.result.get())
        {
            // SAFETY: the metrics are in the configuration, which outlives its requests; they are shared only.
            unsafe { metrics.as_ref() }.count(provider, result, self.cache.get());
        }
    }

    /// The active verdict, if the request has been let in with it.
    pub fn admitted(&self) -> Option<Ref<'_, Arc<Active>>> {
        if self.result.get() != Some(Outcome::Ok) {
            return None;
        }
        Ref::filter_map(self.verdict.borrow(), |verdict| match verdict {
            Some((_, Ok(resolution))) => match &resolution.verdict {
                Verdict::Active(active) => Some(active),
                Verdict::Inactive => None,
            },
            _ => None,
        })
        .ok()
    }

    /// The name of the token that the client presents, by which logs can speak of it.
    pub fn token_id(&self, request: Request) -> Option<TokenId> {
        let token = self.credentials.get().first_token()?;
        let defined = MainConf::of(request)?.providers.get(self.provider.get()?)?;
        Some(defined.provider.token_id(token))
    }

    fn shown(&self) -> Shown {
        Shown {
            result: self.result.get(),
            reason: self.reason.get(),
            provider: self.provider.get(),
            cache: self.cache.get(),
            time: self.time.get(),
            token: self
                .credentials
                .get()
                .first_token()
                .map(|token| NonNull::from(token.expose().as_bytes()).cast()),
            active: self.admitted().map(|active| NonNull::from(&**active)),
        }
    }

    /// Has values of variables forgotten that were computed before, if our variables show something else now.
    pub fn refresh(&self, request: Request) {
        let shown = self.shown();
        if self.shown.replace(shown) != shown {
            forget(request, Secrets::default());
        }
    }

    /// Notes that a header is one that we have filled.
    pub fn note_filled(&self, header: NonNull<ngx_table_elt_t>) {
        self.filled.borrow_mut().push(header);
    }

    /// Whether there are headers that we have filled.
    pub fn has_filled_any(&self) -> bool {
        !self.filled.borrow().is_empty()
    }

    /// Whether a header is one that we have filled.
    pub fn has_filled(&self, header: Header) -> bool {
        let filled = self.filled.borrow();
        filled
            .iter()
            .any(|filled| filled.as_ptr() == header.as_ptr())
    }

    /// Whether the JWT that is in a header is of this.
    pub fn holds(&self, active: &Arc<Active>) -> bool {
        let current = self.current.borrow();
        current
            .as_ref()
            .is_some_and(|current| Arc::ptr_eq(current, active))
    }

    /// Keeps what the JWT in a header is of, and what it was of before, as long as the request.
    pub fn hold(&self, active: &Arc<Active>) {
        if let Some(former) = self.current.replace(Some(Arc::clone(active))) {
            self.former.borrow_mut().push(former);
        }
    }

    /// Notes that values of variables are forgotten that our variables have shown before.
    pub fn note_forgotten(&self) {
        self.shown.set(self.shown());
    }

    /// Whether the header holds the JWT that we put there last.
    pub fn is_in(&self, request: Request, forward: Option<&HeaderName>) -> bool {
        let current = self.current.borrow();
        let Some(current) = current.as_ref() else {
            return false;
        };
        match (forward, request.authorization()) {
            (None, Authorization::One(header)) => std::ptr::eq(
                header.value_start(),
                current.authorization_after_sender_check().as_ptr(),
            ),
            (Some(name), Authorization::None) => request.headers_in().any(|header| {
                name.is_of(header)
                    && std::ptr::eq(
                        header.value_start(),
                        current.jwt_after_sender_check().as_ptr(),
                    )
            }),
            _ => false,
        }
    }

    /// Whether the value of a header is a JWT that we have put there.
    pub fn is_ours(&self, header: Header) -> bool {
        let (current, former) = (self.current.borrow(), self.former.borrow());
        current.iter().chain(former.iter()).any(|active| {
            active
                .authorization_after_sender_check()
                .as_bytes()
                .as_ptr_range()
                .contains(&header.value_start())
        })
    }
}

/// Whether the state of a request may be there although its slot is empty.
fn may_be_lost(request: Request) -> bool {
    // SAFETY: the request lives.
    unsafe {
        let r = request.as_ptr();
        !request.is_main()
            || bits::request::internal(r) != 0
            || bits::request::filter_finalize(r) != 0
    }
}

/// The request is going away.
unsafe extern "C" fn cleanup(data: *mut c_void) {
    contained((), || {
        let state = data.cast::<State>();
        // SAFETY: nginx calls this once, with the state that `create` made. A request that waits is forgotten when
        // `pending` is dropped.
        unsafe {
            (*state).count();
            state.drop_in_place();
        }
    });
}
