//! `create`: a new, empty image.

use std::path::{Path, PathBuf};

use formats::{Caching, Create, Error, Options, Piece, Result};
use serde_json::json;

use super::convert::Base;
use crate::args::{Opening, OutputKind, Settings, options_help, settings, size};
use crate::exit::Exit;
use crate::outputs::{How, Outputs, Place, appends, blamed, is_pipe};
use crate::policy;
use crate::report::{Report, bytes, note, print_json};
use crate::sandbox::Reach;

/// Make a new, empty image
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  diskwright create -f qcow2 disk.qcow2 20G
  diskwright create -f qcow2 -b base.qcow2 -F qcow2 overlay.qcow2
  diskwright create -f qcow2 -o cluster_size=2M,extended_l2=on disk.qcow2 1T
  diskwright create -f qcow2 -o help")]
pub(crate) struct Args {
    /// Image to make
    #[arg(value_name = "FILE")]
    path: Option<PathBuf>,
    /// Size of the disk; that of the backing file if not given
    #[arg(value_name = "SIZE", value_parser = size)]
    size: Option<u64>,
    /// Format of the image
    #[arg(short, long = "format", value_name = "FORMAT", default_value = "raw")]
    format: String,
    /// The image underneath
    #[arg(short, long, value_name = "FILE")]
    backing: Option<PathBuf>,
    /// Format of the image underneath
    #[arg(short = 'F', long = "backing-fmt", value_name = "FORMAT")]
    backing_fmt: Option<String>,
    /// Do not open the image underneath
    #[arg(short, long)]
    unchecked_backing: bool,
    /// Settings of the format, `key=value,...`; `help` lists them
    #[arg(short, long = "options", value_name = "OPTIONS")]
    options: Vec<String>,
    /// Say nothing but errors
    #[arg(short, long)]
    quiet: bool,
    /// How the result is told
    #[arg(long, value_enum, value_name = "KIND", default_value_t)]
    output: OutputKind,
    #[command(flatten)]
    opening: Opening,
}

pub(crate) fn run(args: &Args) -> Result<Exit> {
    let format = formats::format(&args.format)?;
    let Settings::Pairs(options) = settings(&args.options)? else {
        crate::report::print(&options_help(format));
        return Ok(Exit::Ok);
    };
    options.known_by(format.name, format.options)?;
    let path = args.path.as_deref().ok_or_else(|| Error::invalid("create wants a file"))?;
    if is_pipe(path) && !appends(format, &options) {
        let what = format!("a {} image is not written from front to end", format.name);
        return Err(Error::invalid(what).path(path));
    }
    let base = base_name(args, &options).map(|name| policy::folder(path).join(name));
    policy::is_none_of(path, &base)?;
    let place = Place::new(path, Caching::Auto)?;
    let others = format.spreads.is_some_and(|spreads| spreads(&options));
    let reach = Reach::of(&args.opening).names(&place, others);
    base.iter().fold(reach, |reach, base| reach.reads(base)).close()?;
    let (backing, base_size) = backing(args, path, &options)?;
    let asked = args.size.or(base_size).ok_or_else(|| Error::invalid("create wants a size"))?;
    let size = (format.padded)(asked, &options).map_err(|e| e.format(format.name))?;
    let make = format.create.ok_or_else(|| {
        Error::unsupported(format!("{} images are read, not written", format.name))
    })?;
    let mut create = Create { size, backing, options, ..Create::default() };
    let output = Outputs::at(place, &[], &How::default())?;
    create.beside = Some(output.beside());
    if let Some(name) = create.options.text("data_file") {
        create.data_file = Some(output.beside().make(name)?);
    }
    let writer = make(output.target(), &create).map_err(|e| e.format(format.name).path(path))?;
    // Over a backing file an empty image is one that leaves everything to it.
    let piece = if create.backing.is_some() { Piece::Backing(size) } else { Piece::Zero(size) };
    let reserved = if size > 0 { writer.reserve(0, piece).map(drop) } else { Ok(()) };
    let finished = reserved.and_then(|()| writer.finish()).and_then(|()| output.finish());
    finished.map_err(blamed(path))?;
    output.commit()?;
    tell(args, path, format.name, asked, size);
    Ok(Exit::Ok)
}

/// The backing file, as it was named.
fn base_name(args: &Args, options: &Options) -> Option<PathBuf> {
    args.backing.clone().or_else(|| options.text("backing_file").map(PathBuf::from))
}

type Backing = Option<(String, String)>;

/// The backing file's name and format, and the size of its disk.
fn backing(args: &Args, path: &Path, options: &Options) -> Result<(Backing, Option<u64>)> {
    let Some(name) = base_name(args, options) else { return Ok((None, None)) };
    let format = args.backing_fmt.as_deref().or(options.text("backing_fmt"));
    let format = format.ok_or_else(|| {
        Error::invalid("-b wants the format of the backing file as well, with -F")
    })?;
    if args.unchecked_backing {
        let format = formats::format(format)?.name;
        return Ok((Some((name.to_string_lossy().into_owned(), format.into())), None));
    }
    let base = Base::open(&name, format, path, &args.opening)?;
    policy::not_an_input(path, base.disk.files())?;
    Ok((Some((base.name, base.format.into())), Some(base.disk.disk_size())))
}

fn tell(args: &Args, path: &Path, format: &str, asked: u64, size: u64) {
    let report = Report::new(args.output, args.quiet);
    if report.is_json() {
        let filename = path.to_string_lossy();
        print_json(&json!({"filename": filename, "format": format, "virtual-size": size}));
        return;
    }
    if size != asked && !args.quiet {
        note(&format!("diskwright: padded by {} bytes to what {format} can say", size - asked));
    }
    report.text(&format!("made a {format} image of {}", bytes(size)));
}
