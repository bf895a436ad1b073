//! `convert`: a disk, from one format into another.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use formats::{
    Caching, CopyOptions, Create, Error, Format, Image, Joined, Options, Result, Stage, Survey,
    Target, Writer,
};
use serde_json::json;

use crate::args::{Opening, OutputKind, Settings, caching, options_help, settings, size, snapshot};
use crate::exit::Exit;
use crate::outputs::{Outputs, is_pipe};
use crate::policy::{self, Named};
use crate::progress::Progress;
use crate::report::{Report, bytes, note, print_json};

/// Convert a disk image into another format
///
/// The output appears under its name only when it is complete. Several inputs are put behind each
/// other.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  diskwright convert -O raw cloud.qcow2 disk.raw
  diskwright convert -p -c -O qcow2 disk.raw small.qcow2
  diskwright convert -c -o compression_type=zstd,compression_level=9 disk.raw disk.qcow2
  diskwright convert --allow-refs -O raw overlay.qcow2 flat.raw
  diskwright convert -n -O raw cloud.qcow2 /dev/sdX
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
    /// Accepted for qemu-img's sake: writes are always free in their order
    #[arg(short = 'W', hide_short_help = true)]
    out_of_order: bool,
    /// Accepted for qemu-img's sake: blocks are always shared where that costs nothing
    #[arg(short = 'C', hide_short_help = true)]
    copy_offload: bool,
    /// Cache mode of the output: writeback, writethrough, none, directsync, unsafe
    #[arg(short = 't', long = "cache", value_name = "MODE", default_value = "writeback")]
    #[arg(value_parser = caching)]
    cache: Caching,
    /// Cache mode of the inputs
    #[arg(short = 'T', long = "source-cache", value_name = "MODE", default_value = "writeback")]
    #[arg(value_parser = caching)]
    source_cache: Caching,
    /// Bytes per second at most
    #[arg(short, long = "rate-limit", value_name = "SIZE", value_parser = size)]
    rate: Option<u64>,
    /// How the result is told
    #[arg(long, value_enum, value_name = "KIND", default_value_t)]
    output: OutputKind,
    #[command(flatten)]
    opening: Opening,
}

pub(crate) fn run(args: &Args) -> Result<Exit> {
    let target_format = target_format(args)?;
    let Settings::Pairs(options) = settings(&args.options)? else {
        crate::report::print(&options_help(target_format));
        return Ok(Exit::Ok);
    };
    let (inputs, output) = match &args.paths[..] {
        [inputs @ .., output] if !inputs.is_empty() => (inputs, output),
        _ => return Err(Error::invalid("convert wants an input and an output")),
    };
    let disk = inputs_as_one(inputs, args)?;
    if is_pipe(output) && args.output == OutputKind::Json {
        return Err(Error::invalid("an image and a report do not go into one pipe"));
    }
    let survey = Survey::of(&*disk, &args.opening.limits()).map_err(|e| e.path(&inputs[0]))?;
    let job = Job { args, disk: &*disk, survey, format: target_format, output };
    job.run(options)
}

fn target_format(args: &Args) -> Result<&'static Format> {
    if let Some(name) = &args.output_format {
        return formats::format(name);
    }
    let ending = args.paths.last().and_then(|path| path.extension()).and_then(|e| e.to_str());
    let by_name = ending.and_then(|ending| {
        formats::FORMATS.iter().find(|format| format.extensions.contains(&ending))
    });
    by_name.copied().map_or_else(|| formats::format("raw"), Ok)
}

fn inputs_as_one(paths: &[PathBuf], args: &Args) -> Result<Box<dyn Image>> {
    let open = |path: &PathBuf| {
        let format = args.format.as_deref();
        let named = policy::named(path, format, &args.opening, args.source_cache)?;
        policy::disk(path, &named, args.snapshot.as_deref(), &args.opening)
    };
    let mut disks = paths.iter().map(open).collect::<Result<Vec<_>>>()?;
    match disks.len() {
        1 => Ok(disks.remove(0)),
        _ => Ok(Box::new(Joined::new(disks)?)),
    }
}

struct Job<'a> {
    args: &'a Args,
    disk: &'a dyn Image,
    survey: Survey,
    format: &'static Format,
    output: &'a Path,
}

