//! `inspect`: is this file what it should be, and safe to hand on? And what is known of it?

use std::path::PathBuf;

use formats::{Algorithm, Result};
use metadata::{Metadata, SCHEMA, SystemRecord, TableRecord};

use super::info::aligned;
use crate::args::{Opening, OutputKind, algorithm};
use crate::exit::Exit;
use crate::inspection::Inspection;
use crate::report::{Report, bytes, escape, print, print_json};
use crate::sandbox::Reach;

/// Look at an untrusted image, or a stream of one, without opening anything that it names
///
/// Tells what it is, whether it is safe to hand on, and what lies on its disk: partitions, file
/// systems, how it boots, and which operating system; as properties of an image service, too.
/// Nothing is mounted, and nothing guessed: what is not known is absent.
///
/// The exit code is 0 if nothing about it is dangerous, and 1 if something is. Of a stream, what
/// is dangerous is told as soon as it is known.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  diskwright inspect upload.img
  diskwright inspect -f qcow2 upload.img
  diskwright inspect --explain --hash md5,sha512 --output json cloud.qcow2
  cat upload.img | diskwright inspect --output json -
  diskwright inspect --schema")]
pub(crate) struct Args {
    /// Image to look at; - for standard input
    #[arg(value_name = "FILE", required_unless_present = "schema")]
    path: Option<PathBuf>,
    /// Format that it has to be
    #[arg(short, long = "format", value_name = "FORMAT")]
    format: Option<String>,
    /// Say where each property came from
    #[arg(long)]
    explain: bool,
    /// Tell digests of the file as it is stored: md5, sha1, sha256, sha512
    #[arg(long, value_name = "LIST", value_delimiter = ',', value_parser = algorithm)]
    hash: Vec<Algorithm>,
    /// Print the schema of the JSON output, and do nothing else
    #[arg(long)]
    schema: bool,
    /// How the result is told
    #[arg(long, value_enum, value_name = "KIND", default_value_t)]
    output: OutputKind,
    #[command(flatten)]
    opening: Opening,
}

pub(crate) fn run(args: &Args) -> Result<Exit> {
    let path = match &args.path {
        Some(path) if !args.schema => path,
        _ => {
            print(SCHEMA.trim_end());
            return Ok(Exit::Ok);
        }
    };
    Reach::of(&args.opening).reads(path).close()?;
    let stated = args.format.as_deref().map(formats::format).transpose()?;
    let inspection = Inspection::of(path, stated, &args.opening, &args.hash)?;
    let metadata = inspection.metadata(path, &args.opening, args.explain)?;
    match args.output {
        OutputKind::Json => {
            let json = serde_json::to_value(&metadata).expect("keys of ours are strings");
            print_json(&json);
        }
        OutputKind::Human => Report::new(args.output, false).text(&text(&metadata)),
    }
    Ok(if metadata.safe { Exit::Ok } else { Exit::No })
}

/// The record for people.
fn text(metadata: &Metadata) -> String {
    let Metadata { format, variant, virtual_size: size, .. } = metadata;
    let mut lines = vec![
        ("image", escape(&metadata.filename)),
        ("format", format!("{format} ({variant})")),
        ("disk size", format!("{} ({size} bytes)", bytes(*size))),
    ];
    lines.extend(metadata.partition_table.iter().flat_map(table));
    for found in &metadata.file_systems {
        let mut text = found.kind.to_owned();
        for (name, value) in [("label", &found.label), ("uuid", &found.uuid)] {
            text += &value
                .as_ref()
                .map(|value| format!(", {name} {}", escape(value)))
                .unwrap_or_default();
        }
        text +=
            &found.partition.map(|number| format!(", in partition {number}")).unwrap_or_default();
        let volume = found.volume.as_ref();
        text += &volume.map(|name| format!(", in volume {}", escape(name))).unwrap_or_default();
        lines.push(("file system", text));
    }
    lines.extend(system(&metadata.system));
    for (name, digest) in &metadata.digests {
        lines.push((name, digest.clone()));
    }
    for (name, value) in &metadata.properties {
        let why = metadata.explain.get(name).map(|why| format!("   ({})", escape(why)));
        let value = format!("{name}={}{}", escape(value), why.unwrap_or_default());
        lines.push(("property", value));
    }
    for note in &metadata.notes {
        lines.push(("note", escape(note)));
    }
    for hazard in &metadata.hazards {
        lines.push(("hazard", format!("{}: {}", hazard.kind, escape(&hazard.what))));
    }
    lines.push(("verdict", if metadata.safe { "safe" } else { "not safe" }.into()));
    aligned(&lines)
}

fn table(table: &TableRecord) -> Vec<(&'static str, String)> {
    let mut lines = vec![("partitions", table.kind.to_owned())];
    for one in &table.partitions {
        let kind = one.type_name.unwrap_or(&one.r#type);
        let name = one.name.as_ref().map(|name| format!(", '{}'", escape(name)));
        let active = if one.bootable { ", bootable" } else { "" };
        let (number, size, name) = (one.number, bytes(one.size), name.unwrap_or_default());
        lines.push(("partition", format!("{number}: {size}, {}{name}{active}", escape(kind))));
    }
    let problems = table.problems.iter().map(|problem| ("problem", escape(&problem.what)));
    lines.extend(problems);
    lines
}

fn system(system: &SystemRecord) -> Vec<(&'static str, String)> {
    let yes = |flag: bool| if flag { "yes" } else { "no" }.to_owned();
    let known = |name, value: Option<&str>| value.map(|value| (name, escape(value)));
    let lines = [
        known("firmware", system.firmware),
        known("architecture", system.architecture),
        known(
            "system",
            system.name.as_deref().or(system.distribution.as_deref()).or(system.r#type),
        ),
        known("kernel", system.kernel.as_deref()),
        system.cloud_init.map(|flag| ("cloud-init", yes(flag))),
        system.guest_agent.map(|flag| ("guest agent", yes(flag))),
    ];
    lines.into_iter().flatten().collect()
}
