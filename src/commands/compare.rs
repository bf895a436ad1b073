//! `compare`: do two images hold the same disk?

use std::path::PathBuf;

use formats::{Caching, CompareOptions, Comparison, Result};
use serde_json::json;

use crate::args::{Opening, OutputKind, caching};
use crate::exit::Exit;
use crate::policy;
use crate::progress::Progress;
use crate::report::{Report, note, print_json};
use crate::sandbox::Reach;

/// Tell whether two images hold the same disk
///
/// The exit code is 0 if they do, and 1 if they do not. A longer disk is the same as a shorter one
/// if the rest of it is zeros.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  diskwright compare disk.raw disk.qcow2
  diskwright compare -f raw -F qcow2 -p disk.raw disk.qcow2
  diskwright compare -s one.qcow2 two.qcow2")]
pub(crate) struct Args {
    /// One image
    #[arg(value_name = "FILE1")]
    one: PathBuf,
    /// The other
    #[arg(value_name = "FILE2")]
    two: PathBuf,
    /// Format of the one; found out if not given
    #[arg(short, long = "format", value_name = "FORMAT")]
    format: Option<String>,
    /// Format of the other; found out if not given
    #[arg(short = 'F', long, value_name = "FORMAT")]
    second_format: Option<String>,
    /// Sizes and allocation have to be the same as well; --strict asks for that, too
    #[arg(short)]
    same_allocation: bool,
    /// Show how far it is
    #[arg(short, long)]
    progress: bool,
    /// Say nothing but errors
    #[arg(short, long)]
    quiet: bool,
    /// How many threads work at once
    #[arg(short = 'm', long = "threads", value_name = "N")]
    #[arg(value_parser = clap::value_parser!(u16).range(1..=256))]
    threads: Option<u16>,
    /// Cache mode of the images: writeback, none
    #[arg(short = 'T', long = "cache", value_name = "MODE", default_value = "writeback")]
    #[arg(value_parser = caching)]
    cache: Caching,
    /// How the result is told
    #[arg(long, value_enum, value_name = "KIND", default_value_t)]
    output: OutputKind,
    #[command(flatten)]
    opening: Opening,
}

pub(crate) fn run(args: &Args) -> Result<Exit> {
    Reach::of(&args.opening).reads(&args.one).reads(&args.two).close()?;
    let strict = args.same_allocation || args.opening.strict;
    let open = |path: &PathBuf, format: &Option<String>| {
        let named = policy::named(path, format.as_deref(), &args.opening, args.cache)?;
        policy::disk(path, &named, None, &args.opening)
    };
    let (one, two) = (open(&args.one, &args.format)?, open(&args.two, &args.second_format)?);
    let sizes = [one.disk_size(), two.disk_size()];
    let same_size = sizes[0] == sizes[1];
    let outcome = if strict && !same_size {
        None
    } else {
        let progress = Progress::new(args.progress && !args.quiet);
        let threads = args.threads.map_or_else(formats::default_threads, usize::from);
        let how = CompareOptions { threads, strict, watch: &progress };
        Some(formats::compare(&*one, &*two, &how)?)
    };
    let same = outcome == Some(Comparison::Same);
    tell(args, sizes, outcome);
    Ok(if same { Exit::Ok } else { Exit::No })
}

/// `None` stands for sizes that differ and had not to.
fn tell(args: &Args, sizes: [u64; 2], outcome: Option<Comparison>) {
    let report = Report::new(args.output, args.quiet);
    let (text, offset) = match outcome {
        None => (format!("the sizes differ: {} and {} bytes", sizes[0], sizes[1]), None),
        Some(Comparison::Same) => ("the images are identical".into(), None),
        Some(Comparison::Content(at)) => {
            (format!("the content differs from byte {at} on"), Some(at))
        }
        Some(Comparison::Allocation(at)) => {
            (format!("at byte {at} one has storage and the other has none"), Some(at))
        }
    };
    if report.is_json() {
        print_json(&json!({
            "identical": outcome == Some(Comparison::Same),
            "virtual-sizes": sizes,
            "offset": offset,
            "what": text,
        }));
        return;
    }
    if outcome.is_some() && sizes[0] != sizes[1] && !args.quiet {
        let what = format!("the sizes differ: {} and {} bytes", sizes[0], sizes[1]);
        note(&format!("diskwright: {what}; the rest of the longer one counts as zeros"));
    }
    report.text(&text);
}
