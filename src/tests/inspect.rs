//! What `inspect` knows of an image: right, and as its schema says.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test fails where it is wrong"
)]
#![allow(clippy::print_stderr, reason = "what is skipped is said aloud")]

#[path = "samples.rs"]
#[allow(dead_code, reason = "other tests use other parts of it")]
mod samples;

use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

fn diskwright(args: &[&str], path: &Path) -> Output {
    Command::new(env!("CARGO_BIN_EXE_diskwright")).args(args).arg(path).output().unwrap()
}

/// What inspect says of a file, if it could read that.
fn inspect(path: &Path) -> Option<Value> {
    let output = diskwright(&["inspect", "--output=json", "--explain"], path);
    let told = matches!(output.status.code(), Some(0 | 1));
    told.then(|| serde_json::from_slice(&output.stdout).unwrap())
}

#[test]
fn what_is_known_is_as_the_schema_says() {
    let schema = diskwright(&["inspect"], Path::new("--schema")).stdout;
    let schema: Value = serde_json::from_slice(&schema).unwrap();
    let (mut schemas, mut compiler) = (boon::Schemas::new(), boon::Compiler::new());
    compiler.add_resource("urn:diskwright:metadata:1", schema).unwrap();
    let schema = compiler.compile("urn:diskwright:metadata:1", &mut schemas).unwrap();
    let place = tempfile::tempdir().unwrap();
    let (samples, _) = samples::samples(place.path());
    let mut known = 0;
    for sample in &samples {
        let Some(told) = inspect(&sample.path) else { continue };
        known += 1;
        let valid = schemas.validate(&told, schema);
        assert!(valid.is_ok(), "{}: {}", sample.name, valid.unwrap_err());
        let keys = |name: &str| told[name].as_object().map(|map| map.keys().collect::<Vec<_>>());
        let explained = keys("explain").unwrap_or_default();
        assert_eq!(keys("properties").unwrap(), explained, "{}", sample.name);
    }
    assert!(known > 100, "{known}");
}

#[test]
fn the_facts_of_images_by_others_are_right() {
    let place = tempfile::tempdir().unwrap();
    let Some((_, manifest)) = samples::manifest() else { return };
    let all = samples::theirs(place.path());
    let (mut compared, mut wrong) = (0, Vec::new());
    for (row, sample) in manifest.lines().skip(1).zip(&all) {
        let cells: Vec<_> = row.split('\t').collect();
        let (format, size, note) = (cells[6], cells[7], cells[10]);
        if !note.starts_with("expect=convert") && !note.starts_with("expect=info") {
            continue;
        }
        let told = inspect(&sample.path).unwrap_or_else(|| panic!("{}: unread", sample.name));
        let (ours, variant) = (told["format"].as_str().unwrap(), &told["variant"]);
        let same = match format {
            // Parts of machines are raw disks of a kind; two of them have only a boot sector to show.
            "aki" | "ami" | "ari" => ours == "raw" && (variant == format || variant == "raw"),
            "parallels" => ours == "ploop",
            "qcow1" => ours == "qcow",
            "tar" => ["gcp", "ova", "docker", "raw"].contains(&ours),
            format => ours == format,
        };
        let other = note.split("; ").any(|word| {
            word.strip_prefix("altf=").is_some_and(|names| names.split(',').any(|n| n == ours))
        });
        if !same && !other {
            wrong.push(format!("{}: it is {format}, we say {ours} ({variant})", sample.name));
        }
        let sizes = note.split("; ").filter_map(|word| word.strip_prefix("altv="));
        let right = sizes.flat_map(|sizes| sizes.split(',')).chain([size]);
        let told = told["virtual-size"].as_u64().unwrap().to_string();
        // Of containers the size is that of their first disk, which is not in their headers.
        if !["ova", "ovf", "docker", "-"].contains(&format) && size != "-" {
            if !right.clone().any(|size| size == told) {
                wrong.push(format!("{}: {told} bytes, and {size} are right", sample.name));
            }
            compared += 1;
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(compared > 60, "{compared}");
}

/// Feeds bytes without end, behind these.
fn endless(args: &[&str], front: &[u8]) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_diskwright"))
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let _ = stdin.write_all(front);
    let zeros = vec![0; 1 << 20];
    // Until nobody takes them any more.
    while stdin.write_all(&zeros).is_ok() {}
    child.wait_with_output().unwrap()
}

#[test]
fn what_is_dangerous_in_a_stream_is_said_before_the_stream_ends() {
    let place = tempfile::tempdir().unwrap();
    let image = place.path().join("overlay.qcow2");
    let base = place.path().join("base.raw");
    std::fs::write(&base, vec![0; 1 << 20]).unwrap();
    let create = ["create", "-q", "-f", "qcow2", "-F", "raw", "-b", "base.raw", "overlay.qcow2"];
    let mut command = Command::new(env!("CARGO_BIN_EXE_diskwright"));
    assert!(command.args(create).current_dir(place.path()).status().unwrap().success());
    let output = endless(&["inspect", "--output=json", "-"], &std::fs::read(image).unwrap());
    assert_eq!(output.status.code(), Some(1));
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(told["hazards"][0]["kind"], "reference");
    // A format that was stated, and is not what comes.
    let output = endless(&["inspect", "-f", "qcow2", "-"], &[7; 4096]);
    assert_eq!(output.status.code(), Some(3), "{output:?}");
}

#[test]
fn a_file_and_a_stream_of_it_are_told_alike() {
    let place = tempfile::tempdir().unwrap();
    for sample in samples::ours("good", place.path()) {
        let Some(mut file) = inspect(&sample.path) else { continue };
        let bytes = std::fs::read(&sample.path).unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_diskwright"))
            .args(["inspect", "--output=json", "-"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        // What is known to be dangerous is not read to its end.
        let _ = child.stdin.take().unwrap().write_all(&bytes);
        let output = child.wait_with_output().unwrap();
        let mut stream: Value = serde_json::from_slice(&output.stdout).unwrap();
        for told in [&mut file, &mut stream] {
            let told = told.as_object_mut().unwrap();
            // What is inside is read only where one may go back.
            told.retain(|key, _| {
                let of_bytes = ["filename", "file-size", "actual-size"].contains(&key.as_str());
                let of_disk = ["partition-table", "file-systems", "system", "notes"];
                let of_disk = of_disk.contains(&key.as_str()) || key.starts_with("proper");
                !of_bytes && !of_disk && key != "explain"
            });
        }
        assert_eq!(file, stream, "{}", sample.name);
    }
}
