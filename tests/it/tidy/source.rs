//! Rust source as far as the house rules need it: what of a file is code, its tokens, and how long its functions are.
//!
//! It does not parse: it knows comments, strings, characters and brackets, and nothing of the grammar above them.

/// A word (an identifier, a keyword or a number) or one sign of code; `::` is one sign.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Token<'a> {
    pub(super) text: &'a str,
    /// Its beginning, in bytes.
    pub(super) at: usize,
}

impl Token<'_> {
    /// Whether it can be a name.
    pub(super) fn is_word(self) -> bool {
        self.text.starts_with(begins_word)
    }
}

/// A function that has a body.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Function {
    pub(super) name: String,
    /// From the line with `fn` to the line that closes the body.
    pub(super) lines: usize,
}

/// The text with a space for each byte that is in a comment, a string or a character; the lines stay where they are.
pub(super) fn code(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut code = bytes.to_vec();
    let mut at = 0;
    while at < bytes.len() {
        let end = end_of_no_code(text, at);
        for byte in &mut code[at..end.unwrap_or(at)] {
            if *byte != b'\n' {
                *byte = b' ';
            }
        }
        at = end.unwrap_or_else(|| end_of_word(text, at));
    }
    String::from_utf8(code).expect("whole characters are replaced")
}

/// The tokens of [`code`].
pub(super) fn tokens(code: &str) -> Vec<Token<'_>> {
    let mut tokens = Vec::new();
    let mut at = 0;
    while at < code.len() {
        let end = if code[at..].starts_with("::") { at + 2 } else { end_of_word(code, at) };
        if !code[at..end].trim().is_empty() {
            tokens.push(Token { text: &code[at..end], at });
        }
        at = end;
    }
    tokens
}

/// The tokens without the items that are compiled for tests only.
pub(super) fn without_tests<'a>(tokens: &[Token<'a>]) -> Vec<Token<'a>> {
    const CFG_TEST: [&str; 4] = ["#", "[", "cfg", "("];
    let mut kept = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        let attribute = starts_with(&tokens[at..], &CFG_TEST).then(|| closing(tokens, at + 1));
        match attribute {
            Some(end) if is_for_tests(&tokens[at..end]) => at = end_of_item(tokens, end + 1),
            _ => {
                kept.push(tokens[at]);
                at += 1;
            }
        }
    }
    kept
}

