//! Hypervisors that people run themselves.

use super::{Judgement, Recipe, Subject, Target, only};

/// vSphere takes stream-optimized disks, alone or in an OVA (VMware, "Virtual Disk Format 5.0",
/// and the requirements of content libraries); a disk has up to 62 TiB.
pub(super) static VSPHERE: Target = Target {
    name: "vsphere",
    about: "VMware vSphere and ESXi",
    recipe: Recipe {
        options: &[("subformat", "streamOptimized")],
        align: 1 << 20,
        ..Recipe::plain("vmdk")
    },
    gated: false,
    rules: vsphere,
};

/// Hyper-V takes both of Microsoft's formats; machines of generation 2 boot by UEFI, from VHDX
/// only.
pub(super) static HYPERV: Target = Target {
    name: "hyperv",
    about: "Microsoft Hyper-V",
    recipe: Recipe { align: 1 << 20, ..Recipe::plain("vhdx") },
    gated: false,
    rules: hyperv,
};

pub(super) static VIRTUALBOX: Target = Target {
    name: "virtualbox",
    about: "Oracle VirtualBox",
    recipe: Recipe::plain("vdi"),
    gated: false,
    rules: virtualbox,
};

pub(super) static PROXMOX: Target = Target {
    name: "proxmox",
    about: "Proxmox VE, by its import",
    recipe: Recipe::plain("qcow2"),
    gated: false,
    rules: proxmox,
};

fn vsphere(subject: &Subject, judgement: &mut Judgement) {
    let taken: [(&str, &[&str]); 3] = [("vmdk", &["streamOptimized"]), ("ova", &[]), ("iso", &[])];
    only(&VSPHERE, subject, judgement, &taken);
    most(subject, judgement, 62 << 40, "62 TiB");
}

fn hyperv(subject: &Subject, judgement: &mut Judgement) {
    let kinds: &[&str] = &["fixed", "dynamic"];
    only(&HYPERV, subject, judgement, &[("vhd", kinds), ("vhdx", kinds), ("iso", &[])]);
    match subject.facts.format {
        "vhd" => {
            most(subject, judgement, 2040 << 30, "2040 GiB");
            if subject.firmware == Some("uefi") {
                let what = "it boots by UEFI only: generation 2, which takes no vhd";
                judgement.refuse(what, &HYPERV.advice());
            }
        }
        _ => most(subject, judgement, 64 << 40, "64 TiB"),
    }
    match subject.firmware {
        Some("uefi") => judgement.note("the machine has to be of generation 2"),
        Some("bios") => judgement.note("the machine has to be of generation 1"),
        _ => {}
    }
}

fn virtualbox(subject: &Subject, judgement: &mut Judgement) {
    let taken: [(&str, &[&str]); 5] =
        [("vdi", &[]), ("vmdk", &[]), ("vhd", &[]), ("ova", &[]), ("iso", &[])];
    if subject.facts.format == "vhdx" {
        judgement.note("a vhdx is read there, and not written");
        judgement.refuse_wrapped(subject);
        return;
    }
    only(&VIRTUALBOX, subject, judgement, &taken);
}

fn proxmox(subject: &Subject, judgement: &mut Judgement) {
    let taken: [(&str, &[&str]); 5] = [
        ("raw", &[]),
        ("qcow2", &[]),
        ("vmdk", &["monolithicSparse", "streamOptimized"]),
        ("ova", &[]),
        ("iso", &[]),
    ];
    only(&PROXMOX, subject, judgement, &taken);
}

/// Refuses a disk of more bytes than this.
fn most(subject: &Subject, judgement: &mut Judgement, most: u64, words: &str) {
    let size = subject.facts.disk_size;
    if size > most {
        judgement.refuse(format!("its disk has {size} bytes; {words} are the most"), "shrink it");
    }
}
