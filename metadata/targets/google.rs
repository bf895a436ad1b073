//! Google Cloud: disk.raw in a tar archive in gzip, of whole GiB.
//!
//! Source: "Compute Engine", "Manually import boot disks": GNU tar of the old kind, one member.

use super::{Judgement, Recipe, Subject, Target};

const GIB: u64 = 1 << 30;

pub(super) static GCP: Target = Target {
    name: "gcp",
    about: "Google Cloud, images of Compute Engine",
    recipe: Recipe { align: GIB, least: GIB, packing: Some("gzip"), ..Recipe::plain("gcp") },
    gated: false,
    rules,
};

fn rules(subject: &Subject, judgement: &mut Judgement) {
    let facts = subject.facts;
    if facts.format != "gcp" {
        let what =
            format!("it is {} ({}); taken is disk.raw in a .tar.gz", facts.format, facts.variant);
        judgement.refuse(what, &GCP.advice());
        return;
    }
    if subject.wrappers != ["gzip"] {
        let what = match subject.wrappers {
            [] => "the archive is not compressed; it has to be, by gzip".to_owned(),
            some => {
                format!("the archive is compressed by {}; it has to be by gzip", some.join(", "))
            }
        };
        judgement.refuse(what, &GCP.advice());
    }
    if !facts.disk_size.is_multiple_of(GIB) || facts.disk_size == 0 {
        let what = format!("its disk has {} bytes, which is no multiple of 1 GiB", facts.disk_size);
        judgement.refuse(what, &GCP.advice());
    }
}
