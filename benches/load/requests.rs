//! The requests that are sent: built beforehand, so that sending one costs a copy, and the order in which they come.

use std::cell::RefCell;

/// Digits of an idempotency key that are filled in anew for each request.
const COUNTER: usize = 16;

/// Requests ready to send, one per token.
pub struct Requests {
    bytes: Vec<u8>,
    spans: Vec<(usize, usize)>,
    counted: bool,
}

impl Requests {
    /// GET `path`, once per token.
    pub fn get(host: &str, path: &str, tokens: &[String]) -> Requests {
        let mut requests = Requests { bytes: Vec::new(), spans: Vec::new(), counted: false };
        for token in tokens {
            requests.push(format!("{}\r\n", head("GET", host, path, token)).as_bytes());
        }
        requests
    }

    /// A transfer of about 1 KB per token, POSTed to `path`. Every request gets an idempotency key of its own, because a
    /// repeated one would be answered from memory; one note in ten holds a tag, which the edge takes out.
    pub fn transfer(host: &str, path: &str, tokens: &[String]) -> Requests {
        let mut requests = Requests { bytes: Vec::new(), spans: Vec::new(), counted: true };
        for (at, token) in tokens.iter().enumerate() {
            let body = transfer_body(at % 10 == 9);
            let head = head("POST", host, path, token);
            let length = body.len();
            requests.push(
                format!("{head}Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}").as_bytes(),
            );
        }
        requests
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.spans.len()
    }

    /// Writes request `at` into `out`, which is emptied first. `number` makes its idempotency key.
    pub fn copy(&self, at: usize, number: u64, out: &mut Vec<u8>) {
        out.clear();
        let span = self.spans.get(at).and_then(|(from, to)| self.bytes.get(*from..*to)).unwrap_or_default();
        out.extend_from_slice(span);
        if self.counted {
            // The body ends with `<digits>"}`.
            let end = out.len().saturating_sub(2);
            let mut rest = number;
            for digit in out.get_mut(end.saturating_sub(COUNTER)..end).unwrap_or_default().iter_mut().rev() {
                *digit = b'0' + (rest % 10) as u8;
                rest /= 10;
            }
        }
    }

    fn push(&mut self, request: &[u8]) {
        let from = self.bytes.len();
        self.bytes.extend_from_slice(request);
        self.spans.push((from, self.bytes.len()));
    }
}

fn head(method: &str, host: &str, path: &str, token: &str) -> String {
    format!(
        "{method} {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: tmcp-load/1\r\nAccept: application/json\r\n\
         Authorization: Bearer {token}\r\n"
    )
}

/// A transfer's JSON, about 1 KB of it, most of that in the note.
pub fn transfer_body(with_tag: bool) -> String {
    let sentence = "Dinner on Friday, your half of it; the taxi is on me. If 3 < 4, all is well, and thank you again! ";
    let mut note = sentence.repeat(8).trim_end().to_owned();
    if with_tag {
        note.push_str("<b>See you</b>");
    }
    let digits = "0".repeat(COUNTER);
    format!(
        "{{\"recipient\":\"@bob:tween.example\",\"amount\":5000.00,\"currency\":\"USD\",\"note\":\"{note}\",\
         \"room_id\":\"!chat:tween.example\",\"idempotency_key\":\"load-{digits}\"}}"
    )
}

/// In which order tokens come.
pub enum Order {
    /// One after the other, again and again.
    InTurn,
    /// By Zipf's law (exponent 1) over the tokens that have come before; every twentieth request brings a new one, as
    /// long as there are any.
    Zipf {
        /// Tokens that are known before the first request.
        known: usize,
    },
}

/// Draws tokens in an [`Order`].
pub struct Picker {
    order: Order,
    tokens: usize,
    state: RefCell<State>,
}

struct State {
    number: u64,
    next: usize,
    known: usize,
    random: u64,
}

impl Picker {
    /// Over `tokens` tokens. `seed` starts the random numbers and the idempotency keys.
    pub fn new(order: Order, tokens: usize, seed: u64) -> Picker {
        let known = match order {
            Order::InTurn => tokens,
            Order::Zipf { known } => known.clamp(1, tokens.max(1)),
        };
        let state = State { number: seed << 40, next: 0, known, random: 0x9e37_79b9_7f4a_7c15 ^ (seed + 1) };
        Picker { order, tokens, state: RefCell::new(state) }
    }

    /// The next token and the request's number.
    pub fn pick(&self) -> (usize, u64) {
        let mut state = self.state.borrow_mut();
        state.number += 1;
        let number = state.number;
        let token = match self.order {
            Order::InTurn => {
                let token = state.next;
                state.next = if token + 1 < self.tokens { token + 1 } else { 0 };
                token
            }
            Order::Zipf { .. } if number.is_multiple_of(20) && state.known < self.tokens => {
                state.known += 1;
                state.known - 1
            }
            Order::Zipf { .. } => state.zipf(),
        };
        (token, number)
    }

    /// How many have been drawn.
    pub fn drawn(&self) -> u64 {
        self.state.borrow().number & ((1 << 40) - 1)
    }

    /// Whether there were new tokens for every twentieth request.
    pub fn had_enough(&self) -> bool {
        matches!(self.order, Order::InTurn) || self.state.borrow().known < self.tokens
    }
}

impl State {
    /// With exponent 1 the inverse of the distribution function is an exponential: rank = known^u.
    fn zipf(&mut self) -> usize {
        // xorshift64*
        self.random ^= self.random >> 12;
        self.random ^= self.random << 25;
        self.random ^= self.random >> 27;
        let uniform = (self.random.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11) as f64 / (1u64 << 53) as f64;
        let rank = ((self.known as f64 + 1.0).ln() * uniform).exp() as usize;
        rank.clamp(1, self.known) - 1
    }
}
