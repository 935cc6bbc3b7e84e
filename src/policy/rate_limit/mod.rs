//! Token buckets and sliding windows.
