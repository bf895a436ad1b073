//! The virtual machines of a package.

use super::units;
use super::xml::Element;
use crate::base::error::Result;
use crate::base::model::facts::Value;
use crate::base::model::machine::{self as model, System};

/// Kinds of hardware, by their numbers in CIM.
const CPU: &str = "3";
const MEMORY: &str = "4";
const CONTROLLERS: [&str; 3] = ["5", "6", "20"];
const NETWORK: &str = "10";
const DISK: &str = "17";

/// A virtual machine.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Machine {
    pub(super) id: Option<String>,
    pub(super) name: Option<String>,
    /// The number of its system in CIM.
    pub(super) os: Option<u64>,
    /// What VMware calls that.
    pub(super) os_type: Option<String>,
    /// In words.
    pub(super) os_name: Option<String>,
    /// What its hardware is: `vmx-13`.
    pub(super) hardware: Option<String>,
    pub(super) cpus: Option<u64>,
    /// Bytes.
    pub(super) memory: Option<u64>,
    /// `bios` or `efi`.
    pub(super) firmware: Option<&'static str>,
    pub(super) secure_boot: bool,
    /// The network of each adapter.
    pub(super) networks: Vec<String>,
    /// Its disks, the one that it starts from first.
    pub(super) drives: Vec<Drive>,
}

/// A disk drive of a machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Drive {
    /// The disk in it, by its id.
    pub(super) disk: Option<String>,
    /// Or the file.
    pub(super) file: Option<String>,
    /// What it is at: kind, number and id of the controller, and its place there.
    at: (usize, u64, u64, u64),
}

/// All machines, those in collections too.
pub(super) fn machines(root: &Element) -> Result<Vec<Machine>> {
    let chosen = configuration(root)?;
    let below = root.below();
    let systems = below.into_iter().filter(|element| element.is("VirtualSystem"));
    systems.map(|system| machine(system, chosen)).collect()
}

/// The configuration that is deployed if nobody asks for another one.
fn configuration(root: &Element) -> Result<Option<&str>> {
    let mut first = None;
    for section in root.all("DeploymentOptionSection") {
        for element in section.all("Configuration") {
            let id = element.attribute("id")?;
            if element.attribute("default")? == Some("true") {
                return Ok(id);
            }
            first = first.or(id);
        }
    }
    Ok(first)
}

fn machine(system: &Element, chosen: Option<&str>) -> Result<Machine> {
    let text = |text: &str| Some(text.to_string()).filter(|text| !text.is_empty());
    let mut machine = Machine {
        id: system.attribute("id")?.map(str::to_string),
        name: system.text_of("Name").and_then(text),
        ..Machine::default()
    };
    if let Some(section) = system.first("OperatingSystemSection") {
        machine.os = section.attribute("id")?.and_then(|id| id.parse().ok());
        machine.os_type = section.attribute("osType")?.and_then(text);
        machine.os_name = section.text_of("Description").and_then(text);
    }
    for section in system.all("VirtualHardwareSection") {
        let family = section.first("System").and_then(|it| it.text_of("VirtualSystemType"));
        machine.hardware = machine.hardware.or(family.and_then(text));
        machine.items(section, chosen)?;
    }
    machine.settings(system)?;
    machine.drives.sort_by_key(|drive| drive.at);
    Ok(machine)
}

/// Where a controller is, and what it is called.
struct Controller<'a> {
    id: &'a str,
    at: (usize, u64, u64),
}

impl Machine {
    /// The drive that it starts from: the first one of the first controller.
    pub(super) fn boot(&self) -> Option<&Drive> {
        self.drives.first()
    }

