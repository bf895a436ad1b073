//! An image service that fails: every fault ends in success after another attempt, or in one clear
//! error, and never with a record that nobody wants.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test may fail")]
#![allow(clippy::print_stderr, reason = "a test that is skipped says so")]

#[path = "pretend.rs"]
mod pretend;

use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use pretend::{Deed, How, Manners, Service};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tempfile::TempDir;

/// A folder that vanishes, and a service.
struct Place {
    folder: TempDir,
    service: Service,
}

/// Bytes that do not shrink.
fn noise(len: usize) -> Vec<u8> {
    let mut seed = 1_u64;
    let mut next = || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        seed.to_be_bytes()
    };
    std::iter::repeat_with(&mut next).flatten().take(len).collect()
}

impl Place {
    fn new(manners: Manners) -> Place {
        let place = Place { folder: TempDir::new().unwrap(), service: Service::new(manners) };
        std::fs::write(place.path("disk.raw"), noise(5 << 20)).unwrap();
        place
    }

    fn faulty(faults: &[(Deed, How)]) -> Place {
        Place::new(Manners { faults: faults.to_vec(), ..Manners::default() })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The program, with the service as the one that it speaks to.
    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_diskwright"));
        command.args(args).current_dir(self.folder.path());
        command.env_clear().env("OS_ENDPOINT", self.service.url());
        command
    }

    fn run(&self, args: &[&str], input: &[u8]) -> Output {
        let mut command = self.command(args);
        command.args(["--retry-pause", "0.01", "--silence", "1", "--attempts", "4"]);
        finish(command, input)
    }

    fn must(&self, args: &[&str], input: &[u8]) -> String {
        let output = self.run(args, input);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{args:?}: {said}\n{:?}", self.service.deeds());
        String::from_utf8(output.stdout).unwrap()
    }

    /// The exit code and what was said, which is one line.
    fn fails(&self, args: &[&str], input: &[u8]) -> (i32, String) {
        let output = self.run(args, input);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success(), "{args:?}: {:?}", self.service.deeds());
        assert_eq!(said.lines().count(), 1, "{said}");
        (output.status.code().unwrap(), said)
    }

    /// The one image that is there.
    fn only(&self) -> (Value, Vec<u8>) {
        let mut images = self.service.images();
        assert_eq!(images.len(), 1, "{:?}", self.service.deeds());
        images.remove(0)
    }
}

fn finish(mut command: Command, input: &[u8]) -> Output {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    let feeder = std::thread::spawn(move || drop(stdin.write_all(&input)));
    let output = child.wait_with_output().unwrap();
    feeder.join().unwrap();
    output
}

const UPLOAD: [&str; 4] = ["upload", "--name", "x", "disk.raw"];

#[test]
fn what_a_service_gets_wrong_once_is_done_again() {
    let faults = [
        How::DropAfter(0),
        How::DropAfter(1 << 20),
        How::DropAfter(usize::MAX),
        How::DropAnswer,
        How::Say(500, "", "", 0),
        How::Say(500, "", "", 3 << 20),
        How::Say(502, "", "", usize::MAX),
        How::Say(503, "Retry-After: 0\r\n", "<html><h1>503</h1></html>", usize::MAX),
        How::Say(429, "", "", 1 << 20),
        How::Say(409, "", "", 0),
        How::Stall(Duration::from_secs(15)),
    ];
    for how in faults {
        for args in [&UPLOAD[..], &["upload", "--name", "x", "--convert", "qcow2", "disk.raw"]] {
            let place = Place::faulty(&[(Deed::Put, how.clone())]);
            place.must(args, b"");
            let (record, bytes) = place.only();
            assert_eq!(record["status"], "active", "{how:?}");
            if args == UPLOAD {
                assert!(bytes == noise(5 << 20), "{how:?}");
            }
        }
    }
}

