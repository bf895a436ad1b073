//! Every disk of a container, each as an image of its own in a folder.

use std::path::{Path, PathBuf};

use formats::{Error, Format, Result};

use crate::args::Opening;
use crate::policy;

/// Whether the output is a folder, or is to be one.
pub(super) fn is_folder(output: &Path) -> bool {
    output.is_dir() || output.to_string_lossy().ends_with('/')
}

/// The disks of a container by their numbers, and where each one goes.
pub(super) fn places(
    input: &Path,
    output: &Path,
    stated: Option<&str>,
    format: &Format,
    opening: &Opening,
) -> Result<Vec<(usize, PathBuf)>> {
    let names = names(input, stated, opening)?;
    if names.is_empty() {
        let what = "the output is a folder, and the input holds no disks";
        return Err(Error::invalid(what).path(output));
    }
    let ending = format.extensions.first().unwrap_or(&format.name);
    let mut places: Vec<(usize, PathBuf)> = Vec::new();
    for (number, name) in (1..).zip(&names) {
        let stem = name.rsplit('/').next().unwrap_or_default();
        let stem = stem.rsplit_once('.').map_or(stem, |(stem, _)| stem);
        let safe = !stem.is_empty() && !stem.starts_with('.') && !stem.contains(['\0', '\\']);
        let own = output.join(format!("{stem}.{ending}"));
        let taken = places.iter().any(|(_, path)| *path == own);
        let numbered = output.join(format!("disk{number}.{ending}"));
        places.push((number, if safe && !taken { own } else { numbered }));
    }
    places.retain(|(number, _)| opening.disk.is_none_or(|wanted| wanted == *number));
    Ok(places)
}

/// The files of the disks that a container holds; none if it is no container.
fn names(input: &Path, stated: Option<&str>, opening: &Opening) -> Result<Vec<String>> {
    let named = policy::named(input, stated, opening, formats::Caching::Writeback)?;
    if named.format.open.is_some() {
        return Ok(Vec::new());
    }
    let facts = (named.format.inspect)(&*named.source, &opening.limits())
        .map_err(|error| error.format(named.format.name).path(input))?;
    Ok(formats::disks(&facts).iter().map(|disk| disk.name.clone()).collect())
}
