//! iso volumes: what xorriso and genisoimage write, we read; what we write, xorriso, isoinfo,
//! 7-Zip, blkid and the kernel read.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test may fail")]
#![allow(clippy::print_stderr, reason = "a test that is skipped says so")]

mod disks;
mod oracle;

use std::collections::BTreeMap;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::{Arc, Mutex};

use disks::Dice;
use formats::{
    Access, Caching, EntryKind, ImageFile, IsoAuthor, Limits, Memory, Output, Result, Source,
    Stream, Target, Value, Window,
};
use oracle::{Place, has};

/// What stands at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
enum What {
    File(Vec<u8>),
    Folder,
    Link(String),
}

type Files = BTreeMap<String, What>;

/// A folder `tree` with what is hard: deep, long, in other scripts, empty, linked.
fn grow(place: &Place) -> Files {
    let deep = (1..=12).map(|level| format!("level{level}")).collect::<Vec<_>>().join("/");
    let long = "a name of many words ".repeat(11) + ".text";
    let names =
        ["hello", "UPPER.TXT", "two.points.here", ".hidden", "with space/ünïcödé 日本語", "-x"];
    let names = names.map(String::from).into_iter().chain([format!("{deep}/end"), long.clone()]);
    for (index, name) in names.enumerate() {
        let mut content = vec![0; index * 1500];
        Dice::new(index as u64).fill(&mut content);
        put(place, &format!("tree/{name}"), &content);
    }
    for number in 0..120 {
        let name = format!("tree/many/a file with a longer name, number {number}.conf");
        put(place, &name, number.to_string().as_bytes());
    }
    put(place, "tree/run.sh", b"#!/bin/sh\n");
    let runs = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(place.path("tree/run.sh"), runs).unwrap();
    std::fs::create_dir(place.path("tree/empty folder")).unwrap();
    for (name, target) in [("link", "hello"), ("far", "../with space/./x"), ("out", "/etc/fstab")] {
        std::os::unix::fs::symlink(target, place.path("tree").join(name)).unwrap();
    }
    let long_target = "some-folder/".repeat(40) + &"x".repeat(200);
    std::os::unix::fs::symlink(long_target, place.path("tree/long link")).unwrap();
    lies(&place.path("tree"))
}

fn put(place: &Place, name: &str, content: &[u8]) {
    std::fs::create_dir_all(place.path(name).parent().unwrap()).unwrap();
    place.put(name, content);
}

/// What lies in a folder.
fn lies(folder: &Path) -> Files {
    fn walk(folder: &Path, inside: &str, found: &mut Files) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let entry = entry.unwrap();
            let path = format!("{inside}{}", entry.file_name().into_string().unwrap());
            let kind = entry.file_type().unwrap();
            let what = if kind.is_dir() {
                walk(&entry.path(), &format!("{path}/"), found);
                What::Folder
            } else if kind.is_symlink() {
                let target = std::fs::read_link(entry.path()).unwrap();
                What::Link(target.into_os_string().into_string().unwrap())
            } else {
                What::File(std::fs::read(entry.path()).unwrap())
            };
            found.insert(path, what);
        }
    }
    let mut found = Files::new();
    walk(folder, "", &mut found);
    found
}

/// What we see in a volume.
fn seen(source: &Arc<dyn Source>) -> Files {
    let entries = formats::format("iso").unwrap().entries.unwrap();
    let mut found = Files::new();
    let result = entries(&**source, &Limits::default(), &mut |entry| {
        let what = match entry.kind {
            EntryKind::Folder => What::Folder,
            EntryKind::Link(target) => What::Link(target),
            EntryKind::Other => panic!("nothing else was put in: {}", entry.path),
            EntryKind::File => {
                let content = formats::inside(source, &entry.path, &entry.stretches)?;
                let mut bytes = vec![0; usize::try_from(entry.size).unwrap()];
                Window::read(&*content, 0, &mut bytes)?;
                What::File(bytes)
            }
        };
        assert!(found.insert(entry.path, what).is_none());
        Ok(())
    });
    result.unwrap_or_else(|error| panic!("{}: {error:?}", source.name()));
    found
}

/// The files in two lists are the same ones; folders and links count only if `all`.
#[track_caller]
fn same(name: &str, is: Files, should: &Files, all: bool) {
    let counts = |what: &What| all || matches!(what, What::File(_));
    let mut is: Files = is.into_iter().filter(|(_, what)| counts(what)).collect();
    for (path, what) in should.iter().filter(|(_, what)| counts(what)) {
        let found = is.remove(path);
        assert!(found.as_ref() == Some(what), "{name}: {path}: {found:?}, not {what:?}");
    }
    assert!(is.is_empty(), "{name}: {:?}", is.keys());
}

