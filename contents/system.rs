//! The operating system, by the files of its root file system.

use crate::disk::{Disk, Fault, Read};
use crate::files::Files;
use crate::tree::NodeKind;
use crate::{Known, Place, kernel, table};

/// An operating system.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct System {
    /// `linux` or `windows`.
    pub os_type: Option<Known<&'static str>>,
    /// As OpenStack names it: `debian`, `ubuntu`, `fedora`, `opensuse`; what it has no name for is
    /// called as it calls itself.
    pub distro: Option<Known<String>>,
    /// As the distribution counts.
    pub version: Option<Known<String>>,
    /// What it calls itself to people.
    pub pretty_name: Option<Known<String>>,
    /// The version of the newest kernel of Linux.
    pub kernel: Option<Known<String>>,
    /// Whether cloud-init is there.
    pub cloud_init: Option<Known<bool>>,
    /// Whether the guest agent of QEMU is there.
    pub guest_agent: Option<Known<bool>>,
}

/// Bytes that a file about the system has at most.
const TEXT: usize = 64 << 10;
/// Characters of a text of its that are told.
const WORDS: usize = 128;
/// Where subvolumes are that a root file system is put in, if the default one is something else.
const SUBVOLUMES: [&str; 4] = ["", "/root", "/@", "/@rootfs"];
/// Files that say what system it is.
const RELEASES: [&str; 5] = [
    "/etc/os-release",
    "/usr/lib/os-release",
    "/etc/redhat-release",
    "/etc/alpine-release",
    "/etc/debian_version",
];
const CLOUD_INIT: [&str; 5] = [
    "/usr/bin/cloud-init",
    "/etc/cloud/cloud.cfg",
    "/usr/lib/systemd/system/cloud-init.service",
    "/lib/systemd/system/cloud-init.service",
    "/etc/init.d/cloud-init",
];
const GUEST_AGENT: [&str; 6] = [
    "/usr/sbin/qemu-ga",
    "/usr/bin/qemu-ga",
    "/usr/libexec/qemu-ga",
    "/usr/lib/systemd/system/qemu-guest-agent.service",
    "/lib/systemd/system/qemu-guest-agent.service",
    "/etc/init.d/qemu-guest-agent",
];

/// The place of the root file system: the one that says what system it is, and of several the one
/// whose partition says that it is a root.
pub(crate) fn root(places: &mut [Place]) -> Option<usize> {
    let mut order: Vec<usize> = (0..places.len()).collect();
    order.sort_by_key(|index| table::root_architecture(places[*index].type_id()).is_none());
    order.into_iter().find(|index| {
        let place = &mut places[*index];
        let is_linux = place.found.kind != "vfat";
        let found = place.files.as_mut().filter(|_| is_linux).map(holds_system);
        match found {
            Some(Ok(found)) => found,
            Some(Err(fault)) => {
                place.volume.disk.complain(&place.name(), &fault);
                false
            }
            None => false,
        }
    })
}

/// Whether a system lies here; its root is `/` from then on.
fn holds_system(files: &mut Files) -> Read<bool> {
    for subvolume in SUBVOLUMES {
        files.enter(subvolume);
        for path in RELEASES {
            if files.has(path)? {
                return Ok(true);
            }
        }
    }
    files.enter("");
    Ok(false)
}

/// What system it is.
pub(crate) fn describe(disk: &Disk, places: &mut [Place], root: Option<usize>) -> System {
    let mut system = System::default();
    if let Some(root) = root {
        let name = places[root].name();
        let files = places[root].files.as_mut().expect("a root is one whose files are read");
        let told = |result: Read<()>| {
            if let Err(fault) = result {
                disk.complain(&name, &fault);
            }
        };
        told(release(files, &mut system));
        told(first_of(files, &CLOUD_INIT).map(|found| system.cloud_init = Some(found)));
        told(first_of(files, &GUEST_AGENT).map(|found| system.guest_agent = Some(found)));
    }
    if let Err(fault) = kernels(places, root, &mut system) {
        disk.complain("looking for kernels", &fault);
    }
    if system.os_type.is_none() {
        system.os_type = windows(places);
        let named = |known: &Known<&str>| Known::new(known.value.to_string(), &*known.why);
        system.distro = system.os_type.as_ref().map(named);
    }
    system
}