#[test]
fn every_other_request_is_repeated_as_well() {
    let say = |status| How::Say(status, "", "", usize::MAX);
    for deed in [Deed::Create, Deed::Show, Deed::Change, Deed::Import, Deed::Tasks] {
        for how in [say(500), say(503), say(429), How::DropAfter(0), How::DropAnswer] {
            let place = Place::faulty(&[(deed, how.clone()), (deed, how.clone())]);
            let method = ["--method", "stage", "--protected"];
            place.must(&[&UPLOAD[..], &method].concat(), b"");
            let (record, bytes) = place.only();
            assert!(bytes == noise(5 << 20), "{deed:?} {how:?}");
            assert_eq!(record["protected"], true, "{deed:?} {how:?}");
        }
    }
}

#[test]
fn a_service_that_never_recovers_is_an_error_and_no_record() {
    for how in [How::Say(503, "", "We rest.", 0), How::DropAfter(1 << 20)] {
        let faults: Vec<_> = (0..9).map(|_| (Deed::Put, how.clone())).collect();
        let place = Place::faulty(&faults);
        let (code, said) = place.fails(&UPLOAD, b"");
        assert!(code == 7 && said.contains("4 attempts brought nothing"), "{code}: {said}");
        assert!(place.service.images().is_empty());
    }
}

#[test]
fn what_goes_by_is_sent_once_and_the_error_says_why_not_again() {
    for how in [How::DropAfter(1 << 20), How::DropAnswer, How::Say(500, "", "", 1 << 20)] {
        let place = Place::faulty(&[(Deed::Put, how.clone())]);
        if matches!(how, How::DropAnswer) {
            // All of it was there, and the service says so when it is asked.
            place.must(&["upload", "--name", "x", "-"], &noise(5 << 20));
            assert!(place.only().1 == noise(5 << 20));
            continue;
        }
        let (code, said) = place.fails(&["upload", "--name", "x", "-"], &noise(5 << 20));
        assert!(code == 7 && said.contains("cannot be sent again"), "{code}: {said}");
        assert!(place.service.images().is_empty());
    }
}

#[test]
fn a_refusal_is_told_in_the_words_of_the_service_even_in_the_middle_of_a_body() {
    let page = "<html><body><h1>413 Too Large</h1>Denying attempt: quota of 3 exceeded.<br /><br \
                />\n\n\n</body></html>";
    let say = |status, most| How::Say(status, "", page, most);
    let cases = [(413, 5), (403, 6), (415, 6), (400, 6), (410, 2)];
    for (status, wanted) in cases {
        for most in [0, 1 << 20, usize::MAX] {
            let place = Place::faulty(&[(Deed::Put, say(status, most))]);
            let (code, said) = place.fails(&UPLOAD, b"");
            let reason = said.contains("Denying attempt: quota of 3 exceeded");
            assert!(code == wanted && reason, "{status} after {most}: {code}: {said}");
            assert!(place.service.images().is_empty());
        }
        let place = Place::faulty(&[(Deed::Create, say(status, usize::MAX))]);
        let (code, said) = place.fails(&UPLOAD, b"");
        assert!(code == wanted && said.contains("quota of 3"), "{status}: {code}: {said}");
        assert!(!place.service.deeds().contains(&Deed::Put));
    }
}

#[test]
fn a_service_that_lies_about_the_image_has_it_taken_away() {
    let lies = [
        ("size", json!(5)),
        ("size", json!("5242880")),
        ("checksum", json!("0".repeat(32))),
        ("checksum", json!("what?")),
        ("os_hash_value", json!("0".repeat(128))),
        ("virtual_size", json!(1 << 20)),
        ("status", json!("killed")),
        ("status", json!("deactivated")),
        ("status", json!("\u{1b}[2J")),
    ];
    for (key, value) in lies {
        for method in ["put", "stage"] {
            let lies = vec![(key, value.clone())];
            let place = Place::new(Manners { lies, ..Manners::default() });
            let (code, said) = place.fails(&[&UPLOAD[..], &["--method", method]].concat(), b"");
            assert!(code == 7 && !said.contains('\u{1b}'), "{key} {value}: {code}: {said}");
            assert!(place.service.images().is_empty(), "{key} {value}");
        }
    }
}

