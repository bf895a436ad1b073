//! The ground: what every format stands on. Knows none of them.

pub(crate) mod codec;
pub(crate) mod digest;
pub(crate) mod error;
pub(crate) mod limits;
pub(crate) mod luks_header;
pub(crate) mod manifest;
pub(crate) mod model;
pub(crate) mod sniff;
pub(crate) mod storage;
pub(crate) mod tar;
pub(crate) mod wrapper;
pub(crate) mod xml;
