//! Tells what lies on a disk: `look FILE...`

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "it is a program")]

use std::sync::Arc;

use contents::{Budget, Contents, Known};
use formats::{Access, Caching, FORMATS, ImageFile, Limits, OpenOptions, Result};

fn main() {
    for path in std::env::args_os().skip(1) {
        let path = std::path::PathBuf::from(path);
        match look(&path) {
            Ok(contents) => tell(&path.to_string_lossy(), &contents),
            Err(error) => println!("{}: {error}", path.display()),
        }
    }
}

fn look(path: &std::path::Path) -> Result<Contents> {
    let limits = Limits::default();
    let file = Arc::new(ImageFile::open(path, Access::ReadShared, Caching::Writeback)?);
    let format = formats::probe(FORMATS, &*file)?;
    let disk = formats::open(file, format, &OpenOptions::new(FORMATS, &limits))?;
    contents::look(disk.into(), &Budget::default())
}

fn tell(path: &str, contents: &Contents) {
    println!("{path}");
    if let Some(table) = &contents.table {
        println!("  table {} of {} bytes {:?}", table.kind.name(), table.sector_size, table.id);
        for part in &table.partitions {
            println!(
                "    {} {}+{} {} {:?} {:?} {:?} {}",
                part.number,
                part.start,
                part.len,
                part.type_id,
                part.type_name,
                part.name,
                part.id,
                part.bootable
            );
        }
        for problem in &table.problems {
            println!("    problem {}: {}", problem.kind.name(), problem.what);
        }
    }
    for found in &contents.file_systems {
        println!(
            "  {} in {:?}: {:?} {:?} {:?}",
            found.kind,
            (found.partition, &found.volume),
            found.label,
            found.uuid,
            found.size
        );
    }
    let (boot, system) = (&contents.boot, &contents.system);
    known("firmware", boot.firmware.as_ref());
    known("architecture", boot.architecture.as_ref());
    known("os_type", system.os_type.as_ref());
    known("distro", system.distro.as_ref());
    known("version", system.version.as_ref());
    known("name", system.pretty_name.as_ref());
    known("kernel", system.kernel.as_ref());
    known("cloud-init", system.cloud_init.as_ref());
    known("guest agent", system.guest_agent.as_ref());
    for note in &contents.notes {
        println!("  note {note}");
    }
}

fn known<T: std::fmt::Debug>(name: &str, known: Option<&Known<T>>) {
    if let Some(known) = known {
        println!("  {name} {:?} ({})", known.value, known.why);
    }
}
