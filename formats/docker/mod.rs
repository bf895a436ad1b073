//! docker: container images as archives, as `docker save` and tools for OCI layouts write them.
//!
//! ```text
//!   tar ┬ manifest.json ──▶ config (JSON), layers; one entry an image    docker save
//!       ├ repositories ──▶ identifiers of images                         its old form
//!       ├ oci-layout, index.json ──▶ blobs: manifest ──▶ config, layers  OCI
//!       └ the layers: archives of files, each over those in front of it
//! ```
//!
//! The layers of the first image are references; a disk of a virtual machine that lies in them
//! under `disk/` (a containerDisk) is looked for by whoever opens it. Blobs that are called by
//! their digest are vouched for. The forms are those of the OCI image specification (image-layout,
//! image-index, manifest, config) and of Docker's image specification 1.2.
//! Not supported: writing; layers that are elsewhere.

mod inspect;
mod layout;

use crate::base::model::format::Format;

pub(crate) static FORMAT: Format = Format {
    aliases: &["oci"],
    holds_disks: true,
    entries: Some(inspect::entries),
    ..Format::known_by(
        "docker",
        "container images, by docker save or as OCI layouts",
        inspect::probe,
        inspect::inspect,
    )
};
