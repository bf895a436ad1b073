//! Any bytes: every format says what they are, or why not.

#![no_main]

#[path = "../unfold.rs"]
mod unfold;

use formats::{FORMATS, Kind, Limits, Memory};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let data = &unfold::unfold(data)[..];
    let source = Memory::new(data);
    let limits = Limits::default();
    let _ = formats::probe(FORMATS, &source);
    for format in FORMATS {
        match (format.inspect)(&source, &limits) {
            Ok(facts) => assert_eq!(facts.format, format.name),
            Err(error) => assert!(
                !matches!(error.kind(), Kind::Awaiting | Kind::Io | Kind::Invalid),
                "{error:?}"
            ),
        }
    }
});
