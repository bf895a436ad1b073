//! LUKS headers that qemu-img and cryptsetup write, by themselves and inside a qcow2 image.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test may fail")]

mod disks;
mod oracle;

use formats::{Facts, HazardKind, Kind, Value};
use oracle::{Place, has};
use serde_json::Value as Json;

const SECRET: [&str; 2] = ["--object", "secret,id=s,data=x"];

/// What qemu-img says that is special to an image.
fn theirs(place: &Place, name: &str) -> Json {
    let said = place.must("qemu-img", &["info", "--output", "json", name]);
    let said: Json = serde_json::from_slice(&said).unwrap();
    assert_eq!(said["encrypted"], Json::Bool(true));
    said["format-specific"]["data"].clone()
}

/// A value of ours, as JSON.
fn json(value: &Value) -> Json {
    match value {
        Value::Flag(flag) => (*flag).into(),
        Value::Number(number) | Value::Bytes(number) => (*number).into(),
        Value::Text(text) => text.as_str().into(),
        Value::List(list) => list.iter().map(json).collect(),
        Value::Map(map) => {
            map.iter().map(|(name, value)| ((*name).to_string(), json(value))).collect()
        }
    }
}

fn ours(facts: &Facts) -> Json {
    facts.details.iter().map(|detail| (detail.name.to_string(), json(&detail.value))).collect()
}

#[test]
fn of_a_luks_header_of_qemu_we_say_what_qemu_says() {
    if !has(&["qemu-img"]) {
        return;
    }
    let place = Place::new();
    for options in [
        "",
        ",cipher-alg=aes-128",
        ",cipher-alg=serpent-256,cipher-mode=cbc,ivgen-alg=essiv,ivgen-hash-alg=sha256",
        ",cipher-alg=twofish-128,cipher-mode=xts,ivgen-alg=plain,hash-alg=sha512",
    ] {
        let options = format!("key-secret=s,iter-time=10{options}");
        let create = [&["create", "-f", "luks", "-o", &options], &SECRET[..], &["image", "3M"]];
        place.must("qemu-img", &create.concat());
        let facts = place.facts("image", "luks");
        assert_eq!((facts.format, facts.variant, facts.disk_size), ("luks", "v1", 3 << 20));
        assert!(facts.encrypted && facts.hazards.len() == 1, "{:?}", facts.hazards);
        assert_eq!(ours(&facts), theirs(&place, "image"), "{options}");
        let refused = place.try_open("image", "luks", |_| {}).err().unwrap();
        assert_eq!(refused.kind(), Kind::Unsupported);
    }
}

#[test]
fn of_a_luks_header_inside_a_qcow2_we_say_what_qemu_says() {
    if !has(&["qemu-img"]) {
        return;
    }
    let place = Place::new();
    for compat in ["1.1", "0.10"] {
        let options = format!(
            "compat={compat},encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=10"
        );
        let create = [&["create", "-f", "qcow2", "-o", &options], &SECRET[..], &["image", "3M"]];
        place.must("qemu-img", &create.concat());
        let facts = place.facts("image", "qcow2");
        assert!(facts.encrypted && facts.hazards.len() == 1, "{:?}", facts.hazards);
        assert_eq!(ours(&facts), theirs(&place, "image"), "{compat}");
        // Others write the ciphertext as if it were the disk.
        let refused = place.try_open("image", "qcow2", |_| {}).err().unwrap();
        assert_eq!(refused.kind(), Kind::Unsupported);
        let (tally, findings) = place.check("image", "qcow2");
        assert!(tally.is_clean(), "{findings:?}");
    }
}

// qemu takes the key of such an image and counts for hours; one whose header is damaged it refuses
// before it says anything about it.
#[test]
fn a_luks_header_inside_a_qcow2_that_is_odd_or_damaged_is_a_hazard() {
    if !has(&["qemu-img"]) {
        return;
    }
    let place = Place::new();
    let options = "encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=10";
    let create = [&["create", "-f", "qcow2", "-o", options], &SECRET[..], &["image", "3M"]];
    place.must("qemu-img", &create.concat());
    let bytes = place.get("image");
    let at = bytes.windows(8).position(|eight| eight == b"LUKS\xba\xbe\0\x01").unwrap();
    let hazards = |at: usize| {
        let mut bytes = bytes.clone();
        bytes[at..at + 4].fill(255);
        place.put("changed", &bytes);
        let facts = place.facts("changed", "qcow2");
        assert!(facts.encrypted);
        let odd = facts.hazards.into_iter().filter(|h| h.kind == HazardKind::Irregular);
        odd.map(|hazard| hazard.what).collect::<Vec<_>>()
    };
    assert_eq!(hazards(at + 212), ["its key slot 0 takes 4294967295 iterations"]);
    assert!(hazards(at)[0].starts_with("its LUKS header cannot be used: "));
    assert!(hazards(at + 4)[0].starts_with("its LUKS header cannot be used: "));
}

