//! `ls`: the files inside an image.

use std::path::{Path, PathBuf};

use formats::{Caching, Entry, EntryKind, Error, Limits, Result};
use serde_json::{Value as Json, json};

use crate::args::{Opening, OutputKind};
use crate::exit::Exit;
use crate::policy::{self, Named};
use crate::report::{Report, escape, print_json};
use crate::sandbox::Reach;

/// List the files inside an image
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  diskwright ls installer.iso
  diskwright ls installer.iso boot/grub
  diskwright ls --output json appliance.ova")]
pub(crate) struct Args {
    /// Image to look into
    #[arg(value_name = "IMAGE")]
    path: PathBuf,
    /// What to list: a file, or a folder with what is in it; everything if not given
    #[arg(value_name = "PATH")]
    inside: Option<String>,
    /// Format of the image; found out if not given
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
    let (_, found) =
        inside(&args.path, args.format.as_deref(), args.inside.as_slice(), &args.opening)?;
    let report = Report::new(args.output, false);
    if report.is_json() {
        print_json(&found.iter().map(entry_json).collect());
    } else if !found.is_empty() {
        report.text(&found.iter().map(line).collect::<Vec<_>>().join("\n"));
    }
    Ok(Exit::Ok)
}

/// An image, and the files inside: those at or below the paths wanted; all of them if none is
/// given. `Invalid` if there is nothing at such a path.
pub(super) fn inside(
    path: &Path,
    format: Option<&str>,
    wanted: &[String],
    opening: &Opening,
) -> Result<(Named, Vec<Entry>)> {
    let named = policy::named(path, format, opening, Caching::Writeback)?;
    let wanted: Vec<_> = wanted.iter().map(|path| trimmed(path).to_owned()).collect();
    let found = entries(&named, &wanted, &opening.limits())
        .map_err(|error| error.format(named.format.name).path(path))?;
    Ok((named, found))
}

/// A path as people type it, as images have it.
fn trimmed(path: &str) -> &str {
    let mut path = path.trim_end_matches('/');
    while let Some(rest) = path.strip_prefix("./").or_else(|| path.strip_prefix('/')) {
        path = rest;
    }
    if path == "." { "" } else { path }
}

fn entries(named: &Named, wanted: &[String], limits: &Limits) -> Result<Vec<Entry>> {
    let Some(entries) = named.format.entries else {
        return Err(Error::unsupported("such an image holds a disk, and no files"));
    };
    let mut found = Vec::new();
    let mut missing: Vec<_> = wanted.iter().filter(|path| !path.is_empty()).collect();
    entries(&*named.source, limits, &mut |entry| {
        missing.retain(|path| !lies_in(&entry.path, path));
        if wanted.is_empty() || wanted.iter().any(|path| lies_in(&entry.path, path)) {
            found.push(entry);
        }
        Ok(())
    })?;
    match missing.first() {
        None => Ok(found),
        Some(path) => Err(Error::invalid(format!("there is no '{}' inside", path.escape_debug()))),
    }
}

/// Whether `path` is `folder`, or lies below it.
fn lies_in(path: &str, folder: &str) -> bool {
    let rest = path.strip_prefix(folder);
    folder.is_empty() || rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

fn kind(entry: &Entry) -> (char, &'static str) {
    match entry.kind {
        EntryKind::File => ('-', "file"),
        EntryKind::Folder => ('d', "folder"),
        EntryKind::Link(_) => ('l', "link"),
        EntryKind::Other => ('?', "other"),
    }
}

fn line(entry: &Entry) -> String {
    let mode = entry.mode.map(permissions).unwrap_or_default();
    let date = entry.modified.and_then(date).unwrap_or_default();
    let more = match (&entry.kind, entry.packing) {
        (EntryKind::Link(target), _) => format!(" -> {}", escape(target)),
        (_, Some(packing)) => format!(" ({packing})"),
        (_, None) => String::new(),
    };
    let (letter, size, path) = (kind(entry).0, entry.size, escape(&entry.path));
    format!("{letter}{mode:<9} {size:>12} {date:<19} {path}{more}")
}

/// Permissions in letters.
fn permissions(mode: u32) -> String {
    let bit = |index: usize| match mode & (0o400 >> index) {
        0 => '-',
        _ => ['r', 'w', 'x'][index % 3],
    };
    (0..9).map(bit).collect()
}

/// A moment in UTC; none outside of the years that people write.
fn date(seconds: i64) -> Option<String> {
    let layout = time::macros::format_description!("[year]-[month]-[day] [hour]:[minute]:[second]");
    time::OffsetDateTime::from_unix_timestamp(seconds).ok()?.format(&layout).ok()
}

fn entry_json(entry: &Entry) -> Json {
    let mut value = json!({"path": entry.path, "kind": kind(entry).1, "size": entry.size});
    if let EntryKind::Link(target) = &entry.kind {
        value["target"] = json!(target);
    }
    if let Some(packing) = entry.packing {
        value["packing"] = json!(packing);
    }
    if let Some(mode) = entry.mode {
        value["mode"] = json!(format!("{mode:04o}"));
    }
    if let Some(modified) = entry.modified {
        value["modified"] = json!(modified);
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_what_people_mean_by_it() {
        for path in ["a/b", "/a/b", "./a/b/", "//a/b"] {
            assert_eq!(trimmed(path), "a/b");
        }
        assert_eq!((trimmed("/"), trimmed(".")), ("", ""));
        assert!(lies_in("a/b", "a") && lies_in("a", "a") && lies_in("a", ""));
        assert!(!lies_in("ab", "a") && !lies_in("a", "a/b"));
        assert_eq!(permissions(0o754), "rwxr-xr--");
    }
}
