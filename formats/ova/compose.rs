//! A new descriptor: one machine, and its disks in streamOptimized images.

use std::fmt::Write as _;

use crate::base::error::{Error, Result};
use crate::base::model::machine::{Machine, MachineDisk};

const ENVELOPE: &str = "http://schemas.dmtf.org/ovf/envelope/1";
const CIM: &str = "http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2";
const VMWARE: &str = "http://www.vmware.com/schema/ovf";
const SCHEMA: &str = "http://www.w3.org/2001/XMLSchema-instance";
/// What the format of the disks is called.
const STREAM: &str = "http://www.vmware.com/interfaces/specifications/vmdk.html#streamOptimized";
/// Disks of one SCSI controller: it has the place 7 itself.
const UNITS: [usize; 15] = [0, 1, 2, 3, 4, 5, 6, 8, 9, 10, 11, 12, 13, 14, 15];
/// Controllers at most.
const CONTROLLERS: usize = 4;

/// The text of a machine with these disks.
pub(crate) fn describe(machine: &Machine, disks: &[MachineDisk]) -> Result<Vec<u8>> {
    let most = CONTROLLERS * UNITS.len();
    if disks.len() > most {
        let count = disks.len();
        return Err(Error::invalid(format!("a machine of {count} disks, {most} at most")));
    }
    let mut page = Page::default();
    page.line("<?xml version=\"1.0\" encoding=\"UTF-8\"?>");
    page.line(&format!(
        "<Envelope ovf:version=\"1.0\" xml:lang=\"en-US\" xmlns=\"{ENVELOPE}\" \
         xmlns:ovf=\"{ENVELOPE}\" xmlns:rasd=\"{CIM}/CIM_ResourceAllocationSettingData\" \
         xmlns:vssd=\"{CIM}/CIM_VirtualSystemSettingData\" xmlns:vmw=\"{VMWARE}\" \
         xmlns:xsi=\"{SCHEMA}\">"
    ));
    page.depth = 1;
    page.within("References", "", |page| page.files(disks))?;
    page.within("DiskSection", "", |page| page.disks(disks))?;
    page.within("NetworkSection", "", |page| page.networks(machine))?;
    let id = attribute("ovf:id", &machine.name)?;
    page.within("VirtualSystem", &id, |page| page.system(machine, disks))?;
    page.depth = 0;
    page.line("</Envelope>");
    Ok(page.text.into_bytes())
}

/// XML as it is written.
#[derive(Default)]
struct Page {
    text: String,
    depth: usize,
}

/// One piece of hardware: elements and their values, in the order in which the schema has them.
type Item<'a> = &'a [(&'a str, &'a str)];

impl Page {
    fn line(&mut self, line: &str) {
        let _ = writeln!(self.text, "{:1$}{line}", "", 2 * self.depth);
    }

    fn within(
        &mut self,
        name: &str,
        attributes: &str,
        fill: impl FnOnce(&mut Page) -> Result<()>,
    ) -> Result<()> {
        self.line(&format!("<{name}{attributes}>"));
        self.depth += 1;
        fill(self)?;
        self.depth -= 1;
        self.line(&format!("</{name}>"));
        Ok(())
    }

    fn element(&mut self, name: &str, text: &str) -> Result<()> {
        let text = escaped(text)?;
        self.line(&format!("<{name}>{text}</{name}>"));
        Ok(())
    }

    fn files(&mut self, disks: &[MachineDisk]) -> Result<()> {
        for (number, disk) in (1..).zip(disks) {
            let (href, size) = (attribute("ovf:href", &disk.file)?, disk.size);
            self.line(&format!("<File{href} ovf:id=\"file{number}\" ovf:size=\"{size}\"/>"));
        }
        Ok(())
    }

    fn disks(&mut self, disks: &[MachineDisk]) -> Result<()> {
        self.element("Info", "Disks of the machine")?;
        for (number, disk) in (1..).zip(disks) {
            let capacity = disk.capacity;
            self.line(&format!(
                "<Disk ovf:capacity=\"{capacity}\" ovf:capacityAllocationUnits=\"byte\" \
                 ovf:diskId=\"vmdisk{number}\" ovf:fileRef=\"file{number}\" \
                 ovf:format=\"{STREAM}\"/>"
            ));
        }
        Ok(())
    }

    fn networks(&mut self, machine: &Machine) -> Result<()> {
        self.element("Info", "Networks of the machine")?;
        let mut names: Vec<_> = machine.networks.iter().collect();
        names.sort();
        names.dedup();
        for name in names {
            let name_is = attribute("ovf:name", name)?;
            self.within("Network", &name_is, |page| page.element("Description", name))?;
        }
        Ok(())
    }

