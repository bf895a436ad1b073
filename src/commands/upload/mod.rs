//! `upload`: an image to an image service, in one go.
//!
//! ```text
//!   input ─▶ inspect ─▶ record ─▶ [convert] ─▶ inspect, digest ─▶ service ─▶ compare ─▶ done
//!                          └──── whatever fails: the record is taken away again
//! ```

mod described;
mod load;
mod record;
mod send;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use formats::{Error, Format, Options, Result};
use serde_json::{Map, Value};

use crate::args::{Opening, OutputKind, Settings, options_help, settings};
use crate::client::{Client, Image, Login, Visibility, seconds};
use crate::exit::Exit;
use crate::progress::Progress;
use crate::remote::is_url;
use crate::report::{Report, note, print, print_json};
use crate::sandbox::Reach;
use send::{Order, Way};

/// Send a disk image to an OpenStack image service
///
/// The image is inspected before anything is sent and while it is; what is dangerous, or is not
/// what it is said to be, is refused. Compression around it is taken off. The service's size and
/// digests are compared with ours in the end. Whatever fails, no record of it stays behind.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  diskwright upload --os-cloud mycloud --name debian-13 debian-13.qcow2
  diskwright upload --name web --describe --convert qcow2 -c web.vmdk
  diskwright upload --name base --visibility public --protected --tag golden base.raw.xz
  diskwright upload --name x --property hw_firmware_type=uefi --method stage x.qcow2
  diskwright upload --name cloud --method web-download https://example.org/cloud.qcow2
  zcat disk.raw.gz | diskwright upload --name disk -f raw -

Credentials come from clouds.yaml (--os-cloud or $OS_CLOUD) or from $OS_AUTH_URL, $OS_USERNAME,
$OS_PASSWORD, $OS_PROJECT_NAME and the like, as other OpenStack clients take them.")]
pub(crate) struct Args {
    /// Image to send; - for standard input
    #[arg(value_name = "FILE", required_unless_present = "uri")]
    path: Option<PathBuf>,
    /// What the image is called
    #[arg(long, value_name = "NAME")]
    name: String,
    /// Its id, which the service chooses otherwise
    #[arg(long, value_name = "UUID")]
    id: Option<uuid::Uuid>,
    /// Format that the file has to be
    #[arg(short, long = "format", value_name = "FORMAT")]
    format: Option<String>,
    /// Convert it into this format on the way
    #[arg(long, value_name = "FORMAT")]
    convert: Option<String>,
    /// With --convert: settings of the format, `key=value,...`; `help` lists them
    #[arg(short, long = "options", value_name = "OPTIONS", requires = "convert")]
    options: Vec<String>,
    /// With --convert: compress
    #[arg(short, long, requires = "convert")]
    compress: bool,
    /// The format that the record says; has to be what is sent
    #[arg(long, value_name = "FORMAT")]
    disk_format: Option<String>,
    /// What is around the disk: bare, ova, docker, ami, ari, aki; found out if not given
    #[arg(long, value_name = "FORMAT")]
    container_format: Option<String>,
    /// Who sees it; as the service likes if not given
    #[arg(long, value_enum, value_name = "WHO")]
    visibility: Option<Visibility>,
    /// Add what is known of the disk as properties: how it boots, for which processor, which system
    #[arg(long)]
    describe: bool,
    /// A property of the record; again for each
    #[arg(long = "property", value_name = "KEY=VALUE", value_parser = record::property)]
    properties: Vec<(String, String)>,
    /// A tag of the record; again for each
    #[arg(long = "tag", value_name = "TAG")]
    tags: Vec<String>,
    /// Nobody may delete it, once it is there
    #[arg(long)]
    protected: bool,
    /// Leave it out of lists
    #[arg(long)]
    hidden: bool,
    /// GiB that a disk needs for it at least, if that is more than its size
    #[arg(long, value_name = "GIB")]
    min_disk: Option<u64>,
    /// MiB of memory that a machine needs for it
    #[arg(long, value_name = "MIB")]
    min_ram: Option<u64>,
    /// How it gets there: sent, sent and imported, or fetched by the service itself
    #[arg(long, value_enum, value_name = "METHOD", default_value_t)]
    method: Way,
    /// With web-download: where the service finds the image, if not under the name given as FILE
    #[arg(long, value_name = "URL")]
    uri: Option<String>,
    /// Where the service keeps it, by the names of its stores
    #[arg(long = "store", value_name = "STORE", value_delimiter = ',')]
    stores: Vec<String>,
    /// Seconds that the service may take until the image can be used
    #[arg(long, value_name = "SECONDS", default_value = "3600", value_parser = seconds)]
    wait: Duration,
    /// Send even what the gate of such services is known to refuse: not all have it
    #[arg(long)]
    no_gate: bool,
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
    let target = args.convert.as_deref().map(formats::format).transpose()?;
    let Settings::Pairs(options) = settings(&args.options)? else {
        let target = target.ok_or_else(|| Error::invalid("-o goes with --convert"))?;
        print(&options_help(target));
        return Ok(Exit::Ok);
    };
    stands_by_itself(target, &options)?;
    let (path, uri) = args.places()?;
    let service = args.login.service()?;
    Reach::of(&args.opening).reads(path).speaks().close()?;
    let asked = load::Asked {
        path,
        format: args.format.as_deref(),
        convert: target.map(|format| (format, &options)),
        compress: args.compress,
        progress: args.progress,
        disk_format: args.disk_format.as_deref(),
        ungated: args.no_gate,
        opening: &args.opening,
    };
    // Before the service hears of it.
    let shown = crate::remote::shown(path);
    let job = asked.job();
    let found = match uri {
        Some(_) => load::remote(&asked),
        None => load::load(&asked, &job).map(|cargo| (cargo, 0)),
    };
    let (cargo, len) = found.map_err(|error| error.path(&shown))?;
    let (disk, container) = (args.disk_format.as_deref(), args.container_format.as_deref());
    let shape = record::Shape::of(cargo.format, disk, container);
    let shape = shape.map_err(|error| error.path(&shown))?;
    let known = match args.describe {
        true => described::properties(&asked).map_err(|error| error.path(&shown))?,
        false => BTreeMap::new(),
    };
    let client = Client::connect(service)?;
    let record = record::record(args, &shape, cargo.disk_size, &known);
    let order = args.order(&client, record, &cargo);
    let image = match uri {
        Some(uri) => order.fetched_by_service(&uri, len)?,
        None => order.sent(cargo, &Progress::new(args.progress))?,
    };
    args.tell(&image);
    Ok(Exit::Ok)
}

