//! LUKS: an encrypted disk, with the keys to its key in front.
//!
//! ```text
//!   version 1                             version 2
//!   0         header, eight key slots     0        binary header, JSON text
//!   4 KiB     key material                16 KiB.. the same again
//!   2 MiB ..  encrypted bytes             32 KiB.. key material
//!                                         16 MiB.. encrypted bytes
//! ```
//!
//! Source: the LUKS1 and LUKS2 on-disk format specifications. Not supported: decryption, so the
//! header is all that is read, by `luks_header` on the ground; a qcow2 image may hold one, too.

mod inspect;

use crate::base::model::create::whole_sectors;
use crate::base::model::format::Format;

pub(crate) static FORMAT: Format = Format {
    extensions: &["luks"],
    padded: |size, _| whole_sectors(size),
    ..Format::known_by(
        "luks",
        "an encrypted disk (LUKS 1 and 2), described",
        inspect::probe,
        inspect::inspect,
    )
};
