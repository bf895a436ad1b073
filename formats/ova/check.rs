//! What is wrong with a package: every byte of an archive is looked at.

use std::collections::BTreeSet;

use super::contents::{self, Contents};
use super::descriptor::{self as ovf, Package};
use super::held::{self, Budget};
use super::{inspect, xml};
use crate::base::digest::{Digest, Hasher};
use crate::base::error::{Error, Kind, Result};
use crate::base::limits::Limits;
use crate::base::manifest::{self, Line};
use crate::base::model::entry::Stretch;
use crate::base::model::finding::{Finding, Report, Severity, Tally};
use crate::base::model::format::Links;
use crate::base::storage::{Source, Window, is_zero};
use crate::base::tar::{BLOCK, Member};

/// Bytes that are read at once.
const PIECE: usize = 1 << 20;

/// Checks an archive.
pub(super) fn archive(
    links: Links,
    limits: &Limits,
    found: &mut dyn FnMut(Finding),
) -> Result<Tally> {
    let Links { source, .. } = links;
    let mut report = Report::new(found);
    let contents = contents::read(&*source, limits)?;
    let checked = xml::parse(&contents.descriptor.bytes, limits);
    match checked.and_then(|root| ovf::read(&root, limits)) {
        Ok(package) => files(&contents, &package, limits, &mut report)?,
        Err(error) => told(error, contents.members[contents.descriptor.index].header, &mut report)?,
    }
    digests(&contents, &*source, limits, &mut report)?;
    certificate(&contents, &mut report)?;
    gaps(&contents, &*source, &mut report)?;
    report.tally.image_end_offset = contents.trailer;
    Ok(report.tally)
}

/// Checks a descriptor that lies by itself: what it says, not the files beside it.
pub(super) fn descriptor(
    links: Links,
    limits: &Limits,
    found: &mut dyn FnMut(Finding),
) -> Result<Tally> {
    let Links { source, .. } = links;
    let mut report = Report::new(found);
    if let Err(error) = inspect::text(&*source, limits) {
        told(error, 0, &mut report)?;
    }
    report.tally.image_end_offset = source.len();
    Ok(report.tally)
}

/// An error of the package is a finding; one of storage is not.
fn told(error: Error, at: u64, report: &mut Report) -> Result<()> {
    match error.kind() {
        Kind::Malformed | Kind::Truncated | Kind::Refused => {
            report.corruption(at, error.to_string());
            Ok(())
        }
        Kind::Unsupported
        | Kind::Limit
        | Kind::Invalid
        | Kind::Io
        | Kind::Cancelled
        | Kind::Awaiting => Err(error),
    }
}

/// The files that the descriptor names: whether they are there, and of what size.
fn files(
    contents: &Contents,
    package: &Package,
    limits: &Limits,
    report: &mut Report,
) -> Result<()> {
    let mut budget = Budget::new(limits);
    for file in &package.files {
        match held::members(contents, file, &mut budget) {
            Err(error) => {
                let at = contents.members[contents.descriptor.index].header;
                told(error, at, report)?;
            }
            Ok(members) => {
                let is = members.iter().map(|member| member.size).fold(0, u64::saturating_add);
                if let (Some(size), Some(first)) = (file.size, members.first())
                    && size != is
                {
                    let href = file.href.escape_debug();
                    let what = format!("'{href}' has {is} bytes, and the descriptor says {size}");
                    report.corruption(first.header, what);
                }
            }
        }
    }
    Ok(())
}

