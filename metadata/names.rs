//! What images are called in an image service (Images API v2, "Disk and container formats").

/// The disk formats that Glance knows, unless it is told otherwise.
pub const DISK_FORMATS: [&str; 12] =
    ["aki", "ami", "ari", "gpt", "iso", "ploop", "qcow2", "raw", "vdi", "vhd", "vhdx", "vmdk"];
/// The container formats that Glance knows.
pub const CONTAINER_FORMATS: [&str; 8] =
    ["aki", "ami", "ari", "bare", "compressed", "docker", "ova", "ovf"];

/// The disk format of an image of this format and variant. `None` for what the service has no word
/// for.
pub fn disk_format(format: &str, variant: &str) -> Option<&'static str> {
    let name = match format {
        // Parts of machines as Amazon's first clouds booted them; file systems are disks as well.
        "raw" if matches!(variant, "aki" | "ari") => variant,
        "raw" | "docker" => "raw",
        // The disk that an archive holds is a VMDK nearly always; the record says so by custom.
        "ova" | "ovf" => "vmdk",
        name => name,
    };
    DISK_FORMATS.into_iter().find(|known| *known == name)
}

/// The container format of an image of this format and variant, if nothing is around it.
pub fn container_format(format: &str, variant: &str) -> &'static str {
    let name = if format == "raw" { variant } else { format };
    let own = ["aki", "ari", "docker", "ova", "ovf"];
    own.into_iter().find(|known| *known == name).unwrap_or("bare")
}

/// The disk that a machine needs for it: GiB, rounded up.
pub fn min_disk(disk_size: u64) -> u64 {
    disk_size.div_ceil(1 << 30)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_takes_whole_gibibytes() {
        let gib = 1 << 30;
        let pairs = [(0, 0), (1, 1), (gib, 1), (gib + 1, 2), (u64::MAX, 1 << 34)];
        for (size, wanted) in pairs {
            assert_eq!(min_disk(size), wanted, "{size}");
        }
    }

    #[test]
    fn every_format_has_the_name_that_services_know_it_by() {
        for (format, variant, disk, container) in [
            ("qcow2", "v3", Some("qcow2"), "bare"),
            ("raw", "ari", Some("ari"), "ari"),
            ("raw", "ami", Some("raw"), "bare"),
            ("ova", "archive", Some("vmdk"), "ova"),
            ("docker", "save", Some("raw"), "docker"),
            ("qed", "qed", None, "bare"),
        ] {
            assert_eq!(disk_format(format, variant), disk, "{format}");
            assert_eq!(container_format(format, variant), container, "{format}");
        }
    }
}
