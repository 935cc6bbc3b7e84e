//! What outlives a config revision.
