//! Units → clusters, one behind the other; tables and header last.
//!
//! ```text
//!   0        header; its magic is written last of all
//!   1 ..     L1 table, written at the end
//!   ..       clusters in the order of the disk; an L2 table when the disk has left it behind,
//!            a refcount block when the file has
//!   .. end   the last refcount blocks, the refcount table
//! ```

use std::sync::{Arc, Mutex, PoisonError};

use super::layout::{
    COMPRESSION_TYPE, COPIED, DATA_FILE, DATA_FILE_RAW, EXTENDED_L2, EXTENSION_BACKING_FORMAT,
    EXTENSION_DATA_FILE, FULL_LENGTH, Geometry, Header, LAZY_REFCOUNTS, MAGIC, V2_LENGTH, ZERO,
};
use super::options::{Plan, Preallocation};
use super::refcount::Allocator;
use crate::base::codec::{Codec, Packing};
use crate::base::error::{Error, Result};
use crate::base::model::create::Create;
use crate::base::model::writer::{Piece, Slot, Writer};
use crate::base::storage::{Put, Span, Target};

struct Qcow2 {
    plan: Plan,
    image: Arc<dyn Target>,
    /// Where plain clusters go: the image, or the data file.
    data: Arc<dyn Target>,
    /// The first cluster, complete but for the place of the refcount table.
    header: Header,
    first_cluster: Vec<u8>,
    backing: bool,
    state: Mutex<State>,
}

struct State {
    clusters: Allocator,
    l1: Vec<u64>,
    l1_offset: u64,
    /// The L2 table of the stretch of disk that is being written: its L1 index and its bytes.
    table: Option<(u64, Vec<u8>)>,
    /// Where the next compressed cluster may begin: inside a cluster that has room left.
    packed: Option<u64>,
    /// How many users the cluster of `packed` has.
    packed_users: u64,
}

/// A writer for a new image in a fresh target. `Invalid` for options that do not exist or do not
/// go together.
pub(super) fn create(target: Arc<dyn Target>, create: &Create) -> Result<Box<dyn Writer>> {
    Ok(Box::new(Qcow2::new(target, create).map_err(|error| error.format("qcow2"))?))
}

impl Qcow2 {
    fn new(image: Arc<dyn Target>, create: &Create) -> Result<Qcow2> {
        let plan = Plan::of(create)?;
        if !create.size.is_multiple_of(512) {
            let what = format!("a disk of {} bytes: sizes are multiples of 512", create.size);
            return Err(Error::invalid(what));
        }
        let data = create.data_file.clone().unwrap_or_else(|| image.clone());
        let mut clusters =
            Allocator::new(image.clone(), plan.geometry.cluster_bits, plan.refcount_order);
        clusters.take(1, None)?;
        let l1_clusters = (plan.l1_size * 8).div_ceil(plan.geometry.cluster());
        let l1_offset = clusters.take(l1_clusters, None)?;
        let entries = usize::try_from(plan.l1_size).map_err(|_| Error::limit("too large an L1"))?;
        let mut header = header(&plan, create.size, l1_offset);
        let first_cluster = first_cluster(&mut header, create)?;
        let state = State {
            clusters,
            l1: vec![0; entries],
            l1_offset,
            table: None,
            packed: None,
            packed_users: 0,
        };
        let backing = create.backing.is_some();
        let state = Mutex::new(state);
        let this = Qcow2 { plan, image, data, header, first_cluster, backing, state };
        this.make_room(create.size)?;
        if !this.image.is_fresh() {
            // The header of an older image must not vouch for what is written from now on.
            let size = usize::try_from(this.cluster()).expect("2 MiB at most");
            this.image.put(0, &vec![0; size])?;
        }
        Ok(this)
    }

    /// Room in the data file, which has the size of the disk from the start.
    fn make_room(&self, size: u64) -> Result<()> {
        if !self.plan.geometry.data_file {
            return Ok(());
        }
        let fail = |error| Error::io("cannot make room in the data file", error);
        self.data.set_len(size).map_err(fail)?;
        if matches!(self.plan.preallocation, Preallocation::Allocate | Preallocation::Write) {
            self.data.allocate(Span::new(0, size)?).map_err(fail)?;
        }
        Ok(())
    }

    fn cluster(&self) -> u64 {
        self.plan.geometry.cluster()
    }

    fn clusters_in(&self, len: u64) -> u64 {
        len.div_ceil(self.cluster())
    }

    /// Clusters for the front of a stretch: as far as one L2 table reaches.
    fn reserve_plain(&self, state: &mut State, start: u64, len: u64) -> Result<Slot> {
        let reach = self.plan.geometry.l2_reach();
        let len = len.min(reach - start % reach);
        let count = self.clusters_in(len);
        self.turn_to(state, start)?;
        let offset = if self.plan.geometry.data_file {
            start
        } else {
            let keep = state.packed.map(|at| at >> self.plan.geometry.cluster_bits);
            state.clusters.take(count, keep)?
        };
        for index in 0..count {
            let step = index << self.plan.geometry.cluster_bits;
            self.enter(state, start + step, COPIED | (offset + step), 0xffff_ffff);
        }
        Ok(Slot { offset, len })
    }

