//! For which processor a program or a kernel is, by its header.

use crate::bytes::Bytes;

/// Bytes of the front of a program that tell.
pub(crate) const FRONT: usize = 1024;

/// The processor that a program is for, as OpenStack names it; `None` if this is no program or one
/// for something else.
pub(crate) fn of_program(front: &[u8]) -> Option<&'static str> {
    let front = Bytes(front);
    elf(front).or_else(|| pe(front)).or_else(|| bz_image(front)).or_else(|| arm_image(front))
}

/// ELF (System V ABI, "ELF Header").
fn elf(front: Bytes) -> Option<&'static str> {
    let [class, order] = front.array(4).filter(|_| front.has(0, b"\x7fELF"))?;
    let little = order == 1;
    let machine = if little { front.le16(18)? } else { front.be16(18)? };
    match (machine, class, little) {
        (3, 1, true) => Some("i686"),
        (8, 2, true) => Some("mips64el"),
        (8, 1, true) => Some("mipsel"),
        (20, 1, false) => Some("ppc"),
        (21, 2, false) => Some("ppc64"),
        (21, 2, true) => Some("ppc64le"),
        (22, 2, false) => Some("s390x"),
        (40, 1, true) => Some("armv7l"),
        (50, 2, true) => Some("ia64"),
        (62, 2, true) => Some("x86_64"),
        (183, 2, true) => Some("aarch64"),
        (243, 2, true) => Some("riscv64"),
        (258, 2, true) => Some("loongarch64"),
        _ => None,
    }
}

/// The programs of UEFI (Microsoft, "PE Format"); Linux' kernels pass for one, too.
pub(crate) fn pe(front: Bytes) -> Option<&'static str> {
    if !front.has(0, b"MZ") {
        return None;
    }
    let at = usize::try_from(front.le32(0x3c)?).ok()?;
    if !front.has(at, b"PE\0\0") {
        return None;
    }
    match front.le16(at.checked_add(4)?)? {
        0x14c => Some("i686"),
        0x8664 => Some("x86_64"),
        0xaa64 => Some("aarch64"),
        0x1c0 | 0x1c2 | 0x1c4 => Some("armv7l"),
        0x200 => Some("ia64"),
        0x5064 => Some("riscv64"),
        0x6264 => Some("loongarch64"),
        _ => None,
    }
}

/// Linux for x86 (The Linux/x86 Boot Protocol): a flag says whether it has 64 bits.
fn bz_image(front: Bytes) -> Option<&'static str> {
    if !front.has(510, b"\x55\xaa") || !front.has(0x202, b"HdrS") {
        return None;
    }
    let wide = front.le16(0x206)? >= 0x20c && front.le16(0x236)? & 1 != 0;
    Some(if wide { "x86_64" } else { "i686" })
}

/// Linux for arm64, not compressed ("Booting AArch64 Linux").
fn arm_image(front: Bytes) -> Option<&'static str> {
    front.has(56, b"ARM\x64").then_some("aarch64")
}
