//! AWS, by VM Import/Export.
//!
//! Source: "VM Import/Export User Guide", "Image formats" and "Limitations".

use super::{Judgement, Recipe, Subject, Target, Weight, only};

pub(super) static AWS: Target = Target {
    name: "aws",
    about: "Amazon Web Services, by VM Import/Export",
    recipe: Recipe { options: &[("subformat", "streamOptimized")], ..Recipe::plain("vmdk") },
    gated: false,
    rules,
};

const TAKEN: [(&str, &[&str]); 5] = [
    ("raw", &[]),
    ("vmdk", &["streamOptimized"]),
    ("vhd", &["fixed", "dynamic"]),
    ("vhdx", &["fixed", "dynamic"]),
    ("ova", &[]),
];

fn rules(subject: &Subject, judgement: &mut Judgement) {
    only(&AWS, subject, judgement, &TAKEN);
    if subject.facts.encrypted {
        judgement.refuse("its volume is encrypted", "take the encryption off first");
    }
    if let Some(architecture) = subject.architecture.filter(|name| *name == "i686") {
        let what = format!("its system is for {architecture}; systems of 64 bits are taken");
        judgement.say(Weight::Refused, what, None);
    }
}
