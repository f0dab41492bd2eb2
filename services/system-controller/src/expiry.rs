//! Connections that outlive their certificates. A handshake checks the validity of a certificate;
//! who then stays connected would keep what it allows for ever.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use daemon::{KnownOperators, Life};
use identity::{Connections, PeerCertificate};

/// How often connections are looked at. Agents connect anew with each renewed certificate, long
/// before the end of the one before; a few seconds more do not matter to the others.
const EVERY: Duration = Duration::from_secs(5);

/// Ends the connections of agents, peers and operators whose certificates have expired, until the
/// process stops.
pub(crate) async fn end_expired(link: Connections, operators: Arc<KnownOperators>, life: Life) {
    let stop = life.stopping();
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(EVERY) => {}
        }
        let now = SystemTime::now();
        let expired = |certificate: &PeerCertificate| certificate.not_after < now;
        let ended = link.close_where(expired) + operators.close_where(expired);
        if ended > 0 {
            tracing::warn!(ended, "connections ended with their expired certificates");
        }
    }
}
