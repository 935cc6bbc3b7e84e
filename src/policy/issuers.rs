//! issuers: see the map in `policy`.
