//! path: see the map in `policy`.