#[test]
fn an_image_that_never_becomes_active_is_an_error() {
    for (status, method) in [("saving", "put"), ("queued", "put"), ("importing", "stage")] {
        let place = Place::new(Manners { stuck: Some(status), ..Manners::default() });
        let wait = if status == "queued" { "30" } else { "0.3" };
        let more = ["--wait", wait, "--method", method];
        let (code, said) = place.fails(&[&UPLOAD[..], &more].concat(), b"");
        assert!(
            code == 7 && said.contains(if status == "queued" { "nothing" } else { "still" }),
            "{said}"
        );
        assert!(place.service.images().is_empty(), "{status}");
    }
}

#[test]
fn an_import_that_fails_is_told_with_its_reason() {
    let manners = Manners {
        import_fails: Some("no room in the store"),
        stuck: Some("queued"),
        ..Manners::default()
    };
    let place = Place::new(manners);
    let (code, said) = place.fails(&[&UPLOAD[..], &["--method", "stage"]].concat(), b"");
    assert!(code == 6 && said.contains("no room in the store"), "{code}: {said}");
    assert!(place.service.images().is_empty());
}

#[test]
fn answers_that_are_none_are_errors() {
    let deep = "[".repeat(100_000);
    let answers = ["", "{", "[]", "null", "{\"id\": 5}", "\u{0}", &*deep, &*" ".repeat(2 << 20)];
    for answer in answers {
        for deed in [Deed::Create, Deed::Show] {
            let faults: Vec<_> = (0..99).map(|_| (deed, How::Answer(answer.to_string()))).collect();
            let place = Place::faulty(&faults);
            let (code, said) = place.fails(&UPLOAD, b"");
            assert!(code == 7, "{deed:?} {}: {code}: {said}", &answer[..answer.len().min(9)]);
            let left = place.service.images();
            assert!(left.is_empty(), "{deed:?} {}", &answer[..answer.len().min(9)]);
        }
    }
}

#[test]
fn nobody_is_sent_elsewhere() {
    let elsewhere = Service::new(Manners::default());
    let url = format!("Location: {}/v2/images\r\n", elsewhere.url());
    let location: &'static str = Box::leak(url.into_boxed_str());
    for deed in [Deed::Create, Deed::Put, Deed::Show] {
        let place = Place::faulty(&[(deed, How::Say(302, location, "", usize::MAX))]);
        let (code, said) = place.fails(&UPLOAD, b"");
        assert!(code == 7 && said.contains("it is no endpoint"), "{deed:?}: {code}: {said}");
        assert!(elsewhere.deeds().is_empty() && place.service.images().is_empty());
    }
}

#[test]
fn a_token_that_is_used_up_is_renewed_and_a_wrong_password_is_told() {
    let faults = vec![(Deed::Put, How::Say(401, "", "", 1 << 20))];
    let place = Place::new(Manners { faults, forgetful: true, ..Manners::default() });
    let keystone = |password: &str| {
        let mut command = place.command(&UPLOAD);
        command.args(["--retry-pause", "0.01", "--protected"]).env_remove("OS_ENDPOINT");
        command.env("OS_AUTH_URL", place.service.url()).env("OS_USERNAME", "me");
        command.env("OS_PROJECT_NAME", "mine").env("OS_PASSWORD", password);
        finish(command, b"")
    };
    let done = keystone("right horse");
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    assert_eq!(place.only().0["protected"], true);
    let tokens = place.service.deeds().iter().filter(|deed| **deed == Deed::Token).count();
    assert_eq!(tokens, 3, "{:?}", place.service.deeds());

    let failed = keystone("wrong secret");
    let said = String::from_utf8_lossy(&failed.stderr).into_owned();
    assert_eq!(failed.status.code(), Some(6), "{said}");
    assert!(said.contains("wrong credentials") && said.contains("No such horse"), "{said}");
    assert!(!said.contains("wrong secret"), "{said}");
}