impl Job<'_> {
    fn run(&self, options: Options) -> Result<Exit> {
        options.known_by(self.format.name, self.format.options)?;
        let base = self.base(&options)?;
        if let Some(base) = &base {
            policy::not_an_input(self.output, base.disk.files())?;
        }
        let padded = (self.format.padded)(self.disk.disk_size(), &options)
            .map_err(|error| error.format(self.format.name))?;
        let mut create = Create {
            size: padded,
            compress: self.args.compress,
            backing: base.as_ref().map(|base| (base.name.clone(), base.format.to_owned())),
            data_file: None,
            beside: None,
            options,
        };
        if self.args.no_create && self.format.name != "raw" {
            create = self.like_the_one_there(&create)?;
        }
        let output = self.make_output(&create.options)?;
        create.beside = Some(output.beside());
        if let Some(name) = create.options.text("data_file") {
            create.data_file = Some(output.beside().make(name)?);
        }
        let writer = self.writer(output.target(), &create)?;
        let copied = {
            let progress = Progress::new(self.args.progress && !self.args.quiet);
            let how = CopyOptions {
                threads: self.args.threads.map_or_else(formats::default_threads, usize::from),
                // A page is the least that a file can leave out.
                sparse: self.args.sparse.next_multiple_of(4096),
                base: base.as_ref().map(|base| &*base.disk),
                rate: self.args.rate,
                stage: Stage::All,
                total: self.survey.data,
                watch: &progress,
            };
            formats::copy(self.disk, &*writer, &how)?
        };
        output.commit()?;
        self.report(padded, copied);
        Ok(Exit::Ok)
    }

    fn make_output(&self, options: &Options) -> Result<Outputs> {
        let (path, cache) = (self.output, self.args.cache);
        if !self.args.no_create || self.format.name != "raw" {
            return Outputs::create(path, cache, self.disk.files(), self.format, options);
        }
        let output = Outputs::in_place(path, cache, self.args.target_is_zero)?;
        let (there, wanted) = (output.len(), self.disk.disk_size());
        if let Some(there) = there.filter(|there| *there < wanted) {
            let what = format!("the output has {there} bytes, and the disk {wanted}");
            return Err(Error::invalid(what).path(self.output));
        }
        Ok(output)
    }

    /// With -n an image that is not raw is made anew, with the settings of the one that is there.
    fn like_the_one_there(&self, asked: &Create) -> Result<Create> {
        if asked.options != Options::default() || asked.backing.is_some() {
            return Err(Error::invalid(
                "with -n the settings are those of the image that is there",
            ));
        }
        let (name, path) = (self.format.name, self.output);
        let there = policy::named(path, Some(name), &self.args.opening, Caching::Writeback)?;
        let likeness = self.format.likeness.ok_or_else(|| {
            Error::unsupported(format!("-n does not keep the settings of {name} images"))
        })?;
        let like = likeness(&*there.source, &self.args.opening.limits())
            .map_err(|error| error.format(name).path(path))?;
        if like.size != asked.size {
            let what = format!("the image has {} bytes, and the disk {}", like.size, asked.size);
            return Err(Error::invalid(what).path(path));
        }
        Ok(Create { compress: asked.compress, ..like })
    }

    fn writer(&self, target: Arc<dyn Target>, create: &Create) -> Result<Box<dyn Writer>> {
        let make = self.format.create.ok_or_else(|| {
            Error::unsupported(format!("{} images are read, not written", self.format.name))
        })?;
        make(target, create).map_err(|error| error.format(self.format.name).path(self.output))
    }

    fn base(&self, options: &Options) -> Result<Option<Base>> {
        let option = |key| options.text(key);
        let Some(name) = self.args.backing.as_deref().or(option("backing_file").map(Path::new))
        else {
            return Ok(None);
        };
        let format =
            self.args.backing_fmt.as_deref().or(option("backing_fmt")).ok_or_else(|| {
                Error::invalid("-B wants the format of the backing file as well, with -F")
            })?;
        Base::open(name, format, self.output, &self.args.opening).map(Some)
    }

    fn report(&self, size: u64, copied: formats::Copied) {
        // What is printed would go into the image.
        let quiet = self.args.quiet || is_pipe(self.output);
        let report = Report::new(self.args.output, quiet);
        let padding = size - self.disk.disk_size();
        if padding > 0 && !self.args.quiet {
            let name = self.format.name;
            note(&format!("diskwright: padded by {padding} bytes to what {name} can say"));
        }
        if report.is_json() {
            print_json(&json!({
                "filename": self.output.to_string_lossy(),
                "format": self.format.name,
                "virtual-size": size,
                "padding": padding,
                "read": copied.read,
                "written": copied.written,
            }));
        } else if self.args.progress {
            report.text(&format!(
                "{} of data, {} written",
                bytes(copied.read),
                bytes(copied.written)
            ));
        }
    }
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