    fn system(&mut self, machine: &Machine, disks: &[MachineDisk]) -> Result<()> {
        self.element("Info", "A virtual machine")?;
        self.element("Name", &machine.name)?;
        let vmware = machine.os.vmware.as_ref();
        let vmware = vmware.map(|name| attribute("vmw:osType", name)).transpose()?;
        let os = format!(" ovf:id=\"{}\"{}", machine.os.id, vmware.unwrap_or_default());
        self.within("OperatingSystemSection", &os, |page| {
            page.element("Info", "The operating system in it")
        })?;
        self.within("VirtualHardwareSection", "", |page| page.hardware(machine, disks))
    }

    fn hardware(&mut self, machine: &Machine, disks: &[MachineDisk]) -> Result<()> {
        self.element("Info", "Hardware of the machine")?;
        self.within("System", "", |page| {
            page.element("vssd:ElementName", "Virtual Hardware Family")?;
            page.element("vssd:InstanceID", "0")?;
            page.element("vssd:VirtualSystemIdentifier", &machine.name)?;
            page.element("vssd:VirtualSystemType", &machine.hardware)
        })?;
        let (cpus, memory) = (machine.cpus.to_string(), (machine.memory >> 20).to_string());
        self.item(&[
            ("AllocationUnits", "hertz * 10^6"),
            ("Description", "Number of virtual CPUs"),
            ("ElementName", &format!("{cpus} virtual CPU")),
            ("InstanceID", "1"),
            ("ResourceType", "3"),
            ("VirtualQuantity", &cpus),
        ])?;
        self.item(&[
            ("AllocationUnits", "byte * 2^20"),
            ("Description", "Memory Size"),
            ("ElementName", &format!("{memory} MB of memory")),
            ("InstanceID", "2"),
            ("ResourceType", "4"),
            ("VirtualQuantity", &memory),
        ])?;
        self.storage(disks)?;
        for (number, network) in machine.networks.iter().enumerate() {
            self.item(&[
                ("AutomaticAllocation", "true"),
                ("Connection", network),
                ("Description", &format!("Network adapter on '{network}'")),
                ("ElementName", &format!("Ethernet {}", number + 1)),
                ("InstanceID", &(1000 + number).to_string()),
                ("ResourceSubType", "E1000"),
                ("ResourceType", "10"),
            ])?;
        }
        self.settings(machine);
        Ok(())
    }

    /// Controllers, and the disks at them.
    fn storage(&mut self, disks: &[MachineDisk]) -> Result<()> {
        for number in 0..disks.len().div_ceil(UNITS.len()) {
            self.item(&[
                ("Address", &number.to_string()),
                ("Description", "SCSI Controller"),
                ("ElementName", &format!("SCSI controller {number}")),
                ("InstanceID", &(3 + number).to_string()),
                ("ResourceSubType", "lsilogic"),
                ("ResourceType", "6"),
            ])?;
        }
        for number in 0..disks.len() {
            self.item(&[
                ("AddressOnParent", &UNITS[number % UNITS.len()].to_string()),
                ("ElementName", &format!("Hard disk {}", number + 1)),
                ("HostResource", &format!("ovf:/disk/vmdisk{}", number + 1)),
                ("InstanceID", &(100 + number).to_string()),
                ("Parent", &(3 + number / UNITS.len()).to_string()),
                ("ResourceType", "17"),
            ])?;
        }
        Ok(())
    }

    fn item(&mut self, item: Item) -> Result<()> {
        self.within("Item", "", |page| {
            item.iter().try_for_each(|(name, value)| page.element(&format!("rasd:{name}"), value))
        })
    }

    fn settings(&mut self, machine: &Machine) {
        let firmware = if machine.efi { "efi" } else { "bios" };
        let mut all = vec![("firmware", firmware)];
        if machine.secure_boot {
            all.push(("bootOptions.efiSecureBootEnabled", "true"));
        }
        for (key, value) in all {
            let config = format!("vmw:key=\"{key}\" vmw:value=\"{value}\"");
            self.line(&format!("<vmw:Config ovf:required=\"false\" {config}/>"));
        }
    }
}

fn attribute(name: &str, value: &str) -> Result<String> {
    Ok(format!(" {name}=\"{}\"", escaped(value)?))
}

/// `Invalid` for characters that XML has no place for.
fn escaped(text: &str) -> Result<String> {
    if let Some(other) = text.chars().find(|one| one.is_control()) {
        let what = format!("a text with the character '{}'", other.escape_debug());
        return Err(Error::invalid(what));
    }
    Ok(quick_xml::escape::escape(text).into_owned())
}
