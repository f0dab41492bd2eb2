//! Commands: calls of a subcloud's site services that travel over its link.
//!
//! A command names one of [`SiteMethod`] and carries the request as it came; its answer comes
//! back as it was given, a refusal with its details byte for byte.

use std::sync::Arc;
use std::time::Duration;

use site::{Change, Site, SiteParts, Timestamp, plan};

use crate::{CommandId, Epoch, Fault, Rejection};

/// The largest command, and the largest answer to one: 1 MiB, the limit of the link.
pub const MAX_COMMAND_BYTES: usize = 1024 * 1024;

/// Commands that one subcloud works on at once. A site plans its changes one after the other, so
/// more of them would only wait there.
pub const MAX_COMMANDS_PER_LINK: usize = 8;

/// Commands that are under way in the whole fleet at once, each with its call that waits.
pub const MAX_COMMANDS: usize = 1024;

/// The bytes of all requests that are under way at once: sixty-four of the largest, a hundred
/// thousand usual ones.
pub const MAX_COMMANDS_BYTES: usize = 64 * MAX_COMMAND_BYTES;

/// How long a command may take when its caller names no deadline: that of the command line.
pub const COMMAND_TIMEOUT: Duration = Duration::from_secs(30);

/// A site as a change would make it, told from what it reported last; `None` when the change does
/// nothing to it or when the site's own rules refuse it, which the site itself tells best.
pub fn foreseen(site: &Site, change: Change, now: Timestamp) -> Option<SiteParts> {
    let plan = plan(site, change, now).ok()?;
    plan.changes_site().then(|| plan.next().to_parts())
}

/// A call of one of a site's services.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command {
    /// Names the command on its link.
    pub id: CommandId,
    /// The term in which it is given.
    pub epoch: Epoch,
    /// What is called.
    pub method: SiteMethod,
    /// The encoded request.
    pub request: Arc<[u8]>,
    /// How long it may take from its arrival on. No moment: two clocks need not agree.
    pub within: Duration,
    /// Who asked the controller, as its audit log names them.
    pub actor: String,
}

/// What a command came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandResult {
    /// Which command.
    pub id: CommandId,
    /// What came of it.
    pub outcome: CommandOutcome,
}

/// What came of a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CommandOutcome {
    /// The encoded answer.
    Done(Vec<u8>),
    /// The site's service refused, or failed, with this status.
    Failed(CommandFailure),
    /// One of the two ends of the link refused. From an agent it arrives as
    /// [`CommandOutcome::Failed`].
    Refused(Rejection),
}

/// The status of a call that failed, as the service gave it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CommandFailure {
    /// The number of the gRPC code.
    pub code: i32,
    /// The message.
    pub message: String,
    /// The details, byte for byte.
    pub details: Vec<u8>,
    /// The faults that the details tell, for the audit log.
    pub faults: Vec<Fault>,
}

impl CommandOutcome {
    /// The bytes that count against [`MAX_COMMAND_BYTES`].
    pub(crate) fn size(&self) -> usize {
        match self {
            Self::Done(answer) => answer.len(),
            Self::Failed(failure) => failure.message.len() + failure.details.len(),
            Self::Refused(_) => 0,
        }
    }
}

macro_rules! methods {
    ($($service:literal: $($(#[$doc:meta])* $method:ident, $kind:ident;)*)*) => {
        /// What may be called at a subcloud: every method of the site services that has one
        /// answer. One that is not listed here goes nowhere.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum SiteMethod {
            $($(
                #[doc = concat!("`", $service, "/", stringify!($method), "`.")]
                $method,
            )*)*
        }

        impl SiteMethod {
            /// Every method.
            pub const ALL: &[Self] = &[$($(Self::$method,)*)*];

            /// The path as gRPC writes it.
            pub fn path(self) -> &'static str {
                match self {
                    $($(Self::$method => concat!("/", $service, "/", stringify!($method)),)*)*
                }
            }

            /// The name as the audit log writes it.
            pub fn audit_name(self) -> &'static str {
                match self {
                    $($(Self::$method => concat!("COMMAND ", stringify!($method)),)*)*
                }
            }

            /// The name as the audit log writes it, of the controller's own site.
            pub fn own_audit_name(self) -> &'static str {
                match self {
                    $($(Self::$method => concat!("SITE ", stringify!($method)),)*)*
                }
            }

            /// Whether it changes the site.
            pub fn changes(self) -> bool {
                match self {
                    $($(Self::$method => methods!(@$kind),)*)*
                }
            }
        }
    };
    (@asks) => { false };
    (@changes) => { true };
}

methods! {
    "tandem.site.v1.NetworkService":
    ListNetworks, asks;
    GetNetwork, asks;
    CreateNetwork, changes;
    DeleteNetwork, changes;
    ListAddressPools, asks;
    GetAddressPool, asks;
    CreateAddressPool, changes;
    UpdateAddressPool, changes;
    DeleteAddressPool, changes;
    ListNetworkAddressPools, asks;
    GetNetworkAddressPool, asks;
    AssignAddressPool, changes;
    RemoveAddressPool, changes;
    "tandem.site.v1.SiteService":
    GetSite, asks;
    ListHosts, asks;
    LockHost, changes;
    UnlockHost, changes;
    ReportHost, changes;
    ListAlarms, asks;
    GetDns, asks;
    UpdateDns, changes;
    GetOam, asks;
    UpdateOam, changes;
    GetKubernetes, asks;
}

impl SiteMethod {
    /// The method of a path.
    pub fn from_path(path: &str) -> Option<Self> {
        Self::ALL
            .iter()
            .copied()
            .find(|method| method.path() == path)
    }
}
