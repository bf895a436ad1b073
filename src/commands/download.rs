//! `download`: an image from an image service, verified before it has a name.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use formats::{Error, FORMATS, Format, Forward, Input, Kind, Options, Result};
use serde_json::json;

use super::convert::{self, Job, Passage};
use crate::args::{Opening, OutputKind, Settings, options_help, settings};
use crate::client::{Client, Image, Login};
use crate::exit::Exit;
use crate::input::Digesting;
use crate::origin::{self, Disk, Origin};
use crate::outputs::{Place, is_pipe};
use crate::report::{Report, bytes, escape, note, print, print_json};
use crate::sandbox::Reach;

/// Fetch a disk image from an OpenStack image service
///
/// The output appears under its name only when all of it has come and its size and digests are
/// those that the service says. A line that breaks is taken up where it broke.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  diskwright download --os-cloud mycloud debian-13 debian-13.qcow2
  diskwright download -O raw debian-13 debian-13.raw
  diskwright download 0f6e2a4e-5d41-4f6b-9a43-2d7c8f1f5a10 - | sha512sum")]
pub(crate) struct Args {
    /// The image, by id or name
    #[arg(value_name = "IMAGE")]
    image: String,
    /// Where it goes; - for standard output
    #[arg(value_name = "FILE")]
    path: PathBuf,
    /// Convert it into this format; without it the bytes stay what they are
    #[arg(short = 'O', long, value_name = "FORMAT")]
    output_format: Option<String>,
    /// With -O: settings of the format, `key=value,...`; `help` lists them
    #[arg(short, long = "options", value_name = "OPTIONS", requires = "output_format")]
    options: Vec<String>,
    /// With -O: compress
    #[arg(short, long, requires = "output_format")]
    compress: bool,
    /// Show how far it is
    #[arg(short, long)]
    progress: bool,
    /// How the result is told
    #[arg(long, value_enum, value_name = "KIND", default_value_t)]
    output: OutputKind,
    #[command(flatten)]
    login: Login,
    #[command(flatten)]
    opening: Opening,
}

pub(crate) fn run(args: &Args) -> Result<Exit> {
    let target = args.output_format.as_deref().map(formats::format).transpose()?;
    let Settings::Pairs(options) = settings(&args.options)? else {
        let target = target.ok_or_else(|| Error::invalid("-o goes with -O"))?;
        print(&options_help(target));
        return Ok(Exit::Ok);
    };
    if let Some(target) = target {
        options.known_by(target.name, target.options)?;
        if target.packs_machines {
            return Err(Error::unsupported(format!("-O {}: convert makes these", target.name)));
        }
    }
    let piped = is_pipe(&args.path);
    if piped && args.output == OutputKind::Json {
        return Err(Error::invalid("an image and a report do not go into one pipe"));
    }
    let service = args.login.service()?;
    let place = Place::new(&args.path, formats::Caching::Auto)?;
    let spreads = target.is_some_and(|target| target.spreads.is_some_and(|s| s(&options)));
    Reach::of(&args.opening).names(&place, spreads).speaks().close()?;
    let client = Arc::new(Client::connect(service)?);
    let name = client.name();
    let image = client.find(&args.image).map_err(|error| error.path(&name))?;
    if image.status() != "active" {
        let what = format!("the image is {}, and none to be had", escape(image.status()));
        return Err(Error::invalid(what).path(&name));
    }
    let fetched = client.fetch(&image);
    let whole = fetched.whole();
    let name = image.text("name").unwrap_or(image.id()).to_string();
    let forward = Forward { name, len: image.number("size"), bytes: Box::new(fetched) };
    let output = match target {
        None => args.stored(forward, place)?,
        Some(target) => args.converted(forward, &image, target, options, place)?,
    };
    if !whole.load(Ordering::SeqCst) {
        return Err(Error::new(Kind::Truncated, "not all of the image was read"));
    }
    output.commit()?;
    args.tell(&image, piped);
    Ok(Exit::Ok)
}

impl Args {
    fn passage(&self, format: &str) -> convert::Args {
        let (compress, progress, opening) = (self.compress, self.progress, &self.opening);
        let format = Some(format.to_string());
        Passage { path: &self.path, format, compress, progress, opening }.into()
    }

    /// The bytes as they are.
    fn stored(&self, forward: Forward, place: Place) -> Result<crate::outputs::Outputs> {
        let args = self.passage("raw");
        let (format, options) = (formats::format("raw")?, Options::default());
        let job = Job { args: &args, format, output: &self.path, options };
        let written = job.write(Origin::Raw(forward), Digesting::None, place);
        written.map(|(_, output)| output)
    }

    /// The disk in them, in another format.
    fn converted(
        &self,
        forward: Forward,
        image: &Image,
        format: &'static Format,
        options: Options,
        place: Place,
    ) -> Result<crate::outputs::Outputs> {
        let stated = stated(image)?;
        let args = self.passage(stated.name);
        let job = Job { args: &args, format, output: &self.path, options };
        let wants = job.wants(place.streams());
        let opening = &self.opening;
        let (input, wrappers) = match stated.name {
            // Raw is raw, whatever it looks like.
            "raw" => (Input::Forward(forward), Vec::new()),
            _ => formats::unwrap(Input::Forward(forward), FORMATS, &opening.limits())?,
        };
        let path = std::path::Path::new(&self.image);
        let origin = match input {
            Input::Forward(forward) if !opening.strict() => {
                origin::passing(path, forward, Some(stated), &wants, opening)?
            }
            input @ (Input::Whole(_) | Input::Forward(_)) => {
                let disk = origin::disk(path, input, &wrappers, Some(stated), &wants, opening)?;
                Origin::Disk(Disk::Whole(disk))
            }
        };
        job.write(origin, Digesting::None, place).map(|(_, output)| output)
    }

    fn tell(&self, image: &Image, piped: bool) {
        let digests = image.digests();
        if digests.is_empty() {
            note("diskwright: the service tells no digest of the image; its size was compared");
        }
        let verified: Vec<_> = digests.iter().map(|digest| digest.algorithm.name()).collect();
        let report = Report::new(self.output, false);
        if report.is_json() {
            print_json(&json!({
                "filename": self.path.to_string_lossy(),
                "id": image.id(),
                "name": image.text("name"),
                "size": image.number("size"),
                "verified": verified,
            }));
            return;
        }
        let size = image.number("size").map_or("an unknown number of bytes".into(), bytes);
        let line =
            format!("{}: {size}, verified by {}", escape(image.id()), verified.join(" and "));
        match piped {
            true => note(&line),
            false => report.text(&line),
        }
    }
}

/// The format that the service says: what is in an image is not asked.
fn stated(image: &Image) -> Result<&'static Format> {
    match (image.text("container_format"), image.text("disk_format")) {
        (Some(container @ ("ova" | "docker")), _) => formats::format(container),
        (_, Some("ami" | "ari" | "aki" | "gpt")) => formats::format("raw"),
        (_, Some(format)) => formats::format(format),
        (_, None) => Err(Error::invalid("the service does not say which format the image is of")),
    }
}
