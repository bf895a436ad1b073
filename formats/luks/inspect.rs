//! Header → facts.

use crate::base::error::{Error, Result};
use crate::base::limits::Limits;
use crate::base::luks_header::{self, Luks, MAGIC};
use crate::base::model::facts::{Detail, Facts, Hazard, HazardKind};
use crate::base::storage::Window;

/// The magic.
pub(super) fn probe(window: &dyn Window) -> Result<bool> {
    window.starts_with(0, &MAGIC)
}

/// All that the header says. The disk has the size of what is encrypted; a header whose bytes lie
/// in another file has none.
pub(super) fn inspect(window: &dyn Window, limits: &Limits) -> Result<Facts> {
    let luks = luks_header::read(window, 0, limits)?;
    let mut facts = Facts::new("luks", if luks.version == 1 { "v1" } else { "v2" }, 0);
    facts.disk_size = disk_size(window, &luks)?;
    facts.encrypted = true;
    let what = "its content is encrypted (LUKS)".into();
    facts.hazards.push(Hazard { kind: HazardKind::Encrypted, what });
    let odd = |what| Hazard { kind: HazardKind::Irregular, what };
    facts.hazards.extend(luks.oddities.into_iter().map(odd));
    facts.details.extend(luks.facts.into_iter().map(|(name, value)| Detail { name, value }));
    Ok(facts)
}

fn disk_size(window: &dyn Window, luks: &Luks) -> Result<u64> {
    match (luks.payload, luks.payload_len) {
        (0, _) => Ok(0),
        (_, Some(len)) => Ok(len),
        (payload, None) => {
            let total = window.len()?;
            total.checked_sub(payload).ok_or_else(|| {
                let what = format!("its content begins at {payload}, the file ends at {total}");
                Error::truncated(payload, what)
            })
        }
    }
}
