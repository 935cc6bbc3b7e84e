//! Handles to count with; exporting is `telemetry`.
