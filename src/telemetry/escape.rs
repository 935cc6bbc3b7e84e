//! JSON strings, written by hand: a run of ordinary bytes is one copy.

/// Appends `text` as a JSON string (RFC 8259 section 7) with its quotes.
pub(super) fn string(to: &mut Vec<u8>, text: &str) {
    to.push(b'"');
    escaped(to, text.as_bytes());
    to.push(b'"');
}

/// As [`string`], cut after `most` bytes (at a character's border) with `…` in place of the rest.
pub(super) fn string_cut(to: &mut Vec<u8>, text: &str, most: usize) {
    if text.len() <= most {
        return string(to, text);
    }
    let kept = text.floor_char_boundary(most);
    to.push(b'"');
    escaped(to, text.get(..kept).unwrap_or_default().as_bytes());
    to.extend_from_slice("…\"".as_bytes());
}

fn escaped(to: &mut Vec<u8>, bytes: &[u8]) {
    let mut rest = bytes;
    while let Some(at) = rest.iter().position(|byte| *byte < 0x20 || *byte == b'"' || *byte == b'\\') {
        let (plain, special) = rest.split_at(at);
        to.extend_from_slice(plain);
        let Some((byte, after)) = special.split_first() else { return };
        match byte {
            b'"' => to.extend_from_slice(b"\\\""),
            b'\\' => to.extend_from_slice(b"\\\\"),
            b'\n' => to.extend_from_slice(b"\\n"),
            b'\r' => to.extend_from_slice(b"\\r"),
            b'\t' => to.extend_from_slice(b"\\t"),
            control => {
                let mut hex = [b'0'; 6];
                super::random::write_hex(&[*control], &mut hex);
                let [high, low, ..] = hex;
                to.extend_from_slice(&[b'\\', b'u', b'0', b'0', high, low]);
            }
        }
        rest = after;
    }
    to.extend_from_slice(rest);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn serde_json_reads_back_what_was_written(text in any::<String>()) {
            let mut line = Vec::new();
            string(&mut line, &text);
            prop_assert_eq!(serde_json::from_slice::<String>(&line).unwrap(), text);
            prop_assert!(!line.contains(&b'\n'));
        }

        #[test]
        fn control_characters_too(text in "[\\x00-\\x1f\"\\\\\\x7fé😀]{0,40}", most in 0usize..60) {
            let mut line = Vec::new();
            string_cut(&mut line, &text, most);
            let read = serde_json::from_slice::<String>(&line).unwrap();
            match read.strip_suffix('…') {
                Some(kept) => prop_assert!(text.starts_with(kept) && kept.len() <= most && text.len() > most),
                None => prop_assert_eq!(read, text),
            }
        }
    }
}
