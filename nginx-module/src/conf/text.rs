//! The text of the configuration, read again: what nginx has read, with the files that it includes.
//!
//! nginx shows a module neither the text nor what other modules have made of it. Two things need it: the digest that names
//! verdicts of locations that introspect (`introspection.rs`), because anything that is written may change whom such a
//! location asks; and the advice about what other modules' directives do beside ours (`advice.rs`).

use std::path::Path;
use std::rc::Rc;

use ngx::ffi::{
    NGX_OK, ngx_close_glob, ngx_conf_full_name, ngx_conf_t, ngx_cycle_t, ngx_glob_t, ngx_int_t,
    ngx_open_glob, ngx_read_glob, ngx_str_t,
};
use phantom_token::token::ContextBuilder;

use crate::nginx::strings;

/// How deep files may include each other, and blocks be in each other.
const DEPTH: usize = 100;

/// A directive as it is written.
pub struct Directive {
    /// Its name and its arguments, without quotes.
    pub words: Vec<String>,
    /// What is in its braces, of the blocks that matter here: those of `http`.
    pub block: Vec<Directive>,
    file: Rc<str>,
    line: usize,
}

impl Directive {
    /// Its name.
    pub fn name(&self) -> &str {
        self.words.first().map_or("", String::as_str)
    }

    /// Its first argument.
    pub fn value(&self) -> &str {
        self.words.get(1).map_or("", String::as_str)
    }

    /// Where it ends, as nginx says it: `FILE:LINE`.
    pub fn place(&self) -> String {
        format!("{}:{}", self.file, self.line)
    }
}

/// The whole text.
pub struct Text {
    /// The directives outside of all blocks.
    pub directives: Vec<Directive>,
    /// A digest of all files, to which more can be added.
    pub digest: ContextBuilder,
}

impl Text {
    /// Reads it. `None` when a file can't be read again, or can't be understood: then nothing is known of it.
    ///
    /// # Safety
    /// `cf` must be valid.
    pub unsafe fn read(cf: *mut ngx_conf_t) -> Option<Self> {
        // SAFETY: the caller's promise: its cycle has the name of the main file, and what the command line has.
        let (cycle, file, parameters) = unsafe {
            let cycle = (*cf).cycle;
            (
                cycle,
                strings::bytes(&(*cycle).conf_file),
                strings::bytes(&(*cycle).conf_param),
            )
        };
        let mut reader = Reader {
            cycle,
            digest: ContextBuilder::default(),
        };
        reader.digest.add(parameters);
        let mut directives = Vec::new();
        reader.file(str::from_utf8(file).ok()?, 0, Some(&mut directives))?;
        Some(Text {
            directives,
            digest: reader.digest,
        })
    }
}

struct Reader {
    cycle: *mut ngx_cycle_t,
    digest: ContextBuilder,
}

/// The blocks that hold what is of interest here.
fn is_of_interest(name: &str) -> bool {
    matches!(name, "http" | "server" | "location" | "if" | "limit_except")
}

impl Reader {
    /// Reads a file. Its directives are kept if there is a place for them.
    fn file(&mut self, path: &str, depth: usize, keep: Option<&mut Vec<Directive>>) -> Option<()> {
        // What is not a file could be read only once.
        if depth > DEPTH || !Path::new(path).is_file() {
            return None;
        }
        let text = std::fs::read(path).ok()?;
        self.digest.add(&text);
        let mut lexer = Lexer {
            text: &text,
            at: 0,
            line: 1,
        };
        self.block(&mut lexer, &Rc::from(path), depth, keep, false)
    }

    /// Reads what is in a block, up to its end or that of the file.
    fn block(
        &mut self,
        lexer: &mut Lexer<'_>,
        file: &Rc<str>,
        depth: usize,
        mut keep: Option<&mut Vec<Directive>>,
        braces: bool,
    ) -> Option<()> {
        if depth > DEPTH {
            return None;
        }
        loop {
            let (words, end) = match lexer.next()? {
                Token::Words(words, end) => (words, end),
                Token::Close => return braces.then_some(()),
                Token::End => return (!braces).then_some(()),
            };
            let name = words.first()?;
            if end == End::Semicolon && name == "include" && words.len() == 2 {
                for path in self.included(&words[1])? {
                    self.file(&path, depth + 1, keep.as_deref_mut())?;
                }
                continue;
            }
            let mut directive = Directive {
                words,
                block: Vec::new(),
                file: Rc::clone(file),
                line: lexer.line,
            };
            if end == End::Block {
                if directive.name().ends_with("_by_lua_block") {
                    lexer.skip_lua()?;
                } else {
                    let inside = (keep.is_some() && is_of_interest(directive.name()))
                        .then_some(&mut directive.block);
                    self.block(lexer, file, depth + 1, inside, true)?;
                }
            }
            if let Some(keep) = keep.as_deref_mut() {
                keep.push(directive);
            }
        }
    }

