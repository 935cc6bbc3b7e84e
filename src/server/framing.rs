//! Where request headers begin and end in the bytes of a connection. Nothing is parsed that the real parser behind
//! would have to agree with: these only tell whether a header is still incomplete.

/// Follows one HTTP/1 header section to its blank line.
#[derive(Debug, Default)]
pub(super) struct H1Header {
    /// Blank lines before the request line are skipped by the parser, so they end nothing.
    begun: bool,
    /// Only a carriage return, if anything, has come since the last line feed.
    at_line_start: bool,
}

impl H1Header {
    pub(super) fn new() -> Self {
        Self::default()
    }

    /// The usual case at the price of one search: these first bytes of a request hold its whole header, for they begin
    /// with its request line and a blank line is among them.
    pub(super) fn is_whole_in_one(&self, first: &[u8]) -> bool {
        first.first().is_some_and(|byte| !matches!(byte, b'\r' | b'\n'))
            && memchr::memmem::find(first, b"\r\n\r\n").is_some()
    }

    /// Takes the next bytes; true once the header has ended.
    pub(super) fn ends_in(&mut self, bytes: &[u8]) -> bool {
        for byte in bytes {
            match byte {
                b'\n' if self.begun && self.at_line_start => return true,
                b'\n' => self.at_line_start = true,
                b'\r' => {}
                _ => {
                    self.begun = true;
                    self.at_line_start = false;
                }
            }
        }
        false
    }
}

const PREFACE: usize = 24;
const FRAME_HEADER: usize = 9;
const HEADERS: u8 = 1;
const CONTINUATION: u8 = 9;
const END_HEADERS: u8 = 4;

/// Follows the frames of an HTTP/2 connection (RFC 9113 section 4) from the client's preface on.
#[derive(Debug)]
pub(super) struct H2Headers {
    preface_left: usize,
    frame_header: [u8; FRAME_HEADER],
    frame_header_len: usize,
    payload_left: usize,
    /// Header block to which the frame being read belongs, or which waits for its next frame.
    in_block: bool,
    /// The frame being read is the last of its block.
    ends_block: bool,
}

/// What a run of bytes did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Progress {
    /// Something that was open came to its end.
    pub(super) finished: bool,
    /// Something has begun and is not whole: the preface, a frame's header, a header block.
    pub(super) open: bool,
}

impl H2Headers {
    pub(super) fn new() -> Self {
        H2Headers {
            preface_left: PREFACE,
            frame_header: [0; FRAME_HEADER],
            frame_header_len: 0,
            payload_left: 0,
            in_block: false,
            ends_block: false,
        }
    }

    /// Takes the next bytes.
    pub(super) fn saw(&mut self, mut bytes: &[u8]) -> Progress {
        let mut finished = false;
        let skipped = self.preface_left.min(bytes.len());
        if skipped > 0 {
            self.preface_left -= skipped;
            bytes = bytes.get(skipped..).unwrap_or_default();
            finished |= self.preface_left == 0;
        }
        while !bytes.is_empty() {
            if self.payload_left > 0 {
                let taken = self.payload_left.min(bytes.len());
                self.payload_left -= taken;
                bytes = bytes.get(taken..).unwrap_or_default();
                if self.payload_left == 0 {
                    finished |= self.frame_ended();
                }
                continue;
            }
            let (byte, rest) = match bytes.split_first() {
                Some(split) => split,
                None => break,
            };
            bytes = rest;
            if let Some(place) = self.frame_header.get_mut(self.frame_header_len) {
                *place = *byte;
            }
            self.frame_header_len += 1;
            if self.frame_header_len == FRAME_HEADER {
                finished |= self.frame_began();
            }
        }
        Progress { finished, open: self.preface_left > 0 || self.frame_header_len > 0 || self.in_block }
    }

    /// A frame's header is whole. True when that ends all that was open.
    fn frame_began(&mut self) -> bool {
        let [high, mid, low, kind, flags, ..] = self.frame_header;
        self.frame_header_len = 0;
        self.payload_left = usize::from(high) << 16 | usize::from(mid) << 8 | usize::from(low);
        let was_in_block = self.in_block;
        if matches!(kind, HEADERS | CONTINUATION) {
            self.in_block = true;
            self.ends_block = flags & END_HEADERS != 0;
        }
        let ended = self.payload_left == 0 && self.frame_ended();
        ended || (!was_in_block && !self.in_block)
    }

