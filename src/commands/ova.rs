//! `ova`: machines with their disks in an archive; and what `convert` needs to write one.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::{Subcommand, ValueEnum};
use formats::{
    Algorithm, Caching, Copied, CopyOptions, Error, Export, Image, Kind, Limits, Machine, Options,
    Result, Source, Survey, System, Target,
};

use super::check;
use crate::args::{Opening, size};
use crate::exit::Exit;
use crate::policy::{self, Named};
use crate::report::{Report, escape, note};

/// Machines with their disks in an archive
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Verify(check::Args),
}

pub(crate) fn run(args: &Args) -> Result<Exit> {
    match &args.command {
        Command::Verify(args) => verify(args),
    }
}

/// Verify an archive of a machine: digests, sizes, signature, and the disks in it
///
/// The exit code is 0 if all is as it should be, and 1 if something is not.
fn verify(args: &check::Args) -> Result<Exit> {
    let checked = check::run(args)?;
    let named = policy::named(&args.path, args.format.as_deref(), &args.opening, args.cache)?;
    let limits = args.opening.limits();
    let facts = (named.format.inspect)(&*named.source, &limits)
        .map_err(|error| error.format(named.format.name).path(&args.path))?;
    let report = Report::new(args.output, args.quiet);
    let mut exit = checked;
    for number in 1..=formats::disks(&facts).len() {
        if let Err(error) = look_at(number, args, &named, &limits) {
            if matches!(error.kind(), Kind::Io | Kind::Cancelled) {
                return Err(error);
            }
            note(&format!("disk {number}: {}", escape(&error.to_string())));
            exit = Exit::No;
        }
    }
    if let Some(detail) = facts.details.iter().find(|detail| detail.name == "certificate")
        && !report.is_json()
    {
        report.text(&format!("certificate: {}", super::info::value_text(&detail.value)));
    }
    Ok(exit)
}

/// Opens a disk. The digests of files beside a descriptor are taken here: its check does not see
/// those.
fn look_at(number: usize, args: &check::Args, named: &Named, limits: &Limits) -> Result<()> {
    let mut options = policy::open_options(&args.path, &args.opening, limits)?;
    options.disk = Some(number);
    let disk = formats::open(named.source.clone(), named.format, &options)?;
    match named.format.entries {
        Some(_) => Ok(()),
        None => disk.promises().iter().try_for_each(|promise| promise.keep(&|| Ok(()))),
    }
}

/// What a machine in a new archive is to be like.
#[derive(Default, clap::Args)]
#[command(next_help_heading = "With -O ova")]
pub(super) struct Wishes {
    /// What the machine is called; by the name of the output if not given
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Processors (default 1)
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    cpus: Option<u16>,
    /// Memory, with M or G behind it (default 1G)
    #[arg(long, value_name = "SIZE", value_parser = size)]
    memory: Option<u64>,
    /// Firmware (default bios)
    #[arg(long, value_enum, value_name = "KIND")]
    firmware: Option<Firmware>,
    /// System: linux, debian, ubuntu, rhel, windows10, ..., its number in CIM, or a name of the kind of
    /// `debian10_64Guest`
    #[arg(long, value_name = "SYSTEM")]
    os: Option<String>,
    /// A network adapter, by the name of its network; once for each
    #[arg(long, value_name = "NETWORK")]
    nic: Vec<String>,
    /// Family of the hardware: vmx-NN or virtualbox-2.2 (default vmx-13)
    #[arg(long, value_name = "FAMILY", value_parser = hardware)]
    hardware: Option<String>,
    /// Digests of the files: sha1, sha256, sha512, none (default sha256)
    #[arg(long, value_name = "KIND", value_parser = manifest)]
    manifest: Option<Manifest>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Firmware {
    /// As old as the PC
    Bios,
    /// UEFI
    Efi,
}

/// How the files of an archive are digested, if they are.
#[derive(Clone, Copy)]
struct Manifest(Option<Algorithm>);

fn manifest(text: &str) -> Result<Manifest, String> {
    let known = [Algorithm::Sha1, Algorithm::Sha256, Algorithm::Sha512];
    match text {
        "none" => Ok(Manifest(None)),
        _ => match known.into_iter().find(|algorithm| algorithm.name() == text) {
            Some(algorithm) => Ok(Manifest(Some(algorithm))),
            None => Err("sha1, sha256, sha512 or none".into()),
        },
    }
}

fn hardware(text: &str) -> Result<String, String> {
    let version = text.strip_prefix("vmx-").map(str::parse::<u8>);
    match version {
        Some(Ok(_)) => Ok(text.into()),
        _ if text == "virtualbox-2.2" => Ok(text.into()),
        _ => Err("vmx-NN or virtualbox-2.2".into()),
    }
}

impl Wishes {
    /// Whether anything was said that only an archive of a machine can be told.
    pub(super) fn are_said(&self) -> bool {
        let Wishes { name, cpus, memory, firmware, os, nic, hardware, manifest } = self;
        let numbers = cpus.is_some() || memory.is_some() || firmware.is_some();
        let words = name.is_some() || os.is_some() || hardware.is_some() || !nic.is_empty();
        numbers || words || manifest.is_some()
    }

