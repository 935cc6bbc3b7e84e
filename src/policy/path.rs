//! A request path, read once so that nobody behind us can read it differently.
//!
//! Routing and scopes are decided on decoded segments, while the client's own encoding is what gets forwarded. That is
//! safe only if one spelling cannot mean two things, so everything that servers are known to disagree about is
//! refused here instead of being normalised: dot segments, empty segments, backslashes, control characters, invalid
//! UTF-8, broken percent-encoding. Encoded slashes and `;` parameters depend on where they stand: a storage key
//! may hold them, an operation's name may not (protocol section 1, "Precedence"); `route` decides that.

use std::borrow::Cow;
use std::ops::Range;

use smallvec::SmallVec;

use crate::error::{Code, Refusal};

/// One segment of a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment<'a> {
    /// Where it stands in the raw path, without the slash before it.
    pub range: Range<usize>,
    /// Percent-decoded once.
    pub text: Cow<'a, str>,
    /// Whether it holds a character that only a free-text segment may hold: an encoded slash or backslash, or `;`.
    pub ambiguous: bool,
}

/// A path that has one reading.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathView<'a> {
    /// As the client wrote it.
    pub raw: &'a str,
    /// Its segments; the last one is empty when the path ends with a slash.
    pub segments: SmallVec<[Segment<'a>; 8]>,
}

impl<'a> PathView<'a> {
    /// Reads a path. Refuses with 400 whatever could be read in two ways.
    pub fn parse(raw: &'a str) -> Result<Self, Refusal> {
        let inner = raw.strip_prefix('/').ok_or_else(|| refuse("has to start with `/`"))?;
        let mut segments = SmallVec::new();
        let mut start = 1;
        let mut pieces = inner.split('/').peekable();
        while let Some(piece) = pieces.next() {
            if piece.is_empty() && pieces.peek().is_some() {
                return Err(refuse("has an empty segment (`//`)"));
            }
            segments.push(segment(piece, start)?);
            start += piece.len() + 1;
        }
        Ok(PathView { raw, segments })
    }
}

fn segment(piece: &str, start: usize) -> Result<Segment<'_>, Refusal> {
    let (mut encoded, mut ambiguous) = (false, false);
    for byte in piece.bytes() {
        match byte {
            b'%' => encoded = true,
            b';' => ambiguous = true,
            b'\\' => return Err(refuse("holds a backslash")),
            0x21..=0x7e => {}
            _ => return Err(refuse("holds a character that has to be percent-encoded")),
        }
    }
    let text = if encoded { Cow::Owned(decode(piece, &mut ambiguous)?) } else { Cow::Borrowed(piece) };
    // Some servers cut `;parameters` off before they resolve dots, so `..;x` climbs there.
    let name = text.split(';').next().unwrap_or_default();
    if matches!(name, "." | "..") {
        return Err(refuse("holds a dot segment"));
    }
    // A free-text segment may hold encoded slashes, but dots between them would climb behind a server that decodes.
    if ambiguous && text.split(['/', '\\']).any(|part| matches!(part.split(';').next(), Some("." | ".."))) {
        return Err(refuse("holds a dot segment"));
    }
    Ok(Segment { range: start..start + piece.len(), text, ambiguous })
}

fn decode(piece: &str, ambiguous: &mut bool) -> Result<String, Refusal> {
    let mut bytes = piece.bytes();
    let mut decoded = Vec::with_capacity(piece.len());
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            decoded.push(byte);
            continue;
        }
        let digits = bytes.next().and_then(hex).zip(bytes.next().and_then(hex));
        let (high, low) = digits.ok_or_else(|| refuse("has a `%` without two hexadecimal digits"))?;
        match high << 4 | low {
            b @ (b'/' | b'\\' | b';') => {
                *ambiguous = true;
                decoded.push(b);
            }
            0x00..=0x1f | 0x7f => return Err(refuse("holds an encoded control character")),
            b => decoded.push(b),
        }
    }
    String::from_utf8(decoded).map_err(|_| refuse("is not UTF-8 when decoded"))
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

fn refuse(what: &'static str) -> Refusal {
    Refusal::new(Code::ValidationFailed, format!("The request path {what}."))
        .details(serde_json::json!({"errors": [{"in": "path", "rule": what}]}))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn texts(raw: &str) -> Vec<String> {
        PathView::parse(raw).unwrap().segments.iter().map(|s| s.text.to_string()).collect()
    }

    #[test]
    fn decodes_once() {
        assert_eq!(texts("/a/b%20c"), ["a", "b c"]);
        assert_eq!(texts("/a/%2525"), ["a", "%25"]);
        assert_eq!(texts("/"), [""]);
        assert_eq!(texts("/a/"), ["a", ""]);
        assert_eq!(texts("/%40alice%3Atween.example"), ["@alice:tween.example"]);
    }

    #[test]
    fn marks_what_only_free_text_may_hold() {
        for (raw, ambiguous) in
            [("/a%2Fb", true), ("/a%5cb", true), ("/a;b", true), ("/a%3bb", true), ("/a%20b", false)]
        {
            assert_eq!(PathView::parse(raw).unwrap().segments[0].ambiguous, ambiguous, "{raw}");
        }
    }

    #[test]
    fn refuses_what_has_two_readings() {
        for raw in [
            "",
            "a",
            "*",
            "//",
            "//a",
            "/a//b",
            "/.",
            "/..",
            "/a/../b",
            "/%2e%2e/b",
            "/.%2E",
            "/%2e",
            "/a/..;x/b",
            "/..%3bx",
            "/a/..%2fb",
            "/x%2f..%2fy",
            "/x%5c..%5cy",
            "/a\\b",
            "/%00",
            "/a%0a",
            "/%7f",
            "/a%",
            "/a%2",
            "/a%zz",
            "/a%+1",
            "/%ff",
            "/%c0%ae",
            "/é",
            "/a b",
            "/a\u{1}",
        ] {
            assert!(PathView::parse(raw).is_err(), "{raw:?} was taken");
        }
    }

    proptest! {
        #[test]
        fn ranges_point_at_the_raw_text(raw in "(/[a-z%0-9.;]{0,6}){1,6}") {
            if let Ok(view) = PathView::parse(&raw) {
                let joined: String = view.segments.iter().flat_map(|s| ["/", &raw[s.range.clone()]]).collect();
                prop_assert_eq!(&joined, &raw);
            }
        }

        #[test]
        fn never_panics(raw in ".{0,40}") {
            let _ = PathView::parse(&raw);
        }

        #[test]
        fn what_is_taken_has_no_dot_segment_even_decoded_again(raw in "(/[a.%2eEfF;]{0,8}){1,4}") {
            if let Ok(view) = PathView::parse(&raw) {
                for segment in &view.segments {
                    prop_assert!(segment.text.split(['/', '\\']).all(|p| p != "." && p != ".."));
                }
            }
        }
    }
}