/// All of a folder, in the order that is asked for.
fn gather(author: &mut IsoAuthor, place: &Place, folder: &str, backwards: bool) {
    let mut files: Vec<_> = lies(&place.path(folder)).into_iter().collect();
    if backwards {
        files.reverse();
    }
    for (path, what) in files {
        let own = place.path(folder).join(&path);
        match what {
            What::Folder => author.folder(&path, 0o755).unwrap(),
            What::Link(target) => author.link(&path, &target).unwrap(),
            What::File(bytes) => {
                let mode = own.metadata().unwrap().permissions().mode() & 0o777;
                let open = move || -> Result<Arc<dyn Source>> {
                    Ok(Arc::new(ImageFile::open(&own, Access::Read, Caching::Writeback)?))
                };
                author.file(&path, mode, bytes.len() as u64, Box::new(open)).unwrap();
            }
        }
    }
}

/// Writes a volume of ours as `name`.
fn write(place: &Place, author: &IsoAuthor, name: &str) {
    let output = Output::create(&place.path(name), Caching::Unsafe).unwrap();
    let len = author.write(&*output.target(), &|_, _| Ok(())).unwrap();
    output.commit().unwrap();
    assert_eq!(place.path(name).metadata().unwrap().len(), len);
}

/// A volume of ours of the folder `tree`.
fn ours(place: &Place, label: &str, folder: &str) {
    let mut author = IsoAuthor::new(label).unwrap();
    gather(&mut author, place, folder, false);
    write(place, &author, "ours.iso");
}

/// Its texts, as we see them.
fn details(place: &Place, name: &str) -> String {
    let facts = place.facts(name, "iso");
    assert!(facts.hazards.is_empty(), "{:?}", facts.hazards);
    let text = |value: &Value| format!("{value:?}");
    let lines = facts.details.iter().map(|d| format!("{}={}", d.name, text(&d.value)));
    lines.collect::<Vec<_>>().join("\n")
}

#[test]
fn we_read_what_others_write() {
    if !has(&["xorriso", "genisoimage"]) {
        return;
    }
    let place = Place::new();
    let mut tree = grow(&place);
    for options in [&["-R"][..], &["-R", "-J"], &["-R", "-partition_offset", "16"]] {
        let front = ["-as", "mkisofs", "-quiet", "-o", "theirs.iso"];
        place.must("xorriso", &[&front, options, &["tree"]].concat());
        let found = seen(&(place.source("theirs.iso") as Arc<dyn Source>));
        same(&options.join(" "), found, &tree, true);
    }
    // Over a link of several fields, genisoimage never comes to an end.
    std::fs::remove_file(place.path("tree/long link")).unwrap();
    tree.remove("long link");
    let genisoimage: [&[&str]; 3] = [&["-R"], &["-R", "-J", "-joliet-long"], &["-R", "-D", "-l"]];
    for options in genisoimage {
        let all = [options, &["-quiet", "-o", "theirs.iso", "tree"]].concat();
        place.must("genisoimage", &all);
        let mut found = seen(&(place.source("theirs.iso") as Arc<dyn Source>));
        // Where folders that lie too deep really are.
        found.remove("rr_moved");
        same(&options.join(" "), found, &tree, true);
    }
}

#[test]
fn we_read_joliet_and_short_names_of_others() {
    if !has(&["genisoimage"]) {
        return;
    }
    let place = Place::new();
    for name in ["plain.txt", "a folder/Größe 日本.text", "NOTES"] {
        put(&place, &format!("tree/{name}"), name.as_bytes());
    }
    let tree = lies(&place.path("tree"));
    place.must("genisoimage", &["-quiet", "-J", "-o", "wide.iso", "tree"]);
    same("-J", seen(&(place.source("wide.iso") as Arc<dyn Source>)), &tree, true);
    place.must("genisoimage", &["-quiet", "-o", "short.iso", "tree"]);
    let short = seen(&(place.source("short.iso") as Arc<dyn Source>));
    let names: Vec<_> = short.keys().map(String::as_str).collect();
    assert_eq!(names[..2], ["A_FOLDER", "A_FOLDER/GR____E_.TEX"]);
    assert_eq!(names[2..], ["NOTES", "PLAIN.TXT"]);
}

