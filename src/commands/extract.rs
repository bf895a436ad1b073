//! `extract`: files out of an image.

use std::fs::{File, Permissions};
use std::ops::ControlFlow;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use formats::{Entry, EntryKind, Error, Limits, Result, Source, Stream, Target, Watch};
use serde_json::json;

use super::ls::inside;
use crate::args::{Opening, OutputKind};
use crate::exit::Exit;
use crate::folder::{Folder, stays_inside};
use crate::outputs::standard_output;
use crate::progress::Progress;
use crate::report::{Report, bytes, counted, note, print_json};
use crate::sandbox::Reach;

/// Take files out of an image
///
/// Files go beneath a folder and nowhere else: no link is followed on the way, and nothing that is
/// there already is touched unless --force says so. Devices are left out, and symbolic links too
/// unless --links asks for them.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  diskwright extract installer.iso -C files
  diskwright extract installer.iso casper/vmlinuz casper/initrd -C boot
  diskwright extract seed.iso user-data --to-stdout | less")]
pub(crate) struct Args {
    /// Image to look into
    #[arg(value_name = "IMAGE")]
    path: PathBuf,
    /// What to take out: files, or folders with what is in them; everything if not given
    #[arg(value_name = "PATH")]
    inside: Vec<String>,
    /// Folder to put it into, made if it is not there; - for standard output
    #[arg(
        short = 'C',
        long = "directory",
        value_name = "DIR",
        required_unless_present = "to_stdout"
    )]
    directory: Option<PathBuf>,
    /// Write one file to standard output
    #[arg(long, conflicts_with = "directory")]
    to_stdout: bool,
    /// Make symbolic links, too, those that lead to something inside
    #[arg(long)]
    links: bool,
    /// Replace files that are there already
    #[arg(long)]
    force: bool,
    /// Format of the image; found out if not given
    #[arg(short, long = "format", value_name = "FORMAT")]
    format: Option<String>,
    /// Show how far it is
    #[arg(short, long)]
    progress: bool,
    /// Say nothing but errors
    #[arg(short, long)]
    quiet: bool,
    /// How the result is told
    #[arg(long, value_enum, value_name = "KIND", default_value_t)]
    output: OutputKind,
    #[command(flatten)]
    opening: Opening,
}

pub(crate) fn run(args: &Args) -> Result<Exit> {
    let path = args.directory.as_deref().filter(|path| *path != Path::new("-"));
    let folder = path.map(Folder::open).transpose()?;
    let reach = Reach::of(&args.opening).reads(&args.path);
    path.into_iter().fold(reach, Reach::fills).close()?;
    let (named, found) = inside(&args.path, args.format.as_deref(), &args.inside, &args.opening)?;
    let total = within_bounds(&found, named.source.len(), &args.opening.limits())
        .map_err(|error| error.format(named.format.name).path(&args.path))?;
    let progress = Progress::new(args.progress);
    let work = Work { args, source: named.source, progress, total };
    match folder {
        Some(folder) => work.fill_folder(folder, &found),
        None => work.fill_pipe(&found),
    }
}

/// Bytes that these entries store. `Limit` if they are more than is allowed, `Unsupported` if one
/// of them is packed in a way that is not read.
fn within_bounds(found: &[Entry], len: u64, limits: &Limits) -> Result<u64> {
    let mut total = 0_u64;
    for entry in found {
        if let Some(packing) = entry.packing {
            let path = entry.path.escape_debug();
            return Err(Error::unsupported(format!("'{path}' is packed: {packing} is not read")));
        }
        let stored = entry.stretches.iter().filter(|stretch| stretch.offset.is_some());
        total = stored.map(|stretch| stretch.len).fold(total, u64::saturating_add);
    }
    if total > limits.max_output {
        let most = limits.max_output;
        return Err(Error::limit(format!("the files have {total} bytes, {most} at most")));
    }
    if total > limits.ratio_floor && total / limits.max_ratio > len {
        let what = format!("the files have {total} bytes, in an image of {len}");
        return Err(Error::limit(what));
    }
    Ok(total)
}

/// What is being done.
struct Work<'a> {
    args: &'a Args,
    source: Arc<dyn Source>,
    progress: Progress,
    /// Bytes of all files.
    total: u64,
}

/// What was made.
#[derive(Default)]
struct Made {
    files: u64,
    folders: u64,
    links: u64,
    bytes: u64,
}

