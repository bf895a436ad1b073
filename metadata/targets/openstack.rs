//! OpenStack: Glance, which takes images in, and Nova, which boots them.
//!
//! Both ask the inspector of oslo.utils, whose answer [`Gate`](crate::Gate) foretells. Glance lets
//! a volume of ISO 9660 have a boot sector; it takes anything as raw that passes its checks, and
//! what it cannot look into under any name that it knows. Nova wants the content to be what the
//! record says, and reads through qemu-img.

use super::{Judgement, Recipe, Subject, Target, Weight};
use crate::gate::Verdict;
use crate::names::{self, CONTAINER_FORMATS, DISK_FORMATS};

pub(super) static GLANCE: Target = Target {
    name: "glance",
    about: "OpenStack's image service",
    recipe: Recipe::plain("qcow2"),
    gated: true,
    rules: glance,
};

pub(super) static NOVA: Target = Target {
    name: "nova",
    about: "OpenStack's compute service, with KVM",
    recipe: Recipe::plain("qcow2"),
    gated: true,
    rules: nova,
};

/// Formats that the inspector knows: what it takes for raw is none of them.
const INSPECTED: [&str; 9] = ["qcow2", "vhd", "vhdx", "vmdk", "vdi", "qed", "iso", "gpt", "luks"];

fn glance(subject: &Subject, judgement: &mut Judgement) {
    let (declared, container) = said(subject);
    let Some(declared) = declared else {
        let format = subject.facts.format;
        judgement.refuse(format!("{format} is no disk_format there"), &GLANCE.advice());
        return;
    };
    if !DISK_FORMATS.contains(&declared) || !CONTAINER_FORMATS.contains(&container) {
        let what = format!("disk_format {declared} in container_format {container} is not known");
        judgement.refuse(what, &GLANCE.advice());
        return;
    }
    judgement.note(format!("disk_format {declared}, container_format {container}"));
    if container != "bare" {
        judgement.note(format!("what is in a container ({container}) is not looked at there"));
        return;
    }
    gate(subject, declared, judgement);
}

fn nova(subject: &Subject, judgement: &mut Judgement) {
    glance(subject, judgement);
    judgement.refuse_wrapped(subject);
    let (declared, container) = said(subject);
    if !matches!(container, "bare" | "ami") {
        let what = format!("an image in a container ({container}) is not unpacked there");
        judgement.refuse(what, &NOVA.advice());
    }
    if declared == Some("vmdk")
        && !matches!(subject.facts.variant, "streamOptimized" | "monolithicSparse")
    {
        let variant = subject.facts.variant;
        let what = format!("of vmdk it takes streamOptimized and monolithicSparse, not {variant}");
        judgement.refuse(what, &NOVA.advice());
    }
    let gib = names::min_disk(subject.facts.disk_size);
    judgement.note(format!("a flavour needs a root disk of {gib} GiB or more"));
}

/// What a service is told: the disk format and the container format.
fn said<'a>(subject: &'a Subject) -> (Option<&'a str>, &'static str) {
    let container = match subject.wrappers {
        [] => names::container_format(subject.facts.format, subject.facts.variant),
        _ => "compressed",
    };
    (
        subject
            .disk_format
            .or_else(|| names::disk_format(subject.facts.format, subject.facts.variant)),
        container,
    )
}

/// What the gate says, for an image that is declared to be of this format.
fn gate(subject: &Subject, declared: &str, judgement: &mut Judgement) {
    let gate = subject.gate;
    let found = match gate.format() {
        Some(found) => found,
        None if gate.formats == ["gpt", "iso"] => "iso",
        None => {
            let names = gate.formats.join(" and ");
            judgement.refuse(format!("it is {names} at once"), "convert it to raw or qcow2");
            return;
        }
    };
    let uninspected = found == "raw" && !INSPECTED.contains(&declared);
    if found != declared && declared != "raw" && !uninspected {
        let what = format!("its content is taken for {found} there, not for {declared}");
        judgement.refuse(what, &GLANCE.advice());
    }
    match &gate.verdict {
        Verdict::Safe | Verdict::Several => {}
        Verdict::Unsafe(checks) if checks[..] == ["mbr"] && matches!(declared, "aki" | "ari") => {}
        Verdict::Unsafe(checks) => {
            let what = format!("its safety checks fail: {}", checks.join(", "));
            let advice = match checks[..] {
                ["mbr"] => "mend its partition table: the first sector breaks a rule",
                _ => "convert it: a new image has none of this",
            };
            judgement.refuse(what, advice);
        }
        Verdict::Incomplete => {
            judgement.refuse("what its format needs is not all there", "get the whole file");
        }
        Verdict::Confused => {
            let what = "the inspector there fails on it, and passes it on unseen";
            judgement.say(Weight::Broken, what, None);
        }
    }
}
