//! validate: see the map in `policy`.
