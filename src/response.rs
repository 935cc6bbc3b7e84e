//! The only writer to the client.