/// Whether one of these files is there, and which.
fn first_of(files: &mut Files, paths: &[&str]) -> Read<Known<bool>> {
    for path in paths {
        // A link that leads nowhere is no reason to give up.
        match files.has(path) {
            Ok(true) => return Ok(Known::new(true, *path)),
            Ok(false) | Err(Fault::Damaged(_)) => {}
            Err(fault) => return Err(fault),
        }
    }
    Ok(Known::new(false, format!("none of {} is there", paths.join(", "))))
}

/// What the system says of itself.
fn release(files: &mut Files, system: &mut System) -> Read<()> {
    let linux = |why: &str| Some(Known::new("linux", why));
    for path in &RELEASES[..2] {
        let Some(text) = files.read(path, TEXT)? else { continue };
        let text = String::from_utf8_lossy(&text);
        let value = |key| field(&text, key);
        let known = |value: String| Some(Known::new(value, *path));
        system.os_type = linux(path);
        let id = value("ID").unwrap_or_else(|| "linux".into());
        system.distro = is_word(&id).then(|| published(&id)).and_then(known);
        system.version = value("VERSION_ID").filter(|text| is_word(text)).and_then(known);
        system.pretty_name = value("PRETTY_NAME").or_else(|| value("NAME")).and_then(known);
        return Ok(());
    }
    for (path, read) in RELEASES[2..].iter().zip([red_hat, alpine, debian]) {
        let Some(text) = files.read(path, TEXT)? else { continue };
        let text = String::from_utf8_lossy(&text);
        let line = printable(text.lines().next().unwrap_or_default());
        let (distro, version) = read(&line);
        system.os_type = linux(path);
        system.distro = distro.map(|distro| Known::new(distro.into(), *path));
        let version = version.filter(|version| is_word(version));
        system.version = version.map(|version| Known::new(version.into(), *path));
        system.pretty_name = (!line.is_empty()).then(|| Known::new(line, *path));
        return Ok(());
    }
    Ok(())
}

/// `CentOS Linux release 7.9.2009 (Core)`
fn red_hat(line: &str) -> (Option<&'static str>, Option<&str>) {
    let names = [
        ("CentOS", "centos"),
        ("Red Hat Enterprise", "rhel"),
        ("Fedora", "fedora"),
        ("Rocky", "rocky"),
        ("AlmaLinux", "almalinux"),
        ("Oracle", "ol"),
    ];
    let distro = names.iter().find(|(front, _)| line.starts_with(front)).map(|(_, name)| *name);
    let behind = line.split_once(" release ").map(|(_, version)| version);
    (distro, behind.and_then(|version| version.split(' ').next()))
}

fn alpine(line: &str) -> (Option<&'static str>, Option<&str>) {
    (Some("alpine"), Some(line))
}

/// `12.5`, and `trixie/sid` before there is a number.
fn debian(line: &str) -> (Option<&'static str>, Option<&str>) {
    (Some("debian"), Some(line).filter(|line| line.starts_with(|c: char| c.is_ascii_digit())))
}

/// A value of an os-release file: its last one, without the quotes that a shell would take away.
fn field(text: &str, key: &str) -> Option<String> {
    let is = |line: &&str| line.split_once('=').is_some_and(|(name, _)| name.trim() == key);
    let (_, raw) = text.lines().rfind(is)?.split_once('=')?;
    let (mut value, mut quote) = (String::new(), None);
    let mut chars = raw.trim().chars();
    while let Some(c) = chars.next() {
        match (c, quote) {
            ('\\', None | Some('"')) => value.extend(chars.next()),
            (c, Some(open)) if c == open => quote = None,
            ('"' | '\'', None) => quote = Some(c),
            (c, _) => value.push(c),
        }
    }
    let value = printable(&value);
    (!value.is_empty()).then_some(value)
}

