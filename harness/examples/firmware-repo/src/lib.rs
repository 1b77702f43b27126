//! The firmware's own code, which an example needs none of.
