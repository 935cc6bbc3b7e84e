//! health: see the map in `upstream`.
