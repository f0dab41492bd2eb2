//! How the messages of the link are buffered.

use std::marker::PhantomData;

use prost::Message;
use tonic::codec::{BufferSettings, Codec};
use tonic_prost::ProstCodec;

/// The buffers of one link, in bytes. A link says little, so that what it holds while it is idle
/// decides how much memory a fleet takes: two buffers of the usual 8 KiB would be half of it.
/// A longer message, such as the piece of a command's answer, grows the buffer for good.
pub const BUFFER_BYTES: usize = 512;

/// From how many bytes on messages leave without waiting for more: each by itself, for what leaves
/// together is buffered together at the other end.
const YIELD_BYTES: usize = 1;

/// Protobuf in small buffers; the build script gives it to the link service alone.
#[derive(Debug, Clone)]
pub struct LinkCodec<T, U>(PhantomData<(T, U)>);

impl<T, U> Default for LinkCodec<T, U> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<T, U> Codec for LinkCodec<T, U>
where
    T: Message + Send + 'static,
    U: Message + Default + Send + 'static,
{
    type Encode = T;
    type Decode = U;
    type Encoder = <ProstCodec<T, U> as Codec>::Encoder;
    type Decoder = <ProstCodec<T, U> as Codec>::Decoder;

    fn encoder(&mut self) -> Self::Encoder {
        ProstCodec::<T, U>::raw_encoder(BufferSettings::new(BUFFER_BYTES, YIELD_BYTES))
    }

    fn decoder(&mut self) -> Self::Decoder {
        ProstCodec::<T, U>::raw_decoder(BufferSettings::new(BUFFER_BYTES, YIELD_BYTES))
    }
}
