//! `iso`: volumes made of folders.

use std::fs::{self, DirEntry, Metadata};
use std::ops::ControlFlow;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Subcommand;
use formats::{Access, Caching, Error, ImageFile, IsoAuthor, Output, Result, Source, Watch};
use serde_json::json;

use crate::args::OutputKind;
use crate::exit::Exit;
use crate::outputs::{How, Outputs, Place, blamed};
use crate::progress::{self, Progress};
use crate::report::{Report, bytes, note, print_json};

/// Make ISO volumes: seeds for cloud-init, config drives, media to boot from
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Create(Create),
}

/// Make a volume of a folder: ISO 9660 with Joliet and Rock Ridge
///
/// The same files make the same bytes: what is in the volume belongs to user 0 and group 0, may be
/// read by all and run if its owner may run it, and is as old as --date says, whatever the folder
/// says.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  diskwright iso create --label cidata seed/ seed.iso
  diskwright iso create --label config-2 drive/ drive.iso
  diskwright iso create --label BOOT --bios-boot isolinux/isolinux.bin --boot-info-table \\
      --efi-boot efi.img media/ media.iso")]
struct Create {
    /// Name of the volume, kept as it is: up to 32 bytes
    #[arg(long, value_name = "LABEL")]
    label: String,
    /// File in the folder that a BIOS boots from
    #[arg(long, value_name = "PATH")]
    bios_boot: Option<String>,
    /// Sectors of 512 bytes that a BIOS loads of it (default 4)
    #[arg(long, value_name = "N", requires = "bios_boot")]
    boot_load_size: Option<u16>,
    /// Tell that file where it lies, in its bytes 8 to 64, as isolinux and GRUB want it
    #[arg(long, requires = "bios_boot")]
    boot_info_table: bool,
    /// File in the folder that EFI boots from: the image of a FAT file system
    #[arg(long, value_name = "PATH")]
    efi_boot: Option<String>,
    /// When everything was made: seconds since 1970 (default: 1980-01-01)
    #[arg(long, value_name = "SECONDS", env = "SOURCE_DATE_EPOCH", allow_negative_numbers = true)]
    #[arg(hide_env_values = true)]
    date: Option<i64>,
    /// Folder with the files
    #[arg(value_name = "DIR")]
    folder: PathBuf,
    /// Volume to make; - for standard output
    #[arg(value_name = "FILE")]
    path: PathBuf,
    /// Show how far it is
    #[arg(short, long)]
    progress: bool,
    /// Say nothing but errors
    #[arg(short, long)]
    quiet: bool,
    /// How the result is told
    #[arg(long, value_enum, value_name = "KIND", default_value_t)]
    output: OutputKind,
}

pub(crate) fn run(args: &Args) -> Result<Exit> {
    match &args.command {
        Command::Create(args) => create(args),
    }
}

fn create(args: &Create) -> Result<Exit> {
    let place = Place::new(&args.path, Caching::Auto)?;
    progress::catch_signals();
    let mut author = IsoAuthor::new(&args.label)?;
    if let Some(date) = args.date {
        author.date(date);
    }
    let mut gathered = Gathered { author, own: Output::occupant(&args.path), left_out: 0 };
    gathered.folder(&args.folder, "")?;
    let Gathered { mut author, left_out, .. } = gathered;
    if let Some(path) = &args.bios_boot {
        author.boot_bios(inside(path), args.boot_load_size, args.boot_info_table)?;
    }
    if let Some(path) = &args.efi_boot {
        author.boot_efi(inside(path))?;
    }
    let output = Outputs::at(place, &[], &How::default())?;
    let progress = Progress::new(args.progress);
    let ask = |done, total| match progress.progress(done, total) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(()) => Err(Error::cancelled()),
    };
    let size = author.write(&*output.target(), &ask).map_err(blamed(&args.path))?;
    output.finish().map_err(blamed(&args.path))?;
    output.commit()?;
    tell(args, size, left_out);
    Ok(Exit::Ok)
}

/// A path in the folder, as the volume has it.
fn inside(path: &str) -> &str {
    path.trim_start_matches("./").trim_start_matches('/')
}

fn tell(args: &Create, size: u64, left_out: u64) {
    if left_out > 0 && !args.quiet {
        note(&format!("diskwright: left out {left_out} devices, pipes or sockets"));
    }
    // What goes to standard output is the volume.
    if args.path == Path::new("-") {
        return;
    }
    let report = Report::new(args.output, args.quiet);
    if report.is_json() {
        let filename = args.path.to_string_lossy();
        print_json(&json!({"filename": filename, "format": "iso", "size": size}));
        return;
    }
    report.text(&format!("made a volume of {}", bytes(size)));
}

/// What was found in the folder.
struct Gathered {
    author: IsoAuthor,
    /// The file that stands where the volume will: it is no part of it.
    own: Option<(u64, u64)>,
    left_out: u64,
}

impl Gathered {
    /// Adds what is in a folder, and below it; no link is followed.
    fn folder(&mut self, folder: &Path, inside: &str) -> Result<()> {
        let fail = |error| Error::io("cannot read the folder", error).path(folder);
        let found = fs::read_dir(folder).and_then(Iterator::collect::<std::io::Result<Vec<_>>>);
        let mut found = found.map_err(fail)?;
        found.sort_by_key(DirEntry::file_name);
        for entry in found {
            let path = entry.path();
            let name = entry.file_name().into_string().map_err(|name| {
                let name = name.to_string_lossy();
                Error::invalid(format!("the name '{}' is not UTF-8", name.escape_debug()))
                    .path(folder)
            })?;
            let inside = if inside.is_empty() { name } else { format!("{inside}/{name}") };
            let data = entry.metadata().map_err(fail)?;
            self.add(&path, &inside, &data)?;
        }
        Ok(())
    }

    fn add(&mut self, path: &Path, inside: &str, data: &Metadata) -> Result<()> {
        let kind = data.file_type();
        if kind.is_dir() {
            self.author.folder(inside, 0o755)?;
            return self.folder(path, inside);
        }
        if kind.is_symlink() {
            let fail = |error| Error::io("cannot read the link", error).path(path);
            let target = fs::read_link(path).map_err(fail)?.into_os_string().into_string();
            let target = target.map_err(|_| {
                Error::invalid("the path that it points to is not UTF-8").path(path)
            })?;
            return self.author.link(inside, &target);
        }
        if !kind.is_file() {
            self.left_out += 1;
            return Ok(());
        }
        if self.own.is_some() && self.own == Output::occupant(path) {
            return Ok(());
        }
        let runs = data.permissions().mode() & 0o100 != 0;
        let path = path.to_path_buf();
        let open = move || -> Result<Arc<dyn Source>> {
            Ok(Arc::new(ImageFile::open(&path, Access::ReadShared, Caching::Writeback)?))
        };
        let mode = if runs { 0o755 } else { 0o644 };
        self.author.file(inside, mode, data.len(), Box::new(open))
    }
}