#[test]
fn a_token_that_nobody_can_renew_is_an_error() {
    let place = Place::new(Manners { forgetful: true, ..Manners::default() });
    let mut command = place.command(&UPLOAD);
    command.env("OS_TOKEN", "stale-and-secret");
    let failed = finish(command, b"");
    let said = String::from_utf8_lossy(&failed.stderr).into_owned();
    assert!(failed.status.code() == Some(6) && said.contains("used up"), "{said}");
    assert!(!said.contains("stale-and-secret"), "{said}");
}

#[test]
fn what_is_dangerous_is_refused_before_the_service_hears_of_it() {
    let place = Place::new(Manners::default());
    let run = |args: &[&str]| {
        assert!(place.command(args).output().unwrap().status.success(), "{args:?}");
    };
    run(&["convert", "-O", "qcow2", "disk.raw", "disk.qcow2"]);
    run(&["convert", "-O", "vhd", "-o", "subformat=fixed", "disk.raw", "disk.vhd"]);
    run(&["create", "-f", "qcow2", "-b", "disk.raw", "-F", "raw", "overlay.qcow2", "5M"]);
    let cases: [&[&str]; 9] = [
        &["overlay.qcow2"],
        &["--convert", "raw", "overlay.qcow2"],
        &["--convert", "qcow2", "--disk-format", "raw", "disk.raw"],
        &["-f", "raw", "disk.qcow2"],
        &["-f", "raw", "disk.vhd"],
        &["--disk-format", "raw", "disk.qcow2"],
        &["--container-format", "ova", "disk.qcow2"],
        &["--max-virtual-size", "1M", "disk.qcow2"],
        // Its mark is at its end, where the gate of the service does not look.
        &["disk.vhd"],
    ];
    for case in cases {
        let (code, said) = place.fails(&[&["upload", "--name", "x"], case].concat(), b"");
        assert!([5, 6].contains(&code), "{case:?}: {code}: {said}");
    }
    for (case, wanted) in [(&["missing"][..], 7), (&["-f", "vmdk", "disk.raw"], 3)] {
        let (code, said) = place.fails(&[&["upload", "--name", "x"], case].concat(), b"");
        assert!(code == wanted, "{case:?}: {code}: {said}");
    }
    assert_eq!(place.service.deeds(), []);
    run(&["upload", "--name", "x", "--convert", "raw", "--allow-refs", "overlay.qcow2"]);
    assert!(place.only().1 == noise(5 << 20));
}

#[test]
fn what_is_known_of_the_disk_goes_with_it() {
    let place = Place::new(Manners::default());
    let example = concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/example.qcow2");
    let told = ["upload", "--name", "x", "--describe", "--property", "os_version=2", example];
    place.must(&told, b"");
    let (record, _) = place.only();
    let said = ["os_distro", "os_type", "os_version"].map(|key| record[key].as_str().unwrap());
    assert_eq!(said, ["example", "linux", "2"], "{record}");
    let (code, _) = place.fails(&["upload", "--name", "y", "--describe", "-"], b"abc");
    assert_eq!(code, 2);
}

#[test]
fn what_the_gate_would_refuse_is_sent_where_somebody_says_so() {
    let place = Place::new(Manners::default());
    let fixed = ["convert", "-O", "vhd", "-o", "subformat=fixed", "disk.raw", "disk.vhd"];
    assert!(place.command(&fixed).output().unwrap().status.success());
    place.must(&["upload", "--name", "x", "--no-gate", "disk.vhd"], b"");
    assert_eq!(place.only().0["disk_format"], "vhd");
}

