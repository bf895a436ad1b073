//! What a check finds.

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Severity {
    /// Bytes of the disk are wrong, or will be after the next write.
    Corruption,
    /// Room in the file is lost.
    Leak,
    /// The check could not look at something.
    Unreadable,
}

/// One thing that a check found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// What it is, in a sentence.
    pub what: String,
    /// Offset in the file.
    pub at: u64,
    /// Whether it was mended.
    pub fixed: bool,
}

/// What a check found, counted; the names are `qemu-img check`'s.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tally {
    /// Corruptions that stand.
    pub corruptions: u64,
    /// Leaks that stand, in clusters.
    pub leaks: u64,
    /// Things that could not be looked at.
    pub check_errors: u64,
    /// Corruptions mended.
    pub corruptions_fixed: u64,
    /// Leaks mended.
    pub leaks_fixed: u64,
    /// Clusters of the disk.
    pub total_clusters: u64,
    /// Of these, with storage.
    pub allocated_clusters: u64,
    /// Of these, not behind their neighbour.
    pub fragmented_clusters: u64,
    /// Of these, compressed.
    pub compressed_clusters: u64,
    /// Where the last cluster in use ends.
    pub image_end_offset: u64,
}

impl Tally {
    /// Whether nothing is wrong, or nothing any more.
    pub fn is_clean(&self) -> bool {
        self.corruptions == 0 && self.leaks == 0 && self.check_errors == 0
    }

    /// Counts a finding.
    pub fn count(&mut self, finding: &Finding) {
        let counter = match (finding.severity, finding.fixed) {
            (Severity::Corruption, false) => &mut self.corruptions,
            (Severity::Corruption, true) => &mut self.corruptions_fixed,
            (Severity::Leak, false) => &mut self.leaks,
            (Severity::Leak, true) => &mut self.leaks_fixed,
            (Severity::Unreadable, _) => &mut self.check_errors,
        };
        *counter += 1;
    }
}

/// What a repair may change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Repair {
    /// Only take back room that is lost.
    Leaks,
    /// Everything that can be mended.
    All,
}

/// Hands findings on, and counts them.
pub(crate) struct Report<'a> {
    found: &'a mut (dyn FnMut(Finding) + 'a),
    pub(crate) tally: Tally,
}

impl<'a> Report<'a> {
    pub(crate) fn new(found: &'a mut (dyn FnMut(Finding) + 'a)) -> Report<'a> {
        Report { found, tally: Tally::default() }
    }

    pub(crate) fn add(&mut self, severity: Severity, at: u64, what: impl Into<String>) {
        self.say(Finding { severity, what: what.into(), at, fixed: false });
    }

    pub(crate) fn fixed(&mut self, severity: Severity, at: u64, what: impl Into<String>) {
        self.say(Finding { severity, what: what.into(), at, fixed: true });
    }

    pub(crate) fn corruption(&mut self, at: u64, what: impl Into<String>) {
        self.add(Severity::Corruption, at, what);
    }

    fn say(&mut self, finding: Finding) {
        self.tally.count(&finding);
        (self.found)(finding);
    }
}
