//! One file per verb, all of one shape: what was meant, the work, what to say.

mod check;
mod compare;
mod convert;
mod create;
mod download;
mod extract;
mod image;
mod info;
mod inspect;
mod iso;
mod ls;
mod manual;
mod map;
mod measure;
mod ova;
mod preflight;
mod resize;
mod unpack;
mod upload;

use std::fmt::Write as _;

use clap::{Parser, Subcommand};
use formats::{FORMATS, Result};

use crate::exit::{Exit, TABLE};

/// Reads, writes, checks, compares and converts disk images.
///
/// Flags are those of qemu-img where it has them. Names that an image utters (backing files, data
/// files) are not followed unless --allow-refs says so.
#[derive(Parser)]
#[command(name = "diskwright", version, after_help = TABLE, after_long_help = after_help())]
#[command(max_term_width = 100)]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
#[command(defer = true)]
enum Command {
    Convert(Box<convert::Args>),
    Info(info::Args),
    Inspect(inspect::Args),
    Preflight(preflight::Args),
    Check(check::Args),
    Compare(compare::Args),
    Create(create::Args),
    Map(map::Args),
    Ls(ls::Args),
    Extract(extract::Args),
    Iso(iso::Args),
    Ova(ova::Args),
    Measure(measure::Args),
    Resize(resize::Args),
    Upload(Box<upload::Args>),
    Download(Box<download::Args>),
    Image(image::Args),
    Manual(manual::Args),
}

/// Does what was asked for.
pub(crate) fn run(cli: Cli) -> Result<Exit> {
    match cli.command {
        Command::Convert(args) => convert::run(&args),
        Command::Info(args) => info::run(&args),
        Command::Inspect(args) => inspect::run(&args),
        Command::Preflight(args) => preflight::run(&args),
        Command::Check(args) => check::run(&args),
        Command::Compare(args) => compare::run(&args),
        Command::Create(args) => create::run(&args),
        Command::Map(args) => map::run(&args),
        Command::Ls(args) => ls::run(&args),
        Command::Extract(args) => extract::run(&args),
        Command::Iso(args) => iso::run(&args),
        Command::Ova(args) => ova::run(&args),
        Command::Measure(args) => measure::run(&args),
        Command::Resize(args) => resize::run(&args),
        Command::Upload(args) => upload::run(&args),
        Command::Download(args) => download::run(&args),
        Command::Image(args) => image::run(&args),
        Command::Manual(args) => manual::run(&args),
    }
}

/// The table of formats, from the registry, and the table of exit codes.
fn after_help() -> String {
    let mut text = String::from("Formats:\n");
    for format in FORMATS {
        let written = format.create.is_some() || format.packs_machines;
        let can = |does: bool, what: &'static str| does.then_some(what);
        let deeds = [
            can(format.open.is_some() || format.holds_disks, "read"),
            can(format.open.is_none() && !format.holds_disks, "inspect"),
            can(written, "write"),
            can(format.check.is_some(), "check"),
            can(format.repair.is_some(), "repair"),
            can(format.resize.is_some(), "resize"),
        ];
        let deeds: Vec<_> = deeds.into_iter().flatten().collect();
        let (name, about) = (format.name, format.about);
        let _ = writeln!(text, "  {name:<8} {about} ({})", deeds.join(", "));
    }
    text + "\n" + TABLE
}
