//! Listeners, TLS, connection guard, reload, upgrade and drain.
