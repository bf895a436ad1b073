//! `map`: where the bytes of a disk lie.

use std::path::PathBuf;

use formats::{Caching, Extent, Image, Place, Result};

use crate::args::{Opening, OutputKind, size};
use crate::exit::Exit;
use crate::policy;
use crate::report::{escape, print, print_part};
use crate::sandbox::Reach;

/// Tell where the bytes of a disk lie
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  diskwright map disk.qcow2
  diskwright map --output json --start-offset 1G --max-length 1M disk.qcow2")]
pub(crate) struct Args {
    /// Image to map
    #[arg(value_name = "FILE")]
    path: PathBuf,
    /// Format of the image; found out if not given
    #[arg(short, long = "format", value_name = "FORMAT")]
    format: Option<String>,
    /// Where on the disk to begin
    #[arg(short, long, value_name = "OFFSET", default_value = "0", value_parser = size)]
    start_offset: u64,
    /// How far to go
    #[arg(short = 'l', long, value_name = "LEN", value_parser = size)]
    max_length: Option<u64>,
    /// How the result is told
    #[arg(long, value_enum, value_name = "KIND", default_value_t)]
    output: OutputKind,
    #[command(flatten)]
    opening: Opening,
}

pub(crate) fn run(args: &Args) -> Result<Exit> {
    Reach::of(&args.opening).reads(&args.path).close()?;
    let named =
        policy::named(&args.path, args.format.as_deref(), &args.opening, Caching::Writeback)?;
    let disk = policy::disk(&args.path, &named, None, &args.opening)?;
    let len = args.max_length.unwrap_or(u64::MAX);
    let end = args.start_offset.saturating_add(len).min(disk.disk_size());
    let told = match args.output {
        OutputKind::Human => human(&*disk, args.start_offset, end),
        OutputKind::Json => json(&*disk, args.start_offset, end),
    };
    told.map_err(|error| error.path(&args.path))?;
    disk.files().iter().try_for_each(|file| file.still_whole())?;
    Ok(Exit::Ok)
}

/// What `map` says of an extent, in qemu-img's words.
#[derive(PartialEq)]
struct Line {
    start: u64,
    len: u64,
    depth: usize,
    present: bool,
    zero: bool,
    packed: bool,
    file: usize,
    offset: Option<u64>,
}

impl Line {
    fn of(extent: &Extent) -> Line {
        let (present, zero, packed, file, offset) = match extent.place {
            Place::Hole | Place::Backing => (false, true, false, 0, None),
            Place::Zero { offset } => (true, true, false, 0, offset),
            Place::Data { file, offset } => (true, false, false, file, Some(offset)),
            Place::Packed(packed) => (true, false, true, packed.file, None),
        };
        let Extent { start, len, depth, .. } = *extent;
        Line { start, len, depth, present, zero, packed, file, offset }
    }

    /// Compressed units have no offset that means anything to a reader of the map: neighbours are
    /// one line.
    fn takes(&mut self, next: &Line) -> bool {
        let goes_on = match (self.offset, next.offset) {
            (Some(this), Some(next)) => this + self.len == next,
            (None, None) => true,
            _ => false,
        };
        let same = (self.depth, self.present, self.zero, self.packed, self.file)
            == (next.depth, next.present, next.zero, next.packed, next.file);
        if same && goes_on {
            self.len += next.len;
        }
        same && goes_on
    }
}

/// Hands over the lines one by one: a map can be larger than memory.
fn lines(disk: &dyn Image, start: u64, end: u64, mut each: impl FnMut(&Line)) -> Result<()> {
    let mut last: Option<Line> = None;
    for extent in disk.walk(start, end) {
        let line = Line::of(&extent?);
        if last.as_mut().is_some_and(|last| last.takes(&line)) {
            continue;
        }
        if let Some(done) = last.replace(line) {
            each(&done);
        }
    }
    if let Some(done) = last {
        each(&done);
    }
    Ok(())
}

fn json(disk: &dyn Image, start: u64, end: u64) -> Result<()> {
    let mut before = "[";
    lines(disk, start, end, |line| {
        let Line { start, len, depth, present, zero, packed, .. } = *line;
        let offset =
            line.offset.map(|offset| format!(", \"offset\": {offset}")).unwrap_or_default();
        print_part(&format!(
            "{before}{{ \"start\": {start}, \"length\": {len}, \"depth\": {depth}, \
             \"present\": {present}, \"zero\": {zero}, \"data\": {}, \
             \"compressed\": {packed}{offset}}}",
            !zero
        ));
        before = ",\n";
    })?;
    print(if before == "[" { "[]" } else { "]" });
    Ok(())
}

fn human(disk: &dyn Image, start: u64, end: u64) -> Result<()> {
    print(&format!("{:<18} {:<18} {:<18} {}", "start", "length", "offset", "what"));
    let names: Vec<_> = disk.files().iter().map(|file| escape(&file.name())).collect();
    lines(disk, start, end, |line| {
        let offset = line.offset.map_or("-".into(), |offset| format!("{offset:#x}"));
        let what = match line {
            Line { present: false, .. } => "nothing".into(),
            Line { zero: true, .. } => "zeros".into(),
            Line { packed: true, file, .. } => format!("compressed in {}", names[*file]),
            Line { file, .. } => format!("data in {}", names[*file]),
        };
        let (start, len) = (format!("{:#x}", line.start), format!("{:#x}", line.len));
        print(&format!("{start:<18} {len:<18} {offset:<18} {what}"));
    })
}
