//! Layers of a container image: archives of files, each over those in front of it. A disk of a
//! virtual machine lies in them as a file in the folder `disk` (a containerDisk).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::base::error::{Error, Result};
use crate::base::limits::Limits;
use crate::base::model::entry::{EntryKind, Stretch};
use crate::base::model::facts::Facts;
use crate::base::model::format::Format;
use crate::base::model::reference::Role;
use crate::base::storage::Source;
use crate::base::tar::{self, Archive, Links, Member};
use crate::container::inside;
use crate::intake::unwrapped;

/// Where disks lie.
const FOLDER: &str = "disk";
/// In front of the name of a file that is not there any more.
const GONE: &str = ".wh.";
/// Of a folder, nothing below shows through.
const OPAQUE: &str = ".wh..wh..opq";

/// The disks in the topmost layer that has any, by name. What a layer above took away is not
/// there.
pub(crate) fn disks(
    source: &Arc<dyn Source>,
    facts: &Facts,
    formats: &[&'static Format],
    limits: &Limits,
) -> Result<Vec<Arc<dyn Source>>> {
    let mut hidden = Hidden::default();
    for layer in facts.references.iter().rev().filter(|layer| layer.role == Role::Layer) {
        let Some(stretches) = layer.held.as_ref().and_then(|held| held.stretches.as_ref()) else {
            continue;
        };
        let found = in_layer(source, &layer.name, stretches, &mut hidden, formats, limits);
        let found = found.map_err(|error| error.path(layer.name.as_str()))?;
        if !found.is_empty() || hidden.all {
            return Ok(found);
        }
    }
    Ok(Vec::new())
}

/// What the layers so far hide of those below.
#[derive(Default)]
struct Hidden {
    all: bool,
    names: BTreeSet<String>,
}

impl Hidden {
    /// What a member does, apart from being there.
    fn take(&mut self, member: &Member) {
        match member.path.split_once('/') {
            None => {
                let replaced = member.path == FOLDER && member.kind != EntryKind::Folder;
                let gone = member.path.strip_prefix(GONE) == Some(FOLDER);
                self.all |= replaced || gone || member.path == OPAQUE;
            }
            Some((FOLDER, OPAQUE)) => self.all = true,
            Some((FOLDER, name)) => {
                let first = name.split('/').next().unwrap_or(name);
                self.names.insert(first.strip_prefix(GONE).unwrap_or(first).to_string());
            }
            Some(_) => {}
        }
    }
}

fn in_layer(
    source: &Arc<dyn Source>,
    name: &str,
    stretches: &[Stretch],
    hidden: &mut Hidden,
    formats: &[&'static Format],
    limits: &Limits,
) -> Result<Vec<Arc<dyn Source>>> {
    let layer = unwrapped(inside(source, name, stretches)?, formats, limits)?;
    if !tar::probe(&*layer)? && !is_blank(&*layer)? {
        return Err(Error::unsupported("a layer that is no archive of files"));
    }
    let mut found = BTreeMap::new();
    let mut below = Hidden::default();
    for member in Archive::new(&*layer, Links::Listed, limits) {
        let member = member?;
        below.take(&member);
        let Some((FOLDER, file)) = member.path.split_once('/') else { continue };
        let plain = !file.contains('/') && !file.starts_with(GONE);
        if plain && member.kind == EntryKind::File && !hidden.names.contains(file) {
            found.insert(file.to_string(), inside(&layer, &member.path, &member.stretches)?);
        }
    }
    hidden.all |= below.all;
    hidden.names.append(&mut below.names);
    Ok(found.into_values().collect())
}

/// Whether it begins with the zeros that end an archive, or with nothing: an archive of nothing.
fn is_blank(layer: &dyn Source) -> Result<bool> {
    let mut block = [0; 512];
    let read = layer.read_at(0, &mut block).map_err(|error| Error::io("cannot read", error))?;
    Ok(block[..read].iter().all(|byte| *byte == 0))
}
