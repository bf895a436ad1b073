//! Blocks of a remote file that are here, or on their way.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

/// Bytes of a block: what one read of a header fetches.
pub(super) const BLOCK: u64 = 256 << 10;
/// Blocks that are kept, or are on their way: 32 MiB.
const KEPT: usize = 128;
/// Blocks that one request fetches at most: 8 MiB.
const AHEAD: u64 = 32;
/// Blocks that all requests fetch at most, together.
const ON_THEIR_WAY: usize = KEPT / 2;
/// Places at which somebody reads on, as far as we remember.
const FRONTS: usize = 16;

/// Blocks behind each other, to be fetched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Fetch {
    pub(super) first: u64,
    /// The one behind the last.
    pub(super) behind: u64,
}

impl Fetch {
    /// Where the first one begins.
    pub(super) fn start(self) -> u64 {
        self.first * BLOCK
    }

    /// Where the last one ends, if the file does not end before.
    pub(super) fn end(self) -> u64 {
        self.behind.saturating_mul(BLOCK)
    }
}

/// What is to be done about a byte.
pub(super) enum Look {
    /// It is here: its block, and where in it.
    Here(Arc<Vec<u8>>, usize),
    /// Somebody fetches it.
    OnItsWay,
    /// Whoever asked fetches these blocks; they count as on their way.
    Fetch(Fetch),
}

/// Up to where somebody has read, and how many blocks the last request fetched.
struct Front {
    next: u64,
    blocks: u64,
}

/// Blocks of a file.
pub(super) struct Blocks {
    /// Blocks of the whole file.
    count: u64,
    /// Each with when it was used last.
    here: BTreeMap<u64, (Arc<Vec<u8>>, u64)>,
    on_their_way: BTreeSet<u64>,
    fronts: VecDeque<Front>,
    clock: u64,
}

impl Blocks {
    pub(super) fn new(len: u64) -> Blocks {
        let (here, on_their_way) = (BTreeMap::new(), BTreeSet::new());
        let fronts = VecDeque::from([Front { next: 1, blocks: 1 }]);
        Blocks { count: len.div_ceil(BLOCK), here, on_their_way, fronts, clock: 0 }
    }

    /// What is to be done about the byte at `offset`, of `len` that are wanted from there on.
    pub(super) fn look(&mut self, offset: u64, len: u64) -> Look {
        let index = offset / BLOCK;
        self.clock += 1;
        if let Some((block, used)) = self.here.get_mut(&index) {
            *used = self.clock;
            let from = usize::try_from(offset % BLOCK).expect("a block fits into memory");
            return Look::Here(block.clone(), from);
        }
        if self.on_their_way.contains(&index) {
            return Look::OnItsWay;
        }
        let behind_wanted = offset.saturating_add(len).div_ceil(BLOCK);
        Look::Fetch(self.plan(index, behind_wanted))
    }

    /// A block has come.
    pub(super) fn put(&mut self, index: u64, bytes: Vec<u8>) {
        self.on_their_way.remove(&index);
        self.clock += 1;
        self.here.insert(index, (Arc::new(bytes), self.clock));
        while self.here.len() + self.on_their_way.len() > KEPT {
            let oldest = self.here.iter().min_by_key(|(_, (_, used))| *used);
            let Some(oldest) = oldest.map(|(index, _)| *index) else { break };
            self.here.remove(&oldest);
        }
    }

    /// These will not come.
    pub(super) fn give_up(&mut self, fetch: Fetch) {
        for index in fetch.first..fetch.behind {
            self.on_their_way.remove(&index);
        }
    }

    /// The blocks from `first` on that one request fetches: those wanted, and the more the longer
    /// somebody has read on from where he was.
    fn plan(&mut self, first: u64, behind_wanted: u64) -> Fetch {
        let known = self.fronts.iter().position(|front| front.next == first);
        let last = known.and_then(|at| self.fronts.remove(at)).map_or(0, |front| front.blocks);
        let wanted = (behind_wanted - first).max(last * 2).clamp(1, AHEAD);
        let room = ON_THEIR_WAY.saturating_sub(self.on_their_way.len()).max(1) as u64;
        let most = first.saturating_add(wanted.min(room)).min(self.count);
        let mut behind = first + 1;
        while behind < most && !self.is_known(behind) {
            behind += 1;
        }
        self.on_their_way.extend(first..behind);
        let mut next = behind;
        while self.is_known(next) {
            next += 1;
        }
        self.fronts.push_back(Front { next, blocks: wanted });
        if self.fronts.len() > FRONTS {
            self.fronts.pop_front();
        }
        Fetch { first, behind }
    }

    fn is_known(&self, index: u64) -> bool {
        self.here.contains_key(&index) || self.on_their_way.contains(&index)
    }
}
