//! The syntax of nginx's configuration, and advice about directives beside those of Phantom Token.
//!
//! The nginx module reads the text of the configuration again, because nginx gives no module the settings of another one.
//! Everything here is text in, text out: it needs no nginx, and is tested without one.
//!
//! | file | what it has |
//! | --- | --- |
//! | `lexer.rs` | words, as nginx reads them |
//! | `directives.rs` | directives, their blocks, and the files that they include |
//! | `advice.rs` | what `nginx -t` should say about them |

mod advice;
mod directives;
mod lexer;

pub use advice::{Advice, Level, advise};
pub use directives::{Directive, Files, read};
