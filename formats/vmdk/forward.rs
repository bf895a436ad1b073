//! A stream that goes by: grains are found by their markers, in the order of the disk.
//!
//! Of the tables, which come behind their grains, none is looked at: the markers say where on the
//! disk a grain belongs. A stream whose grains are in another order is refused.

use std::sync::{Arc, Mutex, PoisonError};

use super::inspect::{Form, form};
use super::layout::{
    AT_END, GRAIN_MARKER, HEADER, Header, MARKER_DIRECTORY, MARKER_END, MARKER_FOOTER,
    MARKER_TABLE, MARKERS, Marker, SECTOR,
};
use super::sparse;
use crate::base::codec::Codec;
use crate::base::error::{Error, Result};
use crate::base::limits::Limits;
use crate::base::model::extent::{Extent, Packed, Place};
use crate::base::model::image::Image;
use crate::base::storage::{Source, Window};

/// Larger grains would have to be held several at a time.
const LARGEST_GRAIN: u64 = 1 << 20;
/// Grains that one look goes over.
const AT_ONCE: usize = 16;

struct Passing {
    size: u64,
    grain: u64,
    files: [Arc<dyn Source>; 1],
    state: Mutex<State>,
}

struct State {
    /// Where the next marker stands.
    at: u64,
    /// A grain that was found and not yet asked for.
    found: Option<Found>,
    /// Where on the disk the last one ended.
    reached: u64,
    ended: bool,
}

#[derive(Clone, Copy)]
struct Found {
    start: u64,
    offset: u64,
    packed: u64,
}

/// `None` if this is no stream that says where its grains belong before it says where they lie.
pub(super) fn open(source: Arc<dyn Source>, limits: &Limits) -> Result<Option<Box<dyn Image>>> {
    if !sparse::is_sparse(&*source)? {
        return Ok(None);
    }
    let Form::Sparse(head, text) = form(&*source, limits)? else { return Ok(None) };
    let streams = |header: &&Header| header.directory == AT_END && header.flags & MARKERS != 0;
    let Some(header) = head.header.as_ref().filter(streams) else { return Ok(None) };
    if text.is_some_and(|text| text.has_parent()) {
        return Ok(None);
    }
    if head.shape.grain > LARGEST_GRAIN {
        return Ok(None);
    }
    let overhead = header.overhead.checked_mul(SECTOR);
    let at = overhead.ok_or_else(|| Error::malformed(64, "its grains begin past every file"))?;
    let state = State { at, found: None, reached: 0, ended: false };
    let (size, grain) = (head.shape.size, head.shape.grain);
    Ok(Some(Box::new(Passing { size, grain, files: [source], state: Mutex::new(state) })))
}

impl Passing {
    /// The next grain of the stream; `None` at its end.
    fn next(&self, state: &mut State) -> Result<Option<Found>> {
        while state.found.is_none() && !state.ended {
            let at = state.at;
            let window: &dyn Window = &*self.files[0];
            let marker = Marker::parse(&window.array(at)?);
            let beyond = || Error::malformed(at, "a marker leads past every file");
            if marker.len == 0 {
                // Of metadata, and of the end, the whole sector has to be there.
                window.array::<HEADER>(at)?;
                state.pass_over(&marker)?;
                continue;
            }
            let packed = u64::from(marker.len);
            let end = at.checked_add(GRAIN_MARKER + packed).ok_or_else(beyond)?;
            state.at = end.checked_next_multiple_of(SECTOR).ok_or_else(beyond)?;
            let start = marker
                .value
                .checked_mul(SECTOR)
                .filter(|start| *start < self.size && start.is_multiple_of(self.grain));
            let start = start.ok_or_else(|| {
                let what =
                    format!("a grain for sector {} of the disk, where none is", marker.value);
                Error::malformed(at, what)
            })?;
            // What shrinks to more than it was is no grain; a little more may be.
            if packed > 2 * self.grain + 1024 {
                let what = format!("a grain of {packed} bytes, packed");
                return Err(Error::malformed(at, what));
            }
            if start < state.reached {
                let what =
                    format!("the grain for byte {start} comes late: save it as a file first");
                return Err(Error::unsupported(what).at(at));
            }
            state.reached = start + self.grain;
            state.found = Some(Found { start, offset: at + GRAIN_MARKER, packed });
        }
        Ok(state.found)
    }
}

impl State {
    /// Goes over metadata, or stops at the end of the stream.
    fn pass_over(&mut self, marker: &Marker) -> Result<()> {
        let at = self.at;
        let beyond = || Error::malformed(at, "a marker leads past every file");
        match marker.kind {
            MARKER_END => self.ended = true,
            MARKER_TABLE | MARKER_DIRECTORY | MARKER_FOOTER => {
                let len = marker.value.checked_mul(SECTOR).ok_or_else(beyond)?;
                let end = at.checked_add(len).and_then(|end| end.checked_add(SECTOR));
                self.at = end.ok_or_else(beyond)?;
            }
            kind => return Err(Error::malformed(at, format!("a marker of kind {kind}"))),
        }
        Ok(())
    }
}

impl Image for Passing {
    fn disk_size(&self) -> u64 {
        self.size
    }

    fn extents(&self, start: u64, out: &mut Vec<Extent>) -> Result<()> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let mut at = start;
        for _ in 0..AT_ONCE {
            let next = self.next(&mut state)?;
            let from = next.map_or(self.size, |found| found.start);
            if from < at {
                return Err(Error::invalid("a stream is read from its front to its end, once"));
            }
            if from > at {
                out.push(Extent { start: at, len: from - at, place: Place::Hole, depth: 0 });
            }
            let Some(Found { start, offset, packed }) = next else { break };
            state.found = None;
            // The last grain is whole in what most programs write, and cut off in what qemu does.
            let len = self.grain.min(self.size - start);
            let (codec, unit) = (Codec::Zlib, len);
            let place = Packed { file: 0, offset, len: packed, codec, unit, skip: 0 };
            out.push(Extent { start, len, place: Place::Packed(place), depth: 0 });
            at = start + len;
            if at == self.size {
                // What is behind the last grain has to be there, too: its end mark above all.
                self.next(&mut state)?;
                break;
            }
        }
        Ok(())
    }

    fn files(&self) -> &[Arc<dyn Source>] {
        &self.files
    }
}
