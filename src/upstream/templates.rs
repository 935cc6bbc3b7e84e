//! templates: see the map in `upstream`.