    fn items(&mut self, section: &Element, chosen: Option<&str>) -> Result<()> {
        let is = |item: &Element| {
            ["Item", "StorageItem", "EthernetPortItem"].iter().any(|kind| item.is(kind))
        };
        let mut items = Vec::new();
        for item in section.children.iter().filter(|child| is(child)) {
            let of = item.attribute("configuration")?;
            let mine = of.is_none_or(|of| of.split_whitespace().any(|id| Some(id) == chosen));
            if mine {
                items.push(item);
            }
        }
        let number = |item: &Element, name| {
            item.text_of(name).and_then(|text| text.parse().ok()).unwrap_or(u64::MAX)
        };
        let mut controllers = Vec::new();
        for item in &items {
            let kind = item.text_of("ResourceType");
            let rank = kind.and_then(|kind| CONTROLLERS.iter().position(|it| *it == kind));
            if let (Some(rank), Some(id)) = (rank, item.text_of("InstanceID")) {
                let at = (rank, number(item, "Address"), id.parse().unwrap_or(u64::MAX));
                controllers.push(Controller { id, at });
            }
        }
        for item in items {
            let quantity = item.text_of("VirtualQuantity").and_then(|text| text.parse().ok());
            match item.text_of("ResourceType") {
                Some(CPU) => self.cpus = quantity.or(self.cpus),
                Some(MEMORY) => {
                    // Without a word of units, memory is in MiB.
                    let units = item.text_of("AllocationUnits").unwrap_or("byte * 2^20");
                    let bytes = quantity.and_then(|count| units::bytes(count, Some(units), 0).ok());
                    self.memory = bytes.or(self.memory);
                }
                Some(NETWORK) => {
                    let network = item.text_of("Connection").unwrap_or_default();
                    self.networks.push(network.to_string());
                }
                Some(DISK) => {
                    let parent = item.text_of("Parent");
                    let mut known = controllers.iter();
                    let of = known.find(|controller| Some(controller.id) == parent);
                    let (rank, address, id) =
                        of.map_or((usize::MAX, u64::MAX, u64::MAX), |found| found.at);
                    let at = (rank, address, id, number(item, "AddressOnParent"));
                    self.drives.extend(drive(item, at));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// What vendors say of it in words of their own.
    fn settings(&mut self, system: &Element) -> Result<()> {
        for element in system.below() {
            let key = element.attribute("key")?;
            let value = element.attribute("value")?;
            let on = |value: &str| value.eq_ignore_ascii_case("true");
            match (&*element.name, key, value) {
                ("Config" | "ExtraConfig", Some("firmware"), Some(value)) => {
                    self.firmware = firmware(value).or(self.firmware);
                }
                ("Config" | "ExtraConfig", Some(key), Some(value))
                    if ["uefi.secureBootEnabled", "uefi.secureBoot.enabled"].contains(&key)
                        || key == "bootOptions.efiSecureBootEnabled" =>
                {
                    self.secure_boot |= on(value);
                }
                ("Firmware", ..) => {
                    let kind = element.attribute("type")?;
                    self.firmware = kind.and_then(firmware).or(self.firmware);
                }
                ("SecureBoot", ..) => {
                    self.secure_boot |= element.attribute("enabled")?.is_some_and(on);
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// One to be made like it.
    pub(super) fn model(&self) -> model::Machine {
        let name = self.name.as_ref().or(self.id.as_ref());
        let usual = model::Machine::new(name.map_or("machine", |name| name));
        let os = match (self.os, &self.os_type) {
            (Some(id), vmware) => System { id, vmware: vmware.clone() },
            (None, Some(vmware)) => System { vmware: Some(vmware.clone()), ..usual.os },
            (None, None) => usual.os,
        };
        model::Machine {
            cpus: self.cpus.unwrap_or(usual.cpus),
            memory: self.memory.unwrap_or(usual.memory),
            efi: self.firmware == Some("efi"),
            secure_boot: self.secure_boot,
            os,
            networks: self.networks.clone(),
            hardware: self.hardware.clone().unwrap_or(usual.hardware),
            name: usual.name,
        }
    }

    /// As `info` shows it.
    pub(super) fn value(&self) -> Value {
        let mut map = Vec::new();
        let texts = [("id", &self.id), ("name", &self.name), ("hardware", &self.hardware)];
        let texts = texts.into_iter().chain([("os-type", &self.os_type), ("os", &self.os_name)]);
        for (key, text) in texts {
            map.extend(text.as_ref().map(|text| (key, Value::Text(text.clone()))));
        }
        map.extend(self.os.map(|id| ("os-id", Value::Number(id))));
        map.extend(self.cpus.map(|count| ("cpus", Value::Number(count))));
        map.extend(self.memory.map(|size| ("memory", Value::Bytes(size))));
        map.extend(self.firmware.map(|word| ("firmware", Value::from(word))));
        if self.secure_boot {
            map.push(("secure-boot", Value::Flag(true)));
        }
        if !self.networks.is_empty() {
            let list = self.networks.iter().map(|name| Value::Text(name.clone())).collect();
            map.push(("networks", Value::List(list)));
        }
        Value::Map(map)
    }
}

fn firmware(word: &str) -> Option<&'static str> {
    let word = word.to_ascii_lowercase();
    match &*word {
        "bios" => Some("bios"),
        _ if word.starts_with("efi") || word.starts_with("uefi") => Some("efi"),
        _ => None,
    }
}

/// The disk or file that an item names: `ovf:/disk/ID`, `/disk/ID`, `ovf:/file/ID`.
fn drive(item: &Element, at: (usize, u64, u64, u64)) -> Option<Drive> {
    let name = item.text_of("HostResource")?;
    let path = name.strip_prefix("ovf:").unwrap_or(name).trim_start_matches('/');
    let (kind, id) = path.split_once('/')?;
    let id = Some(id.to_string());
    match kind {
        "disk" => Some(Drive { disk: id, file: None, at }),
        "file" => Some(Drive { disk: None, file: id, at }),
        _ => None,
    }
}
