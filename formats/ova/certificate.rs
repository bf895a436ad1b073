//! Who has signed the manifest: a line with the signature, and behind it an X.509 certificate.
//!
//! Whether the signer is to be trusted is for the caller to decide: no chain and no date is
//! looked at here.

use ring::signature::{self, RsaParameters, UnparsedPublicKey};
use x509_parser::pem::Pem;
use x509_parser::prelude::X509Certificate;

use crate::base::digest::Algorithm;
use crate::base::error::{Error, Result};
use crate::base::manifest::{self, Signed};

/// What a certificate says, and whether its signature is that of the manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Certificate {
    pub(super) subject: String,
    pub(super) issuer: String,
    pub(super) from: String,
    pub(super) until: String,
    pub(super) algorithm: Algorithm,
    /// The file that was signed.
    pub(super) signs: String,
    /// Whether its key has signed this manifest.
    pub(super) verifies: bool,
}

/// Reads a `.cert`, and verifies its signature of these bytes.
pub(super) fn read(text: &[u8], manifest: &[u8]) -> Result<Certificate> {
    let mut lines = manifest::split(text).filter(|(_, line)| !line.trim_ascii().is_empty());
    let Some((at, line)) = lines.next() else {
        return Err(Error::malformed(0, "the certificate is empty"));
    };
    let Signed { algorithm, name, hex, .. } = manifest::signed_line(line, at)?;
    let signature = digits(&hex)
        .ok_or_else(|| Error::malformed(at, "the signature is not in hexadecimal digits"))?;
    let broken = |error: &dyn std::fmt::Display| {
        Error::malformed(at, format!("the certificate is no X.509 one: {error}"))
    };
    let mut pems = Pem::iter_from_buffer(text);
    let pem = pems.next().ok_or_else(|| broken(&"it is not there"))?;
    let pem = pem.map_err(|error| broken(&error))?;
    let certificate = pem.parse_x509().map_err(|error| broken(&error))?;
    let verifies = verifies(&certificate, algorithm, manifest, &signature);
    Ok(Certificate {
        subject: certificate.subject().to_string(),
        issuer: certificate.issuer().to_string(),
        from: certificate.validity().not_before.to_string(),
        until: certificate.validity().not_after.to_string(),
        algorithm,
        signs: name.strip_prefix("./").unwrap_or(&name).to_string(),
        verifies,
    })
}

fn verifies(
    certificate: &X509Certificate,
    algorithm: Algorithm,
    message: &[u8],
    signature: &[u8],
) -> bool {
    let how: &RsaParameters = match algorithm {
        Algorithm::Sha1 => &signature::RSA_PKCS1_1024_8192_SHA1_FOR_LEGACY_USE_ONLY,
        Algorithm::Sha256 => &signature::RSA_PKCS1_1024_8192_SHA256_FOR_LEGACY_USE_ONLY,
        Algorithm::Sha512 => &signature::RSA_PKCS1_1024_8192_SHA512_FOR_LEGACY_USE_ONLY,
        Algorithm::Md5 => return false,
    };
    let key = &certificate.public_key().subject_public_key.data;
    UnparsedPublicKey::new(how, key).verify(message, signature).is_ok()
}

fn digits(hex: &str) -> Option<Vec<u8>> {
    let digit = |digit: u8| char::from(digit).to_digit(16).and_then(|d| u8::try_from(d).ok());
    let (pairs, rest) = hex.as_bytes().as_chunks::<2>();
    let bytes = pairs.iter().map(|pair| Some(digit(pair[0])? << 4 | digit(pair[1])?));
    bytes.collect::<Option<Vec<_>>>().filter(|bytes| rest.is_empty() && !bytes.is_empty())
}
