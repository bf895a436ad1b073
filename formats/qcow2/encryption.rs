//! How the content is encrypted: by a LUKS header inside the image, or by the old AES.

use super::inspect::Head;
use super::layout::EXTENSION_ENCRYPTION;
use crate::base::error::{Kind, Result};
use crate::base::limits::Limits;
use crate::base::luks_header::{self, Luks};
use crate::base::model::facts::{Hazard, HazardKind, Value};
use crate::base::storage::{Be64, Window, Word};

/// What is known of the encryption.
pub(super) enum Encryption {
    /// There is none.
    None,
    /// AES with the password as its key.
    Aes,
    /// A LUKS header, or in a sentence why it cannot be used.
    Luks(std::result::Result<Luks, String>),
}

/// Where the LUKS header lies.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    /// Of the extension that says so.
    pub(super) at: u64,
    pub(super) offset: u64,
    pub(super) len: u64,
}

/// Where the LUKS header lies, as the header extension says.
pub(super) fn place(window: &dyn Window, head: &Head) -> Result<Option<Place>> {
    let found = head.extensions.iter().find(|extension| extension.kind == EXTENSION_ENCRYPTION);
    let Some(extension) = found.filter(|extension| extension.len >= 16) else { return Ok(None) };
    let bytes = window.array::<16>(extension.at)?;
    let (offset, len) = (Be64::get(&bytes), Be64::get(&bytes[8..]));
    Ok(Some(Place { at: extension.at, offset, len }))
}

/// Reads the LUKS header, if there is one. A damaged one is no failure: there is no key for it
/// anyway.
pub(super) fn read(window: &dyn Window, head: &Head, limits: &Limits) -> Result<Encryption> {
    match head.header.crypt_method {
        0 => return Ok(Encryption::None),
        1 => return Ok(Encryption::Aes),
        _ => {}
    }
    let Some(Place { offset, .. }) = place(window, head)? else {
        return Ok(Encryption::Luks(Err("it does not say where its LUKS header lies".into())));
    };
    match luks_header::read(window, offset, limits) {
        Ok(luks) => Ok(Encryption::Luks(Ok(luks))),
        Err(error) => match error.kind() {
            Kind::Malformed | Kind::Truncated | Kind::Unsupported | Kind::Limit => {
                Ok(Encryption::Luks(Err(format!("its LUKS header cannot be used: {error}"))))
            }
            Kind::Refused | Kind::Invalid | Kind::Io | Kind::Cancelled | Kind::Awaiting => {
                Err(error)
            }
        },
    }
}

impl Encryption {
    /// As qemu's `ImageInfoSpecificQCow2Encryption`.
    pub(super) fn value(&self) -> Option<Value> {
        let (format, luks) = match self {
            Encryption::None => return None,
            Encryption::Aes => ("aes", None),
            Encryption::Luks(luks) => ("luks", luks.as_ref().ok()),
        };
        let mut map = vec![("format", Value::from(format))];
        map.extend(luks.into_iter().flat_map(|luks| luks.facts.iter().cloned()));
        Some(Value::Map(map))
    }

    /// That the content is encrypted, and what is odd about it.
    pub(super) fn hazards(&self) -> Vec<Hazard> {
        let odd = |what: &String| Hazard { kind: HazardKind::Irregular, what: what.clone() };
        let (name, odd) = match self {
            Encryption::None => return Vec::new(),
            Encryption::Aes => ("AES", Vec::new()),
            Encryption::Luks(Ok(luks)) => ("LUKS", luks.oddities.iter().map(odd).collect()),
            Encryption::Luks(Err(why)) => ("LUKS", vec![odd(why)]),
        };
        let what = format!("its content is encrypted ({name})");
        [vec![Hazard { kind: HazardKind::Encrypted, what }], odd].concat()
    }
}
