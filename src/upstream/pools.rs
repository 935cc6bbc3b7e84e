//! pools: see the map in `upstream`.
