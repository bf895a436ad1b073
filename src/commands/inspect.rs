//! `inspect`: is this file what it should be, and safe to hand on?

use std::io::Read;
use std::path::{Path, PathBuf};

use formats::{Caching, Error, FORMATS, Facts, Format, Hazard, HazardKind, Ingest, Result};
use serde_json::{Map, json};

use super::info::{aligned, hazards_json, value_json};
use crate::args::{Opening, OutputKind};
use crate::exit::Exit;
use crate::policy;
use crate::report::{Report, bytes, escape, print_json};

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
    let stated = args.format.as_deref().map(formats::format).transpose()?;
    let facts = match args.path == Path::new("-") {
        true => stream(stated, args)?,
        false => file(stated, args).map_err(|error| error.path(&args.path))?,
    };
    tell(args, &facts);
    Ok(if facts.hazards.is_empty() { Exit::Ok } else { Exit::No })
}

fn stream(stated: Option<&'static Format>, args: &Args) -> Result<Facts> {
    let formats = stated.as_ref().map_or(FORMATS, std::slice::from_ref);
    let mut ingest = Ingest::new(formats, args.opening.limits());
    let mut input = std::io::stdin().lock();
    let mut chunk = vec![0; 1 << 20];
    loop {
        match input.read(&mut chunk) {
            Ok(0) => return ingest.finish(),
            Ok(len) => drop(ingest.push(&chunk[..len])?),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(Error::io("cannot read standard input", error)),
        }
    }
}

/// A file is looked at in the same light as a stream: what looks like another container, or like
/// two, is said, and what was stated has to be so.
fn file(stated: Option<&'static Format>, args: &Args) -> Result<Facts> {
    let file = policy::named(&args.path, Some("raw"), &args.opening, Caching::Writeback)?.source;
    let found = formats::matches(FORMATS, &*file)?;
    let format = match stated {
        Some(format) if found.iter().any(|other| other.name == format.name) => format,
        Some(format) => {
            let what = format!("it is not {}", format.name);
            return Err(Error::new(formats::Kind::Malformed, what).format(format.name));
        }
        None => match formats::probe(FORMATS, &*file) {
            Err(error) if error.kind() == formats::Kind::Unsupported => formats::format("raw")?,
            other => other?,
        },
    };
    let mut facts = (format.inspect)(&*file, &args.opening.limits())
        .map_err(|error| error.format(format.name))?;
    if stated.is_none()
        && format.name == "raw"
        && let Some(name) = formats::foreign(&*file)?
    {
        let what = format!("it looks like {name}, which is not read yet");
        facts.hazards.push(Hazard { kind: HazardKind::Foreign, what });
    }
    Ok(facts)
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
