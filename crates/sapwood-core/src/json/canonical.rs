//! The comparison of recorded JSON: canonical, with numbers as they were written (SEMANTICS R8, P5).
//!
//! It works on the text and not on [`serde_json::Value`], which turns integers beyond 64 bits into floats, so that two
//! different ones would be the same. (Its feature `arbitrary_precision` would not, but it also changes how the untagged
//! and flattened types of every program that links it are read.)

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde_json::value::RawValue;
use sha2::{Digest, Sha256};

use super::strict::RESERVED_KEY;

/// How deep a text may be nested to be compared by its structure. It is what `serde_json` reads into a value.
const MAX_DEPTH: usize = 127;

/// A digest of a text's canonical JSON: keys sorted, no white space, strings in their shortest form, numbers as
/// written. Equal digests are equal values; unequal ones are decided by [`covers`]. A text that is not JSON has the
/// digest of its bytes.
#[must_use]
pub fn digest(json: &[u8]) -> [u8; 32] {
    match canonical(json) {
        Some(canonical) => Sha256::digest(canonical.as_bytes()).into(),
        None => Sha256::digest(json).into(),
    }
}

/// The canonical JSON of a text: keys sorted, no white space, strings in their shortest form, numbers as written. Of a key
/// that stands in an object twice, the last one counts. `None` if the text is not JSON, or is too deep to be read.
#[must_use]
pub fn canonical(json: &[u8]) -> Option<String> {
    let mut canonical = String::with_capacity(json.len());
    Json::read(json)?.write(&mut canonical);
    Some(canonical)
}

/// Whether `now` says the same as `recorded` in every field that was recorded.
///
/// A field that only `now` has is compatible: it was added since, with a default. Anything else that differs is not. A
/// text that is not JSON, or too deep to compare, equals only itself.
#[must_use]
pub fn covers(recorded: &[u8], now: &[u8]) -> bool {
    recorded == now
        || matches!((Json::read(recorded), Json::read(now)), (Some(recorded), Some(now)) if recorded.is_covered_by(&now))
}

/// Whether two texts are the same JSON, in every field.
#[must_use]
pub fn equals(one: &[u8], other: &[u8]) -> bool {
    one == other || matches!((Json::read(one), Json::read(other)), (Some(one), Some(other)) if one == other)
}

/// The key of an object in this text that its reader takes for something else, if there is one. The syntax of the text is
/// left to its reader.
#[must_use]
pub fn reserved_key(json: &[u8]) -> Option<&'static str> {
    // Nearly all texts have nothing that looks like it, neither plain nor escaped.
    let looks_like_it = [&b"::"[..], b"\\u"].iter().any(|part| json.windows(part.len()).any(|here| here == *part));
    let found = looks_like_it && Json::read(json).is_some_and(|value| value.has_key(RESERVED_KEY));
    found.then_some(RESERVED_KEY)
}

