//! forward: see the map in `upstream`.
