//! Azure: fixed VHDs, of whole MiB.
//!
//! Source: Microsoft, "Prepare a Windows VHD or VHDX to upload to Azure", and "Upload a VHD": the
//! virtual size is aligned to 1 MiB; a managed disk has 20 MiB to 32 TiB.

use super::{Judgement, Recipe, Subject, Target, only};

const MIB: u64 = 1 << 20;
const SIZES: std::ops::RangeInclusive<u64> = 20 * MIB..=32 << 40;

pub(super) static AZURE: Target = Target {
    name: "azure",
    about: "Microsoft Azure, managed disks",
    recipe: Recipe {
        options: &[("subformat", "fixed")],
        align: MIB,
        least: *SIZES.start(),
        ..Recipe::plain("vhd")
    },
    gated: false,
    rules,
};

fn rules(subject: &Subject, judgement: &mut Judgement) {
    if !only(&AZURE, subject, judgement, &[("vhd", &["fixed"])]) {
        return;
    }
    let size = subject.facts.disk_size;
    if !size.is_multiple_of(MIB) {
        let what = format!("its disk has {size} bytes, which is no multiple of 1 MiB");
        judgement.refuse(what, &AZURE.advice());
    }
    if !SIZES.contains(&size) {
        let what = format!("its disk has {size} bytes; taken are 20 MiB to 32 TiB");
        judgement.refuse(what, "resize the disk");
    }
}
