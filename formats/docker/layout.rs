//! The texts in an archive of container images, all of them JSON, and the names of its members.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::base::digest::{Algorithm, Digest};
use crate::base::error::{Error, Result};

/// One image, in `manifest.json`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Saved {
    pub(super) config: Option<String>,
    pub(super) repo_tags: Option<Vec<String>>,
    pub(super) layers: Option<Vec<String>>,
}

/// `repositories`: for each name its tags, and what image each stands for.
pub(super) type Repositories = BTreeMap<String, BTreeMap<String, String>>;

/// `index.json`, and blobs like it: manifests, and further indexes.
#[derive(Debug, Deserialize)]
pub(super) struct Index {
    pub(super) manifests: Option<Vec<Descriptor>>,
}

/// One image, as a blob.
#[derive(Debug, Deserialize)]
pub(super) struct Manifest {
    pub(super) config: Option<Descriptor>,
    pub(super) layers: Option<Vec<Descriptor>>,
}

/// Names a blob, and tells of it.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Descriptor {
    pub(super) media_type: Option<String>,
    pub(super) digest: String,
    pub(super) size: u64,
    pub(super) annotations: Option<BTreeMap<String, String>>,
}

/// What an image is for.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Config {
    pub(super) architecture: Option<String>,
    pub(super) os: Option<String>,
    pub(super) rootfs: Option<Rootfs>,
}

/// Digests of its layers, not compressed.
#[derive(Debug, Deserialize)]
pub(super) struct Rootfs {
    pub(super) diff_ids: Option<Vec<String>>,
}

/// The text of a member, which lies at `at`.
pub(super) fn parse<T: DeserializeOwned>(bytes: &[u8], name: &str, at: u64) -> Result<T> {
    serde_json::from_slice(bytes).map_err(|error| {
        let (name, error) = (name.escape_debug(), error.to_string());
        let error = error.escape_debug();
        Error::malformed(at, format!("'{name}' is not what it should be: {error}"))
    })
}

impl Descriptor {
    /// What the blob digests to. `Malformed` if that is written in no way that is known.
    pub(super) fn digest(&self, at: u64) -> Result<Digest> {
        digest(&self.digest).ok_or_else(|| {
            let shown = self.digest.escape_debug();
            Error::malformed(at, format!("the digest of a blob is '{shown}'"))
        })
    }

    pub(super) fn is_index(&self) -> bool {
        let kind = self.media_type.as_deref().unwrap_or_default();
        kind.ends_with(".image.index.v1+json") || kind.ends_with(".manifest.list.v2+json")
    }

    /// Whether the blob is a disk, and not an archive of files.
    pub(super) fn is_disk(&self) -> bool {
        let kind = self.media_type.as_deref().unwrap_or_default();
        kind.starts_with("application/vnd.kubevirt.disk.")
    }

    /// What the image is called, where it is listed.
    pub(super) fn tags(&self) -> impl Iterator<Item = &String> {
        let names = ["io.containerd.image.name", "org.opencontainers.image.ref.name"];
        let all = self.annotations.as_ref();
        names.into_iter().filter_map(move |name| all?.get(name)).take(1)
    }
}

/// `sha256:` and the digits.
pub(super) fn digest(text: &str) -> Option<Digest> {
    let (algorithm, hex) = text.split_once(':')?;
    let algorithm = match algorithm {
        "sha256" => Algorithm::Sha256,
        "sha512" => Algorithm::Sha512,
        _ => return None,
    };
    Digest::parse(algorithm, hex)
}

/// Where a blob of this digest lies.
pub(super) fn blob(digest: &Digest) -> String {
    format!("blobs/{}/{}", digest.algorithm.name(), digest.hex())
}

/// The digest that a blob or a config is called by.
pub(super) fn called(path: &str) -> Option<Digest> {
    if let Some(name) = path.strip_prefix("blobs/") {
        return digest(&name.replacen('/', ":", 1));
    }
    let name = path.strip_suffix(".json").unwrap_or(path);
    let hex = name.strip_prefix("sha256:").unwrap_or(name);
    let named = hex.len() < path.len() && hex.len() == 64;
    named.then(|| Digest::parse(Algorithm::Sha256, hex)).flatten()
}

/// What a member says of the archive that it lies in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mark {
    /// These are container images.
    Yes,
    /// They are if this text lies in it.
    If(&'static str),
    /// They may be.
    Perhaps,
    No,
}

impl Mark {
    pub(super) fn of(path: &str) -> Mark {
        match path {
            "oci-layout" => return Mark::Yes,
            "manifest.json" => return Mark::If("\"Layers\""),
            "index.json" => return Mark::If("\"manifests\""),
            "repositories" | "blobs" | "blobs/sha256" | "blobs/sha512" => return Mark::Perhaps,
            _ => {}
        }
        if called(path).is_some() {
            return Mark::Yes;
        }
        // Layers as they were, each in a folder of its own, and as others pack them.
        let (first, rest) = path.split_once('/').unwrap_or((path, ""));
        let name = first.split('.').next().unwrap_or_default();
        let is_identifier = name.len() == 64 && name.bytes().all(|byte| byte.is_ascii_hexdigit());
        let known = match (first == name, rest) {
            (true, "" | "VERSION" | "json" | "layer.tar") => is_identifier,
            (false, "") => is_identifier && [".tar", ".tar.gz"].contains(&&first[64..]),
            _ => false,
        };
        if known { Mark::Yes } else { Mark::No }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_tell_what_they_lie_in() {
        let hex = "0123456789abcdef".repeat(4);
        let yes = [
            "oci-layout".to_string(),
            format!("{hex}.json"),
            format!("sha256:{hex}"),
            format!("{hex}.tar.gz"),
            format!("{hex}.tar"),
            hex.clone(),
            format!("{hex}/VERSION"),
            format!("{hex}/layer.tar"),
            format!("blobs/sha256/{hex}"),
        ];
        for path in yes {
            assert_eq!(Mark::of(&path), Mark::Yes, "{path}");
        }
        let no = ["disk.raw", "a.ovf", "blobs/x", "manifest.json/x", "", "0123.json", "é"];
        let no = no.map(str::to_string).into_iter();
        for path in no.chain([format!("{hex}.vmdk"), format!("{hex}/x"), "é".repeat(64)]) {
            assert_eq!(Mark::of(&path), Mark::No, "{path}");
        }
        assert_eq!(Mark::of("blobs/sha256"), Mark::Perhaps);
    }
}
