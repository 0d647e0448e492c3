//! Directives, their blocks, and their included files.

use std::rc::Rc;

use crate::lexer::{End, Lexer, Token};

/// The most levels of nested includes, and of nested blocks.
const DEPTH: usize = 100;

/// A directive as it is written in the configuration.
#[derive(Debug)]
pub struct Directive {
    /// Its name and its arguments, without quotes.
    pub words: Vec<String>,
    /// The directives in its block, for the relevant blocks: those of `http`.
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

    /// The position of its end, as nginx writes it: `FILE:LINE`.
    pub fn place(&self) -> String {
        format!("{}:{}", self.file, self.line)
    }
}

/// The files of a configuration.
pub trait Files {
    /// The content of a file; `None` if it can't be read again.
    fn read(&mut self, path: &str) -> Option<Vec<u8>>;

    /// The paths of the files that an `include` with this pattern reads; `None` if they can't be determined.
    fn included(&mut self, pattern: &str) -> Option<Vec<String>>;
}

/// Reads the directives of a file, and of the files that it includes. `None` when a file can't be read again, or has
/// syntax that nginx does not accept: then nothing is known about the configuration.
pub fn read(files: &mut dyn Files, path: &str) -> Option<Vec<Directive>> {
    let mut directives = Vec::new();
    Reader { files }.file(path, 0, Some(&mut directives))?;
    Some(directives)
}

struct Reader<'f> {
    files: &'f mut dyn Files,
}

/// Whether a block of this name contains relevant directives.
fn is_of_interest(name: &str) -> bool {
    matches!(name, "http" | "server" | "location" | "if" | "limit_except")
}

impl Reader<'_> {
    /// Reads a file. Its directives are stored in `keep`, if that is given.
    fn file(&mut self, path: &str, depth: usize, keep: Option<&mut Vec<Directive>>) -> Option<()> {
        if depth > DEPTH {
            return None;
        }
        let text = self.files.read(path)?;
        self.block(&mut Lexer::new(&text), &Rc::from(path), depth, keep, false)
    }

    /// Reads the content of a block, up to the end of the block or of the file.
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
                for path in self.files.included(&words[1])? {
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
}

#[cfg(test)]
mod tests;
