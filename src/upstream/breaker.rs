//! breaker: see the map in `upstream`.
