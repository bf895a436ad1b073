//! What every text in XML has in common. No entity but the five that XML itself names means
//! anything here: those that a text declares can be bombs, or files.

use quick_xml::escape::resolve_predefined_entity;
use quick_xml::events::BytesRef;

use super::error::{Error, Result};

/// A character by its number, or one of the five that XML names. `Refused` otherwise.
pub(crate) fn resolve(reference: &BytesRef, at: u64) -> Result<String> {
    if let Ok(Some(one)) = reference.resolve_char_ref() {
        return Ok(one.into());
    }
    let name: &str = reference.as_ref();
    let known = resolve_predefined_entity(name).map(str::to_string);
    known.ok_or_else(|| {
        let what = format!("the descriptor uses the entity '{}'", name.escape_debug());
        Error::refused(what).at(at)
    })
}
