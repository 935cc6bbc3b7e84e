//! Tokens on their way back to the store.

use crate::clock::Tick;

/// The question that brought tokens. It decides for how long they may be used, and how they go back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in super::super) struct Origin {
    /// When it was asked, so that the tokens were taken no earlier.
    pub asked: Tick,
    /// The window that they were taken in; 0 for a bucket.
    pub window: u64,
}

/// Tokens that go back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in super::super) struct Back {
    pub tokens: u32,
    /// Of the oldest of them.
    pub origin: Origin,
}

/// What waits to go back: of a window and of the one before. What is older than that no longer counts in the store.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Aside([Back; 2]);

impl Aside {
    pub fn put(&mut self, tokens: u32, origin: Origin) {
        if tokens == 0 {
            return;
        }
        let new = Back { tokens, origin };
        if let Some(same) = self.0.iter_mut().find(|back| back.tokens > 0 && back.origin.window == origin.window) {
            same.tokens = same.tokens.saturating_add(tokens);
            same.origin.asked = same.origin.asked.min(origin.asked);
        } else if let Some(free) = self.0.iter_mut().find(|back| back.tokens == 0) {
            *free = new;
        } else if let Some(oldest) = self.0.iter_mut().min_by_key(|back| back.origin.window)
            && oldest.origin.window < origin.window
        {
            *oldest = new;
        }
    }

    /// What goes back next: a question takes tokens of one window along.
    pub fn take(&mut self) -> Back {
        let waiting = self.0.iter_mut().filter(|back| back.tokens > 0);
        waiting.min_by_key(|back| back.origin.window).map(std::mem::take).unwrap_or_default()
    }

    pub fn is_empty(&self) -> bool {
        self.0.iter().all(|back| back.tokens == 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_is_kept_by_window_and_the_older_goes_first() {
        let origin = |asked, window| Origin { asked: Tick(asked), window };
        let mut aside = Aside::default();
        aside.put(0, origin(1, 1));
        assert!(aside.is_empty());
        aside.put(3, origin(20, 8));
        aside.put(2, origin(10, 7));
        aside.put(4, origin(15, 8));
        assert_eq!(aside.take(), Back { tokens: 2, origin: origin(10, 7) });
        aside.put(1, origin(30, 9));
        // Of three windows the oldest says nothing any more, whenever it comes.
        aside.put(5, origin(5, 6));
        assert_eq!(aside.take(), Back { tokens: 7, origin: origin(15, 8) });
        aside.put(1, origin(40, 10));
        aside.put(1, origin(50, 11));
        assert_eq!((aside.take().origin.window, aside.take().origin.window), (10, 11));
        assert_eq!(aside.take(), Back::default());
        assert!(aside.is_empty());
    }
}
