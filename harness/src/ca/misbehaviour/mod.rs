//! The ways the fake CA can be told to lie: in its certificate, its chain, its reply or its listener.
//!
//! One file a lie, and one line in `lies!` below, which declares module, variant and name. Lies compose: each hook is asked in
//! the order in which the scenario names the lies.

use crate::ca::Today;
use crate::ca::fake::{Chain, Listener, Reply, Unsigned};
use serde::Deserialize;

/// The four places in which an authority can be wrong; honest by default. A hook says whether it changed anything: what took
/// part is told on the tape, and counted where a lie is told a number of `times`.
pub trait Misbehaviour {
    /// Changes the certificate before it is signed.
    fn certificate(&self, _certificate: &mut Unsigned, _today: Today) -> bool {
        false
    }
    /// Changes which certificates are sent along.
    fn chain(&self, _chain: &mut Chain) -> bool {
        false
    }
    /// Changes the HTTP answer to `sign-csr` or `renew`. Nothing counts as issued unless the answer still carries it.
    fn reply(&self, _reply: &mut Reply) -> bool {
        false
    }
    /// Changes as whom the CA's own HTTPS listener presents itself.
    fn listener(&self, _listener: &mut Listener, _today: Today) -> bool {
        false
    }
    /// How many requests it takes part in before the CA is honest again; for ever when none.
    fn times(&self) -> Option<u32> {
        None
    }
}

macro_rules! lies {
    ($($(#[doc = $doc:literal])+ $name:literal $module:ident::$Lie:ident $(($params:ty))?;)+) => {
        $(mod $module;)+

        /// One lie, as a scenario names it: `expired`, or `refuse: { status: 503, times: 2 }`.
        #[derive(Clone, Debug, PartialEq, Eq, Deserialize, schemars::JsonSchema)]
        pub enum Lie {
            $($(#[doc = $doc])+ #[serde(rename = $name)] $Lie $(($params))?,)+
        }

        impl Lie {
            /// Every lie's name, in the order of this table.
            pub const NAMES: &[&str] = &[$($name),+];

            /// Its name in a scenario and on the tape.
            pub fn name(&self) -> &'static str {
                match self { $(lies!(@pattern $Lie $(($params))?) => $name,)+ }
            }

            fn behaviour(&self) -> &dyn Misbehaviour {
                match self { $(lies!(@bind this $module $Lie $(($params))?) => lies!(@it this $module $Lie $(($params))?),)+ }
            }
        }
    };
    (@pattern $Lie:ident) => { Lie::$Lie };
    (@pattern $Lie:ident ($params:ty)) => { Lie::$Lie(_) };
    (@bind $this:ident $module:ident $Lie:ident) => { Lie::$Lie };
    (@bind $this:ident $module:ident $Lie:ident ($params:ty)) => { Lie::$Lie($this) };
    (@it $this:ident $module:ident $Lie:ident) => { &$module::$Lie };
    (@it $this:ident $module:ident $Lie:ident ($params:ty)) => { $this };
}

lies! {
    /// Issues certificates that expired a day ago, by the scenario's date and by the wall clock.
    "expired" expired::Expired;
    /// Issues certificates that are valid only from tomorrow on (by the later of the scenario's date and the wall clock).
    "not-yet-valid" not_yet_valid::NotYetValid;
    /// Issues certificates that carry another public key than the device's.
    "wrong-key" wrong_key::WrongKey;
    /// Issues certificates for another device's name.
    "wrong-name" wrong_name::WrongName;
    /// Issues certificates signed by another CA than the one whose certificate it sends along.
    "unknown-issuer" unknown_issuer::UnknownIssuer;
    /// Issues certificates that claim to be a CA's.
    "ca-true" ca_true::CaTrue;
    /// Sends certificates without the intermediate that signed them.
    "chain-missing" chain_missing::ChainMissing;
    /// Sends the device's certificate twice.
    "two-certificates" two_certificates::TwoCertificates;
    /// Sends more intermediates than a device has room for: `chain-too-large: { certificates: 8 }`.
    "chain-too-large" chain_too_large::ChainTooLarge (chain_too_large::ChainTooLarge);
    /// Answers with an HTTP error instead of issuing: `refuse: { status: 503, times: 2, retry-after: 1s }`. The token is not spent.
    "refuse" refuse::Refuse (refuse::Refuse);
    /// Cuts its answer off in the middle and closes the connection: `truncate: { at-bytes: 120, times: 1 }`. The certificate is issued, its answer lost.
    "truncate" truncate::Truncate (truncate::Truncate);
    /// Resets the connection in the middle of its answer: `reset: { at-bytes: 120, times: 1 }`. The certificate is issued, its answer lost.
    "reset" reset::Reset (reset::Reset);
    /// Waits before its answer, or lets it drip: `slow: { before: 2s }`, `slow: { every: 10ms, bytes: 16 }`.
    "slow" slow::Slow (slow::Slow);
    /// Answers with 10 MiB, all but the beginning of it blank.
    "huge" huge::Huge;
    /// Answers 302 and names another host. A device that follows would give that one its token.
    "redirect" redirect::Redirect;
    /// Answers with an HTML page and status 200, as a captive portal does.
    "html" html::Html;
    /// Presents itself with another server certificate than an honest one: `listener: wrong-name`.
    "listener" listener::ListenerLie (listener::ListenerLie);
}

/// The lies that are being told, and how often each still is.
#[derive(Debug, Default)]
pub(crate) struct Lies {
    told: Vec<Told>,
}

#[derive(Debug)]
struct Told {
    lie: Lie,
    left: Option<u32>,
    took_part: bool,
}

impl Lies {
    pub(crate) fn new(lies: Vec<Lie>) -> Self {
        Lies { told: lies.into_iter().map(|lie| Told { left: lie.behaviour().times(), lie, took_part: false }).collect() }
    }

    /// Asks every lie that is still told; says whether any took part.
    pub(crate) fn each(&mut self, mut hook: impl FnMut(&dyn Misbehaviour) -> bool) -> bool {
        let mut any = false;
        for told in self.told.iter_mut().filter(|told| told.left != Some(0)) {
            let took_part = hook(told.lie.behaviour());
            told.took_part |= took_part;
            any |= took_part;
        }
        any
    }

    /// Ends a request: counts the lies that took part in it, and names them.
    pub(crate) fn end_request(&mut self) -> Vec<String> {
        let mut names = Vec::new();
        for told in &mut self.told {
            if std::mem::take(&mut told.took_part) {
                told.left = told.left.map(|left| left.saturating_sub(1));
                names.push(told.lie.name().to_owned());
            }
        }
        names
    }
}
