//! `preflight`: would it be taken there?

use std::path::PathBuf;
use std::sync::Arc;

use formats::{Caching, Input, Kind, Result, Source};
use metadata::{Gate, Judgement, Remark, Subject, TARGETS, Target};
use serde_json::{Value, json};

use crate::args::{Opening, OutputKind};
use crate::exit::Exit;
use crate::input;
use crate::inspection::Inspection;
use crate::policy;
use crate::report::{Report, escape, print_json};
use crate::sandbox::Reach;

/// Say whether a cloud or a hypervisor would take an image, and why not
///
/// The exit code is 0 if each of the targets takes it and nothing is wrong with it, and 1
/// otherwise.
#[derive(clap::Args)]
#[command(after_long_help = targets(), after_help = "\
Examples:
  diskwright preflight --target glance upload.vmdk
  diskwright preflight --target azure,hyperv disk.vhd
  diskwright preflight --target glance --disk-format raw --output json upload.img
  diskwright preflight disk.qcow2")]
pub(crate) struct Args {
    /// Image that would go there; - for standard input
    #[arg(value_name = "FILE")]
    path: PathBuf,
    /// Where it would go; everywhere if not given
    #[arg(short, long = "target", value_name = "LIST", value_delimiter = ',', value_parser = target)]
    targets: Vec<&'static Target>,
    /// Format of the image; found out if not given
    #[arg(short, long = "format", value_name = "FORMAT")]
    format: Option<String>,
    /// What an image service is told that it is; by its format if not given
    #[arg(long, value_name = "NAME")]
    disk_format: Option<String>,
    /// How the result is told
    #[arg(long, value_enum, value_name = "KIND", default_value_t)]
    output: OutputKind,
    #[command(flatten)]
    opening: Opening,
}

pub(crate) fn run(args: &Args) -> Result<Exit> {
    Reach::of(&args.opening).reads(&args.path).close()?;
    let blamed = |error: formats::Error| error.path(crate::remote::shown(&args.path));
    let source = stored(args).map_err(blamed)?;
    let gate = Gate::of(&*source).map_err(blamed)?;
    let all = if args.targets.is_empty() { TARGETS } else { &args.targets };
    let judgements = judge(args, source, &gate, all).map_err(blamed)?;
    let told: Vec<_> = all.iter().copied().zip(&judgements).collect();
    tell(args, &gate, &told);
    Ok(if judgements.iter().all(Judgement::is_ready) { Exit::Ok } else { Exit::No })
}

/// The file as a service would get it.
fn stored(args: &Args) -> Result<Arc<dyn Source>> {
    let input = input::open(&args.path, &args.opening, Caching::Writeback)?;
    match input.within(&args.opening.limits()) {
        Input::Whole(source) => Ok(source),
        Input::Forward(forward) => policy::spooled(forward, "it goes by only once", &args.opening),
    }
}

/// What becomes of it at each of these targets.
fn judge(
    args: &Args,
    source: Arc<dyn Source>,
    gate: &Gate,
    targets: &[&Target],
) -> Result<Vec<Judgement>> {
    let stated = args.format.as_deref().map(formats::format).transpose()?;
    let found = input::inside(Input::Whole(source), stated, &args.opening, &[]);
    let looked = found.and_then(|found| Inspection::inside(found, stated, &args.opening));
    let looked = match looked {
        Err(error) if matches!(error.kind(), Kind::Io | Kind::Cancelled | Kind::Invalid) => {
            return Err(error);
        }
        looked => looked,
    };
    let inspection = match looked {
        Ok(inspection) => inspection,
        Err(error) => {
            return Ok(targets.iter().map(|one| one.judge_unread(gate, &error)).collect());
        }
    };
    let boot = inspection.contents(&args.path, &args.opening)?.unwrap_or_default().boot;
    let wrappers: Vec<_> = inspection.wrappers.iter().map(|one| one.name()).collect();
    let subject = Subject {
        gate,
        wrappers: &wrappers,
        facts: &inspection.facts,
        firmware: boot.firmware.map(|known| known.value.name()),
        architecture: boot.architecture.map(|known| known.value),
        disk_format: args.disk_format.as_deref(),
    };
    Ok(targets.iter().map(|target| target.judge(&subject)).collect())
}

fn tell(args: &Args, gate: &Gate, told: &[(&Target, &Judgement)]) {
    let report = Report::new(args.output, false);
    if report.is_json() {
        let list: Vec<_> = told.iter().map(|(target, judgement)| json(target, judgement)).collect();
        print_json(&json!({
            "filename": args.path.to_string_lossy(),
            "gate": {"formats": gate.formats, "verdict": gate.verdict.to_string()},
            "targets": list,
        }));
        return;
    }
    for (target, judgement) in told {
        let verdict = match (judgement.is_accepted(), judgement.is_ready()) {
            (false, _) => "not taken",
            (true, false) => "taken, and will not work",
            (true, true) => "taken",
        };
        report.text(&format!("{}: {verdict}", target.name));
        for Remark { weight, what, advice } in &judgement.remarks {
            report.text(&format!("  {}: {}", weight.name(), escape(what)));
            if let Some(advice) = advice {
                report.text(&format!("    {advice}"));
            }
        }
    }
}

fn json(target: &Target, judgement: &Judgement) -> Value {
    let remark = |remark: &Remark| json!({"weight": remark.weight.name(), "what": remark.what, "advice": remark.advice});
    json!({
        "target": target.name,
        "accepted": judgement.is_accepted(),
        "ready": judgement.is_ready(),
        "remarks": judgement.remarks.iter().map(remark).collect::<Vec<_>>(),
    })
}

fn target(name: &str) -> Result<&'static Target, String> {
    metadata::target(name).map_err(|error| error.to_string())
}

/// The table of targets.
fn targets() -> String {
    let line = |target: &&Target| format!("  {:<10} {}", target.name, target.about);
    let lines: Vec<_> = TARGETS.iter().map(line).collect();
    format!("Targets:\n{}", lines.join("\n"))
}