/// A JSON value whose numbers are as they were written.
#[derive(Debug, PartialEq)]
enum Json<'a> {
    /// `null`, `true`, `false` or a number.
    Token(&'a str),
    Text(Cow<'a, str>),
    List(Vec<Json<'a>>),
    Object(BTreeMap<Cow<'a, str>, Json<'a>>),
}

impl<'a> Json<'a> {
    fn read(text: &'a [u8]) -> Option<Self> {
        // The syntax is checked here, at any depth and without recursion, so that the walk below has valid text.
        let valid: &RawValue = serde_json::from_slice(text).ok()?;
        Walk { rest: valid.get() }.value(MAX_DEPTH)
    }

    fn has_key(&self, key: &str) -> bool {
        match self {
            Self::Object(fields) => fields.contains_key(key) || fields.values().any(|value| value.has_key(key)),
            Self::List(values) => values.iter().any(|value| value.has_key(key)),
            Self::Token(_) | Self::Text(_) => false,
        }
    }

    fn is_covered_by(&self, now: &Self) -> bool {
        match (self, now) {
            (Self::Object(recorded), Self::Object(now)) => {
                recorded.iter().all(|(key, value)| now.get(key).is_some_and(|other| value.is_covered_by(other)))
            }
            (Self::List(recorded), Self::List(now)) => {
                recorded.len() == now.len() && recorded.iter().zip(now).all(|(a, b)| a.is_covered_by(b))
            }
            (recorded, now) => recorded == now,
        }
    }

    fn write(&self, out: &mut String) {
        match self {
            Self::Token(token) => out.push_str(token),
            Self::Text(text) => write_text(text, out),
            Self::List(values) => {
                out.push('[');
                for (n, value) in values.iter().enumerate() {
                    out.push_str(if n == 0 { "" } else { "," });
                    value.write(out);
                }
                out.push(']');
            }
            Self::Object(fields) => {
                out.push('{');
                for (n, (key, value)) in fields.iter().enumerate() {
                    out.push_str(if n == 0 { "" } else { "," });
                    write_text(key, out);
                    out.push(':');
                    value.write(out);
                }
                out.push('}');
            }
        }
    }
}

fn write_text(text: &str, out: &mut String) {
    match serde_json::to_string(text) {
        Ok(quoted) => out.push_str(&quoted),
        Err(_) => unreachable!("text is always JSON"),
    }
}

/// A walk over a text that is known to be JSON.
struct Walk<'a> {
    rest: &'a str,
}

impl<'a> Walk<'a> {
    /// The next value. `None` if it is deeper than `levels`, or has an escape that stands for no character.
    fn value(&mut self, levels: usize) -> Option<Json<'a>> {
        self.skip_space();
        match self.rest.as_bytes().first()? {
            b'"' => self.text().map(Json::Text),
            b'[' => {
                let inside = levels.checked_sub(1)?;
                let mut values = Vec::new();
                while self.next_part(b']') {
                    values.push(self.value(inside)?);
                }
                Some(Json::List(values))
            }
            b'{' => {
                let inside = levels.checked_sub(1)?;
                let mut fields = BTreeMap::new();
                while self.next_part(b'}') {
                    self.skip_space();
                    let key = self.text()?;
                    self.next_part(b'}');
                    fields.insert(key, self.value(inside)?);
                }
                Some(Json::Object(fields))
            }
            _ => {
                let ends = |c: char| matches!(c, ',' | ']' | '}' | ':') || c.is_ascii_whitespace();
                Some(Json::Token(self.take(self.rest.find(ends).unwrap_or(self.rest.len()))))
            }
        }
    }

    /// A string, its quotes included.
    fn text(&mut self) -> Option<Cow<'a, str>> {
        let mut bytes = self.rest.bytes().enumerate().skip(1);
        let mut is_plain = true;
        let end = loop {
            match bytes.next()? {
                (at, b'"') => break at,
                (_, b'\\') => {
                    is_plain = false;
                    bytes.next();
                }
                _ => {}
            }
        };
        let quoted = self.take(end + 1);
        if is_plain { Some(Cow::Borrowed(&quoted[1..end])) } else { serde_json::from_str(quoted).ok().map(Cow::Owned) }
    }

    /// Steps over what stands before the next part of a compound: its bracket, a comma, or the colon after a key.
    /// `false` if the compound ends instead.
    fn next_part(&mut self, end: u8) -> bool {
        self.skip_space();
        let separator = self.take(1).as_bytes().first().copied();
        if separator == Some(end) {
            return false;
        }
        self.skip_space();
        // Right after the opening bracket the compound may be empty.
        if matches!(separator, Some(b'[' | b'{')) && self.rest.as_bytes().first() == Some(&end) {
            self.take(1);
            return false;
        }
        true
    }

    fn skip_space(&mut self) {
        self.rest = self.rest.trim_start_matches([' ', '\t', '\n', '\r']);
    }

    fn take(&mut self, bytes: usize) -> &'a str {
        let (taken, rest) = self.rest.split_at(bytes.min(self.rest.len()));
        self.rest = rest;
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// R8: fields with defaults may be added, everything else that was recorded has to be the same.
    #[test]
    fn an_added_field_is_compatible_and_a_changed_or_missing_one_is_not() {
        let covers = |recorded: &str, now: &str| covers(recorded.as_bytes(), now.as_bytes());
        let recorded = r#"{"card": "a", "lines": [{"sku": 1}]}"#;
        assert!(covers(recorded, r#"{"lines":[{"sku":1,"gift":false}],"card":"a","note":null}"#));
        assert!(!covers(recorded, r#"{"card":"b","lines":[{"sku":1}]}"#));
        assert!(!covers(recorded, r#"{"card":"a"}"#));
        assert!(!covers(recorded, r#"{"card":"a","lines":[]}"#));
        assert!(!covers(recorded, r#"{"card":"a","lines":[{"sku":1},{}]}"#));
    }

    /// P5: what is written otherwise and says the same is the same; two numbers are the same only as written.
    #[test]
    fn texts_are_the_same_exactly_if_they_say_the_same() {
        let cases: [(&str, &str, bool); 16] = [
            (r#"{"x":1,"y":{"b":2,"a":3}}"#, "{ \"y\" : {\"a\":3,\n\"b\":2} ,\t\"x\":1 }", true),
            ("[]", " [ ] ", true),
            ("{}", "[]", false),
            (r#"{"a":{}}"#, r#"{"a":{ }}"#, true),
            (r#"[[],{},"",null]"#, r#"[ [ ] , { } , "" , null ]"#, true),
            (r#"{"k":1,"k":2}"#, r#"{"k":2}"#, true),
            (r#""\u0041\/""#, r#""A/""#, true),
            (r#""\ud83d\ude00""#, "\"\u{1f600}\"", true),
            (r#"{"\u0061":1}"#, r#"{"a":1}"#, true),
            (r#""a\"]}""#, r#""a\"]} ""#, false),
            ("18446744073709551616", "18446744073709551617", false),
            ("340282366920938463463374607431768211455", "340282366920938463463374607431768211455 ", true),
            ("0.1", "0.10000000000000001", false),
            ("-0", "0", false),
            ("null", "\"null\"", false),
            ("[1,2]", "[2,1]", false),
        ];
        for (one, other, same) in cases {
            let (one, other) = (one.as_bytes(), other.as_bytes());
            let found = (digest(one) == digest(other), equals(one, other), covers(one, other));
            assert_eq!(found, (same, same, same), "{} {}", one.escape_ascii(), other.escape_ascii());
        }
    }

    /// P5: what cannot be read as a value is the same only as itself; two different ones never count as equal.
    #[test]
    fn what_cannot_be_compared_equals_only_itself() {
        let deep = |depth: usize, leaf: &str| format!("{}{leaf}{}", "[".repeat(depth), "]".repeat(depth));
        let odd =
            [deep(20_000, "1"), deep(20_000, "2"), "not json".into(), "{".into(), String::new(), r#""\ud800""#.into()];
        for (n, one) in odd.iter().enumerate() {
            for (m, other) in odd.iter().enumerate() {
                let (one, other) = (one.as_bytes(), other.as_bytes());
                assert_eq!((covers(one, other), digest(one) == digest(other)), (n == m, n == m), "{n} {m}");
            }
        }
        assert!(equals(deep(MAX_DEPTH, "1").as_bytes(), deep(MAX_DEPTH, " 1 ").as_bytes()));
    }

    /// The canonical form is `serde_json`'s own for everything that fits into its value.
    #[test]
    fn the_canonical_form_of_a_small_value_is_the_one_of_serde_json() {
        let text = r#" {"z":[1,-2.5,true,false,null,"é\n\"\\"],"a":{"c":"\u0001","b":[{},[]]}} "#;
        let mut canonical = String::new();
        Json::read(text.as_bytes()).expect("JSON").write(&mut canonical);
        let value: serde_json::Value = serde_json::from_str(text).expect("JSON");
        assert_eq!(canonical, value.to_string());
    }

    #[test]
    fn a_reserved_key_is_found_however_it_is_written_and_only_as_a_key() {
        let has = |json: &str| reserved_key(json.as_bytes()).is_some();
        assert!(has(r#"{"$serde_json::private::RawValue":"1"}"#));
        assert!(has(r#"[0,{"a":{"b":[{ "$serde_json::private::RawValue" : 1}]}}]"#));
        assert!(has(r#"{"\u0024serde_json\u003a\u003aprivate::Raw\u0056alue":"1"}"#));
        assert!(!has(r#"{"a":"$serde_json::private::RawValue"}"#));
        assert!(!has(r#"{"$serde_json::private::Number":"1","\u0061":"::"}"#));
        assert!(!has("{"), "the syntax is left to its reader");
    }
}
