//! `phantom_token_zone NAME:SIZE`: memory that all workers share, and that lives from one configuration to the next.
//!
//! nginx maps the memory before it forks, and hands it on at a reload where name, size and tag are the same. At its
//! start nginx keeps a slab pool, whose lock it frees when a worker dies (`ngx_unlock_mutexes`) and which modules that
//! report on zones look at: it must stay in order. So the zone is what the pool has to give, all of its pages in one
//! piece (`ngx_slab_alloc`), and `data` of the pool remembers where they are. They begin at a page, nobody can take a
//! page of them, and the pool is one that is full. It costs 24 bytes a page.
//!
//! The tag is the address of the module, as all of its code and nginx see it, so that the memory is never handed from one
//! build of it to another while workers of the former still use it. A reload that finds another file of the module goes
//! on with the former build: nginx loads modules with RTLD_GLOBAL, and the linker binds the second's names, the table of
//! modules among them, to those of the first. A linker that kept the two apart would give them two addresses. An upgrade
//! of the binary maps new memory.

use std::cell::OnceCell;
use std::ffi::{c_char, c_void};
use std::ptr::NonNull;
use std::rc::Rc;
use std::slice;
use std::sync::Arc;

use ngx::core::{NGX_CONF_ERROR, NGX_CONF_OK};
use ngx::ffi::{
    NGX_ERROR, NGX_LOG_EMERG, NGX_LOG_NOTICE, NGX_OK, ngx_command_t, ngx_conf_t, ngx_cycle,
    ngx_int_t, ngx_pagesize, ngx_parse_offset, ngx_shared_memory_add, ngx_shm_zone_t,
    ngx_slab_alloc, ngx_slab_page_t, ngx_slab_pool_t, ngx_str_t,
};
use ngx::ngx_log_error;
use phantom_token::cache::{Attached, Zone as Memory};

use super::{MainConf, arguments, place, refuse, text};
use crate::nginx::panic::contained;
use crate::nginx::{module, strings};

/// A zone of the configuration.
pub struct ZoneConf {
    name: String,
    /// Where it is defined.
    place: String,
    /// The shared memory, once nginx has mapped it.
    memory: OnceCell<Arc<Memory>>,
}

impl ZoneConf {
    /// How many providers it has room for.
    pub const MAX_PROVIDERS: usize = Memory::MAX_PROVIDERS;

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where it is defined: `FILE:LINE`.
    pub fn place(&self) -> &str {
        &self.place
    }

    /// The shared memory: set when the configuration is in use.
    pub fn memory(&self) -> Option<&Arc<Memory>> {
        self.memory.get()
    }
}

/// `phantom_token_zone NAME:SIZE`
pub unsafe extern "C" fn set(
    cf: *mut ngx_conf_t,
    _command: *mut ngx_command_t,
    conf: *mut c_void,
) -> *mut c_char {
    contained(NGX_CONF_ERROR, || {
        // SAFETY: nginx calls the handler with the arguments set.
        let arguments = unsafe { arguments(cf) };
        let Some(argument) = arguments.get(1) else {
            return NGX_CONF_ERROR;
        };
        let Some(value) = text(argument) else {
            return refuse(cf, "the zone's name is not UTF-8");
        };
        let Some((name, size)) = value.split_once(':') else {
            return refuse(
                cf,
                &format!(
                    "invalid zone \"{value}\": write its name and its size, such as tokens:64m"
                ),
            );
        };
        if name.is_empty() || name == "off" || name.chars().any(char::is_control) {
            return refuse(
                cf,
                &format!(
                    "invalid zone \"{value}\": it needs a name of printable characters that is not \"off\""
                ),
            );
        }
        let Some(bytes_wanted) = parse_size(size) else {
            return refuse(
                cf,
                &format!("invalid size \"{size}\" of zone \"{name}\": write it as 512k, 64m or 1g"),
            );
        };
        if bytes_wanted < Memory::MIN_SIZE {
            return refuse(
                cf,
                &format!(
                    "zone \"{name}\" is too small with {size}: give it {}k at least",
                    Memory::MIN_SIZE >> 10
                ),
            );
        }
        let Some(whole) = with_bookkeeping(bytes_wanted) else {
            return refuse(
                cf,
                &format!("zone \"{name}\" is too large with {size}: no memory is"),
            );
        };

        // SAFETY: `conf` is the module's main configuration, as the table says, and nobody else looks at it while
        // this is read.
        let main = unsafe { &mut *conf.cast::<MainConf>() };
        if let Some(known) = main.zones.iter().find(|zone| zone.name == name) {
            return refuse(
                cf,
                &format!("zone \"{name}\" is defined already, in {}", known.place),
            );
        }
        let zone = Rc::new(ZoneConf {
            name: name.to_owned(),
            // SAFETY: `cf` is valid while a directive is read.
            place: unsafe { place(cf) },
            memory: OnceCell::new(),
        });
        let mut name = ngx_str_t {
            len: name.len(),
            // The start of the argument, which nginx keeps as long as the configuration.
            data: argument.as_ptr().cast_mut(),
        };
        // SAFETY: `cf` is valid, nginx copies name and tag as they are, and its answer is NULL, when it has said why,
        // or a valid zone that nobody else uses: it is found by our tag. `data` is valid as long as the configuration
        // is, because that holds the `Rc`.
        unsafe {
            let tag = module().cast();
            let Some(shared) = ngx_shared_memory_add(cf, &raw mut name, whole, tag).as_mut() else {
                return NGX_CONF_ERROR;
            };
            shared.init = Some(init);
            shared.data = Rc::as_ptr(&zone).cast_mut().cast();
        }
        main.zones.push(zone);
        NGX_CONF_OK
    })
}

