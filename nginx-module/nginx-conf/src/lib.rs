//! The syntax of nginx's configuration, and advice about directives of other modules.
//!
//! The nginx module reads the text of the configuration again, because nginx gives no module access to the settings of
//! another module. This crate processes text only: it needs no nginx, and is tested without nginx.
//!
//! | file | contents |
//! | --- | --- |
//! | `lexer.rs` | words, as nginx reads them |
//! | `directives.rs` | directives, their blocks, and the files that they include |
//! | `advice.rs` | the messages of `nginx -t` about other directives |

mod advice;
mod directives;
mod lexer;

pub use advice::{Advice, Level, advise};
pub use directives::{Directive, Files, read};
