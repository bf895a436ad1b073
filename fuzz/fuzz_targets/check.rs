//! Any bytes as an image: a check ends, and what a repair mends stays mended.

#![no_main]

#[path = "../unfold.rs"]
mod unfold;

use std::sync::Arc;

use formats::{
    FORMATS, Finding, Format, Limits, Links, Memory, Options, Repair, ResizeFn, Storage,
};
use libfuzzer_sys::fuzz_target;

/// Larger files make a check slow, not wrong.
const MOST: usize = 1 << 18;

fuzz_target!(|input: &[u8]| {
    let data = &unfold::unfold(input)[..];
    let limits = Limits::default();
    let mut ignore = |_: Finding| {};
    for format in FORMATS.iter().filter(|_| input.len() <= MOST) {
        let Some(check) = format.check else { continue };
        let before = check(Links::alone(Arc::new(Memory::new(data))), &limits, &mut ignore);
        if let (Some(resize), Ok(tally)) = (format.resize, &before)
            && tally.is_clean()
        {
            resized(format, resize, data);
        }
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

/// A sound image that gets another size is a sound image of that size.
fn resized(format: &Format, resize: ResizeFn, data: &[u8]) {
    let limits = Limits::default();
    let Ok(facts) = (format.inspect)(&Memory::new(data), &limits) else { return };
    for size in [facts.disk_size.saturating_add(3 << 20), facts.disk_size / 2] {
        let Ok(size) = (format.padded)(size, &Options::default()) else { continue };
        let storage = Arc::new(Memory::new(data));
        if resize(storage.clone(), size, &limits).is_ok() {
            let after = (format.inspect)(&*storage, &limits).expect("it was an image before");
            assert_eq!(after.disk_size, size, "{}", format.name);
            let check = format.check.expect("it was checked before");
            let tally = check(Links::alone(storage), &limits, &mut |_| {}).expect("as before");
            assert!(tally.is_clean(), "{} {tally:?}", format.name);
        }
    }
}