/// Parses a size in nginx's syntax.
fn parse_size(size: &str) -> Option<usize> {
    let mut size = ngx_str_t {
        len: size.len(),
        data: size.as_ptr().cast_mut(),
    };
    if size.len == 0 {
        return None;
    }
    // SAFETY: nginx reads the bytes of the string, and changes the string itself at most, which is ours.
    let parsed = unsafe { ngx_parse_offset(&raw mut size) };
    // It is NGX_ERROR, less than nothing, for what is none.
    usize::try_from(parsed).ok()
}

/// The size to request from nginx, so that the pages that its pool can allocate are `size` bytes.
pub fn with_bookkeeping(size: usize) -> Option<usize> {
    // SAFETY: set when nginx starts.
    let page = unsafe { ngx_pagesize };
    let pages = size.div_ceil(page);
    // The pool itself and its lists take less than a page; so does what is lost to begin at one.
    pages
        .checked_add(2)?
        .checked_mul(page + size_of::<ngx_slab_page_t>())
        .filter(|whole| isize::try_from(*whole).is_ok())
}

/// nginx has mapped the zone, or goes on with that of the former configuration.
unsafe extern "C" fn init(shared: *mut ngx_shm_zone_t, former: *mut c_void) -> ngx_int_t {
    contained(NGX_ERROR as ngx_int_t, || {
        // SAFETY: nginx calls this with the zone for which it was set, whose data is the `Zone` that the
        // configuration being read holds. It is shared only: what changes of it is in a cell.
        let (shared, zone) = unsafe { (&*shared, &*(*shared).data.cast::<ZoneConf>()) };
        let log = shared.shm.log;
        let name = &zone.name;
        if former.is_null()
            && let Some(why) = begins_anew(shared)
        {
            ngx_log_error!(
                NGX_LOG_NOTICE,
                log,
                "phantom_token: zone \"{name}\" starts empty: {why}"
            );
        }
        // SAFETY: nginx has made a pool in the memory, of which only this function takes something.
        let Some((base, size)) = (unsafe { take_all(shared) }) else {
            ngx_log_error!(
                NGX_LOG_EMERG,
                log,
                "phantom_token: zone \"{name}\": nginx's pool does not give its pages: make the zone larger"
            );
            return NGX_ERROR as ngx_int_t;
        };
        // SAFETY: `take_all` gives pages that are ours alone: zeroes, or what an earlier call has made of them. Only
        // workers use what is in them (`Worker::start`), where they stay mapped as long as the process lives; the
        // master unmaps what a later configuration has no use for, and looks into it no more after this call: to drop
        // a handle touches nothing of it. nginx calls this on the one thread of the master, and gives the same memory
        // to this build of the module alone: see above. Anonymous memory ends with its processes.
        match unsafe { Memory::attach(base.as_ptr(), size) } {
            Ok((memory, attached)) => {
                if attached == Attached::Replaced {
                    ngx_log_error!(
                        NGX_LOG_NOTICE,
                        log,
                        "phantom_token: zone \"{name}\" starts empty: what was in its memory has another layout"
                    );
                }
                // Called once for each configuration, so that it is not set yet.
                let _ = zone.memory.set(memory);
                NGX_OK as ngx_int_t
            }
            Err(reason) => {
                ngx_log_error!(
                    NGX_LOG_EMERG,
                    log,
                    "phantom_token: zone \"{name}\" can't be used: {reason}; take phantom_token_zone out, and workers \
                     remember for themselves"
                );
                NGX_ERROR as ngx_int_t
            }
        }
    })
}

/// All pages of the pool that nginx keeps in the zone: taken now, or when the memory was new.
///
/// # Safety
/// The zone must be mapped, with a pool in it of which nobody takes something but this function.
pub unsafe fn take_all(shared: &ngx_shm_zone_t) -> Option<(NonNull<u8>, usize)> {
    let pool: *mut ngx_slab_pool_t = shared.shm.addr.cast();
    // SAFETY: the caller's promise: the pool is valid, and `pages` to `last` is what describes its pages. They are
    // free all of them while `data`, which is for the owner of the zone, is NULL as nginx has left it, so that
    // `ngx_slab_alloc` gives NULL or all of them, the first of which begins where `start` says.
    unsafe {
        let size = usize::try_from((*pool).last.offset_from((*pool).pages)).ok()? * ngx_pagesize;
        if (*pool).data.is_null() {
            let base = NonNull::new(ngx_slab_alloc(pool, size).cast::<u8>())?;
            // An nginx that is built to find faults (NGX_DEBUG_MALLOC) fills its pools.
            if base.read() != 0 {
                base.write_bytes(0, size);
            }
            (*pool).data = base.as_ptr().cast();
        }
        Some((NonNull::new((*pool).data.cast())?, size))
    }
}

/// The reason why a zone starts empty although the configuration in use has one of this name; `None` if it has not.
fn begins_anew(shared: &ngx_shm_zone_t) -> Option<&'static str> {
    // SAFETY: while nginx reads a configuration, its global cycle is the one at work, or one without zones when it
    // starts. The zones are in a list of that type, whose last part's `next` is NULL.
    unsafe {
        let mut part = &raw const (*ngx_cycle).shared_memory.part;
        while let Some(zones) = part.as_ref() {
            if zones.nelts > 0 {
                let zones = slice::from_raw_parts(zones.elts.cast::<ngx_shm_zone_t>(), zones.nelts);
                let former = zones.iter().find(|zone| {
                    strings::bytes(&zone.shm.name) == strings::bytes(&shared.shm.name)
                });
                if let Some(former) = former {
                    return Some(if former.tag != shared.tag {
                        "it was of another module"
                    } else {
                        "its size has changed"
                    });
                }
            }
            part = zones.next;
        }
    }
    None
}
