//! Path patterns of rows: literals, `{name}` for one segment, and at the end `*` or `{name...}` for the rest.

/// One segment of a pattern.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Segment {
    /// This very text, percent-decoded.
    Literal(String),
    /// Any one segment; the name matters to templates only.
    Parameter(String),
    /// Whatever follows.
    Rest(String),
}

/// A path pattern that compiles.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern(Vec<Segment>);

impl Pattern {
    /// Compiles a pattern.
    ///
    /// # Errors
    /// What is wrong with it, in words that go behind "the pattern …".
    pub fn parse(text: &str) -> Result<Pattern, String> {
        let Some(path) = text.strip_prefix('/') else { return Err("does not begin with `/`".into()) };
        if let Some(bad) =
            text.chars().find(|c| matches!(c, '?' | '#' | '%' | '\\' | ';') || c.is_control() || *c == ' ')
        {
            return Err(format!("holds {bad:?}, which no literal segment may"));
        }
        let pieces: Vec<&str> = path.split('/').collect();
        let mut segments = Vec::with_capacity(pieces.len());
        for (at, piece) in pieces.iter().enumerate() {
            let segment = segment(piece)?;
            let last = at + 1 == pieces.len();
            if matches!(segment, Segment::Rest(_)) && !last {
                return Err(format!("has {piece} before its end"));
            }
            if piece.is_empty() && !(last && at == 0) {
                return Err(if last { "ends with `/`".into() } else { "has an empty segment".into() });
            }
            if let Segment::Parameter(name) | Segment::Rest(name) = &segment
                && segments.iter().any(|before| matches!(before, Segment::Parameter(other) if other == name))
            {
                return Err(format!("names {{{name}}} twice"));
            }
            segments.push(segment);
        }
        Ok(Pattern(segments))
    }

    /// The segments in order.
    pub fn segments(&self) -> &[Segment] {
        &self.0
    }

    /// The pattern without the names that people gave its parameters: two patterns with the same normal form match
    /// the same paths.
    pub fn normal(&self) -> String {
        let mut text = String::new();
        for segment in &self.0 {
            text.push('/');
            text.push_str(match segment {
                Segment::Literal(literal) => literal,
                Segment::Parameter(_) => "{}",
                Segment::Rest(_) => "*",
            });
        }
        text
    }

    /// Whether every path that `other` matches is matched by this pattern too. A `*` stands for one segment or more.
    pub fn covers(&self, other: &Pattern) -> bool {
        let (mut own, mut others) = (self.0.iter(), other.0.iter());
        loop {
            match (own.next(), others.next()) {
                (Some(Segment::Rest(_)), Some(_)) | (None, None) => return true,
                (Some(Segment::Parameter(_)), Some(Segment::Literal(_) | Segment::Parameter(_))) => {}
                (Some(Segment::Literal(a)), Some(Segment::Literal(b))) if a == b => {}
                _ => return false,
            }
        }
    }

    /// The names of its parameters.
    pub fn parameters(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter_map(|segment| match segment {
            Segment::Parameter(name) | Segment::Rest(name) => Some(name.as_str()),
            Segment::Literal(_) => None,
        })
    }
}

fn segment(piece: &str) -> Result<Segment, String> {
    if piece == "*" {
        return Ok(Segment::Rest("rest".into()));
    }
    if let Some(name) = piece.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) {
        let (name, rest) = name.strip_suffix("...").map_or((name, false), |name| (name, true));
        let is_name = name.starts_with(|c: char| c.is_ascii_lowercase())
            && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
        return match (is_name, rest) {
            (false, _) => {
                Err(format!("has the parameter {piece}, whose name is not of lower-case letters, digits and `_`"))
            }
            (true, true) => Ok(Segment::Rest(name.into())),
            (true, false) => Ok(Segment::Parameter(name.into())),
        };
    }
    if piece.contains(['{', '}', '*']) {
        return Err(format!("has {piece}: `{{name}}` and `*` have to be whole segments"));
    }
    if matches!(piece, "." | "..") {
        return Err("has a dot segment, which no request may".into());
    }
    Ok(Segment::Literal(piece.into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::rows::ROWS;
    use proptest::prelude::*;

    fn pattern(text: &str) -> Pattern {
        Pattern::parse(text).unwrap()
    }

    #[test]
    fn every_built_in_path_compiles() {
        for path in ROWS.iter().flat_map(|row| row.paths) {
            assert!(Pattern::parse(path).is_ok(), "{path}");
        }
    }

    #[test]
    fn names_of_parameters_make_no_difference() {
        assert_eq!(pattern("/a/{x}/*").normal(), pattern("/a/{other}/{tail...}").normal());
        assert_ne!(pattern("/a/{x}").normal(), pattern("/a/x").normal());
        assert_eq!(pattern("/").normal(), "/");
    }

    #[test]
    fn what_covers_what() {
        assert!(pattern("/oauth2/*").covers(&pattern("/oauth2/token")));
        assert!(pattern("/oauth2/*").covers(&pattern("/oauth2/device/authorization")));
        assert!(pattern("/a/{x}").covers(&pattern("/a/b")) && !pattern("/a/b").covers(&pattern("/a/{x}")));
        assert!(!pattern("/api/v1/storage/*").covers(&pattern("/api/v1/storage")));
        assert!(!pattern("/a/{x}").covers(&pattern("/a/*")) && pattern("/*").covers(&pattern("/a/*")));
    }

    #[test]
    fn patterns_that_do_not_compile() {
        for (bad, why) in [
            ("a", "does not begin with `/`"),
            ("/a//b", "has an empty segment"),
            ("/a/", "ends with `/`"),
            ("/a/*/b", "has * before its end"),
            ("/a*", "has a*: `{name}` and `*` have to be whole segments"),
            ("/{a}/{a}", "names {a} twice"),
            ("/{A}", "has the parameter {A}, whose name is not of lower-case letters, digits and `_`"),
            ("/a/../b", "has a dot segment, which no request may"),
            ("/a%2fb", "holds '%', which no literal segment may"),
            ("/a?b", "holds '?', which no literal segment may"),
        ] {
            assert_eq!(Pattern::parse(bad).unwrap_err(), why, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn a_pattern_covers_itself(text in "/(([a-z]{1,3}|\\{[a-z]{1,2}\\})/){0,4}([a-z]|\\*)") {
            if let Ok(pattern) = Pattern::parse(&text) {
                prop_assert!(pattern.covers(&pattern));
            }
        }

        #[test]
        fn no_text_is_too_much(text in ".*") {
            let _ = Pattern::parse(&text);
        }
    }
}