#[test]
fn a_stream_that_shows_late_what_it_is_leaves_no_image() {
    let place = Place::new(Manners::default());
    let fixed = ["convert", "-O", "vhd", "-o", "subformat=fixed", "disk.raw", "disk.vhd"];
    assert!(place.command(&fixed).output().unwrap().status.success());
    let vhd = std::fs::read(place.path("disk.vhd")).unwrap();
    let (code, said) = place.fails(&["upload", "--name", "x", "-"], &vhd);
    assert!(code == 6 && said.starts_with("diskwright: -: its bytes are vhd"), "{code}: {said}");
    assert!(place.service.deeds().contains(&Deed::Put) && place.service.images().is_empty());
    place.must(&["upload", "--name", "x", "-f", "vhd", "-"], &vhd);
    let (record, bytes) = place.only();
    assert!(bytes == vhd);
    assert_eq!((&record["disk_format"], &record["min_disk"]), (&json!("vhd"), &json!(1)));
}

#[test]
fn compression_is_taken_off_on_the_way() {
    let place = Place::new(Manners::default());
    for ending in ["gz", "xz", "zst"] {
        let name = format!("disk.raw.{ending}");
        assert!(place.command(&["convert", "disk.raw", &name]).output().unwrap().status.success());
        let packed = std::fs::read(place.path(&name)).unwrap();
        place.must(&["upload", "--name", "file", &name], b"");
        place.must(&["upload", "--name", "pipe", "-"], &packed);
        let cut = &packed[..packed.len() - 9];
        let (code, _) = place.fails(&["upload", "--name", "cut", "-"], cut);
        assert_eq!(code, 3);
    }
    let images = place.service.images();
    assert!(images.len() == 6 && images.iter().all(|(_, bytes)| *bytes == noise(5 << 20)));
}

#[test]
fn ctrl_c_takes_the_record_away() {
    for signal in [Signal::INT, Signal::TERM] {
        let place = Place::new(Manners::default());
        let mut command = place.command(&["upload", "--name", "x", "-"]);
        command.stdin(Stdio::piped()).stderr(Stdio::piped()).stdout(Stdio::null());
        let mut child = command.spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        // Enough for a record to be made; then the pipe stays open, and nothing comes.
        stdin.write_all(&noise(3 << 20)).unwrap();
        while !place.service.deeds().contains(&Deed::Put) {
            std::thread::sleep(Duration::from_millis(10));
        }
        kill_process(Pid::from_child(&child), signal).unwrap();
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(130));
        assert!(place.service.images().is_empty(), "{:?}", place.service.deeds());
        drop(stdin);
    }
}

#[test]
fn a_record_that_cannot_be_taken_away_is_named() {
    let mut faults = vec![(Deed::Put, How::Say(403, "", "no", usize::MAX))];
    faults.extend((0..9).map(|_| (Deed::Delete, How::Say(500, "", "", 0))));
    let place = Place::faulty(&faults);
    let output = place.run(&UPLOAD, b"");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let id = place.only().0["id"].as_str().unwrap().to_string();
    assert!(output.status.code() == Some(6) && said.contains(&id), "{said}");
}

#[test]
fn an_id_that_is_taken_stays_with_its_image() {
    let place = Place::new(Manners::default());
    let id = "11111111-2222-4333-8444-555555555555";
    place.must(&[&UPLOAD[..], &["--id", id]].concat(), b"");
    let (code, said) = place.fails(&[&UPLOAD[..], &["--id", id]].concat(), b"");
    assert!(code == 2 && said.contains(id), "{code}: {said}");
    assert_eq!(place.only().0["status"], "active");
}

// The answers of servers are read in there, too.
#[test]
fn an_upload_works_locked_in() {
    let place = Place::new(Manners::default());
    let mut command = place.command(&["upload", "--name", "x", "-"]);
    command.stdin(Stdio::piped()).stderr(Stdio::piped()).stdout(Stdio::null());
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(&noise(3 << 20)).unwrap();
    while !place.service.deeds().contains(&Deed::Put) {
        std::thread::sleep(Duration::from_millis(10));
    }
    let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
    assert!(status.contains("Seccomp:\t2") && status.contains("NoNewPrivs:\t1"), "{status}");
    drop(stdin);
    assert!(child.wait().unwrap().success());
    assert!(place.only().1 == noise(3 << 20));
}

