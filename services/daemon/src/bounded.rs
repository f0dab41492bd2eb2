//! Requests with a limit for each message, told as refusals are: with a reason and a remedy.
//!
//! gRPC libraries check the limit too, but refuse without details. Here the length is judged by
//! its prefix alone, before anything of the message is kept.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use api::access::AccessReason;
use http_body::{Body, Frame, SizeHint};
use prost::bytes::{Buf as _, Bytes};
use site::{Rejection, Violation};
use tonic::Status;

/// Every gRPC message is preceded by a flag and four bytes of length.
const PREFIX_BYTES: usize = 5;

/// How many messages, or requests for their metadata, were refused for their size.
#[derive(Debug, Clone, Default)]
pub struct Oversize(Arc<AtomicU64>);

impl Oversize {
    /// One more.
    pub(crate) fn add(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// The count so far.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The body of a request none of whose messages exceeds a limit.
#[derive(Debug)]
pub struct Bounded<B> {
    body: B,
    limit: usize,
    /// Bytes of the present message that are still to come.
    rest: usize,
    /// The prefix of the next message as far as it has come.
    prefix: [u8; PREFIX_BYTES],
    known: usize,
    oversize: Oversize,
}

impl<B> Bounded<B> {
    /// Watches `body`, whose messages may have `limit` bytes each.
    pub fn new(body: B, limit: usize, oversize: Oversize) -> Self {
        Self {
            body,
            limit,
            rest: 0,
            prefix: [0; PREFIX_BYTES],
            known: 0,
            oversize,
        }
    }

    /// Follows the messages in `data`, which may begin and end anywhere.
    fn follow(&mut self, data: &[u8]) -> Result<(), Status> {
        let mut data = data;
        while !data.is_empty() {
            if self.rest > 0 {
                let skipped = self.rest.min(data.len());
                self.rest -= skipped;
                data.advance(skipped);
                continue;
            }
            self.prefix[self.known] = data.get_u8();
            self.known += 1;
            if self.known < PREFIX_BYTES {
                continue;
            }
            self.known = 0;
            let [_, length @ ..] = self.prefix;
            let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
            if length > self.limit {
                self.oversize.add();
                return Err(too_large(length, self.limit));
            }
            self.rest = length;
        }
        Ok(())
    }
}

impl<B> Body for Bounded<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    type Data = Bytes;
    type Error = Box<dyn std::error::Error + Send + Sync>;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let next = std::task::ready!(Pin::new(&mut self.body).poll_frame(cx));
        let Some(frame) = next.transpose().map_err(Into::into)? else {
            return Poll::Ready(None);
        };
        if let Some(data) = frame.data_ref() {
            self.follow(data)?;
        }
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

fn too_large(length: usize, limit: usize) -> Status {
    let violation = Violation::new(
        AccessReason::MessageTooLarge,
        format!("a message of {length} bytes is too large: at most {limit} are taken"),
        "leave out what is not needed, or make several calls",
    );
    let violation = violation.fact("bytes", length).fact("limit", limit);
    api::status::from_rejection(&Rejection::one(violation))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(length: usize) -> Vec<u8> {
        let prefix = u32::try_from(length).expect("a small number").to_be_bytes();
        [&[0][..], &prefix, &vec![7; length]].concat()
    }

    #[test]
    fn the_limit_holds_for_each_message_however_they_are_cut() {
        let sound = [message(10), message(0), message(3), message(10)].concat();
        let large = [message(10), message(11)].concat();
        for piece in 1..=sound.len() {
            let oversize = Oversize::default();
            let mut bounded = Bounded::new((), 10, oversize.clone());
            for data in sound.chunks(piece) {
                bounded.follow(data).expect("within the limit");
            }
            let refused = large
                .chunks(piece)
                .find_map(|data| bounded.follow(data).err());
            let refusal = api::status::to_refusal(&refused.expect("too large"));
            assert_eq!(refusal.reason, "MESSAGE_TOO_LARGE");
            assert_eq!(oversize.count(), 1);
        }
    }
}
