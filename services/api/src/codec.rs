//! How messages are read and buffered.

use std::marker::PhantomData;

use prost::Message;
use tonic::Status;
use tonic::codec::{BufferSettings, Codec, DecodeBuf, Decoder};
use tonic_prost::{ProstCodec, ProstDecoder, ProstEncoder};

use crate::status::undecodable;

/// The buffer for what one link says, in bytes. A link says little, so that what it holds while it
/// is idle decides how much memory a fleet takes: two buffers of the usual 8 KiB would be half of
/// it. A longer message, such as the piece of a command, grows the buffer for good.
const WRITE_BUFFER_BYTES: usize = 512;

/// The buffer for what one link hears, in bytes: a piece of a report fits, and four of them hold
/// the report of a small site. HTTP/2 keeps room for four frames that nobody has read yet, and for
/// twice as many, for good, once a fifth has come.
pub const READ_BUFFER_BYTES: usize = 896;

/// From how many bytes on messages leave without waiting for more: each by itself, for what leaves
/// together is buffered together at the other end.
const YIELD_BYTES: usize = 1;

/// Protobuf with the usual buffers; the build script gives it to every service but the link.
#[derive(Debug, Clone)]
pub struct UsualCodec<T, U>(PhantomData<(T, U)>);

/// Protobuf in small buffers; the build script gives it to the link service alone.
#[derive(Debug, Clone)]
pub struct LinkCodec<T, U>(PhantomData<(T, U)>);

/// Reads messages. The status of one that cannot be read says so to who serves the method
/// ([`crate::status::of_undecodable`]); to a client of the method it is what gRPC makes of it.
#[derive(Debug, Clone)]
pub struct Reader<U>(ProstDecoder<U>);

impl<T, U> Default for UsualCodec<T, U> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<T, U> Default for LinkCodec<T, U> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<T, U> Codec for UsualCodec<T, U>
where
    T: Message + Send + 'static,
    U: Message + Default + Send + 'static,
{
    type Encode = T;
    type Decode = U;
    type Encoder = ProstEncoder<T>;
    type Decoder = Reader<U>;

    fn encoder(&mut self) -> Self::Encoder {
        ProstEncoder::default()
    }

    fn decoder(&mut self) -> Self::Decoder {
        Reader(ProstDecoder::default())
    }
}

impl<T, U> Codec for LinkCodec<T, U>
where
    T: Message + Send + 'static,
    U: Message + Default + Send + 'static,
{
    type Encode = T;
    type Decode = U;
    type Encoder = ProstEncoder<T>;
    type Decoder = Reader<U>;

    fn encoder(&mut self) -> Self::Encoder {
        ProstCodec::<T, U>::raw_encoder(small(WRITE_BUFFER_BYTES))
    }

    fn decoder(&mut self) -> Self::Decoder {
        Reader(ProstCodec::<T, U>::raw_decoder(small(READ_BUFFER_BYTES)))
    }
}

impl<U: Message + Default> Decoder for Reader<U> {
    type Item = U;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<U>, Status> {
        let Self(decoder) = self;
        decoder.decode(buffer).map_err(undecodable)
    }

    fn buffer_settings(&self) -> BufferSettings {
        let Self(decoder) = self;
        decoder.buffer_settings()
    }
}

fn small(buffer: usize) -> BufferSettings {
    BufferSettings::new(buffer, YIELD_BYTES)
}
