//! Compression around images: what others pack we read, what we pack others read.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test may fail")]

mod disks;
mod oracle;

use std::io::{self, Read, Write};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};

use formats::{FORMATS, Forward, Input, Kind, Limits, Memory, Packer, Unwatched, Window, Wrapper};
use oracle::has;

/// Bytes that shrink a little, with zeros between.
fn content(len: usize) -> Vec<u8> {
    let mut state = 1_u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        b'a' + (state >> 28).to_le_bytes()[0]
    };
    (0..len).map(|at| if at / 300_000 % 3 == 1 { 0 } else { next() }).collect()
}

/// What a command makes of these bytes.
fn through(program: &str, args: &[&str], bytes: &[u8]) -> Vec<u8> {
    let mut child = Command::new(program)
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    let bytes = bytes.to_vec();
    let feeder = std::thread::spawn(move || drop(input.write_all(&bytes)));
    let out = child.wait_with_output().unwrap();
    feeder.join().unwrap();
    assert!(out.status.success(), "{program} {args:?}");
    out.stdout
}

fn whole(bytes: &[u8]) -> Input {
    Input::Whole(Arc::new(Memory::new(bytes.to_vec())))
}

fn stream(bytes: &[u8]) -> Input {
    let bytes = Box::new(io::Cursor::new(bytes.to_vec()));
    Input::Forward(Forward { name: "stream".into(), len: None, bytes })
}

/// What is inside, and whether any of its bytes can be had at any time.
fn unwrapped(input: Input, limits: &Limits) -> formats::Result<(Vec<u8>, bool)> {
    let (input, _) = formats::unwrap(input, FORMATS, limits)?;
    match input {
        Input::Whole(source) => {
            let mut all = vec![0; usize::try_from(source.len()).unwrap()];
            Window::read(&*source, 0, &mut all)?;
            Ok((all, true))
        }
        Input::Forward(forward) => {
            let source = formats::spool(forward, limits, &Unwatched)?;
            let mut all = vec![0; usize::try_from(source.len()).unwrap()];
            Window::read(&*source, 0, &mut all)?;
            Ok((all, false))
        }
    }
}

/// Where a packer writes to.
#[derive(Clone, Default)]
struct Kept(Arc<Mutex<Vec<u8>>>);

impl Write for Kept {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn packed(wrapper: Wrapper, threads: usize, bytes: &[u8]) -> Vec<u8> {
    let kept = Kept::default();
    let mut packer = Packer::new(wrapper, None, threads, kept.clone()).unwrap();
    for chunk in bytes.chunks(1_000_003) {
        packer.write_all(chunk).unwrap();
    }
    packer.finish().unwrap();
    kept.0.lock().unwrap().clone()
}

/// The program, how it packs, and whether the blocks of what it makes can be found.
const PACKERS: &[(&str, &[&str], bool)] = &[
    ("gzip", &["-c"], false),
    ("xz", &["-c"], false),
    ("xz", &["-c", "-T2", "--block-size=1MiB"], true),
    ("xz", &["-c", "--check=sha256", "--block-size=700000"], true),
    ("xz", &["-c", "--check=crc32"], false),
    ("zstd", &["-c", "-q"], false),
    ("zstd", &["-c", "-q", "--no-check", "--long=27"], false),
    ("bzip2", &["-c"], false),
    ("lz4", &["-c", "-q"], false),
    ("lz4", &["-c", "-q", "-BD", "--content-size"], false),
];

fn program(wrapper: Wrapper) -> &'static str {
    wrapper.name()
}

#[test]
fn what_others_pack_is_read() {
    let bytes = content(5_000_000);
    for (program, args, blocks) in PACKERS {
        if !has(&[program]) {
            continue;
        }
        let packed = through(program, args, &bytes);
        let (found, at_any_time) = unwrapped(whole(&packed), &Limits::default()).unwrap();
        assert!(found == bytes, "{program} {args:?}");
        assert_eq!(at_any_time, *blocks, "{program} {args:?}");
        let (found, _) = unwrapped(stream(&packed), &Limits::default()).unwrap();
        assert!(found == bytes, "{program} {args:?} as a stream");
    }
}

