//! What a caller holds while its batch is on its way to the disk.

use tokio::sync::oneshot;

use crate::{CommitError, Revision};

/// A batch that was accepted and has its revision, but may not be durable yet.
///
/// Dropping a ticket does not take the batch back; only nobody is told how it went.
#[derive(Debug)]
#[must_use = "nothing may be answered before the ticket says that the batch is durable"]
pub struct Ticket {
    revision: Revision,
    outcome: oneshot::Receiver<Result<(), CommitError>>,
}

impl Ticket {
    pub(crate) fn new(
        revision: Revision,
        outcome: oneshot::Receiver<Result<(), CommitError>>,
    ) -> Self {
        Self { revision, outcome }
    }

    /// The revision of the batch, known before it is durable.
    #[must_use]
    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// Waits until the batch is on the disk and returns its revision.
    ///
    /// # Errors
    ///
    /// [`CommitError::Io`] or [`CommitError::Poisoned`]; the process has to end. Whether the batch
    /// is there after a restart is then unknown: the write failed, or its confirmation did.
    pub async fn durable(self) -> Result<Revision, CommitError> {
        match self.outcome.await {
            Ok(Ok(())) => Ok(self.revision),
            Ok(Err(error)) => Err(error),
            Err(_) => Err(CommitError::Poisoned {
                cause: "the writing thread died".into(),
            }),
        }
    }
}
