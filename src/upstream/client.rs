//! client: see the map in `upstream`.
