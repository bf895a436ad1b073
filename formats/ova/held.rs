//! Where the disks of a package lie.

use super::contents::Contents;
use super::descriptor::{Disk, File, Package};
use crate::base::error::{Error, Kind, Result};
use crate::base::limits::Limits;
use crate::base::model::entry::{Held, Stretch};
use crate::base::tar::Member;

/// How many members, and stretches of them, may be looked at for all files together: many files
/// can name the same one.
pub(super) struct Budget {
    left: u64,
}

impl Budget {
    pub(super) fn new(limits: &Limits) -> Budget {
        Budget { left: limits.max_entries.saturating_mul(4) }
    }

    fn spend(&mut self, count: usize) -> Result<()> {
        let left = self.left.checked_sub(count as u64);
        self.left = left.ok_or_else(|| Error::limit("a package of too many pieces"))?;
        Ok(())
    }
}

/// The members that a file of the package lies in: one, or one for each chunk.
pub(super) fn members<'a>(
    contents: &'a Contents,
    file: &File,
    budget: &mut Budget,
) -> Result<Vec<&'a Member>> {
    let plain = named(contents, &file.href);
    let mut chunks = Vec::new();
    while let Some(member) = named(contents, &chunk_name(&file.href, chunks.len() as u64)) {
        chunks.push(member);
        budget.spend(1)?;
    }
    let (at, shown) = (file.at, file.href.escape_debug());
    let all = match (plain, chunks.is_empty()) {
        (Some(_), false) => {
            let what = format!("'{shown}' is there as a whole, and in chunks");
            return Err(Error::refused(what).at(at));
        }
        (Some(plain), true) => return Ok(vec![plain]),
        (None, true) if leads_out(&file.href) => {
            let what = format!("'{shown}' is not in the archive, and no other place is looked at");
            return Err(Error::refused(what).at(at));
        }
        (None, true) => {
            return Err(Error::malformed(at, format!("the archive has no '{shown}'")));
        }
        (None, false) => chunks,
    };
    let missing = contents.count(&file.href) != all.len();
    let total = all.iter().map(|member| member.size).fold(0, u64::saturating_add);
    if missing || file.size.is_some_and(|size| size != total) {
        let what = format!("'{shown}' lacks chunks: {} of them have {total} bytes", all.len());
        return Err(Error::malformed(at, what));
    }
    Ok(all)
}

/// Whether a name is none of a file beside the descriptor, or below it.
fn leads_out(href: &str) -> bool {
    href.starts_with('/') || href.contains("://") || href.split('/').any(|part| part == "..")
}

/// A member by the name that the descriptor has for it: as it stands there, or as a URI.
fn named<'a>(contents: &'a Contents, href: &str) -> Option<&'a Member> {
    contents.named(href).or_else(|| contents.named(&decoded(href)?))
}

/// A name without `%20` and the like; `None` if there are none.
fn decoded(href: &str) -> Option<String> {
    let mut bytes = Vec::new();
    let mut rest = href.as_bytes();
    while let Some((first, behind)) = rest.split_first() {
        let code = (*first == b'%').then(|| behind.get(..2)).flatten();
        let code = code.and_then(|code| std::str::from_utf8(code).ok());
        let code = code.and_then(|code| u8::from_str_radix(code, 16).ok());
        bytes.push(code.unwrap_or(*first));
        rest = if code.is_some() { &behind[2..] } else { behind };
    }
    String::from_utf8(bytes).ok().filter(|name| name != href)
}

fn chunk_name(href: &str, number: u64) -> String {
    format!("{href}.{number:09}")
}

/// Where a disk lies in the archive, and what about it is odd.
pub(super) fn inside(
    contents: &Contents,
    package: &Package,
    disk: &Disk,
    budget: &mut Budget,
) -> Result<(Held, Option<String>)> {
    let mut held = of(disk);
    let Some(file) = disk.file.map(|index| &package.files[index]) else { return Ok((held, None)) };
    let members = match members(contents, file, budget) {
        Ok(members) => members,
        Err(error) if error.kind() == Kind::Limit => return Err(error),
        Err(error) => {
            held.stretches = None;
            held.lacks.get_or_insert((error.kind(), error.to_string()));
            return Ok((held, None));
        }
    };
    budget.spend(members.iter().map(|member| member.stretches.len()).sum())?;
    let stretches: Vec<Stretch> =
        members.iter().flat_map(|member| member.stretches.iter().copied()).collect();
    let total = members.iter().map(|member| member.size).fold(0, u64::saturating_add);
    let names = members.iter().map(|member| contents.name_of(member).to_string());
    (held.stretches, held.parts) = (Some(stretches), names.collect());
    let Some(size) = file.size.filter(|size| *size != total) else { return Ok((held, None)) };
    held.capacity = None;
    let href = &file.href;
    let what = format!(
        "the descriptor says that '{href}' has {size} bytes, and it has {total}: what it says of \
         the disk in it is not believed"
    );
    Ok((held, Some(what)))
}

/// Where a disk lies beside a descriptor.
pub(super) fn beside(package: &Package, disk: &Disk, limits: &Limits) -> Result<Held> {
    let mut held = of(disk);
    let Some(file) = disk.file.map(|index| &package.files[index]) else { return Ok(held) };
    held.size = file.size;
    held.stretches = None;
    let Some(chunk) = file.chunk else { return Ok(held) };
    let shown = file.href.escape_debug();
    let size = file.size.filter(|_| chunk > 0).ok_or_else(|| {
        let what = format!("'{shown}' is cut into chunks, and it is not said into how many");
        Error::malformed(file.at, what)
    })?;
    let count = size.div_ceil(chunk);
    if count > limits.max_files as u64 {
        let most = limits.max_files;
        let what = format!("'{shown}' is cut into {count} chunks, {most} at most");
        return Err(Error::limit(what).at(file.at));
    }
    held.parts = (0..count).map(|number| chunk_name(&file.href, number)).collect();
    Ok(held)
}

fn of(disk: &Disk) -> Held {
    let lacks = disk.parent.as_ref().map(|parent| {
        let (id, parent) = (disk.id.escape_debug(), parent.escape_debug());
        (Kind::Unsupported, format!("the disk '{id}' lies on top of '{parent}'"))
    });
    Held { stretches: Some(Vec::new()), capacity: disk.capacity, lacks, ..Held::default() }
}
