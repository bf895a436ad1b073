//! `inspect`: is this file what it should be, and safe to hand on?

use std::io::Read as _;
use std::path::PathBuf;
use std::sync::Arc;

use formats::{
    Caching, Error, FORMATS, Facts, Finding, Format, Forward, Hazard, HazardKind, Ingest, Input,
    Kind, Limits, Links, OpenOptions, Reference, Result, Severity, Source, Survey,
};
use serde_json::{Map, json};

use super::info::{aligned, hazards_json, value_json};
use crate::args::{Opening, OutputKind};
use crate::exit::Exit;
use crate::input;
use crate::report::{Report, bytes, escape, print_json};
use crate::sandbox::Reach;

/// Look at an untrusted image, or a stream of one, without opening anything that it names
///
/// The exit code is 0 if nothing about it is dangerous, and 1 if something is.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  diskwright inspect upload.img
  diskwright inspect -f qcow2 upload.img
  cat upload.img | diskwright inspect --output json -")]
pub(crate) struct Args {
    /// Image to look at; - for standard input
    #[arg(value_name = "FILE")]
    path: PathBuf,
    /// Format that it has to be
    #[arg(short, long = "format", value_name = "FORMAT")]
    format: Option<String>,
    /// How the result is told
    #[arg(long, value_enum, value_name = "KIND", default_value_t)]
    output: OutputKind,
    #[command(flatten)]
    opening: Opening,
}

pub(crate) fn run(args: &Args) -> Result<Exit> {
    Reach::of(&args.opening).reads(&args.path).close()?;
    let stated = args.format.as_deref().map(formats::format).transpose()?;
    let limits = args.opening.limits();
    let found = input::find(&args.path, stated, &args.opening, Caching::Writeback, &[]);
    let facts = found.and_then(|found| match found.input {
        Input::Whole(source) => {
            let mut facts = file(&*source, stated, &limits)?;
            if args.opening.strict() {
                check(source, &mut facts, &limits)?;
            }
            Ok(facts)
        }
        Input::Forward(forward) => stream(forward, stated, &limits).map(|(facts, _)| facts),
    });
    let facts = facts.and_then(|facts| fitting(facts, &limits));
    let facts = facts.map_err(|error| error.path(crate::remote::shown(&args.path)))?;
    tell(args, &facts);
    Ok(if facts.hazards.is_empty() { Exit::Ok } else { Exit::No })
}

/// These facts, if the disk is no larger than it may be: nobody could open it.
fn fitting(facts: Facts, limits: &Limits) -> Result<Facts> {
    let (size, most) = (facts.disk_size, limits.max_disk_size);
    if size > most {
        let what = format!("a disk of {size} bytes, {most} at most");
        return Err(Error::limit(what).format(facts.format));
    }
    Ok(facts)
}

/// What goes by is looked at as it does. Returns how many bytes that were, too.
pub(super) fn stream(
    mut forward: Forward,
    stated: Option<&'static Format>,
    limits: &Limits,
) -> Result<(Facts, u64)> {
    let formats = stated.as_ref().map_or(FORMATS, std::slice::from_ref);
    let mut ingest = Ingest::new(formats, limits.clone());
    let (mut chunk, mut total) = (vec![0; 1 << 20], 0);
    loop {
        match forward.bytes.read(&mut chunk) {
            Ok(0) => return Ok((ingest.finish()?, total)),
            Ok(len) => {
                total += len as u64;
                ingest.push(&chunk[..len])?;
            }
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(Error::io("cannot read", error)),
        }
    }
}

/// A file is looked at in the same light as a stream: what looks like another container, or like
/// two, is said, and what was stated has to be so.
fn file(source: &dyn Source, stated: Option<&'static Format>, limits: &Limits) -> Result<Facts> {
    let found = formats::matches(FORMATS, source)?;
    let format = match stated {
        Some(format) if found.iter().any(|other| other.name == format.name) => format,
        Some(format) => {
            let what = format!("it is not {}", format.name);
            return Err(Error::new(Kind::Malformed, what).format(format.name));
        }
        None => match formats::probe(FORMATS, source) {
            Err(error) if error.kind() == Kind::Unsupported => formats::format("raw")?,
            other => other?,
        },
    };
    let mut facts = (format.inspect)(source, limits).map_err(|error| error.format(format.name))?;
    if stated.is_none()
        && format.name == "raw"
        && let Some(name) = formats::foreign(source)?
    {
        let what = format!("it looks like {name}, which is not read yet");
        facts.hazards.push(Hazard { kind: HazardKind::Foreign, what });
    }
    Ok(facts)
}

/// What a check finds is a hazard, too: two views of one image may differ where it is unsound. The
/// disk has to be all there and within its budgets, and the files inside such that they can be
/// listed. Images that need other files are hazards without a look.
fn check(source: Arc<dyn Source>, facts: &mut Facts, limits: &Limits) -> Result<()> {
    let format = formats::format(facts.format)?;
    if let Some(entries) = format.entries {
        match entries(&*source, limits, &mut |_| Ok(())) {
            // A volume whose files are not read here is a disk all the same.
            Err(error) if error.kind() == Kind::Unsupported => {}
            listed => listed.map_err(|error| error.format(format.name))?,
        }
    }
    let inside = |reference: &Reference| {
        reference.held.as_ref().is_some_and(|held| held.stretches.is_some())
    };
    let alone = facts.references.iter().all(inside);
    if alone && !facts.encrypted && !format.holds_disks && format.open.is_some() {
        let image = formats::open(source.clone(), format, &OpenOptions::new(FORMATS, limits))?;
        Survey::of(&*image, limits).map_err(|error| error.format(format.name))?;
    }
    let Some(check) = format.check.filter(|_| alone) else { return Ok(()) };
    let mut first = None;
    let mut find = |finding: Finding| {
        if finding.severity != Severity::Leak {
            first.get_or_insert(finding.what);
        }
    };
    let tally = check(Links::alone(source), limits, &mut find)
        .map_err(|error| error.format(format.name))?;
    if let (Some(first), 1..) = (first, tally.corruptions + tally.check_errors) {
        let more = tally.corruptions + tally.check_errors - 1;
        let what = format!("a check finds that {first}; and {more} more");
        facts.hazards.push(Hazard { kind: HazardKind::Irregular, what });
    }
    Ok(())
}

fn tell(args: &Args, facts: &Facts) {
    let report = Report::new(args.output, false);
    let references = facts.references.iter();
    if report.is_json() {
        let details: Map<_, _> =
            facts.details.iter().map(|d| (d.name.to_owned(), value_json(&d.value))).collect();
        let list =
            references.map(|r| json!({"role": r.role.name(), "name": r.name, "format": r.format}));
        print_json(&json!({
            "filename": args.path.to_string_lossy(),
            "format": facts.format,
            "variant": facts.variant,
            "virtual-size": facts.disk_size,
            "safe": facts.hazards.is_empty(),
            "hazards": hazards_json(facts),
            "references": list.collect::<Vec<_>>(),
            "details": details,
        }));
        return;
    }
    let mut lines = vec![
        ("image", escape(&args.path.to_string_lossy())),
        ("format", format!("{} ({})", facts.format, facts.variant)),
        ("disk size", format!("{} ({} bytes)", bytes(facts.disk_size), facts.disk_size)),
    ];
    for hazard in &facts.hazards {
        lines.push(("hazard", format!("{}: {}", hazard.kind.name(), escape(&hazard.what))));
    }
    lines.push(("verdict", if facts.hazards.is_empty() { "safe" } else { "not safe" }.into()));
    report.text(&aligned(&lines));
}
