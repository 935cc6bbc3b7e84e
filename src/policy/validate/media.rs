//! The `Content-Type` header (RFC 9110 section 8.3.1).

/// A media type, parsed.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct MediaType {
    /// `type/subtype`, in lower case.
    pub(super) essence: String,
    /// Names in lower case, values out of their quotes. No name stands twice.
    parameters: Vec<(String, String)>,
}

impl MediaType {
    /// Parses it; `None` when it is malformed or names a parameter twice, which readers would resolve differently.
    pub(super) fn parse(text: &str) -> Option<MediaType> {
        let (essence, mut rest) = text.split_at(text.find(';').unwrap_or(text.len()));
        let essence = essence.trim_matches(is_blank).to_ascii_lowercase();
        let (main, sub) = essence.split_once('/')?;
        if !is_token(main) || !is_token(sub) {
            return None;
        }
        let mut parameters: Vec<(String, String)> = Vec::new();
        while let Some(parameter) = rest.strip_prefix(';') {
            let parameter = parameter.trim_start_matches(is_blank);
            // The grammar allows nothing between two semicolons and behind the last.
            if parameter.is_empty() || parameter.starts_with(';') {
                rest = parameter;
                continue;
            }
            let (name, value) = parameter.split_once('=')?;
            let (value, behind) = read_value(value)?;
            let name = name.to_ascii_lowercase();
            if !is_token(&name) || parameters.iter().any(|(known, _)| *known == name) {
                return None;
            }
            parameters.push((name, value));
            rest = behind.trim_start_matches(is_blank);
        }
        rest.is_empty().then_some(MediaType { essence, parameters })
    }

    /// Whether it is UTF-8 by default or by name, and says nothing else.
    pub(super) fn is_utf8(&self) -> bool {
        self.parameters.iter().all(|(name, value)| name == "charset" && value.eq_ignore_ascii_case("utf-8"))
    }

    /// Whether it names a boundary as RFC 2046 section 5.1.1 allows it.
    pub(super) fn has_boundary(&self) -> bool {
        let boundary = self.parameters.iter().find(|(name, _)| name == "boundary").map(|(_, value)| value.as_str());
        boundary.is_some_and(|boundary| {
            (1..=70).contains(&boundary.len())
                && !boundary.ends_with(' ')
                && boundary.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"'()+_,-./:=? ".contains(&byte))
        })
    }
}

/// A parameter's value at the start, and what stands behind it.
fn read_value(text: &str) -> Option<(String, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        let (value, behind) = text.split_at(text.find([';', ' ', '\t']).unwrap_or(text.len()));
        return is_token(value).then(|| (value.to_owned(), behind));
    };
    let mut value = String::new();
    let mut chars = quoted.chars();
    loop {
        match chars.next()? {
            '"' => return Some((value, chars.as_str())),
            '\\' => value.push(chars.next()?),
            char => value.push(char),
        }
    }
}

fn is_blank(char: char) -> bool {
    matches!(char, ' ' | '\t')
}

fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
}
