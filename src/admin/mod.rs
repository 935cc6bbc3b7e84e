//! Health, readiness, metrics and the admin API, on the admin address only.