impl Work<'_> {
    fn fill_folder(&self, mut folder: Folder, found: &[Entry]) -> Result<Exit> {
        if let Some((entry, _)) = links(found).find(|(e, to)| !stays_inside(&e.path, to))
            && self.args.links
        {
            let what = format!("the link '{}' does not stay inside", entry.path.escape_debug());
            return Err(Error::refused(what).path(&self.args.path));
        }
        let (mut made, mut left_out) = (Made::default(), 0_u64);
        for entry in found {
            match &entry.kind {
                EntryKind::Folder => {
                    folder.make(&entry.path)?;
                    made.folders += 1;
                }
                EntryKind::File => {
                    self.file(entry, &mut folder, made.bytes)?;
                    made.bytes += entry.size;
                    made.files += 1;
                }
                EntryKind::Link(_) if self.args.links => {}
                EntryKind::Link(_) | EntryKind::Other => left_out += 1,
            }
        }
        // Last, so that nothing goes through them.
        for (entry, target) in links(found).filter(|_| self.args.links) {
            folder.link(&entry.path, target)?;
            made.links += 1;
        }
        if left_out > 0 && !self.args.quiet {
            note(&format!("diskwright: left out {left_out} links, devices or pipes"));
        }
        folder.keep();
        self.tell(&made);
        Ok(Exit::Ok)
    }

    fn fill_pipe(&self, found: &[Entry]) -> Result<Exit> {
        let files: Vec<_> = found.iter().filter(|e| e.kind == EntryKind::File).collect();
        let [entry] = files[..] else {
            let what = format!("one file goes to standard output, and these are {}", files.len());
            return Err(Error::invalid(what));
        };
        let fail = |error| Error::io("cannot write to standard output", error);
        let target = Stream::new(standard_output().map_err(fail)?);
        self.copy(entry, &target, 0)?;
        target.sync().map_err(fail)?;
        Ok(Exit::Ok)
    }

    fn file(&self, entry: &Entry, folder: &mut Folder, before: u64) -> Result<()> {
        let output = folder.file(&entry.path, self.args.force)?;
        let target = output.target();
        self.copy(entry, &*target, before)?;
        let fail = |error| Error::io("cannot finish", error).path(target.name());
        target.set_len(entry.size).map_err(fail)?;
        if let Some(file) = target.file() {
            dress(file, entry).map_err(fail)?;
        }
        output.commit()
    }

    /// Copies what a file holds; `before` bytes were copied before it.
    fn copy(&self, entry: &Entry, target: &dyn Target, before: u64) -> Result<()> {
        let fail = |error| Error::io("cannot copy", error).path(&entry.path);
        let content = formats::inside(&self.source, &entry.path, &entry.stretches)
            .map_err(|error| error.path(&entry.path))?;
        let mut buffer = vec![0; 1 << 20];
        let mut at = 0;
        while at < content.len() {
            let found = content.allocated(at).map_err(fail)?;
            if !found.data && target.is_fresh() {
                at = found.end;
                continue;
            }
            let left = usize::try_from(found.end.min(content.len()) - at).unwrap_or(usize::MAX);
            let part = left.min(buffer.len());
            formats::Window::read(&*content, at, &mut buffer[..part])?;
            target.write_at(at, &buffer[..part]).map_err(fail)?;
            at += part as u64;
            if let ControlFlow::Break(()) = self.progress.progress(before + at, self.total) {
                return Err(Error::cancelled());
            }
        }
        content.still_whole()
    }

    fn tell(&self, made: &Made) {
        let report = Report::new(self.args.output, self.args.quiet);
        let Made { files, folders, links, bytes: size } = *made;
        if report.is_json() {
            print_json(&json!({"files": files, "folders": folders, "links": links, "bytes": size}));
            return;
        }
        let linked =
            if links > 0 { format!(", {}", counted(links, "link")) } else { String::new() };
        let (files, folders) = (counted(files, "file"), counted(folders, "folder"));
        report.text(&format!("{files}, {folders}{linked}; {}", bytes(size)));
    }
}

/// The symbolic links among these, and where they point.
fn links(found: &[Entry]) -> impl Iterator<Item = (&Entry, &str)> {
    found.iter().filter_map(|entry| match &entry.kind {
        EntryKind::Link(target) => Some((entry, target.as_str())),
        EntryKind::File | EntryKind::Folder | EntryKind::Other => None,
    })
}

/// Whoever may read a program may run it; and it is as old as it was.
fn dress(file: &File, entry: &Entry) -> std::io::Result<()> {
    if entry.mode.is_some_and(|mode| mode & 0o111 != 0) {
        let mode = file.metadata()?.permissions().mode();
        file.set_permissions(Permissions::from_mode(mode | (mode & 0o444) >> 2))?;
    }
    let modified = entry.modified.and_then(|seconds| u64::try_from(seconds).ok());
    let moment = modified.and_then(|seconds| UNIX_EPOCH.checked_add(Duration::from_secs(seconds)));
    match moment {
        Some(moment) => file.set_modified(moment),
        None => Ok(()),
    }
}
