//! `convert`: a disk, from one format into another.

mod fit;
mod job;

pub(super) use job::Job;

use std::path::{Path, PathBuf};

use formats::{
    Algorithm, Caching, Digest, Error, FORMATS, Format, Image, Options, Result, Wrapper,
};
use metadata::Target;

use super::ova::Wishes;
use super::unpack;
use crate::args::{
    Opening, OutputKind, Settings, algorithm, caching, digest, options_help, packing, settings,
    size, snapshot,
};
use crate::exit::Exit;
use crate::folder::Folder;
use crate::outputs::{Place, is_pipe};
use crate::policy::{self, Named};
use crate::sandbox::Reach;

/// Convert a disk image into another format
///
/// The output appears under its name only when it is complete. Several inputs are put behind each
/// other. `-` is standard input or output; compression around an image is taken off.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  diskwright convert -O raw cloud.qcow2 disk.raw
  diskwright convert -p -c -O qcow2 disk.raw small.qcow2
  diskwright convert -c -o compression_type=zstd,compression_level=9 disk.raw disk.qcow2
  diskwright convert --allow-refs -O raw overlay.qcow2 flat.raw
  diskwright convert -n -O raw cloud.qcow2 /dev/sdX
  diskwright convert -O raw cloud.qcow2.xz disk.raw.zst
  diskwright convert -O qcow2 appliance.ova disk.qcow2
  diskwright convert -O qcow2 appliance.ova folder/
  diskwright convert --target azure disk.qcow2 disk.vhd
  diskwright convert -O ova --memory 4G --firmware efi --nic lan disk.qcow2 appliance.ova
  diskwright convert --hash sha256 -O raw https://example.org/cloud.qcow2 disk.raw
  cat cloud.raw.gz | diskwright convert -O raw - - | dd of=/dev/sdX bs=4M
  diskwright convert -O qcow2 -o help")]