    /// The machine: as wished, else as it was where it came from, else a small one.
    fn machine(&self, was: Option<Machine>, output: &Path) -> Result<Machine> {
        let stem = output.file_stem().unwrap_or_default().to_string_lossy();
        let stem = if stem.is_empty() || stem == "-" { "machine".into() } else { stem };
        let mut machine = was.unwrap_or_else(|| Machine::new(stem));
        let Wishes { name, cpus, memory, firmware, os, nic, hardware, .. } = self;
        if let Some(name) = name {
            machine.name.clone_from(name);
        }
        machine.cpus = cpus.map_or(machine.cpus, u64::from);
        machine.memory = memory.unwrap_or(machine.memory);
        if machine.memory == 0 || !machine.memory.is_multiple_of(1 << 20) {
            let is = machine.memory;
            return Err(Error::invalid(format!("a memory of {is} bytes: it is counted in MiB")));
        }
        if let Some(firmware) = firmware {
            machine.efi = matches!(firmware, Firmware::Efi);
            machine.secure_boot &= machine.efi;
        }
        if let Some(os) = os {
            machine.os = System::named(os)?;
        }
        if !nic.is_empty() {
            machine.networks.clone_from(nic);
        }
        if let Some(hardware) = hardware {
            machine.hardware.clone_from(hardware);
        }
        Ok(machine)
    }
}

/// How the inputs are read.
pub(super) struct Asked<'a> {
    pub(super) format: Option<&'a str>,
    pub(super) snapshot: Option<&'a str>,
    pub(super) caching: Caching,
    pub(super) opening: &'a Opening,
}

/// What is packed: the disks, and the machine that they came from.
pub(super) struct Packed {
    disks: Vec<Box<dyn Image>>,
    totals: Vec<u64>,
    machine: Machine,
    name: String,
    manifest: Option<Algorithm>,
    settings: Options,
}

impl Packed {
    /// Opens the inputs: of an archive of a machine all disks, unless one is asked for.
    pub(super) fn open(
        inputs: &[PathBuf],
        output: &Path,
        asked: &Asked,
        wishes: &Wishes,
    ) -> Result<Packed> {
        let Asked { format, snapshot, caching, opening } = *asked;
        let limits = opening.limits();
        let (mut disks, mut was) = (Vec::new(), None);
        for path in inputs {
            let named = policy::named(path, format, opening, caching)?;
            let held = held(path, &named, &limits)?;
            if held == 0 || opening.disk.is_some() {
                disks.push(policy::disk(path, &named, snapshot, opening)?);
            }
            if held > 0 && was.is_none() {
                let machine = formats::machine(&*named.source, &limits);
                was = machine.map_err(|error| error.format(named.format.name).path(path))?;
            }
            for number in 1..=held {
                if opening.disk.is_none() {
                    let opening = Opening { disk: Some(number), ..opening.clone() };
                    disks.push(policy::disk(path, &named, None, &opening)?);
                }
            }
        }
        let data = disks.iter().map(|disk| Ok(Survey::of(&**disk, &limits)?.data));
        let totals = data.collect::<Result<Vec<_>>>();
        let totals = totals.map_err(|error| error.path(&inputs[0]))?;
        let machine = wishes.machine(was, output)?;
        let Manifest(manifest) = wishes.manifest.unwrap_or(Manifest(Some(Algorithm::Sha256)));
        let pairs = [("subformat", "streamOptimized"), ("adapter_type", "lsilogic")];
        let pairs = pairs.map(|(key, value)| (key.into(), value.into()));
        let name = file_name(wishes.name.as_deref(), output);
        let settings = Options::new(pairs);
        Ok(Packed { disks, totals, machine, name, manifest, settings })
    }

    /// The files that are read.
    pub(super) fn files(&self) -> Vec<Arc<dyn Source>> {
        self.disks.iter().flat_map(|disk| disk.files().iter().cloned()).collect()
    }

    /// Bytes of all disks.
    pub(super) fn size(&self) -> u64 {
        self.disks.iter().map(|disk| disk.disk_size()).fold(0, u64::saturating_add)
    }

    /// Packs them.
    pub(super) fn write(&self, target: &Arc<dyn Target>, how: &CopyOptions) -> Result<Copied> {
        let disks: Vec<_> =
            self.disks.iter().map(|disk| &**disk).zip(self.totals.iter().copied()).collect();
        let export = Export {
            disks: &disks,
            machine: &self.machine,
            name: &self.name,
            describe: formats::describe,
            format: formats::format("vmdk")?,
            settings: self.settings.clone(),
            manifest: self.manifest,
        };
        formats::export(&export, target, how)
    }
}

/// How many disks it holds, if it holds machines.
fn held(path: &Path, named: &Named, limits: &Limits) -> Result<usize> {
    if !["ova", "ovf"].contains(&named.format.name) {
        return Ok(0);
    }
    let facts = (named.format.inspect)(&*named.source, limits)
        .map_err(|error| error.format(named.format.name).path(path))?;
    Ok(formats::disks(&facts).len())
}

/// What the files in the archive are called: letters that no reader stumbles over.
fn file_name(name: Option<&str>, output: &Path) -> String {
    let stem = output.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let name = name.unwrap_or(&stem);
    let safe = |c: char| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '-' };
    let name: String = name.chars().map(safe).take(60).collect();
    let name = name.trim_matches(['.', '-']);
    if name.is_empty() { "machine".into() } else { name.into() }
}
