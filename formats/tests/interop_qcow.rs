//! QEMU's older formats, qcow and QED, as qemu-img writes them.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test may fail")]

mod disks;
mod oracle;

use disks::{Dice, disk};
use formats::{Kind, Reference, Role};
use oracle::{Place, has};

/// QED's cluster and table sizes, or nothing for qcow, which has no choice.
const VARIANTS: &[(&str, &[&str])] = &[
    ("qcow", &[]),
    ("qed", &[]),
    ("qed", &["-o", "cluster_size=4k,table_size=2"]),
    ("qed", &["-o", "cluster_size=4k,table_size=16"]),
    ("qed", &["-o", "cluster_size=8k,table_size=1"]),
    ("qed", &["-o", "cluster_size=1M,table_size=8"]),
    ("qed", &["-o", "cluster_size=64M,table_size=1"]),
];

#[test]
fn we_read_what_qemu_writes_of_every_size() {
    if !has(&["qemu-img"]) {
        return;
    }
    let place = Place::new();
    let mut read = 0;
    for (seed, size) in [(1, 512), (2, 65_536), (3, (3 << 20) + 512), (4, 9_999_872)] {
        place.put("disk", &disk(seed, size));
        for (format, options) in VARIANTS {
            let what = format!("{format} {options:?} of {size}");
            let arguments = [&["convert", "-f", "raw", "-O", format], *options, &["disk", "image"]];
            if !place.run("qemu-img", &arguments.concat()).status.success() {
                // Some QED images it makes and cannot open: those with tables of one cluster.
                assert!(*format == "qed" && !options.is_empty(), "{what}");
                continue;
            }
            place.we_agree(&what, "image", format, "disk");
            read += 1;
        }
    }
    assert!(read > 15, "{read} images were read");
}

// qemu-img 10.0.2 fails without a word when it is to convert to a compressed qcow; qemu-io packs
// a cluster at a time.
#[test]
fn compressed_clusters_of_a_qcow_are_read_between_plain_ones() {
    if !has(&["qemu-img", "qemu-io"]) {
        return;
    }
    let place = Place::new();
    place.must("qemu-img", &["create", "-f", "qcow", "image", "5M"]);
    let mut dice = Dice::new(7);
    place.put("noise", &disk(8, 4096));
    let mut commands: Vec<String> = vec!["-f".into(), "qcow".into()];
    for cluster in 0..1280 {
        let deed = match dice.below(6) {
            0 | 1 => format!("write -c -P {}", 1 + dice.below(255)),
            2 => "write -c -s noise".to_string(),
            3 => format!("write -P {}", 1 + dice.below(255)),
            _ => continue,
        };
        commands.extend(["-c".into(), format!("{deed} {} 4k", cluster * 4096)]);
    }
    commands.push("image".into());
    place.must("qemu-io", &commands.iter().map(String::as_str).collect::<Vec<_>>());
    place.must("qemu-img", &["convert", "-f", "qcow", "-O", "raw", "image", "disk"]);
    place.we_agree("compressed", "image", "qcow", "disk");
    let (tally, _) = place.check("image", "qcow");
    assert!(tally.compressed_clusters > 300 && tally.allocated_clusters > 500, "{tally:?}");
}

#[test]
fn disks_over_four_gibibytes_and_over_two_tebibytes_are_read() {
    if !has(&["qemu-img"]) {
        return;
    }
    for size in [(4_u64 << 30) + 1536, (2 << 40) + 512] {
        let place = Place::new();
        place.sparse("disk", size);
        // A qcow's first table has 4 bytes for a MiB of disk: that of 2 TiB fits still.
        for format in ["qcow", "qed"] {
            place.must("qemu-img", &["convert", "-f", "raw", "-O", format, "disk", "image"]);
            place.we_agree(&format!("{format} of {size}"), "image", format, "disk");
        }
    }
}

