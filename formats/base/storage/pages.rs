//! Tables of an image, read as needed, never whole.

use std::sync::{Arc, Mutex, PoisonError};

use super::{Source, Window};
use crate::base::error::{Error, Result};

/// Bytes of one page.
const PAGE: u64 = 64 << 10;
/// Pages kept.
const KEPT: usize = 16;

/// A small cache over the metadata of a file: any table is read through it, a page at a time.
pub(crate) struct Pages {
    source: Arc<dyn Source>,
    kept: Mutex<Vec<(u64, Arc<Vec<u8>>)>>,
}

impl Pages {
    pub(crate) fn new(source: Arc<dyn Source>) -> Pages {
        Pages { source, kept: Mutex::new(Vec::new()) }
    }

    /// The file itself.
    pub(crate) fn source(&self) -> &Arc<dyn Source> {
        &self.source
    }

    /// As many of the `len` bytes at `offset` as lie in one page, handed to `look`; at least one.
    /// `Truncated` if there is none.
    pub(crate) fn look<T>(
        &self,
        offset: u64,
        len: u64,
        look: impl FnOnce(&[u8]) -> T,
    ) -> Result<T> {
        let page = self.page(offset / PAGE)?;
        let start = usize::try_from(offset % PAGE).expect("below the size of a page");
        let len = usize::try_from(len.min(PAGE)).expect("at most the size of a page");
        if start >= page.len() {
            let end = self.source.len();
            return Err(Error::truncated(
                offset,
                format!("a table goes on, and the file ends at {end}"),
            ));
        }
        Ok(look(&page[start..page.len().min(start + len)]))
    }

    fn page(&self, index: u64) -> Result<Arc<Vec<u8>>> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(at) = kept.iter().position(|(number, _)| *number == index) {
            // The latest used stands last; the first is the next to go.
            let found = kept.remove(at);
            let page = found.1.clone();
            kept.push(found);
            return Ok(page);
        }
        let mut bytes = if kept.len() < KEPT {
            Vec::new()
        } else {
            Arc::try_unwrap(kept.remove(0).1).unwrap_or_default()
        };
        let start = index.saturating_mul(PAGE);
        let left = self.source.len().saturating_sub(start).min(PAGE);
        bytes.resize(usize::try_from(left).expect("at most the size of a page"), 0);
        Window::read(&*self.source, start, &mut bytes)?;
        let page = Arc::new(bytes);
        kept.push((index, page.clone()));
        Ok(page)
    }
}
