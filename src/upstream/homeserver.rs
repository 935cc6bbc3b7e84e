//! homeserver: see the map in `upstream`.
