//! Checksums put right, so that what is behind them is reached: of VHDX headers, regions and log
//! entries, of VHD footers and headers, and of the headers in tar archives.

/// Sectors that are looked at for a signature.
const SECTOR: usize = 512;

/// Puts right every checksum that this image says it has.
pub(crate) fn mend(image: &mut [u8]) {
    for start in (0..image.len()).step_by(SECTOR) {
        let rest = &mut image[start..];
        if rest.starts_with(b"head") {
            crc(rest, 4096);
        } else if rest.starts_with(b"regi") {
            crc(rest, 64 << 10);
        } else if rest.starts_with(b"loge") {
            let len = number(rest, 8).unwrap_or(0);
            crc(rest, len);
        } else if rest.starts_with(b"conectix") {
            sum(rest, 512, 64);
        } else if rest.starts_with(b"cxsparse") {
            sum(rest, 1024, 36);
        } else if rest.get(257..262) == Some(b"ustar") {
            tar(rest);
        }
    }
    // A footer stands in the last sector, wherever that begins.
    if let Some(at) = image.len().checked_sub(SECTOR)
        && image[at..].starts_with(b"conectix")
    {
        sum(&mut image[at..], 512, 64);
    }
}

fn number(bytes: &[u8], at: usize) -> Option<usize> {
    let field = bytes.get(at..at + 4)?.try_into().ok()?;
    usize::try_from(u32::from_le_bytes(field)).ok()
}

/// CRC-32C over `len` bytes, in the second word, which counts as zeros.
fn crc(bytes: &mut [u8], len: usize) {
    if let Some(all) = bytes.get_mut(..len).filter(|all| all.len() >= 8) {
        all[4..8].fill(0);
        let sum = crc32c::crc32c(all);
        all[4..8].copy_from_slice(&sum.to_le_bytes());
    }
}

/// The complement of the sum of `len` bytes, at `at`, which counts as zeros.
fn sum(bytes: &mut [u8], len: usize, at: usize) {
    if let Some(all) = bytes.get_mut(..len) {
        all[at..at + 4].fill(0);
        let sum = !all.iter().map(|byte| u32::from(*byte)).sum::<u32>();
        all[at..at + 4].copy_from_slice(&sum.to_be_bytes());
    }
}

/// The sum of a header's bytes in octal digits; the field itself counts as blanks.
fn tar(bytes: &mut [u8]) {
    if let Some(header) = bytes.get_mut(..SECTOR) {
        header[148..156].fill(b' ');
        let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    }
}
