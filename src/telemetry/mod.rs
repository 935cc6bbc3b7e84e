//! Metrics export, access log, trace export.
