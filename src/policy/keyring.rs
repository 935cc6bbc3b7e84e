//! keyring: see the map in `policy`.
