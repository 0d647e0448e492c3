//! Values that live as long as an nginx pool.

use std::ffi::c_void;
use std::ptr::NonNull;

use ngx::ffi::{NGX_ALIGNMENT, ngx_pool_cleanup_add, ngx_pool_cleanup_pt, ngx_pool_t};

/// Moves `value` into the pool, which drops it when the pool is destroyed. `None` when there is no memory: the value
/// is dropped then.
///
/// # Safety
/// `pool` must be a live pool of this thread.
pub unsafe fn emplace<T>(pool: *mut ngx_pool_t, value: T) -> Option<NonNull<T>> {
    // SAFETY: the caller vouches for the pool, and `drop_value::<T>` is made for a `T`.
    unsafe { emplace_with(pool, value, Some(drop_value::<T>)) }
}

/// The same with another cleanup handler.
///
/// # Safety
/// `pool` must be a live pool of this thread; `handler` must be sound when called once with a pointer to a valid `T`.
pub unsafe fn emplace_with<T>(
    pool: *mut ngx_pool_t,
    value: T,
    handler: ngx_pool_cleanup_pt,
) -> Option<NonNull<T>> {
    const { assert!(align_of::<T>() <= NGX_ALIGNMENT) };
    // SAFETY: the caller vouches for the pool.
    let cleanup = NonNull::new(unsafe { ngx_pool_cleanup_add(pool, size_of::<T>()) })?;
    // SAFETY: nginx returns a valid cleanup, whose data has been allocated because the size is not 0 (and, if `T`
    // has no size, may be anything aligned). Memory of a pool is aligned to NGX_ALIGNMENT, checked above.
    unsafe {
        let data = if size_of::<T>() == 0 {
            NonNull::<T>::dangling()
        } else {
            NonNull::new((*cleanup.as_ptr()).data.cast::<T>())?
        };
        data.write(value);
        (*cleanup.as_ptr()).data = data.as_ptr().cast();
        (*cleanup.as_ptr()).handler = handler;
        Some(data)
    }
}

/// A pool cleanup handler that drops a `T`.
///
/// # Safety
/// `data` must point to a valid `T` that is not used afterwards.
unsafe extern "C" fn drop_value<T>(data: *mut c_void) {
    crate::nginx::panic::contained((), || {
        // SAFETY: the caller's promise; nginx calls a cleanup handler once, with the data it was registered with.
        unsafe { data.cast::<T>().drop_in_place() };
    });
}
