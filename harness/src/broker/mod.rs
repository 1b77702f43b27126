//! Brokers: real ones.
