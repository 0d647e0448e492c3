use super::*;

/// The words of each directive with the mark of its end; `None` where nginx does not accept the text.
fn words(text: &str) -> Option<Vec<String>> {
    let mut lexer = Lexer::new(text.as_bytes());
    let mut found = Vec::new();
    loop {
        match lexer.next()? {
            Token::Words(words, End::Semicolon) => found.push(words.join("|") + ";"),
            Token::Words(words, End::Block) => found.push(words.join("|") + "{"),
            Token::Close => found.push("}".to_owned()),
            Token::End => return Some(found),
        }
    }
}

#[test]
fn words_are_read_as_nginx_reads_them() {
    let cases: &[(&str, &[&str])] = &[
        ("", &[]),
        ("  # a comment", &[]),
        ("listen 80;", &["listen|80;"]),
        ("a b; # c;\nd;", &["a|b;", "d;"]),
        ("a x#y;", &["a|x#y;"]),
        ("http { server {} }", &["http{", "server{", "}", "}"]),
        (r#"return 200 "a; b # {c}";"#, &["return|200|a; b # {c};"]),
        (r"a 'it' 's';", &["a|it|s;"]),
        (r#"a "x\"y\\z\w";"#, &[r#"a|x"y\z\w;"#]),
        (r"a b\tc\nd\re;", &["a|b\tc\nd\re;"]),
        // `${` begins a variable, and no block.
        ("a ${host}x;", &["a|${host}x;"]),
        ("if ($a = b) {", &["if|($a|=|b){"]),
    ];
    for (text, expected) in cases {
        let found = words(text);
        let found: Option<Vec<_>> = found
            .as_ref()
            .map(|words| words.iter().map(String::as_str).collect());
        assert_eq!(found.as_deref(), Some(*expected), "{text}");
    }
}

#[test]
fn text_that_nginx_refuses_is_not_read() {
    for text in ["a", "a b", "\"a", "'a;", ";", "{", "a }", "a \\", "a \"b\\"] {
        assert_eq!(words(text), None, "{text}");
    }
}

#[test]
fn a_directive_is_on_the_line_where_it_ends() {
    let mut lexer = Lexer::new(b"a\n  b\n  c;\nd;");
    lexer.next().unwrap();
    assert_eq!(lexer.line, 3);
    lexer.next().unwrap();
    assert_eq!(lexer.line, 4);
}

/// Braces in strings, comments and long brackets of Lua end no block.
#[test]
fn a_block_of_lua_ends_at_its_own_brace() {
    for lua in [
        "",
        "local t = {1, {2}}",
        r#"say("}")"#,
        r"say('\'}')",
        "-- }\n",
        "--[[ } ]] x()",
        "--[==[ } ]] ]==] x()",
        "s = [[ } ]]",
        "s = [=[ ]] } ]=]",
        "a[b[1]] = {}",
    ] {
        let text = format!("{{{lua}}} after;");
        let mut lexer = Lexer::new(text.as_bytes());
        lexer.byte().unwrap();
        assert_eq!(lexer.skip_lua(), Some(()), "{lua}");
        let after = lexer.next();
        let expected = Token::Words(vec!["after".to_owned()], End::Semicolon);
        assert_eq!(after, Some(expected), "{lua}");
    }
    assert_eq!(Lexer::new(b" { }").skip_lua(), None);
}