#[test]
fn members_behind_each_other_are_one_file_and_zeros_may_follow() {
    let (one, two) = (content(300_000), content(100_001));
    for (program, args, _) in PACKERS {
        if !has(&[program]) {
            continue;
        }
        let mut packed = through(program, args, &one);
        packed.extend(through(program, args, &two));
        let both = [&one[..], &two].concat();
        let limits = Limits::default();
        for padding in [0, 512, 1024] {
            packed.extend(vec![0; padding]);
            for input in [whole(&packed), stream(&packed)] {
                let (found, _) = unwrapped(input, &limits).unwrap();
                assert!(found == both, "{program} {args:?} {padding}");
            }
        }
        packed.extend(b"garbage");
        for input in [whole(&packed), stream(&packed)] {
            let error = unwrapped(input, &limits).unwrap_err();
            assert_eq!(error.kind(), Kind::Malformed, "{program} {args:?}: {error}");
        }
    }
}

#[test]
fn what_is_cut_short_or_damaged_is_an_error() {
    let bytes = content(100_000);
    for (program, args, _) in PACKERS {
        if !has(&[program]) {
            continue;
        }
        let packed = through(program, args, &bytes);
        for cut in [packed.len() / 3, packed.len() - 9, packed.len() - 1] {
            for input in [whole(&packed[..cut]), stream(&packed[..cut])] {
                let error = unwrapped(input, &Limits::default()).unwrap_err();
                let name = format!("{program} {args:?} cut at {cut}: {error}");
                assert!(matches!(error.kind(), Kind::Truncated | Kind::Malformed), "{name}");
            }
        }
        // Not every byte is guarded: a name, a time. What comes out must be right all the same.
        for at in (0..packed.len()).step_by(1999).chain(packed.len() - 12..packed.len()) {
            let mut damaged = packed.clone();
            damaged[at] ^= 0x10;
            for input in [whole(&damaged), stream(&damaged)] {
                if let Ok((found, _)) = unwrapped(input, &Limits::default()) {
                    let unguarded = args.contains(&"--no-check") || found == damaged;
                    assert!(found == bytes || unguarded, "{program} {args:?}: byte {at}");
                }
            }
        }
    }
}

#[test]
fn what_we_pack_others_read_and_we_read_in_any_order() {
    let bytes = content(17_500_000);
    for wrapper in [Wrapper::Gzip, Wrapper::Xz, Wrapper::Zstd] {
        let ours = packed(wrapper, 2, &bytes);
        assert!(ours == packed(wrapper, 1, &bytes), "{wrapper:?}: threads make no difference");
        let (found, at_any_time) = unwrapped(whole(&ours), &Limits::default()).unwrap();
        assert!(found == bytes && at_any_time, "{wrapper:?}");
        let (found, _) = unwrapped(stream(&ours), &Limits::default()).unwrap();
        assert!(found == bytes, "{wrapper:?} as a stream");
        if has(&[program(wrapper)]) {
            let out = through(program(wrapper), &["-dc"], &ours);
            assert!(out == bytes, "{wrapper:?}: the program of that name");
            through(program(wrapper), &["-t"], &ours);
        }
    }
    for bytes in [&b""[..], b"x"] {
        for wrapper in [Wrapper::Gzip, Wrapper::Xz, Wrapper::Zstd] {
            let ours = packed(wrapper, 2, bytes);
            if has(&[program(wrapper)]) {
                assert_eq!(through(program(wrapper), &["-dc"], &ours), bytes, "{wrapper:?}");
            }
        }
    }
}

