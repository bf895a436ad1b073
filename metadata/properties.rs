//! What is known of an image as properties of OpenStack's image service (Glance, "Useful image
//! properties"). What is not known is no property: nothing is guessed.

use contents::{Contents, Firmware};
use formats::{Detail, Facts, Value};

/// A property, and where its value came from.
pub(crate) struct Property {
    pub(crate) name: &'static str,
    pub(crate) value: String,
    pub(crate) why: String,
}

/// The properties of an image.
pub(crate) fn properties(facts: &Facts, contents: &Contents) -> Vec<Property> {
    let mut all = Vec::new();
    let mut add = |name, value: &str, why: &str| {
        all.push(Property { name, value: value.to_owned(), why: why.to_owned() });
    };
    let Contents { boot, system, .. } = contents;
    if let Some(known) = &boot.firmware
        // Of what boots either way the service may do as it likes.
        && known.value != Firmware::Both
    {
        add("hw_firmware_type", known.value.name(), &known.why);
    }
    if let Some(known) = &boot.architecture {
        add("architecture", known.value, &known.why);
        add("hw_architecture", known.value, &known.why);
    }
    if let Some(known) = &system.os_type {
        add("os_type", known.value, &known.why);
    }
    if let Some(known) = &system.distro {
        add("os_distro", &known.value, &known.why);
    }
    if let Some(known) = &system.version {
        add("os_version", &known.value, &known.why);
    }
    if let Some(known) = system.guest_agent.as_ref().filter(|known| known.value) {
        add("hw_qemu_guest_agent", "yes", &known.why);
    }
    if facts.format == "vmdk" {
        let any_bus = system.os_type.as_ref().is_some_and(|known| known.value == "linux");
        for (name, value, why) in of_vmdk(facts) {
            // Linux finds its disk behind whatever controller there is.
            if name != "hw_disk_bus" || !any_bus {
                add(name, value, why);
            }
        }
    }
    all
}

/// What VMware's driver has to know of a VMDK, and what other drivers may.
fn of_vmdk(facts: &Facts) -> Vec<(&'static str, &'static str, &'static str)> {
    let mut all = Vec::new();
    let kind = match facts.variant {
        "monolithicSparse" => Some("sparse"),
        "streamOptimized" => Some("streamOptimized"),
        _ => None,
    };
    all.extend(kind.map(|kind| ("vmware_disktype", kind, "the createType of the vmdk")));
    let adapter = facts.details.iter().find(|detail| detail.name == "adapter-type");
    let adapter = match adapter {
        Some(Detail { value: Value::Text(text), .. }) => text.to_ascii_lowercase(),
        _ => return all,
    };
    let (adapter, bus) = match &*adapter {
        "ide" => ("ide", "ide"),
        "lsilogic" => ("lsiLogic", "scsi"),
        "buslogic" => ("busLogic", "scsi"),
        _ => return all,
    };
    let why = "the adapter type of the vmdk: the controller that its system knows";
    all.extend([("vmware_adaptertype", adapter, why), ("hw_disk_bus", bus, why)]);
    all
}
