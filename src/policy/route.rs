//! route: see the map in `policy`.
