//! A disk to measure with: the same bytes wherever and whenever it is made.

use std::io::Write;
use std::path::Path;

/// Clusters of 64 KiB of these kinds, one after the other: zeros, noise, what packs well.
pub(crate) fn make(path: &Path, kinds: [u8; 3], clusters: usize) {
    let mut file = std::fs::File::create(path).expect("the input can be made");
    let mut seed = 1_u64;
    for cluster in 0..clusters {
        let kind = kinds[cluster % 3];
        let mut bytes = vec![0_u8; 65536];
        for chunk in bytes.chunks_mut(8).filter(|_| kind > 0) {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let number = if kind == 1 { seed } else { seed >> 60 | 1 };
            chunk.copy_from_slice(&number.to_be_bytes());
        }
        file.write_all(&bytes).expect("room for the input");
    }
}
