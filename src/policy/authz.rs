//! authz: see the map in `policy`.