#[test]
fn pieces_from_the_middle_are_the_same_as_in_the_whole() {
    let bytes = content(20_000_000);
    let ours = packed(Wrapper::Zstd, 2, &bytes);
    let (input, _) = formats::unwrap(whole(&ours), FORMATS, &Limits::default()).unwrap();
    let Input::Whole(source) = input else { panic!("its frames are found") };
    let mut at = 7_u64;
    for _ in 0..200 {
        at = (at * 7_919 + 13) % (bytes.len() as u64 - 5_000);
        let mut piece = vec![0; 5_000];
        Window::read(&*source, at, &mut piece).unwrap();
        let from = usize::try_from(at).unwrap();
        assert!(piece == bytes[from..from + 5_000], "at {at}");
    }
}

#[test]
fn two_wrappers_are_taken_off_and_three_are_too_many() {
    let bytes = content(100_000);
    let mut nested = bytes.clone();
    for (depth, wrapper) in [Wrapper::Zstd, Wrapper::Gzip, Wrapper::Xz].into_iter().enumerate() {
        nested = packed(wrapper, 1, &nested);
        let found = unwrapped(whole(&nested), &Limits::default());
        match depth {
            0 | 1 => assert!(found.unwrap().0 == bytes),
            _ => assert_eq!(found.unwrap_err().kind(), Kind::Limit),
        }
    }
}

/// A few kilobytes that become gigabytes: stopped long before.
#[test]
fn a_bomb_is_refused_before_it_fills_the_disk() {
    let limits = Limits { unpacked_floor: 1 << 20, max_ratio: 10, ..Limits::default() };
    let bomb = packed(Wrapper::Zstd, 1, &vec![7; 64 << 20]);
    for input in [whole(&bomb), stream(&bomb)] {
        // Of a stream it is not known how long it is: there only what may come out is bounded.
        let limits = match input {
            Input::Whole(_) => limits.clone(),
            Input::Forward(_) => Limits { max_output: 1 << 20, ..limits.clone() },
        };
        assert_eq!(unwrapped(input, &limits).unwrap_err().kind(), Kind::Limit);
    }
    // Zeros take time, and no room: they weigh less.
    let zeros = packed(Wrapper::Zstd, 1, &vec![0; 48 << 20]);
    assert!(unwrapped(whole(&zeros), &limits).is_ok());
}

#[test]
fn a_packed_file_with_the_end_of_a_vhd_is_both_and_refused() {
    let mut both = packed(Wrapper::Gzip, 1, &content(10_000));
    let mut footer = vec![0; 512];
    footer[..8].copy_from_slice(b"conectix");
    both.resize(both.len().next_multiple_of(512), 0);
    both.extend(footer);
    let error = formats::unwrap(whole(&both), FORMATS, &Limits::default());
    let error = error.map(|_| ()).unwrap_err();
    assert!(matches!(error.kind(), Kind::Refused | Kind::Malformed), "{error}");
}

#[test]
fn a_packed_initramfs_is_left_as_it_is() {
    let mut cpio = b"070701".to_vec();
    cpio.extend(content(5_000));
    let ari = packed(Wrapper::Gzip, 1, &cpio);
    let (input, off) = formats::unwrap(whole(&ari), FORMATS, &Limits::default()).unwrap();
    let Input::Whole(source) = input else { panic!("it is a file") };
    assert_eq!((source.len(), off.len()), (ari.len() as u64, 0));
}

#[test]
fn a_reader_that_fails_is_told_as_a_failure_of_reading() {
    struct Fails;
    impl Read for Fails {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::Error::from_raw_os_error(5))
        }
    }
    let front = packed(Wrapper::Zstd, 1, &content(5_000_000))[..100_000].to_vec();
    let bytes = Box::new(io::Cursor::new(front).chain(Fails));
    let input = Input::Forward(Forward { name: "stream".into(), len: None, bytes });
    assert_eq!(unwrapped(input, &Limits::default()).unwrap_err().kind(), Kind::Io);
}
