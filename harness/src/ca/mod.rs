//! The fake CA: it issues as a good CA does, until it is told to lie.
//!
//! | file | idea |
//! |---|---|
//! | `pki` | the certificates of a testbed: a root, two intermediates, what they sign; `pki/keep` keeps one in a file, `pki/crl` revokes |
//! | `csr` | a request, read once and strictly |
//! | `enrolment` | the body of a request |
//! | `token` | provisioning tokens: single-use, expiring, bound, locked after five refusals |
//! | `fake` | what is answered to whom: pure, without clock or socket |
//! | `misbehaviour` | the lies, one file each |
//! | `server` | the HTTPS listener around `fake` |

pub mod csr;
pub mod enrolment;
pub mod fake;
pub mod misbehaviour;
pub mod pki;
pub mod server;
pub mod token;

pub use fake::RollOver;
pub use server::{CaParts, CaServer, wall_clock};
pub use token::TokenSpec;

use std::sync::Arc;

/// Tells the testbed's date, seconds since 1970. It is what a scenario says it is, not the wall clock.
pub type Clock = Arc<dyn Fn() -> i64 + Send + Sync>;

/// Which day it is, for whom; seconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Today {
    /// The testbed's date, which the time server tells the device.
    pub testbed: i64,
    /// The wall clock, by which a real broker judges.
    pub wall: i64,
}
