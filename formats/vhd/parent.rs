//! Where the parent of an image is said to be.

use super::layout::{Header, Locator};
use crate::base::error::{Error, Result};
use crate::base::limits::Limits;
use crate::base::storage::{Span, Window};

/// The longest name that Windows knows, in bytes.
const LONGEST: u32 = 65_536;
/// A path from the folder of the image.
const RELATIVE: [u8; 4] = *b"W2ru";
/// A path from the root of some machine.
const ABSOLUTE: [u8; 4] = *b"W2ku";
/// The same for a Macintosh.
const MACINTOSH: [u8; 4] = *b"MacX";

/// Says which stretches will be asked for: a stream keeps them as they pass.
pub(super) fn expect(window: &dyn Window, header: &Header) {
    for locator in header.locators.iter().filter(|locator| locator.len <= LONGEST) {
        if locator.code != [0; 4] {
            window.expect(locator.offset, locator.len.into());
        }
    }
}

/// The best name that the image has for its parent: relative before absolute. Backslashes have
/// become slashes; empty if it has none.
pub(super) fn name(window: &dyn Window, header: &Header, limits: &Limits) -> Result<String> {
    if let Some(text) = locator(window, header, RELATIVE, limits)? {
        return Ok(relative(&text));
    }
    let plain = utf16(&header.parent_name, u16::from_be_bytes);
    if !plain.is_empty() && !plain.contains(['/', '\\', ':']) {
        return Ok(plain);
    }
    for code in [ABSOLUTE, MACINTOSH] {
        if let Some(text) = locator(window, header, code, limits)? {
            return Ok(text.replace('\\', "/"));
        }
    }
    Ok(plain.replace('\\', "/"))
}

fn relative(text: &str) -> String {
    let mut name = text.replace('\\', "/");
    while let Some(rest) = name.strip_prefix("./") {
        name = rest.to_string();
    }
    name
}

/// The text of the locator for a system, if there is one with text.
fn locator(
    window: &dyn Window,
    header: &Header,
    code: [u8; 4],
    limits: &Limits,
) -> Result<Option<String>> {
    let is = |locator: &&Locator| locator.code == code && locator.len > 0;
    let Some(locator) = header.locators.iter().find(is) else { return Ok(None) };
    if locator.len > LONGEST {
        let what = format!("a name of the parent has {} bytes, {LONGEST} at most", locator.len);
        return Err(Error::malformed(locator.offset, what));
    }
    let span = Span::new(locator.offset, locator.len.into())?;
    let bytes = window.bytes(span, "a name of the parent", limits)?;
    let text = match code {
        MACINTOSH => String::from_utf8_lossy(&bytes).trim_end_matches('\0').to_string(),
        // Little endian in all files there are, though the name in the header is not.
        _ => utf16(&bytes, u16::from_le_bytes),
    };
    Ok((!text.is_empty()).then_some(text))
}

/// Text up to the first NUL.
fn utf16(bytes: &[u8], unit: fn([u8; 2]) -> u16) -> String {
    let units = bytes.chunks_exact(2).map(|pair| unit([pair[0], pair[1]]));
    let units: Vec<u16> = units.take_while(|unit| *unit != 0).collect();
    String::from_utf16_lossy(&units)
}

#[cfg(test)]
mod tests {
    use super::relative;

    #[test]
    fn names_are_those_of_this_side() {
        assert_eq!(relative(r".\parent.vhd"), "parent.vhd");
        assert_eq!(relative(r".\.\a\b.vhd"), "a/b.vhd");
        assert_eq!(relative(r"..\b.vhd"), "../b.vhd");
        assert_eq!(relative(r"\\server\share\b.vhd"), "//server/share/b.vhd");
    }
}