pub(crate) struct Args {
    /// Images to read, then the image to write
    #[arg(value_name = "INPUT... OUTPUT")]
    paths: Vec<PathBuf>,
    /// Format of the inputs; found out if not given
    #[arg(short, long = "format", value_name = "FORMAT")]
    format: Option<String>,
    /// Format of the output; by the ending of its name if not given, else raw
    #[arg(short = 'O', long, value_name = "FORMAT")]
    output_format: Option<String>,
    /// Make what this cloud or hypervisor takes, in its format and size, and see that it does:
    /// glance, nova, azure, aws, gcp, vsphere, hyperv, virtualbox, proxmox
    #[arg(long, value_name = "NAME", value_parser = target, conflicts_with = "no_create")]
    target: Option<&'static Target>,
    /// Settings of the output's format, `key=value,...`; `help` lists them
    #[arg(short, long = "options", value_name = "OPTIONS")]
    options: Vec<String>,
    /// Compress
    #[arg(short, long)]
    compress: bool,
    /// Show how far it is
    #[arg(short, long)]
    progress: bool,
    /// Say nothing but errors
    #[arg(short, long)]
    quiet: bool,
    /// Leave out runs of zeros from this size on; 0 writes every byte
    #[arg(short = 'S', long, value_name = "SIZE", default_value = "4k", value_parser = size)]
    sparse: u64,
    /// How many threads work at once
    #[arg(short = 'm', long = "threads", value_name = "N")]
    #[arg(value_parser = clap::value_parser!(u16).range(1..=256))]
    threads: Option<u16>,
    /// Write over an output that is there: a raw file or device in place, another image with the
    /// settings that it has
    #[arg(short, long)]
    no_create: bool,
    /// With -n: the output is known to read as zeros
    #[arg(long, requires = "no_create")]
    target_is_zero: bool,
    /// Which internal snapshot to read, by name or identifier
    #[arg(short = 'l', long, value_name = "SNAPSHOT", value_parser = snapshot)]
    snapshot: Option<String>,
    /// Leave out what is the same in this image, and refer to it
    #[arg(short = 'B', long, value_name = "FILE")]
    backing: Option<PathBuf>,
    /// Format of the backing file
    #[arg(
        short = 'F',
        long = "output-backing-format",
        value_name = "FORMAT",
        requires = "backing"
    )]
    backing_fmt: Option<String>,
    /// Compress the whole output: zstd, gz or xz, with a level behind a colon if need be. Without
    /// it the ending of the output's name says so: .zst, .gz, .xz
    #[arg(long, value_name = "KIND[:LEVEL]", value_parser = packing)]
    compress_output: Option<(Wrapper, Option<u32>)>,
    /// Tell digests of the output, taken while it is written: md5, sha1, sha256, sha512
    #[arg(long, value_name = "LIST", value_delimiter = ',', value_parser = algorithm)]
    hash: Vec<Algorithm>,
    /// Tell digests of the input as it is stored, taken while it is read
    #[arg(long, value_name = "LIST", value_delimiter = ',', value_parser = algorithm)]
    hash_input: Vec<Algorithm>,
    /// What the input has to digest to, or there is no output: sha256:HEX, or HEX alone
    #[arg(long, value_name = "DIGEST", value_parser = digest)]
    expect_hash: Option<Digest>,
    /// Accepted for qemu-img's sake: writes are always free in their order
    #[arg(short = 'W', hide_short_help = true)]
    out_of_order: bool,
    /// Accepted for qemu-img's sake: blocks are always shared where that costs nothing
    #[arg(short = 'C', hide_short_help = true)]
    copy_offload: bool,
    /// Cache mode of the output: auto (storage is waited for where its errors come late: devices,
    /// network file systems), writeback (always), unsafe (never), none, writethrough, directsync
    #[arg(short = 't', long = "cache", value_name = "MODE", default_value = "auto")]
    #[arg(value_parser = caching)]
    cache: Caching,
    /// Cache mode of the inputs
    #[arg(short = 'T', long = "source-cache", value_name = "MODE", default_value = "auto")]
    #[arg(value_parser = caching)]
    source_cache: Caching,
    /// Bytes per second at most
    #[arg(short, long = "rate-limit", value_name = "SIZE", value_parser = size)]
    rate: Option<u64>,
    /// How the result is told
    #[arg(long, value_enum, value_name = "KIND", default_value_t)]
    output: OutputKind,
    #[command(flatten)]
    wishes: Wishes,
    #[command(flatten)]
    opening: Opening,
}

pub(crate) fn run(args: &Args) -> Result<Exit> {
    let target_format = target_format(args)?;
    let Settings::Pairs(mut options) = settings(&args.options)? else {
        crate::report::print(&options_help(target_format));
        return Ok(Exit::Ok);
    };
    if let Some(target) = args.target {
        fit::prepare(target, args, target_format, &mut options)?;
    }
    options.known_by(target_format.name, target_format.options)?;
    let (inputs, output) = match &args.paths[..] {
        [inputs @ .., output] if !inputs.is_empty() => (inputs, output),
        _ => return Err(Error::invalid("convert wants an input and an output")),
    };
    if is_pipe(output) && args.output == OutputKind::Json {
        return Err(Error::invalid("an image and a report do not go into one pipe"));
    }
    if !target_format.packs_machines && args.wishes.are_said() {
        let name = target_format.name;
        let what = format!("{name} images know nothing of a machine: -O ova does");
        return Err(Error::invalid(what));
    }
    if let ([input], true) = (inputs, unpack::is_folder(output)) {
        return unpacked(args, target_format, &options, input, output);
    }
    let base = args.backing.as_deref().or(options.text("backing_file").map(Path::new));
    let base = base.map(|base| policy::folder(output).join(base));
    policy::is_none_of(output, inputs.iter().chain(&base))?;
    let place = place(args, target_format, output)?;
    let spreads = target_format.spreads.is_some_and(|spreads| spreads(&options));
    let mut reach = reach(args, inputs.iter().chain(&base)).names(&place, spreads);
    if args.no_create {
        reach = reach.reads(output);
    }
    reach.close()?;
    let job = Job { args, format: target_format, output, options };
    match target_format.packs_machines {
        true => job.pack(inputs, place),
        false => job.read(inputs, &args.opening, place),
    }
}

