//! The fake CA.
