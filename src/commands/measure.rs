//! `measure`: how much room would an image take?

use std::path::PathBuf;

use formats::{Caching, Create, Error, Image, Result};
use serde_json::json;

use super::info::aligned;
use crate::args::{Opening, OutputKind, Settings, options_help, settings, size, snapshot};
use crate::exit::Exit;
use crate::policy;
use crate::report::{Report, bytes, print_json};
use crate::sandbox::Reach;

/// Tell how much room an image would take
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  diskwright measure -O qcow2 disk.raw
  diskwright measure -O qcow2 -o cluster_size=2M --size 1T")]
pub(crate) struct Args {
    /// Image that would be converted
    #[arg(value_name = "FILE", required_unless_present_any = ["size", "options"])]
    path: Option<PathBuf>,
    /// Size of an empty disk, instead of an image
    #[arg(long, value_name = "SIZE", value_parser = size, conflicts_with = "path")]
    size: Option<u64>,
    /// Format of the image; found out if not given
    #[arg(short, long = "format", value_name = "FORMAT")]
    format: Option<String>,
    /// Format that it would be converted into
    #[arg(short = 'O', long, value_name = "FORMAT", default_value = "raw")]
    output_format: String,
    /// Settings of that format, `key=value,...`; `help` lists them
    #[arg(short, long = "options", value_name = "OPTIONS")]
    options: Vec<String>,
    /// Which internal snapshot would be read, by name or identifier
    #[arg(short = 'l', long, value_name = "SNAPSHOT", value_parser = snapshot)]
    snapshot: Option<String>,
    /// How the result is told
    #[arg(long, value_enum, value_name = "KIND", default_value_t)]
    output: OutputKind,
    #[command(flatten)]
    opening: Opening,
}

pub(crate) fn run(args: &Args) -> Result<Exit> {
    let format = formats::format(&args.output_format)?;
    let Settings::Pairs(options) = settings(&args.options)? else {
        crate::report::print(&options_help(format));
        return Ok(Exit::Ok);
    };
    options.known_by(format.name, format.options)?;
    let measure = format.measure.ok_or_else(|| {
        Error::unsupported(format!("{} images are read, not written", format.name))
    })?;
    let reach = Reach::of(&args.opening);
    args.path.iter().fold(reach, |reach, path| reach.reads(path)).close()?;
    let disk = disk(args)?;
    let size = disk.as_ref().map(|disk| disk.disk_size()).or(args.size);
    let size = size.ok_or_else(|| Error::invalid("measure wants an image, or --size"))?;
    let size = (format.padded)(size, &options).map_err(|e| e.format(format.name))?;
    let create = Create { size, options, ..Default::default() };
    let found = measure(&create, &mut |each| match &disk {
        Some(disk) => data_of(&**disk, each),
        None => Ok(()),
    })
    .map_err(|error| error.format(format.name))?;
    let report = Report::new(args.output, false);
    if report.is_json() {
        let mut value = json!({"required": found.required});
        value["fully-allocated"] = json!(found.fully_allocated);
        if let Some(bitmaps) = found.bitmaps {
            value["bitmaps"] = json!(bitmaps);
        }
        print_json(&value);
    } else {
        let tell = |number: u64| format!("{number} bytes ({})", bytes(number));
        report.text(&aligned(&[
            ("required size", tell(found.required)),
            ("fully allocated size", tell(found.fully_allocated)),
        ]));
    }
    Ok(Exit::Ok)
}

fn disk(args: &Args) -> Result<Option<Box<dyn Image>>> {
    let Some(path) = &args.path else { return Ok(None) };
    let named = policy::named(path, args.format.as_deref(), &args.opening, Caching::Writeback)?;
    policy::disk(path, &named, args.snapshot.as_deref(), &args.opening).map(Some)
}

/// The stretches that hold data.
fn data_of(disk: &dyn Image, each: &mut dyn FnMut(u64, u64)) -> Result<()> {
    for extent in disk.walk(0, disk.disk_size()) {
        let extent = extent?;
        if !extent.is_zero() {
            each(extent.start, extent.len);
        }
    }
    Ok(())
}
