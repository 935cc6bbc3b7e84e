//! What one request carries.