    /// A frame's payload is whole. True when it was the last of a header block.
    fn frame_ended(&mut self) -> bool {
        let finished = self.in_block && self.ends_block;
        if finished {
            self.in_block = false;
            self.ends_block = false;
        }
        finished
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
        let len = u32::try_from(payload.len()).unwrap().to_be_bytes();
        let mut out = vec![len[1], len[2], len[3], kind, flags, 0, 0, 0, 1];
        out.extend_from_slice(payload);
        out
    }

    #[test]
    fn http1_headers_end_at_their_blank_line() {
        for (text, ends) in [
            ("GET / HTTP/1.1\r\nHost: a\r\n\r\n", true),
            ("GET / HTTP/1.1\nHost: a\n\n", true),
            ("\r\n\r\nGET / HTTP/1.1\r\n\r\n", true),
            ("\r\n\r\n", false),
            ("\n\n\n", false),
            ("GET / HTTP/1.1\r\nHost: a\r\n", false),
            ("GET / HTTP/1.1\r\nHost: a\r\n\r", false),
        ] {
            assert_eq!(H1Header::new().ends_in(text.as_bytes()), ends, "{text:?}");
        }
        assert!(H1Header::new().is_whole_in_one(b"GET / HTTP/1.1\r\n\r\n"));
        assert!(!H1Header::new().is_whole_in_one(b"\r\n\r\n"));
        assert!(!H1Header::new().is_whole_in_one(b""));
    }

    #[test]
    fn http2_is_open_from_connecting_to_the_preface_and_in_header_blocks() {
        let mut headers = H2Headers::new();
        assert_eq!(headers.saw(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r"), Progress { finished: false, open: true });
        assert_eq!(headers.saw(b"\n"), Progress { finished: true, open: false });
        assert_eq!(headers.saw(&frame(4, 0, &[])), Progress { finished: true, open: false });
        // A block in three frames; what ends it is END_HEADERS of the last.
        assert!(headers.saw(&frame(HEADERS, 0, b"abc")).open);
        let first = headers.saw(&frame(CONTINUATION, 0, b"abc"));
        assert_eq!(first, Progress { finished: false, open: true });
        assert_eq!(headers.saw(&frame(CONTINUATION, END_HEADERS, b"")), Progress { finished: true, open: false });
        // A body may take its time inside a frame, a frame's header may not.
        let data = frame(0, 0, &[7; 100]);
        assert!(!headers.saw(&data[..50]).open);
        assert!(!headers.saw(&data[50..]).open);
        assert!(headers.saw(&data[..8]).open);
    }

    proptest! {
        #[test]
        fn cutting_into_pieces_changes_nothing(bytes in proptest::collection::vec(any::<u8>(), 0..600), cuts in proptest::collection::vec(1usize..50, 1..100)) {
            let mut whole = H2Headers::new();
            let at_once = whole.saw(&bytes).open;
            let mut pieces = H2Headers::new();
            let mut rest = bytes.as_slice();
            for cut in cuts {
                let (piece, left) = rest.split_at(cut.min(rest.len()));
                pieces.saw(piece);
                rest = left;
            }
            let open = pieces.saw(rest).open;
            prop_assert_eq!(open, at_once);

            let whole = H1Header::new().ends_in(&bytes);
            let mut pieces = H1Header::new();
            let ended = bytes.chunks(7).any(|piece| pieces.ends_in(piece));
            prop_assert_eq!(ended, whole);
        }

        #[test]
        fn what_comes_whole_in_one_has_ended(line in "[A-Za-z /.:\r\n]{1,80}") {
            let text = format!("G{line}\r\n\r\n");
            prop_assert!(H1Header::new().is_whole_in_one(text.as_bytes()));
            prop_assert!(H1Header::new().ends_in(text.as_bytes()));
        }
    }
}
