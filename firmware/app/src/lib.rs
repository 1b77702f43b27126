//! The shell of the firmware: what carries out a device's wishes on embassy's traits, with no board in it.
#![no_std]