#[test]
fn we_see_what_others_boot_from() {
    if !has(&["xorriso"]) {
        return;
    }
    let place = Place::new();
    put(&place, "tree/boot.img", &[1; 4096]);
    put(&place, "tree/efi.img", &vec![2; 70_000]);
    let front = ["-as", "mkisofs", "-quiet", "-R", "-V", "BOTH", "-o", "theirs.iso"];
    let bios = ["-b", "boot.img", "-no-emul-boot", "-boot-load-size", "4"];
    let efi = ["-eltorito-alt-boot", "-e", "efi.img", "-no-emul-boot"];
    let hybrid = ["-append_partition", "2", "0xef", "tree/efi.img", "-appended_part_as_gpt"];
    place.must("xorriso", &[&front[..], &bios, &efi, &hybrid, &["tree"]].concat());
    let said = details(&place, "theirs.iso");
    for wanted in [r#"[Text("bios"), Text("uefi")]"#, r#"[Text("mbr"), Text("gpt")]"#, "BOTH"] {
        assert!(said.contains(wanted), "{wanted} in {said}");
    }
    // What follows the volume belongs to the disk.
    let disk = place.open("theirs.iso", "iso");
    assert_eq!(disk.disk_size(), place.path("theirs.iso").metadata().unwrap().len());
}

#[test]
fn others_read_what_we_write() {
    let place = Place::new();
    let tree = grow(&place);
    ours(&place, "A label", "tree");
    let mine = seen(&(place.source("ours.iso") as Arc<dyn Source>));
    same("our own", mine, &tree, true);
    if has(&["xorriso"]) {
        place.must("xorriso", &["-osirrox", "on", "-indev", "ours.iso", "-extract", "/", "x"]);
        same("xorriso", lies(&place.path("x")), &tree, true);
        let mode = |name: &str| place.path(name).metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!((mode("x/run.sh"), mode("x/hello")), (0o755, 0o644));
        place.must("chmod", &["-R", "u+rwX", "x"]);
    }
    if has(&["isoinfo"]) {
        let listed = place.must("isoinfo", &["-R", "-f", "-i", "ours.iso"]);
        let listed = String::from_utf8(listed).unwrap();
        let mut listed: Vec<_> = listed.lines().map(|line| line.trim_start_matches('/')).collect();
        listed.sort_unstable();
        // It cuts names behind 250 bytes, and no other ones.
        assert_eq!(listed, tree.keys().map(String::as_str).collect::<Vec<_>>());
        let said = String::from_utf8(place.must("isoinfo", &["-d", "-i", "ours.iso"])).unwrap();
        for wanted in ["Volume id: A label", "Joliet with UCS level 3", "Rock Ridge signatures"] {
            assert!(said.contains(wanted), "{wanted} in {said}");
        }
    }
    if has(&["isosize"]) {
        let size = String::from_utf8(place.must("isosize", &["ours.iso"])).unwrap();
        let len = place.path("ours.iso").metadata().unwrap().len();
        assert_eq!(size.trim(), len.to_string());
    }
}

#[test]
fn seven_zip_reads_our_joliet_names() {
    if !has(&["7zz"]) {
        return;
    }
    let place = Place::new();
    let mut tree = grow(&place);
    let is_long = |path: &String| path.rsplit('/').next().unwrap().chars().count() > 64;
    let long: Vec<_> = tree.keys().filter(|path| is_long(path)).cloned().collect();
    for path in long {
        std::fs::remove_file(place.path("tree").join(&path)).unwrap();
        tree.remove(&path);
    }
    ours(&place, "SEVEN", "tree");
    place.must("7zz", &["t", "ours.iso"]);
    place.must("7zz", &["x", "-y", "-ox", "ours.iso"]);
    let mut found = lies(&place.path("x"));
    // Joliet has no links: they are empty files.
    found.retain(|path, _| !matches!(tree.get(path), Some(What::Link(_))));
    same("7zz", found, &tree, false);
}

