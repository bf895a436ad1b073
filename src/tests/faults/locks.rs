//! Two processes and one image: who holds it, and who has to wait.

use std::io::Read;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::dice::Dice;
use crate::place::{Place, split};

/// A process that is ended with the test.
struct Holder(Child);

impl Drop for Holder {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Programs that keep an image open for writing, as a virtual machine does.
const HOLDERS: [&str; 3] = [
    "qemu-io -f qcow2 disk.qcow2",
    "qemu-nbd -t -f qcow2 -k SOCKET disk.qcow2",
    "qemu-storage-daemon --blockdev driver=file,node-name=f,filename=disk.qcow2 \
     --blockdev driver=qcow2,node-name=d,file=f --nbd-server addr.type=unix,addr.path=SOCKET \
     --export type=nbd,id=e,node-name=d,writable=on",
];

fn holder(place: &Place, words: &str) -> Option<Holder> {
    let socket = place.path().join("socket").to_str().unwrap().to_owned();
    let words = split(&words.replace("SOCKET", &socket));
    let mut command = Command::new(&words[0]);
    command.args(&words[1..]).current_dir(place.path());
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let Ok(child) = command.spawn() else {
        eprintln!("skipped: there is no {} here", words[0]);
        return None;
    };
    Some(Holder(child))
}

/// The program, once it holds the image. Whoever looks whether it does may be in its way: then it
/// has gone, and is started again.
fn holding(place: &Place, words: &str) -> Option<Holder> {
    for _ in 0..20 {
        let mut held = holder(place, words)?;
        std::thread::sleep(Duration::from_millis(300));
        while held.0.try_wait().unwrap().is_none() {
            if code(place, "info disk.qcow2") == 6 {
                return Some(held);
            }
            std::thread::sleep(Duration::from_millis(300));
        }
    }
    panic!("it does not hold the image: {words}");
}

fn code(place: &Place, words: &str) -> i32 {
    place.run(words).status.code().unwrap()
}

/// Waits until this ends with that exit code, for some seconds.
fn comes_to(place: &Place, words: &str, wanted: i32) -> bool {
    let tries = std::iter::repeat_with(|| {
        std::thread::sleep(Duration::from_millis(20));
        code(place, words)
    });
    tries.take(500).any(|is| is == wanted)
}

fn place() -> Place {
    let mut place = Place::new();
    place.put("disk.raw", &Dice::new(5).disk(2 << 20));
    place.must("convert -q -O qcow2 disk.raw disk.qcow2");
    place.remember();
    place
}

// Seen: an image that a virtual machine was writing to could be replaced: the machine went on, and
// what it wrote was gone with it. Why: a name was taken away without a look at who holds the file.
#[test]
fn an_image_that_another_program_writes_to_is_neither_read_nor_changed_nor_replaced() {
    for words in HOLDERS {
        let place = place();
        let Some(held) = holding(&place, words) else { continue };
        for refused in [
            "convert -O raw disk.qcow2 out.raw",
            "compare disk.raw disk.qcow2",
            "check disk.qcow2",
            "check -r all disk.qcow2",
            "resize disk.qcow2 +1M",
            "convert -n -O qcow2 disk.raw disk.qcow2",
            "convert -n -O raw disk.raw disk.qcow2",
            "convert -O qcow2 disk.raw disk.qcow2",
            "create -f qcow2 disk.qcow2 2M",
        ] {
            let told = place.run(refused);
            let said = String::from_utf8_lossy(&told.stderr);
            assert_eq!(told.status.code(), Some(6), "{words}: {refused}: {said}");
            assert!(said.contains("another process is using this image"), "{refused}: {said}");
        }
        for shared in ["info -U disk.qcow2", "convert -U -O raw disk.qcow2 out.raw"] {
            assert_eq!(code(&place, shared), 0, "{words}: {shared}");
        }
        drop(held);
        assert!(place.get("out.raw") == place.get("disk.raw"), "{words}");
        assert!(comes_to(&place, "info disk.qcow2", 0), "{words}: it was let go");
        place.must("compare disk.raw disk.qcow2");
    }
}

#[test]
fn an_image_that_we_read_or_write_is_not_written_by_another_program() {
    if Command::new("qemu-io").arg("--version").output().is_err() {
        return eprintln!("skipped: there is no qemu-io here");
    }
    let place = place();
    let qemu = |words: &str| {
        let done = Command::new("qemu-io").args(split(words)).current_dir(place.path()).output();
        let done = done.unwrap();
        let said = [done.stdout, done.stderr].concat();
        String::from_utf8_lossy(&said).contains("lock")
    };
    // Some seconds pass between the first portion and the last one: it is under way meanwhile.
    place.put("disk.raw", &Dice::new(5).disk(16 << 20));
    place.must("convert -q -O qcow2 disk.raw disk.qcow2");
    let mut command = place.command(&split("convert -p -r 512k -O raw disk.qcow2 out.raw"));
    let mut child = Holder(command.stderr(Stdio::piped()).spawn().unwrap());
    child.0.stderr.as_mut().unwrap().read_exact(&mut [0]).unwrap();
    assert!(qemu("-f qcow2 -c flush disk.qcow2"), "it is read");
    assert!(!qemu("-r -f qcow2 -c flush disk.qcow2"), "whoever reads may do so beside us");
    drop(child);
    let held = formats::ImageFile::open(
        &place.path().join("disk.qcow2"),
        formats::Access::Write,
        formats::Caching::Writeback,
    );
    let held = held.unwrap();
    assert!(qemu("-r -f qcow2 -c flush disk.qcow2"), "it is written");
    assert!(!qemu("-U -r -f qcow2 -c flush disk.qcow2"), "it is read all the same");
    drop(held);
    assert!(!qemu("-f qcow2 -c flush disk.qcow2"), "it was let go");
}

#[test]
fn of_several_that_write_to_one_name_one_wins_and_nothing_is_left_of_the_others() {
    let formats = ["raw", "qcow2", "vmdk", "vhd", "vhdx", "vdi", "ploop", "ova"];
    for (round, format) in formats.into_iter().enumerate() {
        for over in [false, true] {
            let mut place = Place::new();
            let mut wholes = Vec::new();
            for number in 0..4 {
                let source = format!("disk{number}.raw");
                let mut dice = Dice::new(10 * round as u64 + number + 1);
                place.put(&source, &dice.disk(1 << 20));
                place.must(&format!("convert -q -O {format} {source} out"));
                wholes.push(place.get("out"));
            }
            if !over {
                std::fs::remove_file(place.path().join("out")).unwrap();
            }
            place.remember();
            let start = |number| {
                let words = format!("convert -q -O {format} disk{number}.raw out");
                place.command(&split(&words)).stderr(Stdio::piped()).spawn().unwrap()
            };
            let children: Vec<_> = (0..4).map(start).collect();
            let mut won = 0;
            for child in children {
                let done = child.wait_with_output().unwrap();
                let said = String::from_utf8_lossy(&done.stderr);
                let code = done.status.code();
                // Who comes while another one is at it may be told so.
                assert!(matches!(code, Some(0 | 6)), "{format}: {code:?} {said}");
                won += u32::from(code == Some(0));
            }
            assert!((won > 0 || over) && wholes.contains(&place.get("out")), "{format}");
            let names: Vec<_> = place.seen().into_keys().collect();
            assert_eq!(names, ["disk0.raw", "disk1.raw", "disk2.raw", "disk3.raw", "out"]);
        }
    }
}
