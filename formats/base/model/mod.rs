//! The words for a disk, apart from any format.

pub(crate) mod claims;
pub(crate) mod create;
pub(crate) mod entry;
pub(crate) mod extent;
pub(crate) mod facts;
pub(crate) mod finding;
pub(crate) mod format;
pub(crate) mod identity;
pub(crate) mod image;
pub(crate) mod machine;
pub(crate) mod reference;
pub(crate) mod writer;
