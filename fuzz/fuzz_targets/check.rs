//! Any bytes as an image: a check ends, and what a repair mends stays mended.

#![no_main]

use std::sync::Arc;

use formats::{FORMATS, Finding, Limits, Links, Memory, Repair, Storage};
use libfuzzer_sys::fuzz_target;

/// Larger files make a check slow, not wrong.
const MOST: usize = 1 << 18;

fuzz_target!(|data: &[u8]| {
    let limits = Limits::default();
    let mut ignore = |_: Finding| {};
    for format in FORMATS.iter().filter(|_| data.len() <= MOST) {
        let Some(check) = format.check else { continue };
        let before = check(Links::alone(Arc::new(Memory::new(data))), &limits, &mut ignore);
        let Some(repair) = format.repair else { continue };
        for what in [Repair::Leaks, Repair::All] {
            let storage: Arc<dyn Storage> = Arc::new(Memory::new(data));
            let mended = repair(storage.clone(), what, &limits, &mut ignore);
            let after = check(Links::alone(storage), &limits, &mut ignore);
            if let (Ok(_), Ok(mended)) = (&before, &mended) {
                let after = after.expect("a repair leaves an image that can be checked");
                assert!(after.corruptions <= mended.corruptions, "{mended:?} then {after:?}");
            }
        }
    }
});
