//! Takes markup out of a text.
//!
//! What counts as markup is what an HTML parser would take for it (WHATWG HTML 13.2.5): `<` before a letter, `</`
//! before a letter, `<!--`, `<!` before a letter or `[`, `<?` before a letter. `I <3 you`, `a < b` and `</3` are text.
//! Tags, comments, declarations and processing instructions go, and `script` and `style` go with what is in them.
//!
//! What is begun in the text and not ended, such as `x <y` or `<img src=x onerror=…`, is not markup yet, but it would
//! swallow what a page puts behind it. It keeps its words and loses its force: a space is put behind the `<`. The same
//! happens where taking something out would join what is left into markup: `<<b>script>` becomes `< script>`. In the
//! result, then, no `<` opens anything. That makes one pass enough: there is nothing for a second one to find.
//!
//! A rewriting HTML parser is not what is needed here: it passes an unclosed tag on as text, and needs as many passes
//! as an attacker nests tags into each other. It stands in the tests, as the judge of what this leaves.

/// How many starts without an end are followed up before the others are disarmed unseen. Following one up costs a look
/// to the end of the text; the bound keeps the whole linear.
const FRUITLESS: usize = 4;

/// What could still become markup, depending on what comes to stand behind it.
const PARTIAL: [&str; 5] = ["<", "</", "<!", "<!-", "<?"];

/// The text without markup, or `None` when there is none in it.
pub fn strip(text: &str) -> Option<String> {
    let mut clean: Option<String> = None;
    let mut fruitless = 0;
    // Everything before `copied` is in `clean`, everything before `at` has been looked at.
    let (mut copied, mut at) = (0, 0);
    while let Some(found) = rest(text, at).find('<') {
        at += found;
        let tail = rest(text, at);
        let Some(markup) = Markup::opening(tail.as_bytes()) else {
            at += 1;
            continue;
        };
        let out = clean.get_or_insert_with(|| String::with_capacity(text.len()));
        out.push_str(text.get(copied..at).unwrap_or_default());
        match if fruitless < FRUITLESS { markup.end(tail) } else { None } {
            Some(length) => {
                at += length;
                if PARTIAL.iter().any(|partial| out.ends_with(partial)) {
                    out.push(' ');
                }
            }
            None => {
                fruitless += 1;
                at += 1;
                out.push_str("< ");
            }
        }
        copied = at;
    }
    let mut out = clean?;
    out.push_str(rest(text, copied));
    Some(out)
}

fn rest(text: &str, at: usize) -> &str {
    text.get(at..).unwrap_or_default()
}

#[derive(Clone, Copy)]
enum Markup {
    Comment,
    /// A declaration or a processing instruction.
    Declaration,
    Tag,
}

impl Markup {
    /// What `tail`, which starts at a `<`, opens.
    fn opening(tail: &[u8]) -> Option<Markup> {
        match tail {
            [b'<', b'!', b'-', b'-', ..] => Some(Markup::Comment),
            [b'<', b'!', next, ..] if next.is_ascii_alphabetic() || *next == b'[' => Some(Markup::Declaration),
            [b'<', b'?', next, ..] if next.is_ascii_alphabetic() => Some(Markup::Declaration),
            [b'<', b'/', next, ..] | [b'<', next, ..] if next.is_ascii_alphabetic() => Some(Markup::Tag),
            _ => None,
        }
    }

    /// Length of the whole of it, with its content where that goes too; `None` when it has no end.
    fn end(self, tail: &str) -> Option<usize> {
        match self {
            Markup::Comment => comment_end(tail),
            Markup::Declaration => tail.find('>').map(|at| at + 1),
            Markup::Tag => {
                let end = tag_end(tail.as_bytes())?;
                let hidden = ["script", "style"].into_iter().find(|name| is_named(rest(tail, 1), name));
                Some(end + hidden.map_or(0, |name| content_end(rest(tail, end), name)))
            }
        }
    }
}

/// Length of a comment: to `-->` or `--!>`, or the abrupt `<!-->` and `<!--->` (HTML 13.2.5.43 to 13.2.5.51).
fn comment_end(tail: &str) -> Option<usize> {
    if tail.starts_with("<!-->") {
        return Some(5);
    }
    if tail.starts_with("<!--->") {
        return Some(6);
    }
    let mut from = 4;
    while let Some(found) = rest(tail, from).find("--") {
        let behind = from + found + 2;
        if rest(tail, behind).starts_with('>') {
            return Some(behind + 1);
        }
        if rest(tail, behind).starts_with("!>") {
            return Some(behind + 2);
        }
        from += found + 1;
    }
    None
}

/// Where the reading of a tag stands (HTML 13.2.5.8 and 13.2.5.32 to 13.2.5.40).
#[derive(Clone, Copy)]
enum Tag {
    Name,
    Between,
    Attribute,
    AfterAttribute,
    BeforeValue,
    Value,
    Quoted(u8),
}

/// Length of a tag: to its `>`, which does not count inside a quoted attribute value.
fn tag_end(tail: &[u8]) -> Option<usize> {
    let mut state = Tag::Name;
    let start = if tail.get(1) == Some(&b'/') { 2 } else { 1 };
    for (at, byte) in tail.iter().enumerate().skip(start) {
        let space = matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | 0xc);
        state = match (state, byte) {
            (Tag::Quoted(quote), _) => {
                if *byte == quote {
                    Tag::Between
                } else {
                    Tag::Quoted(quote)
                }
            }
            (_, b'>') => return Some(at + 1),
            (Tag::BeforeValue, b'"' | b'\'') => Tag::Quoted(*byte),
            (Tag::BeforeValue, _) if space => Tag::BeforeValue,
            (Tag::Value | Tag::BeforeValue, _) => {
                if space {
                    Tag::Between
                } else {
                    Tag::Value
                }
            }
            (_, b'/') => Tag::Between,
            (Tag::Attribute | Tag::AfterAttribute, b'=') => Tag::BeforeValue,
            (Tag::Attribute | Tag::AfterAttribute, _) if space => Tag::AfterAttribute,
            (Tag::Name | Tag::Between, _) if space => Tag::Between,
            (Tag::Name, _) => Tag::Name,
            _ => Tag::Attribute,
        };
    }
    None
}

/// Whether the tag that begins with its name is called `name`.
fn is_named(tag: &str, name: &str) -> bool {
    let same = tag.get(..name.len()).is_some_and(|start| start.eq_ignore_ascii_case(name));
    same && matches!(tag.as_bytes().get(name.len()), None | Some(b' ' | b'\t' | b'\n' | b'\r' | 0xc | b'/' | b'>'))
}

/// Length of what stands in a raw text element, up to its end tag; all of it when there is none.
fn content_end(content: &str, name: &str) -> usize {
    let closes = |at: &usize| is_named(rest(content, at + 2), name);
    content.match_indices("</").map(|(at, _)| at).find(closes).unwrap_or(content.len())
}
