//! Randomness: secrets from the operating system, and a seeded generator for what only has to differ.

use std::fmt::Write as _;
use std::io;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// A secret of 32 random bytes behind a prefix, in hexadecimal.
pub fn token(prefix: &str) -> io::Result<String> {
    let mut bytes = [0u8; 32];
    fill(&mut bytes)?;
    Ok(bytes.iter().fold(prefix.to_owned(), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    }))
}

/// A webhook secret: `whsec_` and the base64 of 32 random bytes (protocol section 6).
pub fn webhook_secret() -> io::Result<String> {
    let mut bytes = [0u8; 32];
    fill(&mut bytes)?;
    Ok(format!("whsec_{}", STANDARD.encode(bytes)))
}

fn fill(bytes: &mut [u8]) -> io::Result<()> {
    aws_lc_rs::rand::fill(bytes).map_err(|_| io::Error::other("the operating system gave no randomness"))
}

/// SplitMix64: ids and gift shares. Nothing that must not be guessed may come from here.
#[derive(Clone, Debug)]
pub struct Sequence(u64);

impl Sequence {
    /// A sequence that the seed determines.
    pub fn seeded(seed: u64) -> Sequence {
        Sequence(seed)
    }

    /// A sequence that starts somewhere else each time.
    pub fn unpredictable() -> io::Result<Sequence> {
        let mut seed = [0u8; 8];
        fill(&mut seed)?;
        Ok(Sequence(u64::from_le_bytes(seed)))
    }

    /// The next number.
    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A new id behind a prefix, such as `txn_1f0c…`.
    pub fn id(&mut self, prefix: &str) -> String {
        format!("{prefix}{:016x}", self.draw())
    }
}
