//! Any bytes as an image: its map has no gaps, and its content is there or is an error.

#![no_main]

#[path = "../unfold.rs"]
mod unfold;

use std::sync::Arc;

use formats::{
    FORMATS, Format, Image, Kind, Limits, Memory, OpenOptions, Reference, Resolved, Resolver,
    Result, Survey,
};
use libfuzzer_sys::fuzz_target;

/// Extents looked at, and bytes read, of one image.
const EXTENTS: usize = 2_000;
const BYTES: u64 = 8 << 20;

/// Every name leads to the bytes of the image itself.
#[derive(Clone)]
struct Mirror(Arc<Memory>);

impl Resolver for Mirror {
    fn resolve(&self, _: &Reference) -> Result<Resolved> {
        Ok(Resolved { source: self.0.clone(), resolver: Arc::new(self.clone()) })
    }
}

fuzz_target!(|data: &[u8]| {
    let data = &unfold::unfold(data)[..];
    let limits = Limits::default();
    for format in FORMATS {
        let source = Arc::new(Memory::new(data));
        let mut options = OpenOptions::new(FORMATS, &limits);
        options.resolver = Arc::new(Mirror(source.clone()));
        options.backing_format = Some(format);
        let mut names = vec![None];
        if let Ok(facts) = (format.inspect)(&*source, &limits) {
            names.extend(facts.snapshots.iter().take(3).map(|s| Some(s.name.clone())));
        }
        for name in names {
            options.snapshot = name;
            match formats::open(source.clone(), format, &options) {
                Ok(image) => look_over(format, &*image),
                Err(error) => assert_ne!(error.kind(), Kind::Awaiting),
            }
        }
    }
});

fn look_over(format: &Format, image: &dyn Image) {
    let size = image.disk_size();
    let (mut at, mut budget, mut sound) = (0, BYTES, true);
    for extent in image.walk(0, size).take(EXTENTS) {
        let Ok(extent) = extent else {
            sound = false;
            break;
        };
        assert!(extent.start == at && extent.len > 0 && extent.end() <= size, "{extent:?}");
        at = extent.end();
        let len = extent.len.min(budget).min(1 << 20);
        let mut bytes = vec![1; len as usize];
        let read = image.read(extent.start, &mut bytes);
        if extent.is_zero() {
            assert!(read.is_ok() && bytes.iter().all(|byte| *byte == 0), "{extent:?}");
        }
        // The same bytes by themselves, from inside a unit.
        if read.is_ok() && len > 1 {
            let middle = (len / 2) as usize;
            let mut half = vec![2; bytes.len() - middle];
            image.read(extent.start + middle as u64, &mut half).expect("it was read before");
            assert!(half == bytes[middle..], "{extent:?}");
        }
        budget -= len;
        if budget == 0 {
            break;
        }
    }
    if sound && at == size {
        let survey = Survey::of(image, &Limits { max_ratio: u64::MAX, ..Limits::default() });
        match survey {
            Ok(survey) => assert_eq!(survey.data + survey.zero, size, "{}", format.name),
            Err(error) => assert_eq!(error.kind(), Kind::Truncated, "{error:?}"),
        }
    }
}
