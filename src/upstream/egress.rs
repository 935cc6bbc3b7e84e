//! egress: see the map in `upstream`.
