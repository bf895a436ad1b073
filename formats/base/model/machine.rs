//! A virtual machine that disks are packed for.

use crate::base::error::{Error, Result};

/// What a machine is to be like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Machine {
    /// What people call it.
    pub name: String,
    /// Processors.
    pub cpus: u64,
    /// Bytes of memory.
    pub memory: u64,
    /// Whether its firmware is EFI, and not a BIOS.
    pub efi: bool,
    /// Whether it starts only what is signed.
    pub secure_boot: bool,
    /// The system that is installed in it.
    pub os: System,
    /// The network of each of its adapters.
    pub networks: Vec<String>,
    /// The family of its hardware: `vmx-13`, `virtualbox-2.2`.
    pub hardware: String,
}

impl Machine {
    /// A small one of this name.
    pub fn new(name: impl Into<String>) -> Machine {
        Machine {
            name: name.into(),
            cpus: 1,
            memory: 1 << 30,
            efi: false,
            secure_boot: false,
            os: System::other(),
            networks: Vec::new(),
            hardware: "vmx-13".into(),
        }
    }
}

/// An operating system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct System {
    /// Its number in CIM.
    pub id: u64,
    /// What VMware calls it.
    pub vmware: Option<String>,
}

/// Systems by the words that people use: number in CIM, name of VMware's.
const SYSTEMS: [(&str, u64, &str); 15] = [
    ("other", 102, "otherGuest64"),
    ("linux", 101, "otherLinux64Guest"),
    ("debian", 96, "debian10_64Guest"),
    ("ubuntu", 94, "ubuntu64Guest"),
    ("rhel", 80, "rhel8_64Guest"),
    ("centos", 107, "centos8_64Guest"),
    ("fedora", 101, "fedora64Guest"),
    ("oraclelinux", 109, "oracleLinux8_64Guest"),
    ("sles", 85, "sles15_64Guest"),
    ("freebsd", 78, "freebsd12_64Guest"),
    ("windows7", 105, "windows7_64Guest"),
    ("windows10", 120, "windows9_64Guest"),
    ("windows2012", 112, "windows8Server64Guest"),
    ("windows2016", 118, "windows9Server64Guest"),
    ("windows2019", 118, "windows2019srv_64Guest"),
];

impl System {
    /// One that nothing is known of.
    pub fn other() -> System {
        let (_, id, vmware) = SYSTEMS[0];
        System { id, vmware: Some(vmware.into()) }
    }

    /// The one of a word, a number of CIM's, or a name of VMware's. `Invalid`, with the words
    /// there are, for anything else.
    pub fn named(word: &str) -> Result<System> {
        if let Some((_, id, vmware)) = SYSTEMS.iter().find(|(name, ..)| *name == word) {
            return Ok(System { id: *id, vmware: Some((*vmware).into()) });
        }
        if let Ok(id) = word.parse() {
            return Ok(System { id, vmware: None });
        }
        if word.ends_with("Guest") || word.ends_with("Guest64") {
            let known = SYSTEMS.iter().find(|(.., vmware)| *vmware == word);
            let id = known.map_or(SYSTEMS[0].1, |(_, id, _)| *id);
            return Ok(System { id, vmware: Some(word.into()) });
        }
        let words: Vec<_> = SYSTEMS.iter().map(|(name, ..)| *name).collect();
        let words = words.join(", ");
        let what =
            format!("there is no system '{word}': it is one of {words}, or a number of CIM's");
        Err(Error::invalid(what))
    }
}

/// A disk of a machine, in a file of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MachineDisk {
    /// The file.
    pub file: String,
    /// Bytes of the file.
    pub size: u64,
    /// Bytes of the disk.
    pub capacity: u64,
}

/// Makes the text that describes a machine and its disks.
pub type DescribeFn = fn(&Machine, &[MachineDisk]) -> Result<Vec<u8>>;
