//! A packed file from its front to its end: all members, frames or streams that it has.

use std::io::{self, BufRead, BufReader, Read};

use flate2::bufread::GzDecoder;
use lz4_flex::frame::FrameDecoder;
use xz2::stream::{Action, Status, Stream};

use super::{Wrapper, crumbles, damaged, is_skippable};
use crate::base::error::Error;
use crate::base::limits::Limits;
use crate::base::storage::Source;

/// Bytes that are read at a time.
const BUFFER: usize = 256 << 10;
/// The largest window of a zstd frame: 128 MiB, what zstd itself takes unasked.
const ZSTD_WINDOW: u32 = 27;

/// The memory that an .xz stream may ask for: what preset 9 takes, twice, unless less is allowed.
pub(crate) fn xz_memory(limits: &Limits) -> u64 {
    limits.max_memory / 2
}

/// The logarithm of the largest window that a zstd frame may have.
pub(crate) fn zstd_window(limits: &Limits) -> u32 {
    (limits.max_memory / 2).max(1).ilog2().min(ZSTD_WINDOW)
}

type Input = BufReader<Box<dyn Read + Send>>;

/// Unpacks a file of one or many members. Zeros behind the last one are passed over; other bytes
/// there are an error, for nobody knows what they are.
pub(crate) struct Members {
    wrapper: Wrapper,
    limits: Limits,
    state: State,
    /// Members that have been begun, and bytes that they gave.
    begun: u64,
    given: u64,
}

enum State {
    Between(Input),
    Gzip(Box<GzDecoder<Input>>),
    Xz(XzStream),
    Zstd(zstd::stream::read::Decoder<'static, Input>),
    Bzip2(bzip2::bufread::BzDecoder<Input>),
    Lz4(Box<FrameDecoder<Input>>),
    Ended,
}

impl Members {
    /// Unpacks what `packed` gives.
    pub(crate) fn new(wrapper: Wrapper, packed: Box<dyn Read + Send>, limits: &Limits) -> Members {
        let input = BufReader::with_capacity(BUFFER, packed);
        let (limits, state) = (limits.clone(), State::Between(input));
        Members { wrapper, limits, state, begun: 0, given: 0 }
    }

    /// The next member, if there is one.
    fn begin(&mut self, mut input: Input) -> io::Result<State> {
        let begun = self.begun > 0;
        let mut padded = false;
        loop {
            let front = input.fill_buf()?;
            if front.is_empty() {
                return match begun {
                    true => Ok(State::Ended),
                    false => Err(io::ErrorKind::UnexpectedEof.into()),
                };
            }
            let zeros = front.iter().take_while(|byte| **byte == 0).count();
            if zeros == 0 || !begun {
                break;
            }
            padded = true;
            input.consume(zeros);
        }
        // A buffer may end within a magic; its first byte is never cut off.
        let (wrapper, front) = (self.wrapper, input.buffer());
        let cut = front.len() < 10;
        let follows = wrapper.begins(front) || (wrapper == Wrapper::Lz4 && is_skippable(front));
        if begun && !follows && !(cut && !padded && may_begin(wrapper, front)) {
            let name = wrapper.name();
            return Err(damaged(format!("behind its end there are bytes that are not {name}")));
        }
        self.begun += 1;
        if crumbles(self.begun, self.given, &self.limits) {
            let (members, given) = (self.begun, self.given);
            let what = format!("it has {members} members with {given} bytes in them all");
            return Err(io::Error::other(Error::limit(what)));
        }
        Ok(match wrapper {
            Wrapper::Gzip => State::Gzip(Box::new(GzDecoder::new(input))),
            Wrapper::Xz => {
                let stream = Stream::new_stream_decoder(xz_memory(&self.limits), 0)?;
                State::Xz(XzStream { input, stream, ended: false })
            }
            Wrapper::Zstd => {
                let mut decoder = zstd::stream::read::Decoder::with_buffer(input)?.single_frame();
                decoder.window_log_max(zstd_window(&self.limits))?;
                State::Zstd(decoder)
            }
            Wrapper::Bzip2 => State::Bzip2(bzip2::bufread::BzDecoder::new(input)),
            Wrapper::Lz4 => State::Lz4(Box::new(FrameDecoder::new(input))),
        })
    }
}

/// Whether these few bytes could be the front of a member.
fn may_begin(wrapper: Wrapper, front: &[u8]) -> bool {
    let first = match wrapper {
        Wrapper::Gzip => 0x1f,
        Wrapper::Xz => 0xfd,
        Wrapper::Zstd => 0x28,
        Wrapper::Bzip2 => b'B',
        Wrapper::Lz4 => 0x04,
    };
    front.first().is_some_and(|byte| *byte == first || (0x50..=0x5f).contains(byte))
}

impl Read for Members {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if out.is_empty() {
            return Ok(0);
        }
        loop {
            let state = std::mem::replace(&mut self.state, State::Ended);
            if let State::Between(input) = state {
                self.state = self.begin(input)?;
                continue;
            }
            self.state = state;
            let len = match &mut self.state {
                State::Gzip(member) => member.read(out)?,
                State::Xz(member) => member.read(out)?,
                State::Zstd(member) => member.read(out)?,
                State::Bzip2(member) => member.read(out)?,
                State::Lz4(member) => member.read(out)?,
                State::Between(_) | State::Ended => return Ok(0),
            };
            if len > 0 {
                self.given += len as u64;
                return Ok(len);
            }
            let state = std::mem::replace(&mut self.state, State::Ended);
            self.state = State::Between(match state {
                State::Gzip(member) => member.into_inner(),
                State::Xz(member) => member.input,
                State::Zstd(mut member) => {
                    member.finish_frame()?;
                    member.into_inner()
                }
                State::Bzip2(member) => member.into_inner(),
                State::Lz4(member) => member.into_inner(),
                State::Between(input) => input,
                State::Ended => return Ok(0),
            });
        }
    }
}

/// One .xz stream, up to where it ends.
struct XzStream {
    input: Input,
    stream: Stream,
    ended: bool,
}

impl Read for XzStream {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        while !self.ended {
            let packed = self.input.fill_buf()?;
            if packed.is_empty() {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let before = (self.stream.total_in(), self.stream.total_out());
            let status = self.stream.process(packed, out, Action::Run)?;
            let consumed = self.stream.total_in() - before.0;
            let given = self.stream.total_out() - before.1;
            self.input.consume(usize::try_from(consumed).expect("no more than there was"));
            self.ended = status == Status::StreamEnd;
            if given > 0 {
                return Ok(usize::try_from(given).expect("no more than was asked for"));
            }
            if consumed == 0 && !self.ended {
                return Err(damaged("it does not go on"));
            }
        }
        Ok(0)
    }
}

/// A source from its front to its end.
pub(crate) struct Sequence<S> {
    source: S,
    at: u64,
}

impl<S: AsRef<dyn Source>> Sequence<S> {
    /// All of this source.
    pub(crate) fn new(source: S) -> Sequence<S> {
        Sequence { source, at: 0 }
    }
}

impl<S: AsRef<dyn Source>> Read for Sequence<S> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let len = self.source.as_ref().read_at(self.at, out)?;
        self.at += len as u64;
        Ok(len)
    }
}