#[test]
fn firmware_finds_what_we_make_it_boot_from() {
    if !has(&["xorriso", "isoinfo"]) {
        return;
    }
    let place = Place::new();
    let mut image = vec![0; 5000];
    Dice::new(9).fill(&mut image);
    put(&place, "tree/boot/loader.img", &image);
    put(&place, "tree/efi.img", &vec![2; 70_000]);
    let mut author = IsoAuthor::new("BOOT").unwrap();
    gather(&mut author, &place, "tree", false);
    author.boot_bios("boot/loader.img", None, true).unwrap();
    author.boot_efi("efi.img").unwrap();
    write(&place, &author, "ours.iso");
    let report = ["-indev", "ours.iso", "-report_el_torito", "plain"];
    let said = String::from_utf8(place.must("xorriso", &report)).unwrap();
    let lines: Vec<_> = said.lines().filter(|line| line.starts_with("El Torito")).collect();
    let has_line = |words: &[&str]| lines.iter().any(|l| words.iter().all(|word| l.contains(word)));
    assert!(has_line(&["img :   1", "BIOS  y   none", "      4 "]), "{said}");
    assert!(has_line(&["img :   2", "UEFI  y   none", "    137 "]), "{said}");
    assert!(has_line(&["path :   1", "/boot/loader.img"]), "{said}");
    assert!(has_line(&["opts :   1", "boot-info-table"]), "its table is right: {said}");
    assert!(has_line(&["path :   2", "/efi.img"]), "{said}");
    assert!(details(&place, "ours.iso").contains(r#"[Text("bios"), Text("uefi")]"#));
    // Only EFI: it is what a BIOS would be given.
    let mut author = IsoAuthor::new("BOOT").unwrap();
    gather(&mut author, &place, "tree", false);
    author.boot_efi("efi.img").unwrap();
    write(&place, &author, "ours.iso");
    assert!(details(&place, "ours.iso").contains(r#"=List([Text("uefi")])"#));
    let said = String::from_utf8(place.must("xorriso", &report)).unwrap();
    assert!(said.contains("UEFI  y   none"), "{said}");
}

/// A folder with the files of a seed, or of a config drive.
fn settings(place: &Place, folder: &str, names: &[&str]) -> Files {
    for name in names {
        let content = format!("#cloud-config\n# {name}\nhostname: grüße\n");
        put(place, &format!("{folder}/{name}"), content.as_bytes());
    }
    lies(&place.path(folder))
}

/// Whether the kernel mounts such volumes here.
fn kernel_mounts() -> bool {
    let known = std::fs::read_to_string("/proc/filesystems").unwrap_or_default();
    let root = std::fs::metadata("/proc/self").is_ok_and(|data| {
        use std::os::unix::fs::MetadataExt;
        data.uid() == 0
    });
    let can = root && known.lines().any(|line| line.trim() == "iso9660");
    if !can {
        eprintln!("skipped: no kernel here that mounts iso9660 for us");
    }
    can
}

#[test]
fn seeds_and_config_drives_are_found_and_read_back() {
    let drives: [(&str, &[&str]); 2] = [
        ("cidata", &["user-data", "meta-data", "network-config", "vendor-data"]),
        (
            "config-2",
            &["openstack/latest/meta_data.json", "openstack/content/0000", "ec2/latest/x"],
        ),
    ];
    for (label, names) in drives {
        let place = Place::new();
        let files = settings(&place, "drive", names);
        ours(&place, label, "drive");
        same(label, seen(&(place.source("ours.iso") as Arc<dyn Source>)), &files, true);
        if has(&["blkid"]) {
            let value = |tag| {
                let said = place.must("blkid", &["-p", "-s", tag, "-o", "value", "ours.iso"]);
                String::from_utf8(said).unwrap().trim().to_owned()
            };
            assert_eq!((value("LABEL").as_str(), value("TYPE").as_str()), (label, "iso9660"));
        }
        if has(&["7zz"]) {
            place.must("7zz", &["x", "-y", "-ox", "ours.iso"]);
            same("7zz", lies(&place.path("x")), &files, true);
        }
        if kernel_mounts() {
            for options in ["loop,ro", "loop,ro,norock"] {
                std::fs::create_dir_all(place.path("mounted")).unwrap();
                place.must("mount", &["-o", options, "ours.iso", "mounted"]);
                let found = lies(&place.path("mounted"));
                place.unmount("mounted");
                same(options, found, &files, true);
            }
        }
    }
}

/// What goes down a pipe.
#[derive(Clone, Default)]
struct Pipe(Arc<Mutex<Vec<u8>>>);

impl Write for Pipe {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn the_same_files_are_the_same_bytes_however_they_come_and_go() {
    let place = Place::new();
    grow(&place);
    let volume = |backwards, target: &dyn Target| {
        let mut author = IsoAuthor::new("cidata").unwrap();
        gather(&mut author, &place, "tree", backwards);
        author.boot_bios("hello", None, false).unwrap();
        author.write(target, &|_, _| Ok(())).unwrap();
    };
    let (one, two) = (Memory::default(), Memory::default());
    volume(false, &one);
    volume(true, &two);
    assert!(one.to_vec() == two.to_vec(), "the order in which files are added is no matter");
    let pipe = Pipe::default();
    volume(false, &Stream::new(pipe.clone()));
    assert!(*pipe.0.lock().unwrap() == one.to_vec(), "nor is where it goes");
    std::thread::sleep(std::time::Duration::from_millis(1100));
    let again = Memory::default();
    volume(false, &again);
    assert!(again.to_vec() == one.to_vec(), "nor is when");
    // The moment is what was asked for.
    let mut author = IsoAuthor::new("x").unwrap();
    author.date(1_000_000_000);
    write(&place, &author, "dated.iso");
    assert!(details(&place, "dated.iso").contains("2001-09-09 01:46:40 UTC"));
    if has(&["blkid"]) {
        let said = place.must("blkid", &["-p", "-s", "UUID", "-o", "value", "dated.iso"]);
        assert_eq!(String::from_utf8(said).unwrap().trim(), "2001-09-09-01-46-40-00");
    }
}

#[test]
fn files_over_four_gibibytes_are_whole() {
    let place = Place::new();
    let (size, mark) = ((4_u64 << 30) + 5_000_000, b"the mark");
    place.sparse("large", size);
    let file = std::fs::OpenOptions::new().write(true).open(place.path("large")).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, mark, size - 1000).unwrap();
    let mut author = IsoAuthor::new("LARGE").unwrap();
    let path = place.path("large");
    let open = move || -> Result<Arc<dyn Source>> {
        Ok(Arc::new(ImageFile::open(&path, Access::Read, Caching::Writeback)?))
    };
    author.file("large", 0o644, size, Box::new(open)).unwrap();
    let open = || Ok(Arc::new(Memory::new(b"small".to_vec())) as Arc<dyn Source>);
    author.file("then a small one", 0o644, 5, Box::new(open)).unwrap();
    write(&place, &author, "ours.iso");
    let source: Arc<dyn Source> = place.source("ours.iso");
    let mut found = Vec::new();
    let entries = formats::format("iso").unwrap().entries.unwrap();
    entries(&*source, &Limits::default(), &mut |entry| {
        found.push(entry);
        Ok(())
    })
    .unwrap();
    let [large, small] = &found[..] else { panic!("{found:?}") };
    assert_eq!((large.size, large.stretches.len(), small.size), (size, 2, 5));
    let content = formats::inside(&source, "large", &large.stretches).unwrap();
    let (one, two) = (place.source("large") as Arc<dyn Source>, content);
    for at in [0, (4 << 30) - 4096, (4 << 30) - 1000, size - 70_000, size - 1000] {
        let (mut is, mut should) = ([0; 1000], [0; 1000]);
        Window::read(&*two, at, &mut is).unwrap();
        Window::read(&*one, at, &mut should).unwrap();
        assert!(is == should, "at {at}");
    }
    if has(&["xorriso", "7zz"]) {
        let find = ["-indev", "ours.iso", "-find", "/large", "-exec", "lsdl"];
        let said = String::from_utf8(place.must("xorriso", &find)).unwrap();
        assert!(said.contains(&format!(" {size} ")), "{said}");
        let said = String::from_utf8(place.must("7zz", &["l", "-slt", "ours.iso"])).unwrap();
        assert!(said.contains(&format!("Size = {size}\n")), "{said}");
        let found =
            place.must("sh", &["-c", "7zz x -so ours.iso large | tail -c 1000 | head -c 8"]);
        assert_eq!(found, mark);
    }
}

#[test]
fn what_no_volume_can_have_is_refused() {
    let file = |author: &mut IsoAuthor, path: &str| {
        let open = || Ok(Arc::new(Memory::new(vec![1; 10])) as Arc<dyn Source>);
        author.file(path, 0o644, 10, Box::new(open))
    };
    assert!(IsoAuthor::new(&"x".repeat(33)).is_err() && IsoAuthor::new("a\nb").is_err());
    let mut author = IsoAuthor::new("").unwrap();
    for path in ["", "/a", "a//b", "../a", "a/..", "a\0", ".", &"x".repeat(256)] {
        assert!(file(&mut author, path).is_err(), "{path}");
    }
    file(&mut author, "a").unwrap();
    assert!(file(&mut author, "a").is_err() && file(&mut author, "a/b").is_err());
    assert!(author.folder("a", 0o755).is_err() && author.link("l", "").is_err());
    assert!(author.boot_efi("b").is_err() && author.boot_bios("a", None, true).is_err());
    // A file that is longer now than it was.
    let open = || Ok(Arc::new(Memory::new(vec![1; 11])) as Arc<dyn Source>);
    author.file("grows", 0o644, 10, Box::new(open)).unwrap();
    assert!(author.write(&Memory::default(), &|_, _| Ok(())).is_err());
}
