//! authn: see the map in `policy`.
