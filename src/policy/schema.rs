//! schema: see the map in `policy`.
