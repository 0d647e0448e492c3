//! Words, as nginx reads them.

/// The end of a directive: a semicolon or an opening brace.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum End {
    Semicolon,
    Block,
}

/// A piece of a file.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Token {
    /// A directive up to its end.
    Words(Vec<String>, End),
    /// The end of a block.
    Close,
    /// The end of the file.
    End,
}

/// A lexer that reads words as nginx does.
pub(crate) struct Lexer<'t> {
    text: &'t [u8],
    at: usize,
    pub line: usize,
}

impl<'t> Lexer<'t> {
    pub fn new(text: &'t [u8]) -> Self {
        Lexer {
            text,
            at: 0,
            line: 1,
        }
    }

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

    /// The next directive. `None` when the text has syntax that nginx does not accept.
    pub fn next(&mut self) -> Option<Token> {
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

    /// Skips a block of Lua whose opening brace has been read: Lua has a syntax of its own.
    pub fn skip_lua(&mut self) -> Option<()> {
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
                    // A comment of one line, unless a long bracket was skipped.
                    if self.at <= before + 1 || self.text.get(self.at - 1) != Some(&b']') {
                        while self.byte()? != b'\n' {}
                    }
                }
                _ => {}
            }
        }
        Some(())
    }

    /// Skips `[[…]]`, `[=[…]=]` and so on, whose first bracket has been read. Skips nothing else.
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

#[cfg(test)]
mod tests;
