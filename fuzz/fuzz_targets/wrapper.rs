//! Any bytes as a compressed file: what is inside is the same read by its blocks as from front to
//! end, or one of both is an error.

#![no_main]

use std::io;
use std::sync::Arc;

use formats::{FORMATS, Forward, Input, Limits, Memory, Result, Unwatched, Window};
use libfuzzer_sys::fuzz_target;

/// What may come out.
const MOST: u64 = 8 << 20;

fn inside(input: Input, limits: &Limits) -> Result<Option<Vec<u8>>> {
    let (input, off) = formats::unwrap(input, FORMATS, limits)?;
    if off.is_empty() {
        return Ok(None);
    }
    let source = match input {
        Input::Whole(source) => source,
        Input::Forward(forward) => formats::spool(forward, limits, &Unwatched)?,
    };
    // Zeros weigh little, and take memory here all the same.
    if source.len() > 2 * MOST {
        return Ok(None);
    }
    let mut all = vec![0; source.len() as usize];
    Window::read(&*source, 0, &mut all)?;
    Ok(Some(all))
}

fuzz_target!(|data: &[u8]| {
    let limits = Limits {
        max_output: MOST,
        max_disk_size: 4 * MOST,
        unpacked_floor: MOST,
        max_ratio: 10,
        ..Limits::default()
    };
    let whole = inside(Input::Whole(Arc::new(Memory::new(data))), &limits);
    let bytes = Box::new(io::Cursor::new(data.to_vec()));
    let stream = Input::Forward(Forward { name: "stream".into(), len: None, bytes });
    let stream = inside(stream, &limits);
    if let (Ok(Some(whole)), Ok(Some(stream))) = (whole, stream) {
        assert!(whole == stream, "{} and {} bytes", whole.len(), stream.len());
    }
});
