//! whoami: see the map in `policy`.
