//! Any bytes as an image that goes by: its disk is the same as that of the file, or an error.

#![no_main]

#[path = "../unfold.rs"]
mod unfold;

use std::io;
use std::sync::Arc;

use formats::{
    CopyOptions, Create, FORMATS, Forward, Image, Limits, Memory, OpenOptions, Passing, PourOptions,
    Result, Target, Unwatched, Way,
};
use libfuzzer_sys::fuzz_target;

/// Disks larger than this are not copied.
const MOST: u64 = 16 << 20;

fuzz_target!(|data: &[u8]| {
    let data = &unfold::unfold(data)[..];
    let limits = Limits { max_output: MOST, ..Limits::default() };
    let bytes = Box::new(io::Cursor::new(data.to_vec()));
    let forward = Forward { name: "stream".into(), len: None, bytes };
    match formats::way(forward, None, FORMATS, None, &limits) {
        Ok(Way::Raw(forward)) => pour(forward, data, &limits),
        Ok(Way::Disk(passing)) if passing.image().disk_size() <= MOST => {
            let Ok(went_by) = copy(passing.image(), Some(&passing)) else { return };
            let source = Arc::new(Memory::new(data));
            let Ok(format) = formats::probe(FORMATS, &*source) else { return };
            let options = OpenOptions::new(FORMATS, &limits);
            let Ok(image) = formats::open(source, format, &options) else { return };
            if let Ok(file) = copy(&*image, None) {
                assert!(went_by == file, "{}", format.name);
            }
        }
        Ok(Way::Disk(_) | Way::Aside(..)) | Err(_) => {}
    }
});

fn copy(image: &dyn Image, passing: Option<&Passing>) -> Result<Vec<u8>> {
    let target = Arc::new(Memory::default());
    let create = Create { size: image.disk_size(), ..Default::default() };
    let raw = formats::format("raw")?.create.expect("raw is written");
    let writer = raw(target.clone(), &create)?;
    formats::copy(image, &*writer, &CopyOptions { threads: 1, ..Default::default() })?;
    passing.map_or(Ok(()), Passing::finish)?;
    Ok(target.to_vec())
}

fn pour(forward: Forward, data: &[u8], limits: &Limits) {
    let memory = Arc::new(Memory::default());
    let target: Arc<dyn Target> = memory.clone();
    let options = PourOptions {
        formats: FORMATS,
        stated: false,
        sparse: 4096,
        limits,
        watch: &Unwatched,
    };
    if formats::pour(forward, &target, &options).is_ok() {
        assert!(memory.to_vec() == data);
    }
}
