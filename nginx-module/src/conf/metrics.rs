//! The memory in which workers add up what they count. It is there as soon as there is a provider, and lives from one
//! configuration to the next, as a zone does: see `zone.rs` for how nginx keeps it.

use std::cell::OnceCell;
use std::rc::Rc;
use std::sync::Arc;

use ngx::ffi::{
    NGX_ERROR, NGX_LOG_EMERG, NGX_OK, ngx_conf_t, ngx_int_t, ngx_shared_memory_add, ngx_shm_zone_t,
    ngx_str_t,
};
use ngx::ngx_log_error;
use phantom_token::clock;
use phantom_token::gateway::metrics::SharedMetrics;

use super::zone::{take_all, with_bookkeeping};
use crate::nginx::module;
use crate::nginx::panic::contained;

/// No zone can have this name: a colon ends the name where one is defined.
const NAME: &str = "phantom_token:status";

/// The memory, once nginx has mapped it.
#[derive(Default)]
pub struct Shared(OnceCell<Arc<SharedMetrics>>);

impl Shared {
    /// Asks nginx for it. `None` when nginx refuses, which it has said then.
    ///
    /// # Safety
    /// `cf` must be valid, and what is returned kept as long as the configuration that is being read.
    pub unsafe fn define(cf: *mut ngx_conf_t) -> Option<Rc<Self>> {
        let size = with_bookkeeping(SharedMetrics::SIZE)?;
        let shared = Rc::<Self>::default();
        let mut name = ngx_str_t {
            len: NAME.len(),
            // nginx's type has no const; nobody writes to it.
            data: NAME.as_ptr().cast_mut(),
        };
        // SAFETY: `cf` is valid; nginx copies the name as it is, which is a part of the module and as long there as the
        // configuration. Its answer is NULL or a valid zone that nobody else uses: it is found by our tag. `data` is
        // valid as long as the configuration is, as the caller has promised.
        unsafe {
            let tag = module().cast();
            let zone = ngx_shared_memory_add(cf, &raw mut name, size, tag).as_mut()?;
            zone.init = Some(init);
            zone.data = Rc::as_ptr(&shared).cast_mut().cast();
        }
        Some(shared)
    }

    /// The shared metrics: set when the configuration is in use.
    pub fn metrics(&self) -> Option<&Arc<SharedMetrics>> {
        self.0.get()
    }
}

/// nginx has mapped the memory, or goes on with that of the former configuration.
unsafe extern "C" fn init(zone: *mut ngx_shm_zone_t, _former: *mut std::ffi::c_void) -> ngx_int_t {
    contained(NGX_ERROR as ngx_int_t, || {
        // SAFETY: nginx calls this with the zone for which it was set, whose data is the `Shared` that the
        // configuration being read holds. It is shared only: what changes of it is in a cell.
        let (zone, shared) = unsafe { (&*zone, &*(*zone).data.cast::<Shared>()) };
        // SAFETY: nginx has made a pool in the memory, of which only that function takes something.
        let taken = unsafe { take_all(zone) };
        let attached = taken
            .ok_or_else(|| "nginx's pool does not give its pages".to_owned())
            .and_then(|(base, size)| {
                // SAFETY: `take_all` gives pages that are ours alone: zeroes, or what an earlier call has made of
                // them. Only workers use what is in them, where they stay mapped as long as the process lives; the
                // master looks into it no more after this call. nginx calls this on the one thread of the master, and
                // gives the same memory to this build of the module alone.
                unsafe { SharedMetrics::attach(base.as_ptr(), size, clock::now().unix) }
                    .map_err(|error| error.to_string())
            });
        match attached {
            Ok((metrics, _)) => {
                // Called once for each configuration, so that it is not set yet.
                let _ = shared.0.set(metrics);
                NGX_OK as ngx_int_t
            }
            Err(reason) => {
                ngx_log_error!(
                    NGX_LOG_EMERG,
                    zone.shm.log,
                    "phantom_token: the memory in which workers count can't be used: {reason}"
                );
                NGX_ERROR as ngx_int_t
            }
        }
    })
}
