//! What images are called in an image service (Images API v2, "Disk and container formats").

use formats::Facts;

/// The disk formats that Glance knows, unless it is told otherwise.
pub const DISK_FORMATS: [&str; 12] =
    ["aki", "ami", "ari", "gpt", "iso", "ploop", "qcow2", "raw", "vdi", "vhd", "vhdx", "vmdk"];
/// The container formats that Glance knows.
pub const CONTAINER_FORMATS: [&str; 8] =
    ["aki", "ami", "ari", "bare", "compressed", "docker", "ova", "ovf"];

/// The disk format of such an image. `None` for what the service has no word for.
pub fn disk_format(facts: &Facts) -> Option<&'static str> {
    let name = match facts.format {
        // Parts of machines as Amazon's first clouds booted them; file systems are disks as well.
        "raw" if matches!(facts.variant, "aki" | "ari") => facts.variant,
        "raw" | "docker" => "raw",
        // The disk that an archive holds is a VMDK nearly always; the record says so by custom.
        "ova" | "ovf" => "vmdk",
        name => name,
    };
    DISK_FORMATS.into_iter().find(|known| *known == name)
}

/// The container format of such an image, if nothing is around it.
pub fn container_format(facts: &Facts) -> &'static str {
    let name = match facts.format {
        "raw" => facts.variant,
        name => name,
    };
    let own = ["aki", "ari", "docker", "ova", "ovf"];
    own.into_iter().find(|known| *known == name).unwrap_or("bare")
}

/// The disk that a machine needs for it: GiB, rounded up.
pub fn min_disk(disk_size: u64) -> u64 {
    disk_size.div_ceil(1 << 30)
}