/// A container of cryptsetup's, and what its luksDump says, without spaces.
fn format(place: &Place, arguments: &[&str]) -> String {
    place.put("key", b"x");
    place.put("image", &[]);
    std::fs::File::options()
        .write(true)
        .open(place.path("image"))
        .unwrap()
        .set_len(20 << 20)
        .unwrap();
    let all = [&["luksFormat", "-q"], arguments, &["image", "key"]].concat();
    place.must("cryptsetup", &all);
    let said = String::from_utf8(place.must("cryptsetup", &["luksDump", "image"])).unwrap();
    said.chars().filter(|c| !c.is_whitespace() || *c == '\n').collect()
}

#[test]
fn of_a_header_of_version_2_we_say_what_cryptsetup_says() {
    if !has(&["cryptsetup"]) {
        return;
    }
    let place = Place::new();
    for (kdf, costs) in [
        ("argon2id", &["--pbkdf-force-iterations", "4", "--pbkdf-memory", "64"][..]),
        ("argon2i", &["--pbkdf-force-iterations", "5", "--pbkdf-memory", "96"]),
        ("pbkdf2", &["--pbkdf-force-iterations", "1234"]),
    ] {
        let more = ["--type", "luks2", "--label", "a label", "--pbkdf", kdf];
        let dump = format(&place, &[&more[..], costs].concat());
        let facts = place.facts("image", "luks");
        assert_eq!((facts.variant, facts.disk_size), ("v2", 4 << 20));
        assert_eq!(facts.hazards.len(), 1, "{:?}", facts.hazards);
        let ours = ours(&facts);
        let slot = &ours["slots"][0];
        let say = |line: String| assert!(dump.lines().any(|is| is == line), "{line}: {dump}");
        let text = |value: &Json| value.as_str().unwrap().replace(' ', "");
        say(format!("UUID:{}", text(&ours["uuid"])));
        say(format!("Label:{}", text(&ours["label"])));
        say(format!("Epoch:{}", ours["sequence"]));
        say(format!("offset:{}[bytes]", ours["payload-offset"]));
        say(format!("cipher:{}", text(&ours["cipher"])));
        say(format!("sector:{}[bytes]", ours["segments"][0]["sector-size"]));
        say(format!("PBKDF:{}", text(&slot["kdf"])));
        say(format!("AFstripes:{}", slot["stripes"]));
        say(format!("Areaoffset:{}[bytes]", slot["key-offset"]));
        if kdf == "pbkdf2" {
            say(format!("Iterations:{}", slot["iters"]));
        } else {
            say(format!("Timecost:{}", slot["time"]));
            say(format!("Memory:{}", slot["memory"].as_u64().unwrap() / 1024));
            say(format!("Threads:{}", slot["threads"]));
        }
    }
}

#[test]
fn of_a_header_of_version_1_of_cryptsetup_we_say_what_qemu_says() {
    if !has(&["cryptsetup", "qemu-img"]) {
        return;
    }
    let place = Place::new();
    let dump = format(&place, &["--type", "luks1", "--pbkdf-force-iterations", "1000"]);
    assert!(dump.contains("Version:1"));
    assert_eq!(ours(&place.facts("image", "luks")), theirs(&place, "image"));
}

#[test]
fn the_second_header_counts_where_the_first_is_damaged() {
    if !has(&["cryptsetup"]) {
        return;
    }
    let place = Place::new();
    format(&place, &["--type", "luks2", "--pbkdf", "pbkdf2", "--pbkdf-force-iterations", "1000"]);
    let sound = place.facts("image", "luks");
    let mut bytes = place.get("image");
    bytes[5000] ^= 1;
    place.put("image", &bytes);
    let facts = place.facts("image", "luks");
    assert_eq!(facts.details, sound.details);
    assert_eq!(facts.hazards.len(), 2, "{:?}", facts.hazards);
}
