//! A stream in pieces gives what the whole file gives.

#![no_main]

#[path = "../unfold.rs"]
mod unfold;

use formats::{FORMATS, Format, Ingest, Kind, Limits, Memory, Result};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    // The first bytes say how the rest is cut.
    let Some((cuts, image)) = data.split_at_checked(4) else { return };
    let image = &unfold::unfold(image)[..];
    let source = Memory::new(image);
    for format in FORMATS {
        let whole = match (format.probe)(&source) {
            Ok(true) => (format.inspect)(&source, &Limits::default()).map_err(|e| e.kind()),
            Ok(false) => Err(Kind::Malformed),
            Err(error) => Err(error.kind()),
        };
        let piecewise = push(format, cuts, image).map_err(|e| e.kind());
        match (whole, piecewise) {
            // It may name a place that has passed by: only a stream has that trouble.
            (_, Err(Kind::Unsupported)) => {}
            (Ok(whole), piecewise) => assert_eq!(Ok(whole), piecewise),
            (Err(_), piecewise) => {
                let kind = piecewise.expect_err("what the whole file is refused for");
                assert_ne!(kind, Kind::Awaiting);
            }
        }
    }
    let mut any = Ingest::new(FORMATS, Limits::default());
    if any.push(image).is_ok() {
        let _ = any.finish();
    }
});

fn push(format: &&'static Format, cuts: &[u8], image: &[u8]) -> Result<formats::Facts> {
    let mut ingest = Ingest::new(&[*format], Limits::default());
    let (mut rest, mut turn) = (image, 0);
    while !rest.is_empty() {
        let size = (1 + usize::from(cuts[turn % cuts.len()]) * 11).min(rest.len());
        let (chunk, left) = rest.split_at(size);
        ingest.push(chunk)?;
        (rest, turn) = (left, turn + 1);
    }
    ingest.finish()
}
