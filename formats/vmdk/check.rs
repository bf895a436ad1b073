//! Looks for damage: extents that are too short, tables and grains that are not there or overlap,
//! copies that differ.

use std::sync::Arc;

use super::descriptor::{Descriptor, Kind as What, Line};
use super::inspect::{self, Form};
use super::layout::UNCLEAN_AT;
use super::sparse::{self, Head};
use super::survey::survey;
use crate::base::error::{Error, Kind, Result};
use crate::base::limits::Limits;
use crate::base::model::finding::{Finding, Report, Severity, Tally};
use crate::base::model::format::Links;
use crate::base::storage::{Source, Span};

/// Checks an image. Fails only if its header or descriptor cannot be used, or past a limit.
#[expect(clippy::needless_pass_by_value, reason = "a CheckFn takes it by value")]
pub(super) fn check(
    links: Links,
    limits: &Limits,
    found: &mut dyn FnMut(Finding),
) -> Result<Tally> {
    tally(&links, limits, Report::new(found)).map_err(|error| error.format("vmdk"))
}

fn tally(links: &Links, limits: &Limits, mut report: Report) -> Result<Tally> {
    match inspect::form(&*links.source, limits)? {
        Form::Text(text) => several(&text, links, limits, &mut report)?,
        Form::Sparse(head, inside) => {
            if let Some(text) = &inside {
                sizes(&head, text, &mut report)?;
            }
            closed(&head, "", &mut report);
            survey(&links.source, &head, "", limits, &mut report)?;
        }
    }
    Ok(report.tally)
}

/// Whether descriptor and header speak of a disk of one size.
fn sizes(head: &Head, text: &Descriptor, report: &mut Report) -> Result<()> {
    let (said, is) = (text.size()?, head.shape.size);
    if said != is && !text.extents.is_empty() {
        let at = head.descriptor.map_or(0, Span::start);
        let what = format!("the descriptor says {said} bytes, and the header {is}");
        report.corruption(at, what);
    }
    Ok(())
}

/// The finding for an image that says so of itself.
pub(super) const UNCLEAN: &str = "it was not closed after its last use";

fn closed(head: &Head, named: &str, report: &mut Report) {
    if head.unclean {
        report.corruption(UNCLEAN_AT, format!("{named}{UNCLEAN}"));
    }
}

/// An image whose extents lie in files of their own.
fn several(text: &Descriptor, links: &Links, limits: &Limits, report: &mut Report) -> Result<()> {
    if text.is_device() {
        return Err(Error::refused("its disk is a device, which is not followed"));
    }
    let mut given = links.extents.iter();
    for line in text.extents.iter().filter(|line| line.name.is_some()) {
        if let Some(source) = given.next() {
            extent(line, source, limits, report)?;
        } else {
            let name = line.name.as_deref().unwrap_or_default();
            report.add(Severity::Unreadable, 0, format!("extent '{name}' was not given"));
        }
    }
    Ok(())
}

/// One of several extents.
fn extent(
    line: &Line,
    source: &Arc<dyn Source>,
    limits: &Limits,
    report: &mut Report,
) -> Result<()> {
    let named = format!("extent '{}': ", line.name.as_deref().unwrap_or_default());
    let (len, total) = (line.len, source.len());
    match line.kind {
        What::Zero => Ok(()),
        What::Flat | What::Device => {
            if Span::new(line.offset, len)?.end() > total {
                let offset = line.offset;
                let what = format!("{named}it has {len} bytes from {offset} on");
                report.corruption(0, format!("{what}, and its file ends at {total}"));
            }
            Ok(())
        }
        What::Sparse | What::OldSparse | What::SeSparse => {
            let head = match sparse::head(&**source, limits) {
                Ok(head) => head,
                Err(error) if matches!(error.kind(), Kind::Malformed | Kind::Truncated) => {
                    report.corruption(0, format!("{named}{error}"));
                    return Ok(());
                }
                Err(error) => return Err(error.path(source.name())),
            };
            if head.shape.size < len {
                let size = head.shape.size;
                let what = format!("{named}it has {size} bytes");
                report.corruption(0, format!("{what}, and the descriptor says {len}"));
            }
            closed(&head, &named, report);
            survey(source, &head, &named, limits, report).map(drop)
        }
    }
}
