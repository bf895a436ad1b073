//! `check`: what is wrong with an image, and mending it.

use std::path::PathBuf;
use std::sync::Arc;

use clap::ValueEnum;
use formats::{Access, Caching, Error, Finding, ImageFile, Repair, Result, Severity, Tally};
use serde_json::{Map, Value, json};

use crate::args::{Opening, OutputKind, caching};
use crate::exit::Exit;
use crate::policy;
use crate::report::{Report, escape, note, print_json};
use crate::sandbox::Reach;

/// Findings that are told one by one; the rest is only counted.
const TOLD: usize = 1000;

/// Look for damage in an image, and mend it
///
/// The exit code is 0 if nothing is wrong (any more), and 1 if something is.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  diskwright check disk.qcow2
  diskwright check -r leaks disk.qcow2
  diskwright check -r all --output json disk.qcow2")]
pub(crate) struct Args {
    /// Image to check
    #[arg(value_name = "FILE")]
    pub(super) path: PathBuf,
    /// Format of the image; found out if not given
    #[arg(short, long = "format", value_name = "FORMAT")]
    pub(super) format: Option<String>,
    /// Mend the image in place: room that is lost, or all that can be mended
    #[arg(short, long, value_enum, value_name = "WHAT")]
    repair: Option<What>,
    /// Say nothing but errors
    #[arg(short, long)]
    pub(super) quiet: bool,
    /// Cache mode of the image: writeback, writethrough, none, directsync, unsafe
    #[arg(short = 'T', long = "cache", value_name = "MODE", default_value = "writeback")]
    #[arg(value_parser = caching)]
    pub(super) cache: Caching,
    /// How the result is told
    #[arg(long, value_enum, value_name = "KIND", default_value_t)]
    pub(super) output: OutputKind,
    #[command(flatten)]
    pub(super) opening: Opening,
}

/// What is to be mended.
#[derive(Clone, Copy, ValueEnum)]
enum What {
    /// Room that is lost
    Leaks,
    /// Everything that can be mended
    All,
}

pub(crate) fn run(args: &Args) -> Result<Exit> {
    let name = args.format.as_deref();
    let reach = Reach::of(&args.opening);
    let reach = match args.repair {
        None => reach.reads(&args.path),
        Some(_) => reach.changes(&args.path),
    };
    reach.close()?;
    let named = match args.repair {
        None => policy::named(&args.path, name, &args.opening, args.cache)?,
        Some(_) => policy::file(&args.path, name, &args.opening, args.cache)?,
    };
    let (format, limits) = (named.format, args.opening.limits());
    let report = Report::new(args.output, args.quiet);
    let mut findings: Vec<Finding> = Vec::new();
    let mut find = |finding: Finding| {
        if findings.len() < TOLD {
            findings.push(finding);
        }
    };
    let lacks = |deed| Error::unsupported(format!("{} has nothing to {deed}", format.name));
    let tally = match args.repair {
        None => {
            let check = format.check.ok_or_else(|| lacks("check"))?;
            let options = policy::open_options(&args.path, &args.opening, &limits)?;
            let links = formats::links(named.source, format, &options);
            links.and_then(|links| check(links, &limits, &mut find))
        }
        Some(what) => {
            let repair = format.repair.ok_or_else(|| lacks("repair"))?;
            let what = if matches!(what, What::All) { Repair::All } else { Repair::Leaks };
            drop(named.source);
            let file = Arc::new(ImageFile::open(&args.path, Access::Write, args.cache)?);
            repair(file, what, &limits, &mut find)
        }
    };
    let tally = tally.map_err(|error| error.format(format.name).path(&args.path))?;
    if report.is_json() {
        print_json(&as_json(args, format.name, &tally, &findings));
    } else {
        tell(&report, &tally, &findings, format.repair.is_some(), args.quiet);
    }
    Ok(if tally.is_clean() { Exit::Ok } else { Exit::No })
}

/// With qemu-img's keys, in its order; ours behind them.
fn as_json(args: &Args, format: &str, tally: &Tally, findings: &[Finding]) -> Value {
    let mut object = Map::new();
    let mut add = |key: &str, value: Value| object.insert(key.into(), value);
    add("image-end-offset", json!(tally.image_end_offset));
    add("total-clusters", json!(tally.total_clusters));
    add("check-errors", json!(tally.check_errors));
    let counts = [
        ("corruptions", tally.corruptions),
        ("corruptions-fixed", tally.corruptions_fixed),
        ("leaks", tally.leaks),
        ("leaks-fixed", tally.leaks_fixed),
        ("allocated-clusters", tally.allocated_clusters),
        ("fragmented-clusters", tally.fragmented_clusters),
        ("compressed-clusters", tally.compressed_clusters),
    ];
    for (key, count) in counts.into_iter().filter(|(_, count)| *count > 0) {
        add(key, json!(count));
    }
    add("filename", json!(args.path.to_string_lossy()));
    add("format", json!(format));
    let finding = |f: &Finding| json!({"severity": severity(f), "what": f.what, "offset": f.at, "fixed": f.fixed});
    add("findings", findings.iter().map(finding).collect());
    Value::Object(object)
}

fn severity(finding: &Finding) -> &'static str {
    match finding.severity {
        Severity::Corruption => "corruption",
        Severity::Leak => "leak",
        Severity::Unreadable => "unreadable",
    }
}

fn tell(report: &Report, tally: &Tally, findings: &[Finding], mends: bool, quiet: bool) {
    for finding in findings.iter().filter(|_| !quiet) {
        let fixed = if finding.fixed { "mended " } else { "" };
        let what = escape(&finding.what);
        note(&format!("{fixed}{}: {what} (at byte {:#x})", severity(finding), finding.at));
    }
    let mut lines = Vec::new();
    let fixed = [(tally.corruptions_fixed, "corruptions"), (tally.leaks_fixed, "leaked clusters")];
    for (count, what) in fixed.into_iter().filter(|(count, _)| *count > 0) {
        lines.push(format!("{count} {what} mended"));
    }
    let left = [
        (tally.corruptions, "corruptions: the image holds or will hold wrong data"),
        (tally.leaks, "leaked clusters: room is lost, data are not"),
        (tally.check_errors, "parts could not be looked at"),
    ];
    for (count, what) in left.into_iter().filter(|(count, _)| *count > 0) {
        lines.push(format!("{count} {what}"));
    }
    if tally.is_clean() {
        lines.push("nothing is wrong with the image".into());
    } else if mends && tally.corruptions_fixed + tally.leaks_fixed == 0 {
        lines.push(format!(
            "diskwright check -r {} mends what can be mended",
            if tally.corruptions + tally.check_errors > 0 { "all" } else { "leaks" }
        ));
    }
    if tally.total_clusters > 0 {
        let Tally { allocated_clusters, total_clusters, compressed_clusters, .. } = tally;
        let fragmented = tally.fragmented_clusters;
        lines.push(format!("{allocated_clusters} of {total_clusters} clusters allocated, {fragmented} fragmented, {compressed_clusters} compressed"));
    }
    report.text(&lines.join("\n"));
}
