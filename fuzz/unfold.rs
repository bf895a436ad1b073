//! Inputs that are images with their zeros left out: a format that spreads over megabytes fits.

/// What such an input begins with. Then follow pieces: the sector where they lie (4 bytes, least
/// significant first), how many bytes (2), the bytes.
const FOLDED: &[u8] = b"\xffSP\n";
/// Sectors of such an image at most.
const MOST: u32 = 16 << 10;

/// The image that an input stands for: itself, or what it is the folded form of.
pub(crate) fn unfold(input: &[u8]) -> Vec<u8> {
    let Some(mut rest) = input.strip_prefix(FOLDED) else { return input.to_vec() };
    let mut image = Vec::new();
    while let Some((head, behind)) = rest.split_first_chunk::<6>() {
        let sector = u32::from_le_bytes([head[0], head[1], head[2], head[3]]) % (MOST + 1);
        let len = usize::from(u16::from_le_bytes([head[4], head[5]])).min(behind.len());
        let (bytes, next) = behind.split_at(len);
        let start = sector as usize * 512;
        image.resize(image.len().max(start + len), 0);
        image[start..start + len].copy_from_slice(bytes);
        rest = next;
    }
    image
}
