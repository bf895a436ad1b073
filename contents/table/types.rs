//! What partitions are for, by their types.

/// GUID of an EFI system partition (UEFI, "Defined GPT Partition Entry: Partition Type GUIDs").
pub(crate) const ESP: &str = "c12a7328-f81f-11d2-ba4b-00a0c93ec93b";
/// Its type in an MBR.
pub(crate) const ESP_MBR: &str = "0xef";
/// GUID of a partition that a boot loader for PCs lies in.
pub(crate) const BIOS_BOOT: &str = "21686148-6449-6e6f-744e-656564454649";
/// GUID of a partition with boot loader entries and kernels.
const EXTENDED_BOOT: &str = "bc13c2ff-59e6-4262-a352-b275fd6f7172";

/// Root file systems of Linux, and the processor that each is for (Discoverable Partitions
/// Specification).
const ROOTS: [(&str, &str, &str); 14] = [
    ("44479540-f297-41b2-9af7-d131d5f0458a", "i686", "Linux root, i686"),
    ("4f68bce3-e8cd-4db1-96e7-fbcaf984b709", "x86_64", "Linux root, x86_64"),
    ("69dad710-2ce4-4e3c-b16c-21a1d49abed3", "armv7l", "Linux root, armv7l"),
    ("b921b045-1df0-41c3-af44-4c6f280d3fae", "aarch64", "Linux root, aarch64"),
    ("77055800-792c-4f94-b39a-98c91b762bb6", "loongarch64", "Linux root, loongarch64"),
    ("1de3f1ef-fa98-47b5-8dcd-4a860a654d78", "ppc", "Linux root, ppc"),
    ("912ade1d-a839-4913-8964-a10eee08fbd2", "ppc64", "Linux root, ppc64"),
    ("c31c45e6-3f39-412e-80fb-4809c4980599", "ppc64le", "Linux root, ppc64le"),
    ("72ec70a6-cf74-40e6-bd49-4bda08e8f224", "riscv64", "Linux root, riscv64"),
    ("5eead9a9-fe09-4a1e-a1d7-520d00531306", "s390x", "Linux root, s390x"),
    ("993d8d3d-f80e-4225-855a-9daf8ed7ea97", "ia64", "Linux root, ia64"),
    ("700bda43-7a34-4507-b179-eeb93d7a7ca3", "mips64el", "Linux root, mips64el"),
    ("37c58c8a-d913-4156-a25f-48b1b64e07f0", "mipsel", "Linux root, mipsel"),
    ("6523f8ae-3eb1-4e2a-a05a-18b695ae656f", "alpha", "Linux root, alpha"),
];

/// Other types of a GPT.
const GPT: [(&str, &str); 47] = [
    ("c12a7328-f81f-11d2-ba4b-00a0c93ec93b", "EFI system partition"),
    ("21686148-6449-6e6f-744e-656564454649", "BIOS boot partition"),
    ("024dee41-33e7-11d3-9d69-0008c781f39f", "MBR partition scheme"),
    ("9e1a2d38-c612-4316-aa26-8b49521e5a8b", "PowerPC PReP boot"),
    ("e3c9e316-0b5c-4db8-817d-f92df00215ae", "Microsoft reserved"),
    ("ebd0a0a2-b9e5-4433-87c0-68b6b72699c7", "Microsoft basic data"),
    ("5808c8aa-7e8f-42e0-85d2-e1e90434cfb3", "Microsoft LDM metadata"),
    ("af9b60a0-1431-4f62-bc68-3311714a69ad", "Microsoft LDM data"),
    ("de94bba4-06d1-4d40-a16a-bfd50179d6ac", "Windows recovery environment"),
    ("e75caf8f-f680-4cee-afa3-b001e56efc2d", "Microsoft Storage Spaces"),
    ("0fc63daf-8483-4772-8e79-3d69d8477de4", "Linux data"),
    ("0657fd6d-a4ab-43c4-84e5-0933c84b4f4f", "Linux swap"),
    ("e6d6d379-f507-44c2-a23c-238f2a3df928", "Linux LVM"),
    ("a19d880f-05fc-4d3b-a006-743f0f84911e", "Linux RAID"),
    ("933ac7e1-2eb4-4f13-b844-0e14e2aef915", "Linux home"),
    ("3b8f8425-20e0-4f3b-907f-1a25a76f98e8", "Linux server data"),
    ("4d21b016-b534-45c2-a9fb-5c16e091fd2d", "Linux /var"),
    ("7ec6f557-3bc5-4aca-b293-16ef5df639d1", "Linux /var/tmp"),
    ("bc13c2ff-59e6-4262-a352-b275fd6f7172", "Linux extended boot"),
    ("8da63339-0007-60c0-c436-083ac8230908", "Linux reserved"),
    ("75250d76-8cc6-458e-bd66-bd47cc81a812", "Linux /usr, i686"),
    ("8484680c-9521-48c6-9c11-b0720656f69e", "Linux /usr, x86_64"),
    ("b0e01050-ee5f-4390-949a-9101b17104e9", "Linux /usr, aarch64"),
    ("2c7357ed-ebd2-46d9-aec1-23d437ec2bf5", "Linux root verity, x86_64"),
    ("df3300ce-d69f-4c92-978c-9bfb0f38d820", "Linux root verity, aarch64"),
    ("516e7cb4-6ecf-11d6-8ff8-00022d09712b", "FreeBSD data"),
    ("83bd6b9d-7f41-11dc-be0b-001560b84f0f", "FreeBSD boot"),
    ("516e7cb5-6ecf-11d6-8ff8-00022d09712b", "FreeBSD swap"),
    ("516e7cb6-6ecf-11d6-8ff8-00022d09712b", "FreeBSD UFS"),
    ("516e7cba-6ecf-11d6-8ff8-00022d09712b", "FreeBSD ZFS"),
    ("49f48d32-b10e-11dc-b99b-0019d1879648", "NetBSD swap"),
    ("49f48d5a-b10e-11dc-b99b-0019d1879648", "NetBSD FFS"),
    ("824cc7a0-36a8-11e3-890a-952519ad3f61", "OpenBSD data"),
    ("6a85cf4d-1dd2-11b2-99a6-080020736631", "Solaris root"),
    ("6a898cc3-1dd2-11b2-99a6-080020736631", "Solaris /usr or ZFS"),
    ("48465300-0000-11aa-aa11-00306543ecac", "Apple HFS+"),
    ("7c3457ef-0000-11aa-aa11-00306543ecac", "Apple APFS"),
    ("426f6f74-0000-11aa-aa11-00306543ecac", "Apple boot"),
    ("52414944-0000-11aa-aa11-00306543ecac", "Apple RAID"),
    ("fe3a2a5d-4f32-41a7-b725-accc3285a309", "ChromeOS kernel"),
    ("3cb8e202-3b7e-47dd-8a3c-7ff2a13cfcec", "ChromeOS root"),
    ("aa31e02a-400f-11db-9590-000c2911d1b8", "VMware VMFS"),
    ("9d275380-40ad-11db-bf97-000c2911d1b8", "VMware diagnostics"),
    ("9198effc-31c0-11db-8f78-000c2911d1b8", "VMware reserved"),
    ("7412f7d5-a156-4b13-81dc-867174929325", "ONIE boot"),
    ("4fbd7e29-9d25-41b8-afd0-062c0ceff05d", "Ceph OSD"),
    ("42465331-3ba3-10f1-802a-4861696b7521", "Haiku BFS"),
];