/// The manifest, line by line, against the members.
fn digests(
    contents: &Contents,
    source: &dyn Source,
    limits: &Limits,
    report: &mut Report,
) -> Result<()> {
    let Some(text) = &contents.manifest else { return Ok(()) };
    let of_text = contents.members[text.index].header;
    let lines = match manifest::parse(&text.bytes, limits) {
        Ok(lines) => lines,
        Err(error) => return told(error, of_text, report),
    };
    let first = lines.first().map(|line| &line.spelling);
    for line in &lines {
        let shown = line.name.escape_debug();
        if first.is_some_and(|first| !line.spelling.goes_with(first)) {
            let what = format!("the manifest spells the line of '{shown}' unlike the others");
            report.add(Severity::Leak, of_text, what);
        }
        let Some(member) = contents.named(&line.name) else {
            report.corruption(of_text, format!("the manifest names '{shown}', which is not there"));
            continue;
        };
        let is = digest(member, line, source)?;
        if is != line.digest {
            let (how, is, said) = (is.algorithm.name(), is.hex(), line.digest.hex());
            let what = format!("the {how} digest of '{shown}' is {is}, not {said}");
            report.corruption(member.header, what);
        }
    }
    let texts = [contents.manifest.as_ref(), contents.certificate.as_ref()];
    let texts: Vec<_> = texts.into_iter().flatten().map(|text| text.index).collect();
    let named: BTreeSet<_> = lines.iter().map(|line| line.name.as_str()).collect();
    for (index, member) in contents.members.iter().enumerate() {
        let name = contents.name_of(member);
        if !texts.contains(&index) && !named.contains(name) {
            let name = name.escape_debug();
            let what =
                format!("the manifest does not name '{name}': nothing vouches for its bytes");
            report.add(Severity::Unreadable, member.header, what);
        }
    }
    Ok(())
}

fn digest(member: &Member, line: &Line, source: &dyn Source) -> Result<Digest> {
    let mut hasher = Hasher::new(line.digest.algorithm);
    let mut buffer = vec![0; PIECE];
    for Stretch { offset, len } in &member.stretches {
        let mut done = 0;
        while done < *len {
            let part = usize::try_from(len - done).unwrap_or(PIECE).min(PIECE);
            match offset {
                Some(offset) => Window::read(source, offset + done, &mut buffer[..part])?,
                None => buffer[..part].fill(0),
            }
            hasher.update(&buffer[..part]);
            done += part as u64;
        }
    }
    Ok(hasher.finish())
}

fn certificate(contents: &Contents, report: &mut Report) -> Result<()> {
    let Some(text) = &contents.certificate else { return Ok(()) };
    let at = contents.members[text.index].header;
    match inspect::signed(contents) {
        Some(Ok(certificate)) if !certificate.verifies => {
            let subject = certificate.subject.escape_debug();
            report.corruption(at, format!("the manifest was not signed by '{subject}'"));
        }
        Some(Err(error)) => told(error, at, report)?,
        None | Some(Ok(_)) => {}
    }
    Ok(())
}

/// The bytes that belong to no file: what fills up members, and what ends the archive.
fn gaps(contents: &Contents, source: &dyn Source, report: &mut Report) -> Result<()> {
    let total = source.len();
    for member in &contents.members {
        if !member.usual {
            let path = member.path.escape_debug();
            let what = format!("the tar header of '{path}' spells its checksum in an unusual way");
            report.add(Severity::Leak, member.header, what);
        }
        let next = member.end.next_multiple_of(BLOCK).min(total);
        if let Some(at) = first_byte(source, member.end, next)? {
            let what = "bytes behind a member that belong to none".to_string();
            report.add(Severity::Leak, at, what);
        }
    }
    if total < contents.trailer.saturating_add(2 * BLOCK) {
        let what = "the archive does not end with two blocks of zeros";
        report.corruption(contents.trailer, what);
    }
    if let Some(at) = first_byte(source, contents.trailer.min(total), total)? {
        report.add(Severity::Leak, at, "bytes behind the end of the archive");
    }
    Ok(())
}

/// Where the first byte that is not zero lies.
fn first_byte(source: &dyn Source, from: u64, to: u64) -> Result<Option<u64>> {
    let mut buffer = vec![0; PIECE];
    let mut at = from;
    while at < to {
        let part = usize::try_from(to - at).unwrap_or(PIECE).min(PIECE);
        Window::read(source, at, &mut buffer[..part])?;
        if !is_zero(&buffer[..part]) {
            let index = buffer[..part].iter().position(|byte| *byte != 0);
            return Ok(index.map(|index| at + index as u64));
        }
        at += part as u64;
    }
    Ok(None)
}