/// A conversion of which one end is a stream that another command has.
pub(super) struct Passage<'a> {
    /// What the other end is called.
    pub(super) path: &'a Path,
    /// Format of the input, if it is said.
    pub(super) format: Option<String>,
    pub(super) compress: bool,
    pub(super) progress: bool,
    pub(super) opening: &'a Opening,
}

impl From<Passage<'_>> for Args {
    fn from(passage: Passage) -> Args {
        let Passage { path, format, compress, progress, opening } = passage;
        Args {
            paths: vec![path.into()],
            format,
            output_format: None,
            target: None,
            options: Vec::new(),
            compress,
            progress,
            quiet: false,
            sparse: 4096,
            threads: None,
            no_create: false,
            target_is_zero: false,
            snapshot: None,
            backing: None,
            backing_fmt: None,
            compress_output: None,
            hash: Vec::new(),
            hash_input: Vec::new(),
            expect_hash: None,
            out_of_order: false,
            copy_offload: false,
            cache: Caching::Auto,
            source_cache: Caching::Auto,
            rate: None,
            output: OutputKind::Human,
            wishes: Wishes::default(),
            opening: opening.clone(),
        }
    }
}

/// Every disk of a container as an image in a folder.
fn unpacked(
    args: &Args,
    format: &'static Format,
    options: &Options,
    input: &PathBuf,
    output: &Path,
) -> Result<Exit> {
    let folder = Folder::open(output)?;
    reach(args, [input]).fills(output).close()?;
    let (stated, opening) = (args.format.as_deref(), &args.opening);
    for (number, path) in unpack::places(input, output, stated, format, opening)? {
        let opening = Opening { disk: Some(number), ..opening.clone() };
        let place = Place::new(&path, args.cache)?;
        let job = Job { args, format, output: &path, options: options.clone() };
        job.read(std::slice::from_ref(input), &opening, place)?;
    }
    folder.keep();
    Ok(Exit::Ok)
}

/// The inputs, as files to be read.
fn reach<'a>(args: &'a Args, inputs: impl IntoIterator<Item = &'a PathBuf>) -> Reach<'a> {
    inputs.into_iter().fold(Reach::of(&args.opening), |reach, path| reach.reads(path))
}

/// Where the output goes.
fn place(args: &Args, format: &Format, output: &Path) -> Result<Place> {
    match args.no_create && format.name == "raw" {
        true => Place::over(output, args.cache, args.target_is_zero),
        false => Place::new(output, args.cache),
    }
}

fn target_format(args: &Args) -> Result<&'static Format> {
    if let Some(name) = &args.output_format {
        return formats::format(name);
    }
    if let Some(target) = args.target {
        return formats::format(target.recipe.format);
    }
    let ending = |path: &Path| path.extension().and_then(|e| e.to_str()).map(str::to_owned);
    let by_name = args.paths.last().and_then(|path| {
        let last = ending(path)?;
        let ending = match Wrapper::named(&last) {
            Some(_) => ending(&path.with_extension(""))?,
            None => last,
        };
        FORMATS.iter().find(|format| format.extensions.contains(&&*ending))
    });
    by_name.copied().map_or_else(|| formats::format("raw"), Ok)
}

fn target(name: &str) -> Result<&'static Target, String> {
    metadata::target(name).map_err(|error| error.to_string())
}

/// The image underneath a new one.
pub(super) struct Base {
    /// The name to write down.
    pub(super) name: String,
    pub(super) format: &'static str,
    pub(super) disk: Box<dyn Image>,
}

impl Base {
    /// Opens a backing file that the user named: from the folder of the new image, as whoever
    /// reads that will do.
    pub(super) fn open(name: &Path, format: &str, image: &Path, opening: &Opening) -> Result<Base> {
        let format = formats::format(format)?;
        let path = policy::folder(image).join(name);
        let named: Named = policy::named(&path, Some(format.name), opening, Caching::Writeback)?;
        let disk = policy::disk(&path, &named, None, opening)?;
        let name =
            name.to_str().ok_or_else(|| Error::invalid("the name is not UTF-8").path(name))?;
        Ok(Base { name: name.to_owned(), format: format.name, disk })
    }
}
