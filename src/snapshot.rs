//! Everything derived from one config revision.
