//! How a disk boots, and on which processor.

use std::collections::BTreeSet;
use std::rc::Rc;

use crate::bytes::Bytes;
use crate::disk::{Disk, Fault, Read};
use crate::files::Files;
use crate::table::{BIOS_BOOT, ESP, ESP_MBR, Partition, Table, TableKind, root_architecture};
use crate::{Known, Place, machine, torito};

/// How a disk boots.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Boot {
    /// What firmware it has a boot loader for.
    pub firmware: Option<Known<Firmware>>,
    /// The processor that what lies on it is for, as OpenStack names it: `x86_64`, `aarch64`,
    /// `i686`, `ppc64le`, `s390x`, `riscv64`, `armv7l`, ...
    pub architecture: Option<Known<&'static str>>,
}

/// What starts a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Firmware {
    /// That of PCs from the start.
    Bios,
    /// Its successor.
    Uefi,
    /// Either of them.
    Both,
}

impl Firmware {
    /// Its name, as machines read it.
    pub fn name(self) -> &'static str {
        match self {
            Firmware::Bios => "bios",
            Firmware::Uefi => "uefi",
            Firmware::Both => "both",
        }
    }
}

/// Programs of UEFI that firmware starts by itself, and folders of theirs that are looked through.
const FALLBACK: &str = "/EFI/BOOT";
const FOLDERS: usize = 32;
/// Programs of which one tells what processor a root file system is for.
const PROGRAMS: [&str; 6] = [
    "/sbin/init",
    "/bin/sh",
    "/usr/bin/bash",
    "/bin/busybox",
    "/usr/bin/env",
    "/lib/ld-linux.so.2",
];
/// Kernels that are looked at.
const KERNELS: usize = 4;

/// What several signs say: for which processors each kind of thing is.
#[derive(Default)]
struct Signs {
    /// A kind of thing, what it is for, and where each was seen.
    groups: Vec<(&'static str, BTreeSet<&'static str>, String)>,
}

impl Signs {
    fn add(&mut self, group: &'static str, architecture: &'static str, why: &str) {
        match self.groups.iter_mut().find(|(name, ..)| *name == group) {
            Some((_, all, _)) => drop(all.insert(architecture)),
            None => self.groups.push((group, BTreeSet::from([architecture]), why.into())),
        }
    }

    /// The one processor that every kind of thing is for.
    fn agreed(self, disk: &Disk) -> Option<Known<&'static str>> {
        let mut sets = self.groups.iter().map(|(_, all, _)| all.clone());
        let first = sets.next()?;
        let common = sets.fold(first, |common, other| &common & &other);
        let mut common = common.into_iter();
        if let (Some(only), None) = (common.next(), common.next()) {
            let why: Vec<_> = self.groups.into_iter().map(|(.., why)| why).collect();
            return Some(Known::new(only, why.join(", ")));
        }
        let told = |(_, all, why): &(&str, BTreeSet<&str>, String)| {
            format!("{why} for {}", all.iter().copied().collect::<Vec<_>>().join(" and "))
        };
        let told: Vec<_> = self.groups.iter().map(told).collect();
        disk.note(format!("it is not clear what processor the disk is for: {}", told.join(", ")));
        None
    }
}

/// How the disk boots.
pub(crate) fn describe(
    disk: &Rc<Disk>,
    table: Option<&Table>,
    places: &mut [Place],
    root: Option<usize>,
) -> Boot {
    let mut signs = Signs::default();
    let partitions = table.map_or(&[][..], |table| &table.partitions);
    for partition in partitions {
        if let Some(architecture) = root_architecture(&partition.type_id) {
            let why = format!("the type of partition {}", partition.number);
            signs.add("type", architecture, &why);
        }
    }
    let uefi = uefi(places, &mut signs);
    let bios = table.and_then(|table| match bios(disk, table) {
        Ok(found) => found,
        Err(fault) => {
            disk.complain("the boot sector", &fault);
            None
        }
    });
    let (cd_bios, cd_uefi) = cd(places);
    let firmware = match (bios.or(cd_bios), uefi.or(cd_uefi)) {
        (Some(bios), Some(uefi)) => Some(Known::new(Firmware::Both, format!("{bios}, and {uefi}"))),
        (Some(bios), None) => Some(Known::new(Firmware::Bios, bios)),
        (None, Some(uefi)) => Some(Known::new(Firmware::Uefi, uefi)),
        (None, None) => None,
    };
    if let Some(root) = root
        && let name = places[root].name()
        && let Some(files) = places[root].files.as_mut()
        && let Err(fault) = programs(files, &mut signs)
    {
        disk.complain(&name, &fault);
    }
    Boot { firmware, architecture: signs.agreed(disk) }
}

/// Why UEFI would find a boot loader here, if it would.
fn uefi(places: &mut [Place], signs: &mut Signs) -> Option<String> {
    let mut found = None;
    for place in places.iter_mut().filter(|place| place.found.kind == "vfat") {
        let is_esp = [ESP, ESP_MBR].contains(&place.type_id());
        let name = place.name();
        let Some(files) = place.files.as_mut() else { continue };
        match loaders(files, is_esp, signs) {
            Ok(Some(loader)) if found.is_none() => found = Some(format!("{loader} in {name}")),
            Ok(_) => {}
            Err(fault) => place.volume.disk.complain(&name, &fault),
        }
    }
    found
}

