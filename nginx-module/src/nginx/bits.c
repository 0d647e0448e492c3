/*
 * nginx's bit fields and the macros that use them, as functions.
 *
 * Where a bit field lies is the C compiler's choice, which a generator of bindings can only imitate. This file is compiled
 * against the headers that the module is built for, so that each access is the one that nginx itself makes. bits.rs declares
 * what is here.
 */

#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_event.h>
#include <ngx_http.h>

#if defined(__GNUC__) || defined(__clang__)
#define OURS __attribute__((visibility("hidden")))
#else
#define OURS
#endif

#define GET(object, type, field)                                                                                        \
    OURS ngx_uint_t phantom_token_##object##_##field(const type *of);                                                   \
    OURS ngx_uint_t phantom_token_##object##_##field(const type *of) { return of->field; }

#define SET(object, type, field)                                                                                        \
    OURS void phantom_token_##object##_set_##field(type *of, ngx_uint_t value);                                         \
    OURS void phantom_token_##object##_set_##field(type *of, ngx_uint_t value) { of->field = value; }

GET(request, ngx_http_request_t, buffered)
GET(request, ngx_http_request_t, error_page)
GET(request, ngx_http_request_t, filter_finalize)
GET(request, ngx_http_request_t, header_only)
GET(request, ngx_http_request_t, header_sent)
GET(request, ngx_http_request_t, internal)
GET(request, ngx_http_request_t, uri_changes)
SET(request, ngx_http_request_t, expect_tested)
SET(request, ngx_http_request_t, filter_need_in_memory)
SET(request, ngx_http_request_t, header_only)
SET(request, ngx_http_request_t, header_sent)
SET(request, ngx_http_request_t, keepalive)

SET(headers_in, ngx_http_headers_in_t, chunked)

GET(upstream, ngx_http_upstream_t, cacheable)
GET(upstream, ngx_http_upstream_t, store)
SET(upstream, ngx_http_upstream_t, buffering)
#if (NGX_HTTP_CACHE)
GET(upstream, ngx_http_upstream_t, cache_status)
#endif

GET(core_location, ngx_http_core_loc_conf_t, noname)

OURS ngx_uint_t phantom_token_core_location_is_prefix(const ngx_http_core_loc_conf_t *of);
OURS ngx_uint_t phantom_token_core_location_is_prefix(const ngx_http_core_loc_conf_t *of)
{
#if (NGX_PCRE)
    if (of->regex != NULL) {
        return 0;
    }
#endif
    return !of->named && !of->noname;
}

OURS const ngx_str_t *phantom_token_request_tls_name(const ngx_http_request_t *of);
OURS const ngx_str_t *phantom_token_request_tls_name(const ngx_http_request_t *of)
{
#if (NGX_HTTP_SSL)
    return of->http_connection != NULL ? of->http_connection->ssl_servername : NULL;
#else
    (void) of;
    return NULL;
#endif
}

GET(variable, ngx_http_variable_value_t, len)
GET(variable, ngx_http_variable_value_t, not_found)
GET(variable, ngx_http_variable_value_t, valid)
SET(variable, ngx_http_variable_value_t, len)
SET(variable, ngx_http_variable_value_t, no_cacheable)
SET(variable, ngx_http_variable_value_t, not_found)
SET(variable, ngx_http_variable_value_t, valid)

GET(connection, ngx_connection_t, error)

GET(event, ngx_event_t, ready)
GET(event, ngx_event_t, timer_set)
SET(event, ngx_event_t, cancelable)
SET(event, ngx_event_t, channel)

GET(buffer, ngx_buf_t, in_file)
GET(buffer, ngx_buf_t, last_buf)
GET(buffer, ngx_buf_t, last_in_chain)
GET(buffer, ngx_buf_t, memory)
GET(buffer, ngx_buf_t, mmap)
GET(buffer, ngx_buf_t, temporary)
SET(buffer, ngx_buf_t, last_buf)
SET(buffer, ngx_buf_t, last_in_chain)
SET(buffer, ngx_buf_t, memory)
SET(buffer, ngx_buf_t, temporary)

OURS void phantom_token_event_add_timer(ngx_event_t *of, ngx_msec_t after);
OURS void phantom_token_event_add_timer(ngx_event_t *of, ngx_msec_t after) { ngx_add_timer(of, after); }

OURS void phantom_token_event_del_timer(ngx_event_t *of);
OURS void phantom_token_event_del_timer(ngx_event_t *of) { ngx_del_timer(of); }

OURS void phantom_token_event_post(ngx_event_t *of, ngx_queue_t *queue);
OURS void phantom_token_event_post(ngx_event_t *of, ngx_queue_t *queue) { ngx_post_event(of, queue); }

/* Forgets the values of variables, so that they are evaluated again. */
OURS void phantom_token_variables_forget(ngx_http_variable_value_t *values, const ngx_uint_t *indices, ngx_uint_t count);
OURS void phantom_token_variables_forget(ngx_http_variable_value_t *values, const ngx_uint_t *indices, ngx_uint_t count)
{
    ngx_uint_t  i;

    for (i = 0; i < count; i++) {
        values[indices[i]].valid = 0;
        values[indices[i]].not_found = 0;
    }
}
