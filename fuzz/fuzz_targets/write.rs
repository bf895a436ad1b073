//! Any list of writes, in any variant of a format: the disk comes back as a plain array has it;
//! and if the storage dies on the way, what is left is no image.

#![no_main]

use std::sync::Arc;

use formats::{
    CopyOptions, Create, FORMATS, Faulty, Format, Image, Kind, Limits, Links, Memory, OpenOptions,
};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some((head, rest)) = data.split_at_checked(10) else { return };
    // A format whose smallest disk is a gigabyte has no place in memory.
    let small = |format: &&&Format| {
        let size = (format.padded)(512, &Default::default());
        format.create.is_some() && size.is_ok_and(|size| size <= 64 << 20)
    };
    let formats: Vec<_> = FORMATS.iter().filter(small).collect();
    let format = formats[usize::from(head[0]) % formats.len()];
    let sectors = 1 + u64::from(u16::from_be_bytes([head[1], head[2]])) % 4096;
    let mut create =
        Create { size: sectors * 512, compress: head[3] & 1 == 1, ..Create::default() };
    for (index, help) in format.options.iter().enumerate() {
        let choice = usize::from(head[4 + index % 4]) >> (index % 3);
        let values: Vec<_> = help.values.split('|').collect();
        match values[..] {
            [one] if one.contains("power of two") => {
                create.options.set(help.name, (512_u64 << (choice % 13)).to_string());
            }
            [_] => {}
            _ if choice.is_multiple_of(2) => {
                create.options.set(help.name, values[choice / 2 % values.len()]);
            }
            _ => {}
        }
    }
    let disk = model(sectors as usize * 512, rest);
    let Ok(size) = (format.padded)(create.size, &create.options) else { return };
    create.size = size;
    let writes = u64::from(u16::from_be_bytes([head[8], head[9]])) % 64;
    let dies = head[3] & 2 == 2;
    write(format, &create, &disk, if dies { writes } else { u64::MAX });
});

/// More writes find no more, and take longer.
const OPERATIONS: usize = 64;

/// A disk with these writes: where, how much, and a byte to begin with.
fn model(size: usize, operations: &[u8]) -> Vec<u8> {
    let mut disk = vec![0; size];
    for operation in operations.chunks_exact(6).take(OPERATIONS) {
        let number =
            |at: usize| usize::from(u16::from_be_bytes([operation[at], operation[at + 1]]));
        let start = number(0) * 61 % size;
        let end = (start + number(2)).min(size);
        for (index, byte) in disk[start..end].iter_mut().enumerate() {
            *byte = match operation[4] % 4 {
                0 => 0,
                1 => operation[5],
                2 => operation[5].wrapping_add((index * index >> 3) as u8),
                _ => operation[5].wrapping_mul((index as u8) | 1) ^ (index >> 7) as u8,
            };
        }
    }
    disk
}

fn open(source: Arc<Memory>, format: &'static Format) -> Box<dyn Image> {
    let limits = Limits::default();
    formats::open(source, format, &OpenOptions::new(FORMATS, &limits)).expect("it opens")
}

fn write(format: &'static Format, create: &Create, disk: &[u8], writes: u64) {
    let source = open(Arc::new(Memory::new(disk)), formats::format("raw").expect("it is there"));
    let target = Arc::new(Faulty::new(Memory::default(), writes));
    let copied = (format.create.expect("filtered"))(target.clone(), create).and_then(|writer| {
        let options = CopyOptions { threads: 1, ..CopyOptions::default() };
        formats::copy(&*source, &*writer, &options)
    });
    let left = Arc::new(Memory::new(target.inner().to_vec()));
    match copied {
        Ok(_) => {
            let image = open(left.clone(), format);
            let mut bytes = vec![1; disk.len()];
            image.read(0, &mut bytes).expect("it was written");
            assert!(bytes == disk, "{} {:?}", format.name, create.options);
            if let Some(check) = format.check {
                let tally = check(Links::alone(left), &Limits::default(), &mut |_| {})
                    .expect("it can be checked");
                assert!(tally.is_clean(), "{} {:?} {tally:?}", format.name, create.options);
            }
        }
        Err(error) if error.kind() == Kind::Invalid => {}
        Err(error) => {
            assert_eq!(error.kind(), Kind::Io, "{error:?}");
            // Raw has no header that could be missing; and the last sync may fail with all in place.
            if format.name != "raw"
                && formats::probe(FORMATS, &*left).is_ok_and(|f| f.name == format.name)
            {
                let mut bytes = vec![1; disk.len()];
                open(left, format).read(0, &mut bytes).expect("a header stands over a whole image");
                assert!(bytes == disk, "{} {:?}", format.name, create.options);
            }
        }
    }
}
