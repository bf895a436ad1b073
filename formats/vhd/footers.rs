//! The footer at the end and its copy at the beginning: which of them is to be believed.

use super::layout::{
    COOKIE, DIFFERENCING, DYNAMIC, FIXED, FOOTER, FOOTER_SUM, Footer, SHORT_FOOTER, VERSION,
    checksum,
};
use crate::base::error::{Error, Kind, Result};
use crate::base::storage::Window;

/// A footer or a copy of one at the front, or a footer at the end.
pub(super) fn probe(window: &dyn Window) -> Result<bool> {
    if window.starts_with(0, &COOKIE)? {
        return Ok(true);
    }
    Ok(last(window)?.is_some())
}

/// Where the file ends with a footer.
fn last(window: &dyn Window) -> Result<Option<u64>> {
    let total = window.len()?;
    for len in [FOOTER, SHORT_FOOTER] {
        if let Some(at) = total.checked_sub(len)
            && window.starts_with(at, &COOKIE)?
        {
            return Ok(Some(at));
        }
    }
    Ok(None)
}

/// What stands where a footer may be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Copy {
    pub(super) at: u64,
    pub(super) bytes: Vec<u8>,
    pub(super) footer: Footer,
    /// Whether its checksum is right.
    pub(super) sound: bool,
}

/// The two places.
pub(super) struct Copies {
    pub(super) front: Option<Copy>,
    pub(super) back: Option<Copy>,
    /// Bytes of the file.
    pub(super) total: u64,
}

/// The footer that is believed.
#[derive(Debug, Clone)]
pub(super) struct Chosen {
    pub(super) footer: Footer,
    /// Where the footer at the end stands, or where the file ends if there is none.
    pub(super) end: u64,
    /// What is wrong with the two, and where.
    pub(super) wrong: Vec<(u64, String)>,
    /// The front is the copy of another kind of footer: two readers may see two disks.
    pub(super) ambiguous: bool,
}

/// The copy at the front.
pub(super) fn front(window: &dyn Window) -> Result<Option<Copy>> {
    copy(window, 0, FOOTER)
}

fn copy(window: &dyn Window, at: u64, len: u64) -> Result<Option<Copy>> {
    let mut bytes = vec![0; usize::try_from(FOOTER).expect("512")];
    let part = &mut bytes[..usize::try_from(len).expect("511 or 512")];
    match window.read(at, part) {
        Ok(()) => {}
        Err(error) if error.kind() == Kind::Truncated => return Ok(None),
        Err(error) => return Err(error),
    }
    let Some(footer) = Footer::parse(&bytes) else { return Ok(None) };
    let sound = footer.checksum == checksum(&bytes, FOOTER_SUM);
    Ok(Some(Copy { at, bytes, footer, sound }))
}

/// Looks at both places.
pub(super) fn copies(window: &dyn Window) -> Result<Copies> {
    let front = front(window)?;
    let total = window.len()?;
    let back = match last(window)? {
        Some(at) => copy(window, at, total - at)?,
        None => None,
    };
    // In a file of one sector both are the same.
    let back = back.filter(|back| back.at > 0);
    Ok(Copies { front, back, total })
}

impl Copies {
    /// The footer to believe: the one at the end, if its checksum is right, or else the copy.
    /// `Malformed` if neither is right, `Unsupported` for another version.
    pub(super) fn choose(&self) -> Result<Chosen> {
        let sound = |copy: &&Copy| copy.sound;
        let (front, back) = (self.front.as_ref(), self.back.as_ref());
        let found = back.filter(sound).or(front.filter(sound));
        let Some(found) = found else {
            let at = back.or(front).map_or(0, |copy| copy.at);
            return Err(Error::malformed(at, "the checksum of the footer is wrong"));
        };
        let footer = found.footer.clone();
        check_footer(&footer, found.at)?;
        let wrong = self.wrong(&footer);
        let end = back.map_or(self.total, |back| back.at);
        let ambiguous = footer.kind == FIXED && front.is_some_and(|front| front.sound);
        Ok(Chosen { footer, end, wrong, ambiguous })
    }

    /// What is wrong with the two places, if this footer is to be believed.
    pub(super) fn wrong(&self, footer: &Footer) -> Vec<(u64, String)> {
        let mut wrong: Vec<(u64, String)> = Vec::new();
        let mut add = |at, what: &str| wrong.push((at, what.to_string()));
        match &self.back {
            None => add(self.total, "there is no footer at its end"),
            Some(back) if !back.sound => {
                add(back.at, "the checksum of the footer at its end is wrong");
            }
            Some(_) => {}
        }
        if footer.kind == FIXED {
            return wrong;
        }
        match (&self.front, &self.back) {
            (None, _) => add(0, "there is no copy of the footer at its beginning"),
            (Some(front), _) if !front.sound => {
                add(0, "the checksum of the footer's copy at its beginning is wrong");
            }
            (Some(front), Some(back)) if back.sound && front.bytes != back.bytes => {
                add(0, "the footer at its end and the copy at its beginning differ");
            }
            (Some(_), _) => {}
        }
        wrong
    }
}

/// `Unsupported` or `Malformed` for a footer of a kind or version that is not known.
pub(super) fn check_footer(footer: &Footer, at: u64) -> Result<()> {
    if footer.version >> 16 != VERSION >> 16 {
        let what = format!("a footer of version {:#x}", footer.version);
        return Err(Error::unsupported(what).at(at + 12));
    }
    if ![FIXED, DYNAMIC, DIFFERENCING].contains(&footer.kind) {
        return Err(Error::malformed(at + 60, format!("a disk of type {}", footer.kind)));
    }
    if footer.kind == FIXED && at == 0 {
        return Err(Error::malformed(60, "a fixed disk, and no footer at its end"));
    }
    Ok(())
}