#[test]
fn overlays_are_read_through_to_a_backing_file_whose_format_is_known() {
    if !has(&["qemu-img", "qemu-io"]) {
        return;
    }
    let place = Place::new();
    place.put("base", &disk(5, 3 << 20));
    for format in ["qcow", "qed"] {
        let create = ["create", "-f", format, "-b", "base", "-F", "raw", "image", "4M"];
        place.must("qemu-img", &create);
        let mut dice = Dice::new(6);
        for _ in 0..20 {
            let start = dice.below(8000) * 512;
            let write = format!("write -P {} {start} {}", 1 + dice.below(255), 512 * 40);
            place.run("qemu-io", &["-f", format, "-c", &write, "image"]);
        }
        place.must("qemu-img", &["convert", "-f", format, "-O", "raw", "image", "disk"]);
        let references = place.facts("image", format).references;
        let named = Reference::new(Role::Backing, "base");
        if format == "qed" {
            // It has a bit that says so.
            assert_eq!(references, [Reference { format: Some("raw".into()), ..named }]);
            place.we_agree(format, "image", format, "disk");
        } else {
            assert_eq!(references, [named]);
            let refused = place.try_open("image", format, |_| {}).err().unwrap();
            assert_eq!(refused.kind(), Kind::Refused, "it is never guessed");
        }
        let stated = Some(formats::format("raw").unwrap());
        let opened = place.try_open("image", format, |options| options.backing_format = stated);
        let mut bytes = vec![0; 4 << 20];
        opened.unwrap().read(0, &mut bytes).unwrap();
        assert!(bytes == place.get("disk"), "{format}");
    }
}

#[test]
fn clusters_of_zeros_hide_what_lies_underneath() {
    if !has(&["qemu-img", "qemu-io"]) {
        return;
    }
    let place = Place::new();
    place.put("base", &vec![7; 2 << 20]);
    place.must("qemu-img", &["create", "-f", "qed", "-b", "base", "-F", "raw", "image"]);
    let zero = ["-f", "qed", "-c", "write -z 256k 512k", "-c", "write -P 9 1M 100k", "image"];
    place.must("qemu-io", &zero);
    place.must("qemu-img", &["convert", "-f", "qed", "-O", "raw", "image", "disk"]);
    place.we_agree("zeros", "image", "qed", "disk");
    assert_eq!(place.get("disk")[300 << 10], 0);
}

// A QED that was not closed says so: its tables are looked over before it is read.
#[test]
fn a_qed_that_was_not_closed_is_read_as_qemu_reads_it() {
    if !has(&["qemu-img", "qemu-io"]) {
        return;
    }
    let place = Place::new();
    place.must("qemu-img", &["create", "-f", "qed", "image", "8M"]);
    let write = ["-f", "qed", "-c", "write -P 9 1M 300k", "-c", "flush", "-c", "abort", "image"];
    assert!(!place.run("qemu-io", &write).status.success());
    assert!(place.facts("image", "qed").dirty);
    place.must("qemu-img", &["convert", "-f", "qed", "-O", "raw", "image", "disk"]);
    place.we_agree("not closed", "image", "qed", "disk");
}

#[test]
fn an_encrypted_qcow_is_known_as_one_and_not_read() {
    if !has(&["qemu-img"]) {
        return;
    }
    let place = Place::new();
    let secret = ["create", "--object", "secret,id=s,data=x", "-f", "qcow", "-o"];
    let options = ["encrypt.format=aes,encrypt.key-secret=s", "image", "1M"];
    place.must("qemu-img", &[&secret[..], &options].concat());
    assert!(place.facts("image", "qcow").encrypted);
    let refused = place.try_open("image", "qcow", |_| {}).err().unwrap();
    assert_eq!(refused.kind(), Kind::Unsupported);
}

#[test]
fn the_counts_of_a_check_are_those_of_qemu() {
    if !has(&["qemu-img"]) {
        return;
    }
    let place = Place::new();
    place.put("disk", &disk(8, 5 << 20));
    place.must("qemu-img", &["convert", "-f", "raw", "-O", "qed", "disk", "image"]);
    let said = place.must("qemu-img", &["check", "-f", "qed", "--output", "json", "image"]);
    let said = String::from_utf8(said).unwrap();
    let (tally, _) = place.check("image", "qed");
    let named = [
        ("total-clusters", tally.total_clusters),
        ("allocated-clusters", tally.allocated_clusters),
    ];
    for (name, number) in named {
        assert!(said.contains(&format!("\"{name}\": {number}")), "{name} {number}: {said}");
    }
}

#[test]
fn seven_zip_and_we_read_the_same_qcow() {
    if !has(&["qemu-img", "7zz"]) {
        return;
    }
    let place = Place::new();
    place.put("disk", &disk(9, (2 << 20) + 1024));
    place.must("qemu-img", &["convert", "-f", "raw", "-O", "qcow", "disk", "image"]);
    let theirs = place.must("7zz", &["x", "-so", "-tqcow", "image"]);
    let mut ours = vec![0; theirs.len()];
    place.open("image", "qcow").read(0, &mut ours).unwrap();
    assert!(ours == theirs && ours.len() == (2 << 20) + 1024);
}
