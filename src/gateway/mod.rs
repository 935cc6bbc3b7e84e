//! The phases of a request in execution order.