/// Types of an MBR.
const MBR: [(u8, &str); 37] = [
    (0x01, "FAT12"),
    (0x04, "FAT16 below 32 MiB"),
    (0x05, "extended"),
    (0x06, "FAT16"),
    (0x07, "NTFS, exFAT or HPFS"),
    (0x0b, "FAT32"),
    (0x0c, "FAT32, LBA"),
    (0x0e, "FAT16, LBA"),
    (0x0f, "extended, LBA"),
    (0x11, "hidden FAT12"),
    (0x17, "hidden NTFS"),
    (0x1b, "hidden FAT32"),
    (0x1c, "hidden FAT32, LBA"),
    (0x27, "Windows recovery"),
    (0x41, "PowerPC PReP boot"),
    (0x42, "Windows dynamic disk"),
    (0x63, "Unix System V"),
    (0x82, "Linux swap"),
    (0x83, "Linux"),
    (0x85, "Linux extended"),
    (0x8e, "Linux LVM"),
    (0xa5, "FreeBSD"),
    (0xa6, "OpenBSD"),
    (0xa8, "Apple UFS"),
    (0xa9, "NetBSD"),
    (0xab, "Apple boot"),
    (0xaf, "Apple HFS+"),
    (0xbe, "Solaris boot"),
    (0xbf, "Solaris"),
    (0xda, "data without a file system"),
    (0xea, "Linux extended boot"),
    (0xeb, "BeOS"),
    (0xee, "protects a GPT"),
    (0xef, "EFI system partition"),
    (0xfb, "VMware VMFS"),
    (0xfc, "VMware VMKCORE"),
    (0xfd, "Linux RAID"),
];

/// What a type of a GPT means.
pub(super) fn gpt_name(id: &str) -> Option<&'static str> {
    let roots = ROOTS.iter().map(|(guid, _, name)| (guid, name));
    let mut all = GPT.iter().map(|(guid, name)| (guid, name)).chain(roots);
    all.find(|(guid, _)| **guid == id).map(|(_, name)| *name)
}

/// What a type of an MBR means.
pub(super) fn mbr_name(kind: u8) -> Option<&'static str> {
    MBR.iter().find(|(number, _)| *number == kind).map(|(_, name)| *name)
}

/// The processor that a root file system of Linux is for, by the type of its partition.
pub(crate) fn root_architecture(id: &str) -> Option<&'static str> {
    ROOTS.iter().find(|(guid, ..)| *guid == id).map(|(_, architecture, _)| *architecture)
}

/// Whether a partition of this type holds kernels.
pub(crate) fn is_boot(id: &str) -> bool {
    id == EXTENDED_BOOT || id == "0xea"
}