/// A text of the disk as it may be told: what cannot be seen is left out, and what is too much.
fn printable(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(WORDS).collect::<String>().trim().into()
}

/// Whether a text is of the letters that a name or a version may have (os-release(5)).
fn is_word(text: &str) -> bool {
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "._-+~".contains(c);
    !text.is_empty() && text.len() <= 64 && text.chars().all(fits)
}

/// A distribution's name for itself as OpenStack's list has it ("Image property keys",
/// `os_distro`).
fn published(id: &str) -> String {
    match id {
        "archlinux" => "arch",
        "opensuse-leap" | "opensuse-tumbleweed" | "opensuse-microos" => "opensuse",
        "redhat" => "rhel",
        "mandrivalinux" => "mandriva",
        other => other,
    }
    .into()
}

/// The newest kernel: in the root's folder for booting, else in a partition for that, else the one
/// that modules are there for.
fn kernels(places: &mut [Place], root: Option<usize>, system: &mut System) -> Read<()> {
    let newest = |names: Vec<String>, why: &str| {
        let versions = names.iter().filter_map(|name| kernel::of_file(name));
        let newest = versions.max_by(|one, other| kernel::order(one, other));
        newest.map(|version| Known::new(version.to_string(), why))
    };
    if let Some(files) = root.and_then(|root| places[root].files.as_mut()) {
        system.kernel = newest(files.names("/boot")?, "/boot");
    }
    if system.kernel.is_none() {
        let mut order: Vec<usize> = (0..places.len()).filter(|at| Some(*at) != root).collect();
        order.sort_by_key(|at| !table::is_boot(places[*at].type_id()));
        for at in order {
            let name = places[at].name();
            let Some(files) = places[at].files.as_mut() else { continue };
            let names = match files.names("/") {
                Err(Fault::Damaged(_)) => continue,
                other => other?,
            };
            system.kernel = newest(names, &name);
            if system.kernel.is_some() {
                break;
            }
        }
    }
    if system.kernel.is_some() {
        let why = system.kernel.as_ref().map_or("", |kernel| &kernel.why);
        let linux = Known::new("linux", format!("a kernel in {why}"));
        system.os_type.get_or_insert(linux);
        return Ok(());
    }
    let Some(files) = root.and_then(|root| places[root].files.as_mut()) else { return Ok(()) };
    for folder in ["/usr/lib/modules", "/lib/modules"] {
        let names = files.names(folder)?;
        let versions = names.iter().filter(|name| kernel::is_version(name));
        let newest = versions.max_by(|one, other| kernel::order(one, other));
        if let Some(version) = newest {
            system.kernel = Some(Known::new(version.clone(), folder));
            break;
        }
    }
    Ok(())
}

/// Windows, by what it starts from UEFI with beside its file system.
fn windows(places: &mut [Place]) -> Option<Known<&'static str>> {
    const LOADER: &str = "/EFI/Microsoft/Boot/bootmgfw.efi";
    if !places.iter().any(|place| place.found.kind == "ntfs") {
        return None;
    }
    let mut trees = places.iter_mut().filter(|place| place.found.kind == "vfat");
    let has = |place: &mut Place| {
        let kind = place.files.as_mut().map(|files| files.kind(LOADER));
        matches!(kind, Some(Ok(Some(NodeKind::File))))
    };
    trees.any(has).then(|| Known::new("windows", LOADER))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_lose_the_quotes_that_a_shell_would_take() {
        let text = "# ID=none\nNAME='A \"B\"'\nID=\"de\\\"bian\"\nX=a\nX=b # c\nPRETTY_NAME=\"\"\n";
        assert_eq!(field(text, "NAME").as_deref(), Some("A \"B\""));
        assert_eq!(field(text, "ID").as_deref(), Some("de\"bian"));
        assert_eq!(field(text, "PRETTY_NAME"), None);
        assert_eq!(field(text, "VERSION_ID"), None);
    }

    #[test]
    fn control_characters_of_an_image_are_not_told() {
        assert_eq!(field("NAME=a\x1b[31mb\x07\n", "NAME").as_deref(), Some("a[31mb"));
    }
}
