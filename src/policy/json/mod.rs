//! JSON structure (RFC 8259), checked once and strictly, so that no two parsers behind the edge read one body differently.
//!
//! Parsers disagree where the grammar leaves room: which of two equal names wins, what a lone surrogate becomes, how
//! deep is too deep, what follows the value. All of these are refused here, whatever a lenient parser would make of
//! them. [`scan`](Document::read) is one pass without recursion; it also writes down where each value stands, 16 bytes
//! per value, and that index is what sanitising and the schemas read. A tree of owned values would cost several times
//! the time and ten times the memory, and would lose how a number was written: `5000.00` has to stay `5000.00`.
//!
//! Choices where the grammar leaves one:
//!
//! - numbers stay text, but one whose magnitude no IEEE double holds (`1e999`) is refused: parsers make infinity, an
//!   error or a bignum of it; a literal is at most [`MAX_NUMBER`] bytes;
//! - names are compared after unescaping: `"a"` and `"\u0061"` are the same name;
//! - noncharacters (`\uFFFF`) and `\u0000` are text like any other; lone surrogates are not text;
//! - a byte order mark is refused (RFC 8259 section 8.1 forbids sending it).

mod fault;
mod names;
mod scan;
mod text;
mod tree;

#[cfg(test)]
mod tests;

pub use fault::Fault;
pub use text::quote;
pub use tree::{Document, Elements, Kind, Members, Value};

/// Deepest nesting of arrays and objects that is accepted.
pub const MAX_DEPTH: usize = 64;

/// Most values and member names in one body: bounds the memory of the index at 16 MiB.
pub const MAX_VALUES: usize = 1 << 20;

/// Longest number literal, in bytes.
pub const MAX_NUMBER: usize = 512;

/// Checks the structure alone.
///
/// # Errors
/// The first fault, with its place and what was expected there.
pub fn check(bytes: &[u8]) -> Result<(), Fault> {
    scan::scan::<false>(bytes).map(drop)
}
