//! A raw disk from a stream whose length is not known into a file or another stream.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, channel, sync_channel};

use crate::base::error::{Error, Result};
use crate::base::limits::Limits;
use crate::base::model::format::Format;
use crate::base::storage::{Buffer, Put, Target};
use crate::copy::Copied;
use crate::forward::Raw;
use crate::holes::data_runs;
use crate::intake::{Forward, fill};
use crate::pool::Watch;

/// Bytes that are passed on at a time.
const PORTION: usize = 1 << 20;
/// Portions between who reads and who writes.
const BETWEEN: usize = 4;

/// How bytes are poured.
pub struct PourOptions<'a> {
    /// The formats that they could be of after all, as their end may show.
    pub formats: &'a [&'static Format],
    /// Whether the caller says that they are a raw disk, whatever they look like.
    pub stated: bool,
    /// Runs of zeros from this many bytes on are left out, a multiple of 4096; 0 writes all.
    pub sparse: u64,
    /// What they may not push us past.
    pub limits: &'a Limits,
    /// Who is told.
    pub watch: &'a dyn Watch,
}

/// Writes what goes by into `target`, as a raw disk of as many bytes as come. Returns how many
/// that were. `Refused` if the end shows that they are an image of another format.
pub fn pour(
    forward: Forward,
    target: &Arc<dyn Target>,
    options: &PourOptions,
) -> Result<(u64, Copied)> {
    let total = forward.len.unwrap_or(0);
    std::thread::scope(|scope| {
        let (full, filled) = sync_channel(BETWEEN);
        let (empty, emptied) = channel();
        for _ in 0..=BETWEEN {
            let _ = empty.send(Buffer::new(PORTION));
        }
        scope.spawn(move || read(forward, &emptied, &full));
        let mut pouring = Pouring { target, options, at: 0, written: 0 };
        let mut raw = Raw::new(options.formats, options.stated, options.limits);
        while let Ok(portion) = filled.recv() {
            let (buffer, len) = portion?;
            raw.see(&buffer[..len])?;
            pouring.write(&buffer[..len])?;
            if options.watch.progress(pouring.at, total).is_break() {
                return Err(Error::cancelled());
            }
            let _ = empty.send(buffer);
        }
        raw.finish()?;
        pouring.finish()
    })
}

type Portion = Result<(Buffer, usize)>;

/// Reads portions until there are no more, or nobody wants them.
fn read(mut forward: Forward, emptied: &Receiver<Buffer>, full: &SyncSender<Portion>) {
    while let Ok(mut buffer) = emptied.recv() {
        let got = fill(&mut forward.bytes, &mut buffer);
        let portion = match got {
            Ok(0) => return,
            Ok(len) => Ok((buffer, len)),
            Err(error) => Err(Error::io("cannot read", error).path(&forward.name)),
        };
        let failed = portion.is_err();
        if full.send(portion).is_err() || failed {
            return;
        }
    }
}

struct Pouring<'a> {
    target: &'a Arc<dyn Target>,
    options: &'a PourOptions<'a>,
    at: u64,
    written: u64,
}

impl Pouring<'_> {
    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        let end = self.at + bytes.len() as u64;
        let Limits { max_disk_size, max_output, .. } = *self.options.limits;
        if end > max_disk_size {
            return Err(Error::limit(format!("a disk of more than {max_disk_size} bytes")));
        }
        if let Some(fixed) = self.target.fixed_len().filter(|fixed| *fixed < end) {
            let what = format!("the device has {fixed} bytes, and the disk more");
            return Err(Error::invalid(what));
        }
        let hole = usize::try_from(self.options.sparse).unwrap_or(usize::MAX);
        let runs = match hole > 0 && self.target.is_fresh() {
            true => data_runs(bytes, hole),
            false => std::iter::once(0..bytes.len()).collect(),
        };
        for run in runs {
            let at = self.at + run.start as u64;
            self.written += run.len() as u64;
            if self.written > max_output {
                let what = format!("it holds more than {max_output} bytes of data");
                return Err(Error::limit(what));
            }
            self.target.put(at, &bytes[run])?;
        }
        self.at = end;
        Ok(())
    }

    fn finish(self) -> Result<(u64, Copied)> {
        if self.target.is_fresh() || self.target.appends_only() {
            let fail = |error| Error::io("cannot finish", error);
            self.target.set_len(self.at).map_err(fail)?;
        }
        self.target.settle()?;
        Ok((self.at, Copied { read: self.at, written: self.written }))
    }
}