impl Args {
    /// What is read here, and what the service is to read.
    fn places(&self) -> Result<(&Path, Option<String>)> {
        let is_web = self.method == Way::WebDownload;
        if self.uri.is_some() && !is_web {
            return Err(Error::invalid("--uri goes with --method web-download"));
        }
        if self.stores.len() > 1 && self.method == Way::Put {
            return Err(Error::invalid("several stores take --method stage"));
        }
        let path = self.path.as_deref().or(self.uri.as_deref().map(Path::new));
        let path = path.ok_or_else(|| Error::invalid("there is nothing to upload"))?;
        if !is_web {
            return Ok((path, None));
        }
        if self.convert.is_some() {
            return Err(Error::invalid("what the service fetches itself is not converted"));
        }
        let uri = self.uri.clone().or_else(|| path.to_str().map(str::to_string));
        match uri.filter(|uri| is_url(Path::new(uri))) {
            Some(uri) => Ok((path, Some(uri))),
            None => Err(Error::invalid("web-download takes an http URL, as FILE or as --uri")),
        }
    }

    fn order<'a>(
        &'a self,
        client: &'a Client,
        record: Map<String, Value>,
        cargo: &load::Cargo,
    ) -> Order<'a> {
        Order {
            client,
            record,
            chosen: self.id.is_some(),
            format: cargo.format,
            disk_size: cargo.disk_size,
            method: self.method,
            stores: &self.stores,
            wait: self.wait,
            min_disk: self.min_disk.unwrap_or(0),
            protected: self.protected,
            limits: self.opening.limits(),
            input: crate::remote::shown(self.path.as_deref().unwrap_or(Path::new("-"))),
        }
    }

    fn tell(&self, image: &Image) {
        if image.digests().is_empty() && self.method != Way::WebDownload {
            note("diskwright: the service tells no digest of the image; its size was compared");
        }
        let report = Report::new(self.output, false);
        match report.is_json() {
            true => print_json(&image.0),
            false => report.text(&super::image::lines(image)),
        }
    }
}

/// `Invalid` if what the conversion makes would need a file that stays here.
fn stands_by_itself(target: Option<&Format>, options: &Options) -> Result<()> {
    let Some(target) = target else { return Ok(()) };
    if target.packs_machines || target.create.is_none() {
        let what = format!("{} images are not made on the way to a service", target.name);
        return Err(Error::unsupported(what));
    }
    options.known_by(target.name, target.options)?;
    let away = ["backing_file", "backing_fmt", "data_file", "data_file_raw"];
    match away.into_iter().find(|key| options.text(key).is_some()) {
        None => Ok(()),
        Some(key) => Err(Error::invalid(format!("{key}: an image for a service stands by itself"))),
    }
}
