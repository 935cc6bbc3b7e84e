//! guard: see the map in `policy`.