    /// The files that `include` names, as nginx finds them.
    fn included(&self, pattern: &str) -> Option<Vec<String>> {
        let mut name = pattern.as_bytes().to_vec();
        name.push(0);
        let mut full = ngx_str_t {
            len: pattern.len(),
            data: name.as_mut_ptr(),
        };
        // SAFETY: the cycle is valid, and the name is followed by a NUL. nginx puts another string, of the cycle's pool and
        // with a NUL behind it, into the place of one that is relative.
        unsafe {
            if ngx_conf_full_name(self.cycle, &raw mut full, 1) != NGX_OK as ngx_int_t {
                return None;
            }
            let path = str::from_utf8(strings::bytes(&full)).ok()?;
            if !path.contains(['*', '?', '[']) {
                return Some(vec![path.to_owned()]);
            }
            let mut glob: ngx_glob_t = std::mem::zeroed();
            glob.pattern = full.data;
            glob.log = (*self.cycle).log;
            glob.test = 1;
            let mut paths = Vec::new();
            if ngx_open_glob(&raw mut glob) != NGX_OK as ngx_int_t {
                // None is there, which is no mistake.
                return Some(paths);
            }
            let mut found = ngx_str_t {
                len: 0,
                data: std::ptr::null_mut(),
            };
            let mut readable = true;
            while ngx_read_glob(&raw mut glob, &raw mut found) == NGX_OK as ngx_int_t {
                match str::from_utf8(strings::bytes(&found)) {
                    Ok(path) => paths.push(path.to_owned()),
                    Err(_) => readable = false,
                }
            }
            ngx_close_glob(&raw mut glob);
            readable.then_some(paths)
        }
    }
}

#[derive(PartialEq, Eq)]
enum End {
    Semicolon,
    Block,
}

enum Token {
    /// A directive up to its end.
    Words(Vec<String>, End),
    /// The end of a block.
    Close,
    /// The end of the file.
    End,
}

/// Reads words as nginx does.
struct Lexer<'t> {
    text: &'t [u8],
    at: usize,
    line: usize,
}

impl Lexer<'_> {
    fn byte(&mut self) -> Option<u8> {
        let byte = *self.text.get(self.at)?;
        self.at += 1;
        if byte == b'\n' {
            self.line += 1;
        }
        Some(byte)
    }

    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    /// The next directive. `None` when the text is not what nginx would take.
    fn next(&mut self) -> Option<Token> {
        let mut words = Vec::new();
        loop {
            let Some(byte) = self.byte() else {
                return words.is_empty().then_some(Token::End);
            };
            match byte {
                b' ' | b'\t' | b'\r' | b'\n' => {}
                b'#' => while self.byte().is_some_and(|byte| byte != b'\n') {},
                b';' => return (!words.is_empty()).then_some(Token::Words(words, End::Semicolon)),
                b'{' => return (!words.is_empty()).then_some(Token::Words(words, End::Block)),
                b'}' => return words.is_empty().then_some(Token::Close),
                b'"' | b'\'' => words.push(self.quoted(byte)?),
                first => words.push(self.bare(first)?),
            }
        }
    }

    fn quoted(&mut self, quote: u8) -> Option<String> {
        let mut word = Vec::new();
        loop {
            match self.byte()? {
                b'\\' => self.escaped(&mut word)?,
                byte if byte == quote => return Some(lossy(&word)),
                byte => word.push(byte),
            }
        }
    }

    fn bare(&mut self, first: u8) -> Option<String> {
        let mut word = Vec::new();
        let mut byte = first;
        loop {
            match byte {
                b'\\' => self.escaped(&mut word)?,
                _ => word.push(byte),
            }
            let variable = byte == b'$';
            match self.peek() {
                None => return None,
                Some(b'{') if variable => {}
                Some(b' ' | b'\t' | b'\r' | b'\n' | b';' | b'{') => return Some(lossy(&word)),
                Some(_) => {}
            }
            byte = self.byte()?;
        }
    }

    fn escaped(&mut self, word: &mut Vec<u8>) -> Option<()> {
        match self.byte()? {
            quoted @ (b'"' | b'\'' | b'\\') => word.push(quoted),
            b't' => word.push(b'\t'),
            b'r' => word.push(b'\r'),
            b'n' => word.push(b'\n'),
            other => word.extend([b'\\', other]),
        }
        Some(())
    }

    /// Goes past a block of Lua, whose brace has been read: it has words of its own.
    fn skip_lua(&mut self) -> Option<()> {
        let mut open = 1_usize;
        while open > 0 {
            match self.byte()? {
                b'{' => open += 1,
                b'}' => open -= 1,
                quote @ (b'"' | b'\'') => loop {
                    match self.byte()? {
                        b'\\' => {
                            self.byte()?;
                        }
                        byte if byte == quote => break,
                        _ => {}
                    }
                },
                b'[' => self.skip_long_bracket()?,
                b'-' if self.peek() == Some(b'-') => {
                    self.byte()?;
                    let before = self.at;
                    if self.peek() == Some(b'[') {
                        self.byte()?;
                        self.skip_long_bracket()?;
                    }
                    // A comment of one line, unless a long bracket has been gone past.
                    if self.at <= before + 1 || self.text.get(self.at - 1) != Some(&b']') {
                        while self.byte()? != b'\n' {}
                    }
                }
                _ => {}
            }
        }
        Some(())
    }

    /// Goes past `[[…]]`, `[=[…]=]` and so on, whose first bracket has been read; nothing else is gone past.
    fn skip_long_bracket(&mut self) -> Option<()> {
        let rest = &self.text[self.at..];
        let level = rest.iter().take_while(|byte| **byte == b'=').count();
        if rest.get(level) != Some(&b'[') {
            return Some(());
        }
        let mut end = vec![b']'];
        end.resize(1 + level, b'=');
        end.push(b']');
        let length = memchr::memmem::find(&rest[level..], &end)? + level + end.len();
        for _ in 0..length {
            self.byte()?;
        }
        Some(())
    }
}

fn lossy(word: &[u8]) -> String {
    String::from_utf8_lossy(word).into_owned()
}
