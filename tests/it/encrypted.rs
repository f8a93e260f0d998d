//! TLS and least privilege everywhere.
