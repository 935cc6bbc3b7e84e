//! sanitize: see the map in `policy`.
