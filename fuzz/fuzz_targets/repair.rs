//! Any bytes as an image that is repaired: what a repair calls sound checks clean, and what could
//! be read before can be read afterwards, and is the same.

#![no_main]

#[path = "../mend.rs"]
mod mend;
#[path = "../unfold.rs"]
mod unfold;

use std::sync::Arc;

use formats::{FORMATS, Format, Limits, Links, Memory, OpenOptions, Repair, Storage};
use libfuzzer_sys::fuzz_target;

/// Larger files make a repair slow, not wrong.
const MOST: usize = 1 << 18;
/// Bytes of a disk that are compared, in blocks of so many.
const BYTES: u64 = 4 << 20;
const BLOCK: usize = 4096;

fuzz_target!(|input: &[u8]| {
    if input.len() > MOST {
        return;
    }
    let mut image = unfold::unfold(input);
    mend::mend(&mut image);
    let limits = Limits::default();
    for format in FORMATS {
        let (Some(check), Some(repair)) = (format.check, format.repair) else { continue };
        let alone = || Links::alone(Arc::new(Memory::new(&*image)));
        let Ok(before) = check(alone(), &limits, &mut |_| {}) else { continue };
        let disk = readable(format, Arc::new(Memory::new(&*image)));
        for what in [Repair::Leaks, Repair::All] {
            let storage: Arc<dyn Storage> = Arc::new(Memory::new(&*image));
            let Ok(mended) = repair(storage.clone(), what, &limits, &mut |_| {}) else { continue };
            let after = check(Links::alone(storage.clone()), &limits, &mut |_| {})
                .expect("what was repaired can be checked");
            if mended.corruptions == 0 && mended.check_errors == 0 && matches!(what, Repair::All) {
                let sound = after.corruptions == 0 && after.leaks == 0;
                assert!(sound, "{}: {mended:?}, then {after:?}", format.name);
            }
            // Units that two things lay claim to have no content that could be kept.
            if before.corruptions == 0 {
                let now = readable(format, storage);
                assert_eq!(disk.is_some(), now.is_some(), "{}", format.name);
                for (index, was) in disk.iter().flatten().enumerate() {
                    let is = now.as_ref().and_then(|now| now.get(index));
                    let same = was.is_none() || is == Some(was);
                    assert!(same, "{}: block {index} is another one", format.name);
                }
            }
        }
    }
});

/// The blocks of a disk, as far as they can be read; `None` if it does not open.
fn readable(format: &'static Format, storage: Arc<dyn Storage>) -> Option<Vec<Option<Vec<u8>>>> {
    let limits = Limits::default();
    let image = formats::open(storage, format, &OpenOptions::new(FORMATS, &limits)).ok()?;
    let size = image.disk_size().min(BYTES);
    let block = |at: u64| {
        let mut bytes = vec![1; BLOCK.min((size - at) as usize)];
        image.read(at, &mut bytes).ok().map(|()| bytes)
    };
    Some((0..size).step_by(BLOCK).map(block).collect())
}