/// The first program for UEFI in a file system: the one that any firmware starts, else, in a
/// partition for that, one that firmware can be told of.
fn loaders(files: &mut Files, is_esp: bool, signs: &mut Signs) -> Read<Option<String>> {
    let mut found = None;
    let mut look = |files: &mut Files, path: String| -> Read<()> {
        let front = files.read(&path, machine::FRONT)?.unwrap_or_default();
        if let Some(architecture) = machine::pe(Bytes(&front)) {
            signs.add("loader", architecture, &path);
            found.get_or_insert(path);
        }
        Ok(())
    };
    let is_program = |name: &str| name.to_ascii_lowercase().ends_with(".efi");
    for name in files.names(FALLBACK)? {
        if is_program(&name) && name.to_ascii_lowercase().starts_with("boot") {
            look(files, format!("{FALLBACK}/{name}"))?;
        }
    }
    if found.is_some() || !is_esp {
        return Ok(found);
    }
    for folder in files.names("/EFI")?.into_iter().take(FOLDERS) {
        let names = files.names(&format!("/EFI/{folder}"))?;
        for name in names.into_iter().filter(|name| is_program(name)).take(FOLDERS) {
            let path = format!("/EFI/{folder}/{name}");
            let front = files.read(&path, machine::FRONT)?.unwrap_or_default();
            if let Some(architecture) = machine::pe(Bytes(&front)) {
                signs.add("loader", architecture, &path);
                return Ok(Some(path));
            }
        }
    }
    Ok(None)
}

/// Why the firmware of PCs would find a boot loader here, if it would.
fn bios(disk: &Rc<Disk>, table: &Table) -> Read<Option<String>> {
    let mut code = [0; 440];
    disk.read(0, &mut code)?;
    if code.iter().all(|byte| *byte == 0) {
        return Ok(None);
    }
    let holds = |word: &[u8]| code.windows(word.len()).any(|part| part == word);
    let is_gpt = table.kind != TableKind::Mbr;
    if holds(b"GRUB") {
        // On a GPT the rest of it is in a partition of its own.
        let rest = table.partitions.iter().find(|partition| partition.type_id == BIOS_BOOT);
        return Ok(match rest {
            Some(part) if !is_blank(disk, part)? => {
                Some(format!("grub in the first sector and in partition {}", part.number))
            }
            None if !is_gpt => Some("grub in the first sector".into()),
            Some(_) | None => None,
        });
    }
    let active = table.partitions.iter().filter(|partition| partition.bootable);
    for partition in active {
        let mut sector = [0; 512];
        match disk.read(partition.start, &mut sector) {
            Err(Fault::Damaged(_)) => continue,
            other => other?,
        }
        if sector.ends_with(b"\x55\xaa") && sector[..3] != [0; 3] {
            let number = partition.number;
            return Ok(Some(format!("code in the first sector and in that of partition {number}")));
        }
    }
    Ok(None)
}

/// Whether there is nothing at the start of a partition.
fn is_blank(disk: &Rc<Disk>, partition: &Partition) -> Read<bool> {
    let mut front = [0; 512];
    match disk.read(partition.start, &mut front) {
        Err(Fault::Damaged(_)) => Ok(true),
        other => other.map(|()| front.iter().all(|byte| *byte == 0)),
    }
}

/// Why each firmware would find a boot loader on a CD, if it would.
fn cd(places: &[Place]) -> (Option<String>, Option<String>) {
    let mut found = (None, None);
    for place in places.iter().filter(|place| place.found.kind == "iso9660") {
        match torito::read(&place.volume) {
            Ok(bootable) => {
                let why = || Some("the boot catalogue of the CD".to_string());
                found.0 = found.0.or_else(|| bootable.bios.then(why).flatten());
                found.1 = found.1.or_else(|| bootable.uefi.then(why).flatten());
            }
            // One that ends before its second sector cannot be booted.
            Err(Fault::Damaged(_) | Fault::Spent) => {}
            Err(fault) => place.volume.disk.complain(&place.name(), &fault),
        }
    }
    found
}

/// For which processor the programs of a root file system are, and its kernels.
fn programs(files: &mut Files, signs: &mut Signs) -> Read<()> {
    for path in PROGRAMS {
        let front = match files.read(path, machine::FRONT) {
            Err(Fault::Damaged(_)) => continue,
            other => other?.unwrap_or_default(),
        };
        if let Some(architecture) = machine::of_program(&front) {
            signs.add("program", architecture, path);
            break;
        }
    }
    let names = files.names("/boot")?;
    for name in names.iter().filter(|name| name.starts_with("vmlinu")).take(KERNELS) {
        let path = format!("/boot/{name}");
        let front = match files.read(&path, machine::FRONT) {
            Err(Fault::Damaged(_)) => continue,
            other => other?.unwrap_or_default(),
        };
        if let Some(architecture) = machine::of_program(&front) {
            signs.add("kernel", architecture, &path);
        }
    }
    Ok(())
}