#[test]
fn a_keystone_that_fails_is_asked_again_or_told_of() {
    let keystone = |faults: Vec<(Deed, How)>| {
        let place = Place::faulty(&faults);
        let mut command = place.command(&["image", "list"]);
        command.args(["--retry-pause", "0.01", "--attempts", "3"]).env_remove("OS_ENDPOINT");
        command.env("OS_AUTH_URL", format!("{}/v2.0/", place.service.url()));
        command.env("OS_USERNAME", "me").env("OS_PASSWORD", "right horse");
        let output = finish(command, b"");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status.code().unwrap(), said)
    };
    let say = |status, text| (Deed::Token, How::Say(status, "", text, usize::MAX));
    assert_eq!(keystone(vec![say(500, ""), (Deed::Token, How::DropAfter(0))]).0, 0);
    let token = (Deed::Token, How::Say(201, "X-Subject-Token: t\r\n", "{}", usize::MAX));
    let elsewhere = r#"{"token": {"catalog": [{"type": "image", "endpoints": [
        {"interface": "public", "region": "R\u001b", "url": "file:///etc/passwd"}]}]}}"#;
    let strange = (Deed::Token, How::Say(201, "X-Subject-Token: t\r\n", elsewhere, usize::MAX));
    let cases = [
        (vec![say(503, ""), say(503, ""), say(503, "")], 7, "3 attempts brought nothing"),
        (vec![say(404, "")], 2, "there is no Keystone"),
        (vec![say(201, "{}")], 7, "no token came"),
        (vec![token], 2, "its catalogue is empty"),
        (vec![strange], 2, "is no URL of a service"),
        (vec![say(302, "")], 7, "it is no endpoint"),
    ];
    for (faults, wanted, words) in cases {
        let (code, said) = keystone(faults);
        assert!(code == wanted && said.contains(words), "{code}: {said}");
    }
}

#[test]
fn a_service_is_believed_by_its_certificate() {
    let folder = TempDir::new().unwrap();
    let openssl = |words: &str| {
        let mut command = Command::new("openssl");
        command.args(words.split(' ')).current_dir(&folder).stdin(Stdio::piped());
        command.stdout(Stdio::null()).stderr(Stdio::null());
        command
    };
    let request = "req -x509 -newkey rsa:2048 -nodes -keyout key -out cert -days 9 -subj /CN=me \
                   -addext subjectAltName=DNS:localhost -addext basicConstraints=CA:FALSE";
    if !openssl(request).status().is_ok_and(|status| status.success()) {
        eprintln!("skipped: there is no openssl here");
        return;
    }
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    std::fs::create_dir_all(folder.path().join("v2")).unwrap();
    std::fs::write(folder.path().join("v2/images?limit=50"), "{\"images\": []}").unwrap();
    let mut server =
        openssl(&format!("s_server -accept {port} -key key -cert cert -WWW")).spawn().unwrap();
    while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
        std::thread::sleep(Duration::from_millis(20));
    }
    let list = |args: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_diskwright"));
        command.args(["image", "list"]).args(args).current_dir(&folder).env_clear();
        command.args(["--endpoint", &format!("https://localhost:{port}")]);
        let output = command.output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let answers = [list(&[]), list(&["--os-cacert", "cert"]), list(&["--insecure"])];
    let no_certificate = list(&["--os-cacert", "key"]);
    server.kill().unwrap();
    server.wait().unwrap();
    let [(unknown, why), (known, nothing), (careless, warned)] = answers;
    assert!(unknown == Some(7) && why.contains("certificate"), "{why}");
    assert!(known == Some(0) && nothing.is_empty(), "{nothing}");
    assert!(careless == Some(0) && warned.contains("any certificate is taken"), "{warned}");
    assert!(no_certificate.0 == Some(2), "{}", no_certificate.1);
}

const ID: &str = "0f6e2a4e-5d41-4f6b-9a43-2d7c8f1f5a10";

