//! Zstandard, with contexts that are kept.

use zstd::zstd_safe::{self, CCtx, CParameter, DCtx, InBuffer, OutBuffer};

use crate::base::error::{Error, Kind, Result};

fn damaged(code: usize) -> Error {
    let why = zstd_safe::get_error_name(code);
    Error::new(Kind::Malformed, format!("the zstd frame is damaged ({why})"))
}

#[derive(Default)]
pub(super) struct Decoder(Option<DCtx<'static>>);

impl Decoder {
    pub(super) fn decode(&mut self, packed: &[u8], out: &mut [u8]) -> Result<()> {
        let context = self.0.get_or_insert_with(DCtx::create);
        let (mut from, mut done) = (0, 0);
        while done < out.len() {
            let rest = &packed[from..];
            if rest.is_empty() {
                return Err(Error::new(Kind::Malformed, "the zstd frames end too early"));
            }
            // One shot needs to know where the frame ends, for it must not see what follows.
            let len = zstd_safe::find_frame_compressed_size(rest);
            let whole = len.ok().and_then(|len| {
                let n = context.decompress(&mut out[done..], &rest[..len]).ok()?;
                Some((len, n))
            });
            match whole {
                Some((len, n)) => (from, done) = (from + len, done + n),
                None => return front(context, rest, &mut out[done..]),
            }
        }
        Ok(())
    }
}

/// A frame that is longer than what was asked for, or has no end: as much of it as is wanted.
fn front(context: &mut DCtx<'static>, packed: &[u8], out: &mut [u8]) -> Result<()> {
    context.reset(zstd_safe::ResetDirective::SessionOnly).map_err(damaged)?;
    // A frame may ask for a window of up to 128 MiB; units have 2 MiB at most.
    context.set_parameter(zstd_safe::DParameter::WindowLogMax(24)).map_err(damaged)?;
    let mut input = InBuffer::around(packed);
    let len = out.len();
    let mut output = OutBuffer::around(out);
    while output.pos() < len {
        let before = (input.pos(), output.pos());
        context.decompress_stream(&mut output, &mut input).map_err(damaged)?;
        if (input.pos(), output.pos()) == before {
            return Err(Error::new(Kind::Malformed, "the zstd frame ends too early"));
        }
    }
    Ok(())
}

#[derive(Default)]
pub(super) struct Encoder(Option<(i32, CCtx<'static>)>);

impl Encoder {
    /// How many bytes of `out` it took, or `None` if it does not fit.
    pub(super) fn encode(
        &mut self,
        level: i32,
        bytes: &[u8],
        out: &mut [u8],
    ) -> Result<Option<usize>> {
        if self.0.as_ref().is_none_or(|(is, _)| *is != level) {
            let mut context = CCtx::create();
            context
                .set_parameter(CParameter::CompressionLevel(level))
                .map_err(|_| Error::invalid(format!("zstd has no level {level}")))?;
            self.0 = Some((level, context));
        }
        let (_, context) = self.0.as_mut().expect("made above");
        // The only way in which one shot can fail is for lack of room.
        Ok(context.compress2(out, bytes).ok())
    }
}
