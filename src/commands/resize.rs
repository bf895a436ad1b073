//! `resize`: another size for the disk of an image.

use std::path::PathBuf;
use std::sync::Arc;

use formats::{Access, Caching, Error, ImageFile, Result, Role};
use serde_json::json;

use crate::args::{Opening, OutputKind};
use crate::exit::Exit;
use crate::policy::{self, Named};
use crate::report::{Report, bytes, note, print_json};
use crate::sandbox::Reach;

/// Make the disk of an image larger or smaller, in place
///
/// What is added reads as zeros. A disk is made smaller only with --shrink, for what lay behind its
/// new end is lost.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  diskwright resize disk.qcow2 40G
  diskwright resize disk.vhdx +10G
  diskwright resize --shrink disk.raw -512M")]
pub(crate) struct Args {
    /// Image to change
    #[arg(value_name = "FILE")]
    path: PathBuf,
    /// The new size; with + or - in front, by how much it changes
    #[arg(value_name = "[+|-]SIZE", value_parser = change, allow_hyphen_values = true)]
    size: Change,
    /// Format of the image; found out if not given
    #[arg(short, long = "format", value_name = "FORMAT")]
    format: Option<String>,
    /// Allow that the disk becomes smaller
    #[arg(long)]
    shrink: bool,
    /// Say nothing but errors
    #[arg(short, long)]
    quiet: bool,
    /// How the result is told
    #[arg(long, value_enum, value_name = "KIND", default_value_t)]
    output: OutputKind,
    #[command(flatten)]
    opening: Opening,
}

/// A size as it was typed.
#[derive(Debug, Clone, Copy)]
enum Change {
    To(u64),
    By(u64),
    Less(u64),
}

fn change(text: &str) -> Result<Change, String> {
    match text.split_at_checked(1) {
        Some(("+", more)) => crate::args::size(more).map(Change::By),
        Some(("-", less)) => crate::args::size(less).map(Change::Less),
        _ => crate::args::size(text).map(Change::To),
    }
}

/// What is added reads as zeros: not as what the image underneath has there.
fn nothing_comes_to_light(args: &Args, named: &Named, old: u64) -> Result<()> {
    let limits = args.opening.limits();
    let options = policy::open_options(&args.path, &args.opening, &limits)?;
    let chain = formats::chain(named.source.clone(), named.format, &options)?;
    match chain.get(1).map(|layer| layer.facts.disk_size) {
        Some(below) if below > old => {
            let what = format!("the image underneath has {below} bytes, which would come to light");
            Err(Error::unsupported(what).path(&args.path))
        }
        _ => Ok(()),
    }
}

pub(crate) fn run(args: &Args) -> Result<Exit> {
    let name = args.format.as_deref();
    Reach::of(&args.opening).changes(&args.path).close()?;
    let named = policy::file(&args.path, name, &args.opening, Caching::Writeback)?;
    let (format, limits) = (named.format, args.opening.limits());
    let fail = |error: Error| error.format(format.name).path(&args.path);
    let resize = format.resize.ok_or_else(|| {
        fail(Error::unsupported("images of this format keep the size that they were made with"))
    })?;
    let facts = (format.inspect)(&*named.source, &limits).map_err(fail)?;
    let old = facts.disk_size;
    let asked = match args.size {
        Change::To(size) => Some(size),
        Change::By(more) => old.checked_add(more),
        Change::Less(less) => old.checked_sub(less),
    };
    let wrong = || fail(Error::invalid(format!("a disk of {old} bytes cannot change by that")));
    let asked = asked.ok_or_else(wrong)?;
    let size = (format.padded)(asked, &formats::Options::default()).map_err(fail)?;
    if size < old && !args.shrink {
        let what = format!("the disk has {old} bytes, of which {} would be lost", old - size);
        return Err(fail(Error::invalid(format!("{what}; --shrink allows it"))));
    }
    if size > old && facts.references.iter().any(|reference| reference.role == Role::Backing) {
        nothing_comes_to_light(args, &named, old)?;
    }
    drop(named.source);
    let file = Arc::new(ImageFile::open(&args.path, Access::Write, Caching::Writeback)?);
    resize(file, size, &limits).map_err(fail)?;
    let report = Report::new(args.output, args.quiet);
    if report.is_json() {
        let filename = args.path.to_string_lossy();
        let name = format.name;
        print_json(
            &json!({"filename": filename, "format": name, "virtual-size": size, "old-virtual-size": old}),
        );
        return Ok(Exit::Ok);
    }
    if size != asked && !args.quiet {
        note(&format!(
            "diskwright: padded by {} bytes to what {} can say",
            size - asked,
            format.name
        ));
    }
    report.text(&format!("the disk has {} now", bytes(size)));
    Ok(Exit::Ok)
}
