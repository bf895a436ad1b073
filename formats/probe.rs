//! Which format is this? One answer, or why not.

use crate::base::error::{Error, Result};
use crate::base::model::format::Format;
use crate::base::storage::Window;

/// What has no room here yet, and must not pass for a raw disk: (name, offset, magic). A negative
/// offset counts from the end.
const FOREIGN: &[(&str, i64, &[u8])] =
    &[("dmg", -512, b"koly"), ("bochs", 0, b"Bochs Virtual HD Image"), ("tar", 257, b"ustar")];

/// Every format that these bytes match, the ones with a magic first; the one that matches
/// everything (raw) stands last.
pub fn matches(formats: &[&'static Format], window: &dyn Window) -> Result<Vec<&'static Format>> {
    let mut found = Vec::new();
    for format in formats {
        if (format.probe)(window)? {
            found.push(*format);
        }
    }
    Ok(found)
}

/// A container that is not read here, whose mark these bytes bear.
pub fn foreign(window: &dyn Window) -> Result<Option<&'static str>> {
    for (name, offset, magic) in FOREIGN {
        let at = match u64::try_from(*offset) {
            Ok(at) => at,
            Err(_) => match window.len()?.checked_sub(offset.unsigned_abs()) {
                Some(at) => at,
                None => continue,
            },
        };
        if window.starts_with(at, magic)? {
            return Ok(Some(name));
        }
    }
    Ok(None)
}

/// The one format of these bytes. `Refused` if two containers claim them, `Unsupported` if they
/// bear the mark of one that is not read here: to take either for raw would be silently wrong.
pub fn probe(formats: &[&'static Format], window: &dyn Window) -> Result<&'static Format> {
    let found = matches(formats, window)?;
    let containers: Vec<_> = found.iter().filter(|format| !is_any(format)).copied().collect();
    match containers[..] {
        [one] => Ok(one),
        [] => match foreign(window)? {
            Some(name) => Err(Error::unsupported(format!(
                "it looks like {name}, which is not read yet; -f raw takes its bytes as they are"
            ))),
            None => found.first().copied().ok_or_else(|| Error::unsupported("no format known")),
        },
        _ => {
            let names: Vec<_> = containers.iter().map(|format| format.name).collect();
            let names = names.join(" and ");
            Err(Error::refused(format!("it is {names} at once; say which with -f")))
        }
    }
}

/// Whether this format matches any bytes whatever.
pub(crate) fn is_any(format: &Format) -> bool {
    format.name == "raw"
}
