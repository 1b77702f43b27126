//! A server certificate that the device must not accept.

use super::Misbehaviour;
use crate::ca::Today;
use crate::ca::fake::{IssuedBy, Listener};
use crate::ca::pki::DAY_S;
use serde::Deserialize;

/// How the server certificate of the CA's own HTTPS listener is wrong. No honest device sends anything to such a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ListenerLie {
    /// For another host name.
    WrongName,
    /// Expired a day ago, by the scenario's date and by the wall clock.
    Expired,
    /// Valid only from tomorrow on.
    NotYetValid,
    /// Signed by a CA that nobody trusts.
    UnknownIssuer,
}

impl Misbehaviour for ListenerLie {
    fn listener(&self, listener: &mut Listener, today: Today) -> bool {
        match self {
            ListenerLie::WrongName => listener.server.names = vec!["another-host.invalid".to_owned()],
            ListenerLie::Expired => listener.server.not_after = Some(today.testbed.min(today.wall).saturating_sub(DAY_S)),
            ListenerLie::NotYetValid => listener.server.not_before = Some(today.testbed.max(today.wall).saturating_add(DAY_S)),
            ListenerLie::UnknownIssuer => listener.issued_by = IssuedBy::Stranger,
        }
        true
    }
}