#[test]
fn a_download_is_taken_up_where_the_line_broke() {
    for whole in [false, true] {
        let cuts = [0, 1, 100_000, 3 << 20].map(|most| (Deed::Get, How::Cut(most)));
        let say = (Deed::Get, How::Say(503, "", "", 0));
        let faults = [&cuts[..2], &[say], &cuts[2..]].concat();
        let place = Place::new(Manners { faults, whole, ..Manners::default() });
        place.service.keep(ID, "kept", "raw", &noise(7_000_001));
        place.must(&["download", "kept", "out.raw"], b"");
        assert!(std::fs::read(place.path("out.raw")).unwrap() == noise(7_000_001));
        place.must(&["download", ID, "by-id.raw"], b"");
        let output = place.run(&["download", ID, "-"], b"");
        assert!(output.status.success() && output.stdout == noise(7_000_001));
    }
}

#[test]
fn a_download_that_is_not_what_was_promised_has_no_name() {
    let lies = [
        ("size", json!(7_000_000)),
        ("size", json!(7_000_002)),
        ("checksum", json!("0".repeat(32))),
        ("os_hash_value", json!("0".repeat(128))),
    ];
    for (key, value) in lies {
        for more in [&[][..], &["-O", "qcow2"]] {
            let lies = vec![(key, value.clone())];
            let place = Place::new(Manners { lies, ..Manners::default() });
            place.service.keep(ID, "kept", "raw", &noise(7_000_001));
            let output = place.run(&[&["download", ID, "out"], more].concat(), b"");
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!([Some(3), Some(7)].contains(&output.status.code()), "{key} {value}: {said}");
            let names = std::fs::read_dir(place.folder.path()).unwrap().count();
            assert_eq!(names, 1, "{key} {value}");
        }
    }
    let place = Place::new(Manners::default());
    place.service.keep(ID, "kept", "raw", &noise(100));
    let (code, said) = place.fails(&["download", "other", "out"], b"");
    assert!(code == 2 && said.contains("there is no image 'other'"), "{said}");
}

#[test]
fn a_download_is_opened_as_what_the_service_says_and_as_nothing_else() {
    let place = Place::new(Manners::default());
    assert!(
        place.command(&["convert", "disk.raw", "disk.qcow2"]).output().unwrap().status.success()
    );
    let qcow2 = std::fs::read(place.path("disk.qcow2")).unwrap();
    place.service.keep(ID, "kept", "qcow2", &qcow2);
    place.must(&["download", "-O", "raw", "kept", "out.raw"], b"");
    assert!(std::fs::read(place.path("out.raw")).unwrap() == noise(5 << 20));
    place.service.keep(ID, "kept", "raw", &qcow2);
    place.must(&["download", "-O", "raw", "kept", "out.raw"], b"");
    assert!(std::fs::read(place.path("out.raw")).unwrap() == qcow2, "raw is raw");
    place.service.keep(ID, "kept", "vmdk", &qcow2);
    let output = place.run(&["download", "-O", "raw", "kept", "no.raw"], b"");
    assert!(!output.status.success() && !place.path("no.raw").exists());
}

#[test]
fn long_lists_come_page_by_page_and_end() {
    let place = Place::new(Manners::default());
    for number in 0..120 {
        let id = format!("0f6e2a4e-5d41-4f6b-9a43-{number:012}");
        place.service.keep(&id, &format!("n{number}\u{1b}"), "raw", b"");
    }
    let list = place.must(&["image", "list"], b"");
    assert!(list.lines().count() == 121 && !list.contains('\u{1b}'), "{list}");
    let json = place.must(&["image", "list", "--limit", "70", "--output", "json"], b"");
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json.as_array().unwrap().len(), 70);
    let page = json!({"images": [{"id": "a"}], "next": "/v2/images?marker=a"}).to_string();
    let faults: Vec<_> = (0..999).map(|_| (Deed::List, How::Answer(page.clone()))).collect();
    let round = Place::faulty(&faults);
    round.must(&["image", "list"], b"");
    assert!(round.service.deeds().len() < 4, "a page that leads to itself");
}
