//! Proof that Rust and C agree about nginx's structures.
//!
//! bindgen computes where the fields of a structure are; the C compiler decides it. `build.rs` asks the C compiler about
//! every field whose name occurs in this module's source, and writes a call of [`field`] or [`size`] for each. They run
//! while the module is compiled: a difference ends the build. Bit fields are not compared, because no Rust code accesses
//! one: see `bits.rs`.

use std::mem::MaybeUninit;

/// The size of a structure in bytes, as each compiler sees it.
const fn size(structure: &str, c: usize, rust: usize) {
    if c != rust {
        let mut text = Text::new();
        text.begin(structure, "");
        text.push(" has ")
            .push_number(c)
            .push(" bytes for the C compiler and ");
        text.push_number(rust).push(" in the Rust bindings");
        text.fail();
    }
}

/// The offset and the size of a field in bytes, as each compiler sees them.
const fn field(structure: &str, name: &str, c: (usize, usize), rust: (usize, usize)) {
    if c.0 != rust.0 || c.1 != rust.1 {
        let mut text = Text::new();
        text.begin(structure, name);
        text.push(" is at byte ")
            .push_number(c.0)
            .push(" with ")
            .push_number(c.1);
        text.push(" bytes for the C compiler, and at byte ")
            .push_number(rust.0)
            .push(" with ");
        text.push_number(rust.1).push(" bytes in the Rust bindings");
        text.fail();
    }
}

/// The size of what a pointer points to.
const fn pointee<T>(_: *const T) -> usize {
    size_of::<T>()
}

/// A message that is built at compile time.
struct Text {
    bytes: [u8; 512],
    length: usize,
}

impl Text {
    const fn new() -> Self {
        Text {
            bytes: [0; 512],
            length: 0,
        }
    }

    const fn begin(&mut self, structure: &str, field: &str) {
        self.push("nginx ").push(NGINX).push(": ").push(structure);
        if !field.is_empty() {
            self.push(".").push(field);
        }
    }

    const fn push(&mut self, text: &str) -> &mut Self {
        let text = text.as_bytes();
        let mut at = 0;
        while at < text.len() {
            self.push_byte(text[at]);
            at += 1;
        }
        self
    }

    const fn push_byte(&mut self, byte: u8) -> &mut Self {
        if self.length < self.bytes.len() {
            self.bytes[self.length] = byte;
            self.length += 1;
        }
        self
    }

    const fn push_number(&mut self, number: usize) -> &mut Self {
        if number >= 10 {
            self.push_number(number / 10);
        }
        self.push_byte(b'0' + (number % 10) as u8)
    }

    const fn fail(&mut self) {
        self.push(". A module built from these headers would corrupt nginx's memory: see docs/install.md, \"Layout\".");
        match str::from_utf8(self.bytes.split_at(self.length).0) {
            Ok(text) => panic!("{}", text),
            Err(_) => panic!("Rust and C differ about a structure of nginx's"),
        }
    }
}

include!(concat!(env!("OUT_DIR"), "/layout.rs"));
