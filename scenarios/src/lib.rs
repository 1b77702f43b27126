//! Nothing but scenarios: see `README.md`, the folders beside it, and `tests/trials.rs`.
