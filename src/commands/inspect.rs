//! `inspect`: is this file what it should be, and safe to hand on?

use std::path::PathBuf;

use formats::{Facts, Result};
use serde_json::{Map, json};

use super::info::{aligned, hazards_json, value_json};
use crate::args::{Opening, OutputKind};
use crate::exit::Exit;
use crate::inspection::Inspection;
use crate::report::{Report, bytes, escape, print_json};
use crate::sandbox::Reach;

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
    Reach::of(&args.opening).reads(&args.path).close()?;
    let stated = args.format.as_deref().map(formats::format).transpose()?;
    let inspection = Inspection::of(&args.path, stated, &args.opening, &[])?;
    tell(args, &inspection.facts);
    Ok(if inspection.facts.hazards.is_empty() { Exit::Ok } else { Exit::No })
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