    /// Room for a compressed cluster: behind the last one where that leaves no gap.
    fn reserve_packed(&self, state: &mut State, start: u64, len: u64) -> Result<Slot> {
        let (cluster, bits) = (self.cluster(), self.plan.geometry.cluster_bits);
        self.turn_to(state, start)?;
        let max = state.clusters.max();
        let follows = state.packed.filter(|at| {
            let room = cluster - at % cluster;
            let next_is_free = at - at % cluster + cluster == state.clusters.end();
            state.packed_users < max && (len <= room || next_is_free)
        });
        let offset = if let Some(at) = follows {
            state.packed_users = state.clusters.add(at >> bits)?;
            if (at + len - 1) >> bits != at >> bits {
                state.clusters.take(1, Some(at >> bits))?;
                state.packed_users = 1;
            }
            at
        } else {
            let keep = state.packed.map(|at| at >> bits);
            state.packed_users = 1;
            state.clusters.take(1, keep)?
        };
        let end = offset + len;
        state.packed = (!end.is_multiple_of(cluster)).then_some(end);
        self.enter(state, start, self.plan.geometry.packed_entry(offset, len), 0);
        Ok(Slot { offset, len: cluster })
    }

    /// Zeros: nothing, or room, or a note that what lies underneath does not count.
    fn reserve_zeros(&self, state: &mut State, start: u64, len: u64) -> Result<()> {
        let preallocates = self.plan.preallocation != Preallocation::Off;
        // Version 2 has no word for zeros: over a backing file it takes a cluster of them.
        let takes_room = preallocates || (self.backing && self.plan.geometry.version == 2);
        if !takes_room && !self.backing {
            return Ok(());
        }
        let mut at = start;
        while at < start + len {
            let left = start + len - at;
            if takes_room {
                let slot = self.reserve_plain(state, at, left)?;
                if self.plan.preallocation == Preallocation::Write || !self.data.is_fresh() {
                    self.write_zeros(slot)?;
                }
                at += slot.len;
            } else {
                self.turn_to(state, at)?;
                let entry = if self.plan.geometry.extended { 0 } else { ZERO };
                self.enter(state, at, entry, 0xffff_ffff_0000_0000);
                at += self.cluster().min(left);
            }
        }
        Ok(())
    }

    fn write_zeros(&self, slot: Slot) -> Result<()> {
        let zeros = vec![0; 1 << 20];
        let mut done = 0;
        while done < slot.len {
            let len = (slot.len - done).min(1 << 20);
            let bytes = &zeros[..usize::try_from(len).expect("a MiB at most")];
            self.data.put(slot.offset + done, bytes)?;
            done += len;
        }
        Ok(())
    }

    /// Makes the L2 table of this place of the disk the current one.
    fn turn_to(&self, state: &mut State, start: u64) -> Result<()> {
        let index = start / self.plan.geometry.l2_reach();
        if state.table.as_ref().is_some_and(|(current, _)| *current == index) {
            return Ok(());
        }
        let mut bytes = self.write_table(state)?.unwrap_or_default();
        bytes.clear();
        bytes.resize(usize::try_from(self.cluster()).expect("2 MiB at most"), 0);
        state.table = Some((index, bytes));
        Ok(())
    }

    /// Writes the current L2 table; gives its buffer back.
    fn write_table(&self, state: &mut State) -> Result<Option<Vec<u8>>> {
        let Some((index, bytes)) = state.table.take() else { return Ok(None) };
        let keep = state.packed.map(|at| at >> self.plan.geometry.cluster_bits);
        let offset = state.clusters.take(1, keep)?;
        self.image.put(offset, &bytes)?;
        state.l1[usize::try_from(index).expect("an index of the L1 table")] = COPIED | offset;
        Ok(Some(bytes))
    }

    fn enter(&self, state: &mut State, start: u64, entry: u64, bitmap: u64) {
        let Geometry { cluster_bits, extended, .. } = self.plan.geometry;
        let (_, table) = state.table.as_mut().expect("turned to before");
        let index = (start % self.plan.geometry.l2_reach()) >> cluster_bits;
        let at = usize::try_from(index * self.plan.geometry.entry_size()).expect("in a cluster");
        table[at..at + 8].copy_from_slice(&entry.to_be_bytes());
        if extended {
            table[at + 8..at + 16].copy_from_slice(&bitmap.to_be_bytes());
        }
    }
}

