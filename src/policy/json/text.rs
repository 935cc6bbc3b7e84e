//! String literals: out of their escapes and back into quotes.

use std::borrow::Cow;

/// The text of a literal's inside. `raw` must have passed the scan; what cannot be an escape is kept as it stands.
pub(super) fn unescape(raw: &str) -> Cow<'_, str> {
    let Some(first) = raw.find('\\') else { return Cow::Borrowed(raw) };
    let (plain, mut rest) = raw.split_at(first);
    let mut text = String::with_capacity(raw.len());
    text.push_str(plain);
    while let Some(at) = rest.find('\\') {
        let (plain, escape) = rest.split_at(at);
        text.push_str(plain);
        let (char, length) = escaped(escape.as_bytes());
        text.push(char);
        rest = escape.get(length..).unwrap_or_default();
    }
    text.push_str(rest);
    Cow::Owned(text)
}

/// The character that an escape at the start of `bytes` stands for, and the escape's length.
fn escaped(bytes: &[u8]) -> (char, usize) {
    match bytes.get(1) {
        Some(b'b') => ('\u{8}', 2),
        Some(b'f') => ('\u{c}', 2),
        Some(b'n') => ('\n', 2),
        Some(b'r') => ('\r', 2),
        Some(b't') => ('\t', 2),
        Some(b'u') => {
            let unit = hex4(bytes.get(2..6).unwrap_or_default()).unwrap_or_default();
            match char::from_u32(unit) {
                Some(char) => (char, 6),
                None => {
                    let low = hex4(bytes.get(8..12).unwrap_or_default()).unwrap_or_default();
                    let code = 0x1_0000 + ((unit & 0x3ff) << 10) + (low & 0x3ff);
                    (char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER), 12)
                }
            }
        }
        Some(other) => (char::from(*other), 2),
        None => ('\\', 1),
    }
}

/// The value of exactly four hexadecimal digits.
pub(super) fn hex4(digits: &[u8]) -> Option<u32> {
    let digits: &[u8; 4] = digits.try_into().ok()?;
    digits.iter().try_fold(0, |value, digit| Some(value << 4 | char::from(*digit).to_digit(16)?))
}

/// Writes `text` as a JSON string literal, quotes included: escapes where RFC 8259 section 7 demands them, else as is.
pub fn quote(text: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    for byte in text.bytes() {
        match byte {
            b'"' | b'\\' => out.extend([b'\\', byte]),
            b'\n' => out.extend(b"\\n"),
            b'\r' => out.extend(b"\\r"),
            b'\t' => out.extend(b"\\t"),
            0..=0x1f => {
                out.extend(b"\\u00");
                out.push(if byte < 0x10 { b'0' } else { b'1' });
                let low = byte & 0xf;
                out.push(if low < 10 { b'0' + low } else { b'a' + low - 10 });
            }
            _ => out.push(byte),
        }
    }
    out.push(b'"');
}
