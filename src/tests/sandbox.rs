//! What an attacker who has taken over a parser can still do: nothing. Run with the feature
//! `broken`, which adds a parser that attacks.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test may fail")]

use std::io::Write;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Stdio};

use formats::{Limits, Memory, Value};
use serde_json::Value as Json;

/// An image that names a file to be made in this folder, and a port that somebody listens to.
fn image(folder: &Path, listener: &TcpListener) -> Vec<u8> {
    let (own, port) = (folder.join("made"), listener.local_addr().unwrap().port());
    format!("BROKEN\n{}\n{port}\n", own.display()).into_bytes()
}

/// What the parser has tried, and what came of it: here, and in a thread of its own.
fn outcomes(details: &Json) -> Vec<(String, String)> {
    let one = |(name, told): (&String, &Json)| {
        (name.clone(), told.as_str().unwrap_or_default().to_owned())
    };
    let object = details.as_object().unwrap();
    let main = object.iter().filter(|(name, _)| *name != "thread").map(one);
    main.chain(object["thread"].as_object().unwrap().iter().map(one)).collect()
}

#[test]
fn the_attacks_come_through_where_nothing_keeps_them_in() {
    let folder = tempfile::tempdir().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let image = Memory::new(image(folder.path(), &listener));
    let broken = formats::format("broken").unwrap();
    let facts = (broken.inspect)(&image, &Limits::default()).unwrap();
    for detail in facts.details {
        if let Value::Text(told) = &detail.value {
            assert_eq!(told, "done", "{}", detail.name);
        }
    }
    assert!(folder.path().join("made").exists());
}

/// What commands do with an image, and whether they end well.
const DEEDS: [&[&str]; 8] = [
    &["inspect", "--output", "json", "image"],
    &["inspect", "--output", "json", "--untrusted", "image"],
    &["inspect", "--output", "json", "--allow-refs", "image"],
    &["inspect", "--output", "json", "--allow-refs=sub", "image"],
    &["inspect", "--output", "json", "-f", "broken", "image"],
    &["inspect", "--output", "json", "-"],
    &["inspect", "--output", "json", "--untrusted", "-"],
    &["inspect", "--output", "json", "--untrusted", "/dev/stdin"],
];

#[test]
fn a_parser_that_was_taken_over_reaches_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    std::fs::write(folder.path().join("image"), image(folder.path(), &listener)).unwrap();
    std::fs::create_dir(folder.path().join("sub")).unwrap();
    for (words, piped) in DEEDS.into_iter().flat_map(|words| [(words, false), (words, true)]) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_diskwright"));
        let (pipe, mut writer) = std::io::pipe().unwrap();
        writer.write_all(&image(folder.path(), &listener)).unwrap();
        drop(writer);
        let file = std::fs::File::open(folder.path().join("image")).unwrap();
        let stdin = if piped { Stdio::from(pipe) } else { Stdio::from(file) };
        let output = command.args(words).current_dir(folder.path()).stdin(stdin).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let told: Json = serde_json::from_str(&text)
            .unwrap_or_else(|_| panic!("{words:?}: {}", String::from_utf8_lossy(&output.stderr)));
        let outcomes = outcomes(&told["details"]);
        assert_eq!(outcomes.len(), 18, "{words:?}");
        for (name, told) in outcomes {
            // The folder of the image is what that flag opens.
            let allowed = name == "list-own-folder" && words.contains(&"--allow-refs");
            assert_eq!(told == "done", allowed, "{words:?}: {name} {told}");
            assert!(allowed || told == "PermissionDenied", "{words:?}: {name} {told}");
        }
    }
    assert!(!folder.path().join("made").exists());
}

/// Outputs are open already; their folder is there for their names, not for other files.
#[test]
fn a_conversion_does_not_open_the_folder_of_its_output() {
    let folder = tempfile::tempdir().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    std::fs::write(folder.path().join("image"), image(folder.path(), &listener)).unwrap();
    for words in
        [&["convert", "-O", "raw", "image", "out"], &["check", "image", "-f", "broken", "-q"]]
    {
        let mut command = Command::new(env!("CARGO_BIN_EXE_diskwright"));
        let output = command.args(words).current_dir(folder.path()).output().unwrap();
        assert!(!output.status.success(), "{words:?}");
        assert!(!folder.path().join("made").exists(), "{words:?}");
        assert!(!folder.path().join("out").exists(), "{words:?}");
    }
}