fn header(plan: &Plan, size: u64, l1_offset: u64) -> Header {
    let Geometry { version, cluster_bits, extended, data_file, codec } = plan.geometry;
    let flag = |set: bool, bit: u64| if set { bit } else { 0 };
    Header {
        version,
        backing_offset: 0,
        backing_len: 0,
        cluster_bits,
        size,
        crypt_method: 0,
        l1_size: u32::try_from(plan.l1_size).expect("at most 32 MiB of entries"),
        l1_offset,
        refcount_table_offset: 0,
        refcount_table_clusters: 0,
        snapshot_count: 0,
        snapshots_offset: 0,
        incompatible: flag(data_file, DATA_FILE)
            | flag(codec == Codec::Zstd, COMPRESSION_TYPE)
            | flag(extended, EXTENDED_L2),
        compatible: flag(plan.lazy_refcounts, LAZY_REFCOUNTS),
        autoclear: flag(plan.data_file_raw, DATA_FILE_RAW),
        refcount_order: plan.refcount_order,
        header_length: if version == 2 { V2_LENGTH } else { FULL_LENGTH },
        compression_type: u8::from(codec == Codec::Zstd),
    }
}

/// What follows the header in the first cluster: extensions, then the backing file's name, whose
/// place the header is told.
fn first_cluster(header: &mut Header, create: &Create) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut extension = |kind: u32, data: &str| {
        bytes.extend(kind.to_be_bytes());
        bytes.extend(u32::try_from(data.len()).unwrap_or(u32::MAX).to_be_bytes());
        bytes.extend(data.as_bytes());
        bytes.resize(bytes.len().next_multiple_of(8), 0);
    };
    if let Some((_, format)) = &create.backing {
        extension(EXTENSION_BACKING_FORMAT, format);
    }
    if let Some(name) = create.options.text("data_file") {
        extension(EXTENSION_DATA_FILE, name);
    }
    bytes.extend([0; 8]);
    if let Some((name, _)) = &create.backing {
        header.backing_offset = u64::from(header.header_length) + bytes.len() as u64;
        header.backing_len = u32::try_from(name.len()).unwrap_or(u32::MAX);
        bytes.extend(name.as_bytes());
        if name.len() > 1023 {
            let what = format!("the backing file's name has {} bytes, 1023 at most", name.len());
            return Err(Error::invalid(what));
        }
    }
    let (len, cluster) =
        (u64::from(header.header_length) + bytes.len() as u64, 1 << header.cluster_bits);
    if len > cluster {
        let what = format!("names and header take {len} bytes, and a cluster has {cluster}");
        return Err(Error::invalid(what));
    }
    Ok(bytes)
}

impl Writer for Qcow2 {
    fn unit(&self) -> u64 {
        self.cluster()
    }

    fn packing(&self) -> Option<Packing> {
        self.plan.packing
    }

    fn accepts(&self, codec: Codec, unit: u64) -> bool {
        let same = |packing: Packing| packing.codec == codec && unit == self.cluster();
        self.plan.passes_on && self.plan.packing.is_some_and(same)
    }

    fn leaves_holes(&self) -> bool {
        self.plan.preallocation != Preallocation::Write
    }

    fn reserve(&self, start: u64, piece: Piece) -> Result<Option<Slot>> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match piece {
            Piece::Zero(len) => self.reserve_zeros(&mut state, start, len).map(|()| None),
            Piece::Backing(_) => Ok(None),
            Piece::Plain(len) => self.reserve_plain(&mut state, start, len).map(Some),
            Piece::Packed(len) => self.reserve_packed(&mut state, start, len).map(Some),
        }
    }

    fn target(&self) -> &Arc<dyn Target> {
        &self.data
    }

    fn finish(&self) -> Result<()> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        self.write_table(&mut state)?;
        let fail = |error| Error::io("cannot finish", error).format("qcow2");
        let data_end = state.clusters.end();
        if matches!(self.plan.preallocation, Preallocation::Allocate | Preallocation::Write)
            && !self.plan.geometry.data_file
        {
            self.image.allocate(Span::new(0, data_end)?).map_err(fail)?;
        }
        let (offset, clusters) = state.clusters.finish()?;
        self.write_l1(&state)?;
        let mut header = self.header.clone();
        header.refcount_table_offset = offset;
        header.refcount_table_clusters = u32::try_from(clusters)
            .map_err(|_| Error::limit("the refcount table is too large").format("qcow2"))?;
        let mut bytes = header.to_bytes();
        bytes.extend(&self.first_cluster);
        let (magic, rest) = bytes.split_at(MAGIC.len());
        self.image.put(magic.len() as u64, rest)?;
        self.image.set_len(state.clusters.end()).map_err(fail)?;
        if self.plan.geometry.data_file {
            self.data.sync().map_err(fail)?;
        }
        self.image.sync().map_err(fail)?;
        // By itself, for a header torn in the middle could pass for a whole one.
        self.image.put(0, magic)?;
        self.image.sync().map_err(fail)
    }
}

impl Qcow2 {
    fn write_l1(&self, state: &State) -> Result<()> {
        for (index, part) in state.l1.chunks(8192).enumerate() {
            if !self.image.is_fresh() || part.iter().any(|entry| *entry != 0) {
                let bytes: Vec<u8> = part.iter().flat_map(|entry| entry.to_be_bytes()).collect();
                self.image.put(state.l1_offset + (index * 8192 * 8) as u64, &bytes)?;
            }
        }
        Ok(())
    }
}
