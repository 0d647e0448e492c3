//! nginx's bit fields, read and written by C functions.
//!
//! A bit field has no address, and its place is the C compiler's choice. The accessors that bindgen generates compute that
//! place in their own way, and since nginx 1.29.3 some of them are wrong for `ngx_http_request_t`. So none of them is used:
//! `bits.c` is compiled against the headers of the build and does what nginx's own code does. `make lint` refuses the
//! generated accessors; `layout.rs` proves where the other fields are.
//!
//! Each function takes a pointer to a valid structure that is not changed by others during the call. A getter returns the
//! field's value; a setter stores as many low bits as the field has.

use ngx::ffi::{
    ngx_event_t, ngx_http_request_t, ngx_http_variable_value_t, ngx_msec_t, ngx_queue_t, ngx_str_t,
    ngx_uint_t,
};

/// Declares the functions of `bits.c` for one structure.
macro_rules! bits {
    ($(#[$doc:meta])* $object:ident: $type:ident { $($(#[$when:meta])* get $get:ident;)* $(set $set:ident;)* }) => {
        $(#[$doc])*
        pub mod $object {
            use super::ngx_uint_t;
            use ngx::ffi::$type;

            unsafe extern "C" {
                $(
                    $(#[$when])*
                    #[link_name = concat!("phantom_token_", stringify!($object), "_", stringify!($get))]
                    pub fn $get(of: *const $type) -> ngx_uint_t;
                )*
                $(
                    #[link_name = concat!("phantom_token_", stringify!($object), "_", stringify!($set))]
                    pub fn $set(of: *mut $type, value: ngx_uint_t);
                )*
            }
        }
    };
}

bits! {
    /// A request.
    request: ngx_http_request_t {
        get buffered;
        get error_page;
        get filter_finalize;
        get header_only;
        get header_sent;
        get internal;
        get uri_changes;
        set set_expect_tested;
        set set_filter_need_in_memory;
        set set_header_only;
        set set_header_sent;
        set set_keepalive;
    }
}

bits! {
    /// The headers of a request.
    headers_in: ngx_http_headers_in_t {
        set set_chunked;
    }
}

bits! {
    /// The upstream of a request.
    upstream: ngx_http_upstream_t {
        get cacheable;
        get store;
        #[cfg(http_cache)]
        get cache_status;
        set set_buffering;
    }
}

bits! {
    /// nginx's own configuration of a location.
    core_location: ngx_http_core_loc_conf_t {
        get noname;
        /// Whether a URI names the location: it has no regular expression, is not a named location, and not within another one.
        get is_prefix;
    }
}

bits! {
    /// The value of a variable.
    variable: ngx_http_variable_value_t {
        get len;
        get not_found;
        get valid;
        set set_len;
        set set_no_cacheable;
        set set_not_found;
        set set_valid;
    }
}

bits! {
    /// A connection.
    connection: ngx_connection_t {
        get error;
    }
}

bits! {
    /// An event.
    event: ngx_event_t {
        get ready;
        get timer_set;
        set set_cancelable;
        set set_channel;
    }
}

bits! {
    /// A buffer.
    buffer: ngx_buf_t {
        get in_file;
        get last_buf;
        get last_in_chain;
        get memory;
        get mmap;
        get temporary;
        set set_last_buf;
        set set_last_in_chain;
        set set_memory;
        set set_temporary;
    }
}

unsafe extern "C" {
    /// The client's server name in TLS (SNI); NULL if there is none.
    #[link_name = "phantom_token_request_tls_name"]
    pub fn tls_name(of: *const ngx_http_request_t) -> *const ngx_str_t;

    /// nginx's `ngx_add_timer`: the event's handler runs after this number of milliseconds.
    #[link_name = "phantom_token_event_add_timer"]
    pub fn add_timer(of: *mut ngx_event_t, after: ngx_msec_t);

    /// nginx's `ngx_del_timer`, for an event whose timer is set.
    #[link_name = "phantom_token_event_del_timer"]
    pub fn del_timer(of: *mut ngx_event_t);

    /// nginx's `ngx_post_event`: the event's handler runs when nginx processes the queue.
    #[link_name = "phantom_token_event_post"]
    pub fn post_event(of: *mut ngx_event_t, queue: *mut ngx_queue_t);

    /// Invalidates the values of the variables with these indices, so that they are evaluated again.
    #[link_name = "phantom_token_variables_forget"]
    pub fn forget_variables(
        values: *mut ngx_http_variable_value_t,
        indices: *const ngx_uint_t,
        count: ngx_uint_t,
    );
}