/// Whether a `cfg` holds in tests only.
fn is_for_tests(attribute: &[Token<'_>]) -> bool {
    let names = |text| attribute.iter().any(|token| token.text == text);
    names("test") && !names("not") && !names("any")
}

/// The functions that have a body, those within others included.
pub(super) fn functions(code: &str) -> Vec<Function> {
    let tokens = tokens(code);
    let mut functions = Vec::new();
    for (at, pair) in tokens.windows(2).enumerate() {
        // A type such as `fn(u32)` has no name.
        if pair[0].text != "fn" || !pair[1].is_word() {
            continue;
        }
        let end = end_of_item(&tokens, at);
        let Some(last) = tokens.get(end - 1).filter(|last| last.text == "}") else { continue };
        let lines = 1 + code[pair[0].at..last.at].matches('\n').count();
        functions.push(Function { name: pair[1].text.to_owned(), lines });
    }
    functions
}

/// Whether these texts stand one after the other at the front.
pub(super) fn starts_with(tokens: &[Token<'_>], texts: &[&str]) -> bool {
    tokens.len() >= texts.len() && tokens.iter().zip(texts).all(|(token, text)| token.text == *text)
}

/// Whether these words and signs stand in the code, one after the other.
pub(super) fn contains(code: &[Token<'_>], words: &str) -> bool {
    count(code, words) > 0
}

/// How often they do.
pub(super) fn count(code: &[Token<'_>], words: &str) -> usize {
    let words: Vec<&str> = tokens(words).iter().map(|token| token.text).collect();
    (0..code.len()).filter(|at| starts_with(&code[*at..], &words)).count()
}

/// Behind the item that begins here: behind its body, or behind the `;` of one that has none.
fn end_of_item(tokens: &[Token<'_>], from: usize) -> usize {
    let mut at = from;
    while let Some(token) = tokens.get(at) {
        match token.text {
            ";" => return at + 1,
            "{" => return closing(tokens, at) + 1,
            "(" | "[" => at = closing(tokens, at) + 1,
            _ => at += 1,
        }
    }
    tokens.len()
}

/// The bracket that closes the one here; the last token if none does.
pub(super) fn closing(tokens: &[Token<'_>], open: usize) -> usize {
    let mut depth = 0_usize;
    for (at, token) in tokens.iter().enumerate().skip(open) {
        match token.text {
            "(" | "[" | "{" => depth += 1,
            ")" | "]" | "}" => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth == 0 {
            return at;
        }
    }
    tokens.len().saturating_sub(1)
}

fn begins_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// The end of the word here, or of the one character that is none.
fn end_of_word(text: &str, at: usize) -> usize {
    let rest = &text[at..];
    match rest.find(|c| !begins_word(c)) {
        Some(0) => at + rest.chars().next().map_or(0, char::len_utf8),
        Some(length) => at + length,
        None => text.len(),
    }
}

/// The end of the comment, the string or the character that begins here.
fn end_of_no_code(text: &str, at: usize) -> Option<usize> {
    let rest = &text[at..];
    if rest.starts_with("//") {
        return Some(at + rest.find('\n').unwrap_or(rest.len()));
    }
    if rest.starts_with("/*") {
        return Some(end_of_block_comment(text, at));
    }
    let word = &text[at..end_of_word(text, at)];
    let prefix = if matches!(word, "r" | "b" | "br" | "c" | "cr") { word } else { "" };
    let quoted = &rest[prefix.len()..];
    let hashes = quoted.bytes().take_while(|byte| *byte == b'#').count();
    let open = at + prefix.len();
    if prefix.contains('r') && quoted[hashes..].starts_with('"') {
        let close = format!("\"{}", "#".repeat(hashes));
        let body = open + hashes + 1;
        return Some(text[body..].find(&close).map_or(text.len(), |end| body + end + close.len()));
    }
    if quoted.starts_with('"') {
        return Some(end_of_quoted(text, open, '"'));
    }
    let is_character = quoted.starts_with('\'') && matches!(prefix, "" | "b") && is_character(quoted);
    is_character.then(|| end_of_quoted(text, open, '\''))
}

/// Whether a quotation mark begins a character; else it begins a lifetime or a label.
fn is_character(quoted: &str) -> bool {
    let mut inside = quoted.chars().skip(1);
    inside.next() == Some('\\') || inside.next() == Some('\'')
}

/// Behind the closing mark of what opens here; a backslash takes the meaning from what follows it.
fn end_of_quoted(text: &str, open: usize, mark: char) -> usize {
    let mut escaped = false;
    for (at, c) in text[open..].char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            c if c == mark => return open + at + c.len_utf8(),
            _ => {}
        }
    }
    text.len()
}

/// Block comments nest.
fn end_of_block_comment(text: &str, open: usize) -> usize {
    let mut depth = 0_usize;
    let mut at = open;
    while at < text.len() {
        let rest = &text[at..];
        if rest.starts_with("/*") {
            depth += 1;
            at += 2;
        } else if rest.starts_with("*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += rest.chars().next().map_or(1, char::len_utf8);
        }
    }
    text.len()
}

mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        tokens(&code(text)).iter().map(|token| token.text.to_owned()).collect()
    }

    #[test]
    fn comments_are_no_code() {
        assert_eq!(words("a // b \" {\nc /* d /* { */ e */ f"), ["a", "c", "f"]);
        assert_eq!(words("/// doc { \"\n//! more '\na"), ["a"]);
        assert_eq!(words("a /* never closed {"), ["a"]);
        assert_eq!(words("a / b"), ["a", "/", "b"]);
    }

    #[test]
    fn strings_are_no_code_whatever_they_hold() {
        assert_eq!(words(r#"a "b { \" // c" d"#), ["a", "d"]);
        assert_eq!(words(r#"a "ends in a backslash \\" d"#), ["a", "d"]);
        assert_eq!(words("a r\"b \\\" c"), ["a", "c"]);
        assert_eq!(words("a r#\"b \" } \"# c r##\"d \"# e\"## f"), ["a", "c", "f"]);
        assert_eq!(words("b\"a\" c\"b\" br\"c\" br#\"d\"# cr#\"e\"# z"), ["z"]);
        assert_eq!(words("concat!(\"ä{\", \"ö\")"), ["concat", "!", "(", ",", ")"]);
    }

    #[test]
    fn names_that_look_like_prefixes_of_strings_are_code() {
        assert_eq!(words("r#type bar\"s\" r b br c"), ["r", "#", "type", "bar", "r", "b", "br", "c"]);
    }

    #[test]
    fn characters_are_no_code_and_lifetimes_are() {
        assert_eq!(words(r"a '{' '\'' '\\' '\u{1f600}' 'ß' b'}' b'\x7d' z"), ["a", "z"]);
        assert_eq!(words("&'a str, 'b: {"), ["&", "'", "a", "str", ",", "'", "b", ":", "{"]);
        assert_eq!(words("f::<'a>('b')"), ["f", "::", "<", "'", "a", ">", "(", ")"]);
    }

    #[test]
    fn words_are_found_as_wholes_and_in_code_only() {
        let text = "Instantly(); x. await; // tokio\nf(\"dyn Store\", Timestamp :: now())";
        let code = code(text);
        let found = |words| contains(&tokens(&code), words);
        assert!(found(".await") && found("Timestamp::now"));
        assert!(!found("Instant") && !found("tokio") && !found("dyn Store"));
    }

    #[test]
    fn lines_and_bytes_stay_where_they_are() {
        let text = "a \"ä\n\" /* ü\n */ b";
        let code = code(text);
        assert_eq!((code.len(), code.matches('\n').count()), (text.len(), 2));
        assert_eq!(tokens(&code)[1], Token { text: "b", at: text.len() - 1 });
    }

    #[test]
    fn a_function_ends_with_the_bracket_that_closes_its_body() {
        let text = "pub async fn long<const N: usize>(a: [u8; { 1 + 1 }])\nwhere\n    (): Sized,\n{\n    \
                    if '}' == c { g(\"}\") }\n    fn inner() {}\n}\ntrait T { fn none(&self); fn some(&self) { } }\ntype F = fn(u32) -> u32;";
        let found = functions(&code(text));
        let found: Vec<_> = found.iter().map(|function| (function.name.as_str(), function.lines)).collect();
        assert_eq!(found, [("long", 7), ("inner", 1), ("some", 1)]);
    }

    #[test]
    fn a_function_that_is_never_closed_ends_with_the_file() {
        assert_eq!(functions("fn open() {\n f(\n"), []);
    }

    #[test]
    fn what_is_compiled_for_tests_only_is_left_out() {
        let text = "a #[cfg(test)] mod tests { b } c #[cfg(test)] mod more; d \
                    #[cfg(all(test, unix))] #[allow(x)] fn e() {} #[cfg(unix)] fn f() {} #[test] fn g() {}";
        let code = code(text);
        let kept: Vec<_> = without_tests(&tokens(&code)).iter().map(|token| token.text).collect();
        let kept = kept.join(" ");
        assert_eq!(kept, "a c d # [ cfg ( unix ) ] fn f ( ) { } # [ test ] fn g ( ) { }");
    }
}
