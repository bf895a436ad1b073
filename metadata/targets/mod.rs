//! Where images go: what a cloud or a hypervisor takes, and what is made for it.
//!
//! A target is a sign with its rules, as a format is one: what it refuses is said with the rule,
//! and with what to do about it.

mod amazon;
mod azure;
mod google;
mod hypervisors;
mod openstack;

use formats::{Error, Facts, Result};

use crate::gate::{Gate, Verdict};

/// Somewhere that images are taken.
pub struct Target {
    /// Its name, as it is typed.
    pub name: &'static str,
    /// What it is.
    pub about: &'static str,
    /// What is made for it, if nothing else is said.
    pub recipe: Recipe,
    /// Whether it asks the gate, whatever the image is.
    gated: bool,
    rules: fn(&Subject, &mut Judgement),
}

/// How an image is made that a target takes.
#[derive(Debug, Clone, Copy)]
pub struct Recipe {
    /// Name of the format.
    pub format: &'static str,
    /// Its settings: key, value.
    pub options: &'static [(&'static str, &'static str)],
    /// The size of the disk is a multiple of this.
    pub align: u64,
    /// The disk has at least this size.
    pub least: u64,
    /// The compression around it, by name.
    pub packing: Option<&'static str>,
}

impl Recipe {
    /// A format as it is.
    const fn plain(format: &'static str) -> Recipe {
        Recipe { format, options: &[], align: 1, least: 0, packing: None }
    }
}

/// An image that may go somewhere.
pub struct Subject<'a> {
    /// What OpenStack's gate makes of the file.
    pub gate: &'a Gate,
    /// The compression around the image, the outermost first.
    pub wrappers: &'a [&'static str],
    /// What the image says of itself.
    pub facts: &'a Facts,
    /// How it boots: `bios`, `uefi` or `both`, where that is known.
    pub firmware: Option<&'a str>,
    /// The machine that its system is for, where that is known.
    pub architecture: Option<&'a str>,
    /// What a service is told that it is; by its format if nobody says.
    pub disk_format: Option<&'a str>,
}

impl<'a> Subject<'a> {
    /// An image of which only this is known.
    pub fn new(gate: &'a Gate, facts: &'a Facts) -> Subject<'a> {
        let wrappers = &[];
        Subject { gate, wrappers, facts, firmware: None, architecture: None, disk_format: None }
    }
}

/// What becomes of an image at a target.
#[derive(Debug, Default)]
pub struct Judgement {
    /// What is to be said, the reasons of a refusal among it.
    pub remarks: Vec<Remark>,
}

/// Something to be said of an image at a target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remark {
    /// How much it matters.
    pub weight: Weight,
    /// What it is: one sentence, which may hold text of the image.
    pub what: String,
    /// What to do about it.
    pub advice: Option<String>,
}

/// How much a remark matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Weight {
    /// The target does not take it.
    Refused,
    /// The target takes it, and it will not work.
    Broken,
    /// Good to know.
    Note,
}

impl Weight {
    /// Its name, as machines read it.
    pub fn name(self) -> &'static str {
        match self {
            Weight::Refused => "refused",
            Weight::Broken => "broken",
            Weight::Note => "note",
        }
    }
}

impl Judgement {
    /// Whether the target takes the image.
    pub fn is_accepted(&self) -> bool {
        self.remarks.iter().all(|remark| remark.weight != Weight::Refused)
    }

    /// Whether the target takes it, and nothing is wrong with it.
    pub fn is_ready(&self) -> bool {
        self.remarks.iter().all(|remark| remark.weight == Weight::Note)
    }

    fn say(&mut self, weight: Weight, what: impl Into<String>, advice: Option<&str>) {
        let advice = advice.map(str::to_owned);
        self.remarks.push(Remark { weight, what: what.into(), advice });
    }

    fn refuse(&mut self, what: impl Into<String>, advice: &str) {
        self.say(Weight::Refused, what, Some(advice));
    }

    fn note(&mut self, what: impl Into<String>) {
        self.say(Weight::Note, what, None);
    }

    /// Refuses what has compression around it.
    fn refuse_wrapped(&mut self, subject: &Subject) {
        if let Some(outermost) = subject.wrappers.first() {
            self.refuse(format!("it is compressed by {outermost}"), "unpack it first");
        }
    }
}

/// Every target.
pub static TARGETS: &[&Target] = &[
    &openstack::GLANCE,
    &openstack::NOVA,
    &azure::AZURE,
    &amazon::AWS,
    &google::GCP,
    &hypervisors::VSPHERE,
    &hypervisors::HYPERV,
    &hypervisors::VIRTUALBOX,
    &hypervisors::PROXMOX,
];

/// The target of this name. `Invalid` if there is none.
pub fn target(name: &str) -> Result<&'static Target> {
    let found = TARGETS.iter().find(|target| target.name == name).copied();
    found.ok_or_else(|| {
        let names: Vec<_> = TARGETS.iter().map(|target| target.name).collect();
        Error::invalid(format!("no target is called '{name}': {}", names.join(", ")))
    })
}

impl Target {
    /// What becomes of an image there.
    pub fn judge(&self, subject: &Subject) -> Judgement {
        let mut judgement = Judgement::default();
        (self.rules)(subject, &mut judgement);
        for hazard in &subject.facts.hazards {
            let what = format!("it is not safe: {}: {}", hazard.kind.name(), hazard.what);
            judgement.say(Weight::Broken, what, None);
        }
        if subject.facts.dirty {
            let advice = "check it, and repair it if need be";
            judgement.say(Weight::Note, "it was not closed properly", Some(advice));
        }
        judgement
    }

    /// What becomes of a file that cannot be read as an image, for this reason.
    pub fn judge_unread(&self, gate: &Gate, reason: &Error) -> Judgement {
        let mut judgement = Judgement::default();
        if self.gated && gate.verdict != Verdict::Safe {
            let what = format!("its gate says of {}: {}", gate.formats.join(", "), gate.verdict);
            judgement.say(Weight::Refused, what, None);
        }
        judgement.say(Weight::Broken, format!("it cannot be read: {reason}"), None);
        judgement
    }

    /// The command that makes an image for it.
    fn advice(&self) -> String {
        format!("make one with: diskwright convert --target {} INPUT OUTPUT", self.name)
    }
}

/// Refuses a format that a target does not take.
fn only(
    target: &Target,
    subject: &Subject,
    judgement: &mut Judgement,
    taken: &[(&str, &[&str])],
) -> bool {
    judgement.refuse_wrapped(subject);
    let Facts { format, variant, .. } = *subject.facts;
    let is = |(name, variants): &(&str, &[&str])| {
        *name == format && (variants.is_empty() || variants.contains(&variant))
    };
    let found = taken.iter().any(is);
    if !found {
        let name = |(name, variants): &(&str, &[&str])| match variants {
            [] => (*name).to_owned(),
            some => format!("{name} ({})", some.join(", ")),
        };
        let names: Vec<_> = taken.iter().map(name).collect();
        let what = format!("it is {format} ({variant}); taken are {}", names.join(", "));
        judgement.refuse(what, &target.advice());
    }
    found
}
