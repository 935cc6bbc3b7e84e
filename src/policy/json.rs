//! json: see the map in `policy`.
