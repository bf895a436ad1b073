//! Pipes, compression, servers: conversions in one go, with the program itself.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test may fail")]

#[path = "server.rs"]
#[allow(dead_code, reason = "other tests use other parts of it")]
mod server;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;

/// A folder that vanishes, with commands that run in it.
struct Place(TempDir);

impl Place {
    fn new() -> Place {
        Place(TempDir::new().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn put(&self, name: &str, bytes: &[u8]) {
        std::fs::write(self.path(name), bytes).unwrap();
    }

    fn get(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.path(name)).unwrap()
    }

    /// What is in the folder, by name.
    fn names(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.0.path()).unwrap();
        let mut names: Vec<_> =
            entries.map(|e| e.unwrap().file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    /// Runs the program with `input` at its standard input.
    fn run(&self, args: &[&str], input: &[u8]) -> Output {
        let mut child = Command::new(env!("CARGO_BIN_EXE_diskwright"))
            .args(args)
            .current_dir(self.0.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let input = input.to_vec();
        let feeder = std::thread::spawn(move || drop(stdin.write_all(&input)));
        let output = child.wait_with_output().unwrap();
        feeder.join().unwrap();
        output
    }

    fn must(&self, args: &[&str], input: &[u8]) -> Vec<u8> {
        let output = self.run(args, input);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{args:?}: {said}");
        output.stdout
    }

    /// The exit code and what was said.
    fn fails(&self, args: &[&str], input: &[u8]) -> (i32, String) {
        let output = self.run(args, input);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success(), "{args:?}");
        (output.status.code().unwrap(), said)
    }
}

/// A disk with data, repetition, and zeros.
fn disk() -> Vec<u8> {
    let mut disk = vec![0; 9 << 20];
    let mut state = 7_u32;
    for (at, byte) in disk.iter_mut().enumerate() {
        let zone = at >> 18;
        if zone % 3 == 0 {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            *byte = state.to_be_bytes()[0] & 0x3f;
        } else if zone % 7 == 1 {
            *byte = 0x55;
        }
    }
    disk
}

const TEMPORARY: &str = "temporary file";

// TRUTH row 20: qemu-img takes an OVA, a .gz, an .xz, an ISO and a container image for a raw disk; we
// look inside, or say what it is.
#[test]
fn what_is_around_a_disk_is_never_taken_for_the_disk() {
    let (place, disk) = (Place::new(), disk());
    place.put("disk.raw", &disk);
    place.must(&["convert", "-O", "ova", "disk.raw", "x.ova"], b"");
    std::fs::create_dir(place.path("folder")).unwrap();
    place.put("folder/disk.raw", &disk);
    place.must(&["iso", "create", "--label", "x", "folder", "x.iso"], b"");
    for (name, format) in [("x.ova", "ova"), ("x.iso", "iso")] {
        let info = place.must(&["info", "--output", "json", name], b"");
        let info = String::from_utf8(info).unwrap();
        assert!(info.contains(&format!("\"format\": \"{format}\"")), "{info}");
    }
    for packed in ["disk.raw.gz", "disk.raw.xz", "disk.raw.zst"] {
        place.must(&["convert", "disk.raw", packed], b"");
    }
    for name in ["x.ova", "disk.raw.gz", "disk.raw.xz", "disk.raw.zst"] {
        place.must(&["compare", "disk.raw", name], b"");
        let bytes = place.get(name);
        let output = place.run(&["convert", "-O", "raw", "-", "-"], &bytes);
        assert!(output.status.success() && output.stdout == disk, "{name}");
    }
    place.must(&["extract", "x.iso", "disk.raw", "-C", "out"], b"");
    assert!(place.get("out/disk.raw") == disk);
}

#[test]
fn raw_goes_through_pipes_and_compression_in_flat_order_without_a_temporary_file() {
    let (place, disk) = (Place::new(), disk());
    for kind in ["zstd", "gz", "xz", "zstd:9"] {
        let packed =
            place.must(&["convert", "-O", "raw", "--compress-output", kind, "-", "-"], &disk);
        assert!(packed.len() < disk.len() / 2, "{kind}: {} bytes", packed.len());
        let output = place.run(&["convert", "-O", "raw", "-", "-"], &packed);
        assert!(output.status.success() && output.stdout == disk, "{kind}");
        assert!(!String::from_utf8_lossy(&output.stderr).contains(TEMPORARY), "{kind}");
    }
    place.put("disk.raw", &disk);
    place.must(&["convert", "disk.raw", "disk.raw.zst"], b"");
    place.must(&["convert", "disk.raw.zst", "again.raw"], b"");
    assert!(place.get("again.raw") == disk);
}

#[test]
fn a_stream_optimized_vmdk_is_read_and_written_as_it_goes_by() {
    let (place, disk) = (Place::new(), disk());
    place.put("disk.raw", &disk);
    let stream = ["-O", "vmdk", "-o", "subformat=streamOptimized"];
    let vmdk = place.must(&[&["convert"], &stream[..], &["disk.raw", "-"]].concat(), b"");
    for to in ["raw", "qcow2", "vdi"] {
        let output = place.run(&["convert", "-O", to, "-", &format!("disk.{to}")], &vmdk);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && !said.contains(TEMPORARY), "{to}: {said}");
        place.must(&["compare", "disk.raw", &format!("disk.{to}")], b"");
    }
    // The last byte is missing, or the last sector, or the last grain.
    for cut in [1, 512, 70_000] {
        let (code, said) =
            place.fails(&["convert", "-O", "raw", "-", "cut.raw"], &vmdk[..vmdk.len() - cut]);
        assert_eq!(code, 3, "{cut}: {said}");
        assert!(!place.path("cut.raw").exists());
    }
}

#[test]
fn what_goes_by_may_hold_no_more_than_is_allowed() {
    let (place, disk) = (Place::new(), disk());
    place.put("disk.raw", &disk);
    let stream = ["-O", "vmdk", "-o", "subformat=streamOptimized"];
    let vmdk = place.must(&[&["convert"], &stream[..], &["disk.raw", "-"]].concat(), b"");
    for (input, to) in [(&vmdk, "qcow2"), (&vmdk, "raw"), (&disk, "raw")] {
        let args = ["convert", "--max-output", "1M", "-O", to, "-", "out"];
        let (code, said) = place.fails(&args, input);
        assert!(code == 5 && said.contains("1048576"), "{to}: {code}: {said}");
        assert!(!place.path("out").exists());
    }
}

#[test]
fn images_with_tables_in_front_go_into_a_pipe_as_they_would_into_a_file() {
    let (place, disk) = (Place::new(), disk());
    place.put("disk.raw", &disk);
    for to in ["qcow2", "vhd", "vhdx", "vdi", "ploop", "vmdk"] {
        for compressed in [false, true] {
            if compressed && to != "qcow2" {
                continue;
            }
            let mut args = vec!["convert", "-O", to, "disk.raw"];
            args.extend(compressed.then_some("-c"));
            let piped = place.must(&[&args[..], &["-"]].concat(), b"");
            place.must(&[&args[..], &["file"]].concat(), b"");
            // A vmdk says in its descriptor what it is called.
            let end = if to == "vmdk" { 20 * 512 } else { 0 };
            assert!(piped[end..] == place.get("file")[end..], "{to}");
            place.put("piped", &piped);
            place.must(&["compare", "-f", to, "piped", "disk.raw"], b"");
        }
    }
    place.must(&["convert", "-O", "qcow2", "disk.raw", "disk.qcow2.xz"], b"");
    place.must(&["compare", "disk.raw", "disk.qcow2.xz"], b"");
}

#[test]
fn what_cannot_be_read_as_it_goes_by_is_put_aside_and_that_is_said() {
    let (place, disk) = (Place::new(), disk());
    place.put("disk.raw", &disk);
    let qcow2 = place.must(&["convert", "-O", "qcow2", "disk.raw", "-"], b"");
    let output = place.run(&["convert", "-O", "raw", "-", "-"], &qcow2);
    assert!(output.stdout == disk);
    assert!(String::from_utf8_lossy(&output.stderr).contains(TEMPORARY));
    let output = place.run(&["convert", "-O", "qcow2", "-", "x.qcow2"], &disk);
    assert!(output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains(TEMPORARY), "its size is wanted");
    place.must(&["compare", "disk.raw", "x.qcow2"], b"");
}

#[test]
fn the_end_of_a_stream_can_show_that_it_was_no_raw_disk() {
    let (place, disk) = (Place::new(), disk());
    place.put("disk.raw", &disk);
    place.must(&["convert", "-O", "vhd", "-o", "subformat=fixed", "disk.raw", "disk.vhd"], b"");
    let vhd = place.get("disk.vhd");
    let (code, said) = place.fails(&["convert", "-O", "raw", "-", "out.raw"], &vhd);
    assert!(code == 6 && said.contains("vhd"), "{code}: {said}");
    assert!(!place.path("out.raw").exists());
    place.must(&["convert", "-f", "raw", "-O", "raw", "-", "out.raw"], &vhd);
    assert!(place.get("out.raw") == vhd, "as the caller wants it");
    place.must(&["convert", "-f", "vhd", "-O", "raw", "-", "out.raw"], &vhd);
    assert!(place.get("out.raw") == disk);
}

#[test]
fn digests_are_those_of_what_is_stored_and_of_what_was_read() {
    let (place, disk) = (Place::new(), disk());
    place.put("disk.raw", &disk);
    let sum = |name: &str| {
        let output = Command::new("sha256sum").arg(place.path(name)).output().unwrap();
        String::from_utf8(output.stdout).unwrap().split(' ').next().unwrap().to_owned()
    };
    for out in ["out.raw", "out.qcow2", "out.raw.zst"] {
        let args = ["convert", "--hash", "sha256", "--hash-input", "sha256", "disk.raw", out];
        let said = String::from_utf8(place.must(&args, b"")).unwrap();
        let lines = [("disk.raw", sum("disk.raw")), (out, sum(out))];
        let lines = lines.map(|(name, hex)| format!("SHA256 ({name}) = {hex}\n"));
        assert_eq!(said, lines.concat());
    }
    let args = ["convert", "--hash", "sha256", "-O", "raw", "-", "-"];
    let output = place.run(&args, &disk);
    assert!(String::from_utf8(output.stderr).unwrap().contains(&sum("disk.raw")));
    let right = format!("sha256:{}", sum("disk.raw"));
    let wrong = format!("sha256:{}", "5".repeat(64));
    for (input, name) in [(&b""[..], "disk.raw"), (&disk[..], "-")] {
        place.must(&["convert", "--expect-hash", &right, name, "yes.raw"], input);
        std::fs::remove_file(place.path("yes.raw")).unwrap();
        let (code, said) =
            place.fails(&["convert", "--expect-hash", &wrong, name, "no.raw"], input);
        assert!(code == 6 && said.contains("is wanted"), "{code}: {said}");
        assert!(!place.path("no.raw").exists());
    }
}

#[test]
fn compression_that_is_cut_or_damaged_leaves_nothing() {
    let (place, disk) = (Place::new(), disk());
    place.put("disk.raw", &disk);
    for ending in ["gz", "xz", "zst"] {
        place.must(&["convert", "disk.raw", &format!("x.raw.{ending}")], b"");
        let whole = place.get(&format!("x.raw.{ending}"));
        let mut damaged = whole.clone();
        damaged[whole.len() / 2] ^= 1;
        for bytes in [&whole[..whole.len() - 5], &whole[..whole.len() / 2], &damaged] {
            place.put("bad", bytes);
            for (input, name) in [(&b""[..], "bad"), (bytes, "-")] {
                let (code, said) = place.fails(&["convert", "-O", "raw", name, "out"], input);
                assert_eq!(code, 3, "{ending} {name}: {said}");
                assert!(!place.path("out").exists());
            }
        }
    }
    assert!(!place.names().iter().any(|name| name.starts_with('.')), "{:?}", place.names());
}

#[test]
fn an_image_on_a_server_that_drops_the_line_arrives_whole() {
    let (place, disk) = (Place::new(), disk());
    place.put("disk.raw", &disk);
    place.must(&["convert", "-O", "qcow2", "disk.raw", "disk.qcow2"], b"");
    place.must(&["convert", "-O", "qcow2", "disk.raw", "disk.qcow2.xz"], b"");
    for name in ["disk.qcow2", "disk.qcow2.xz"] {
        let manners = server::Manners { drop_every: Some(300_000), ..Default::default() };
        let server = server::Server::new(place.get(name), manners);
        let url = server.url(&format!("/{name}"));
        let output = place.run(&["convert", &url, "-O", "raw", "-"], b"");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && output.stdout == disk, "{name}: {said}");
    }
}

#[test]
fn a_path_of_a_file_may_be_a_url() {
    let place = Place::new();
    place.put("disk with spaces.raw", &disk());
    let path = place.path("disk with spaces.raw");
    let url = format!("file://{}", Path::new(&path).to_str().unwrap().replace(' ', "%20"));
    place.must(&["convert", "-O", "raw", &url, "out.raw"], b"");
    assert!(place.get("out.raw") == disk());
}
