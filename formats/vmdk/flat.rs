//! Every byte has its place already, in files beside the descriptor.

use std::sync::{Arc, Mutex, PoisonError};

use super::options::{GRAIN, Plan};
use super::split::Parts;
use crate::base::error::{Error, Result};
use crate::base::model::create::Create;
use crate::base::model::identity::Identity;
use crate::base::model::writer::{Piece, Slot, Writer};
use crate::base::storage::{Span, Target};

/// A writer of flat extents.
pub(super) struct Flat {
    plan: Plan,
    parts: Parts,
    identity: Mutex<Identity>,
}

impl Flat {
    pub(super) fn new(target: Arc<dyn Target>, create: &Create, plan: Plan) -> Result<Flat> {
        let parts = Parts::new(target, create, &plan)?;
        let identity = Mutex::new(Identity::of("vmdk", create));
        Ok(Flat { plan, parts, identity })
    }

    fn zero(&self, start: u64, len: u64) -> Result<()> {
        self.parts.each(start, len, |part, inside, len| {
            let target = &self.parts.list[part].target;
            if target.is_fresh() {
                return Ok(());
            }
            let fail = |error| Error::io("cannot write zeros", error).at(inside);
            target.zero(Span::new(inside, len)?).map_err(fail)
        })
    }

    fn complete(&self) -> Result<()> {
        for part in &self.parts.list {
            let fail = |error| Error::io("cannot finish", error);
            part.target.set_len(part.len).map_err(fail)?;
        }
        self.parts.settle()?;
        let identity = self.identity.lock().unwrap_or_else(PoisonError::into_inner);
        self.parts.finish(&self.parts.describe(&self.plan, &identity))
    }
}

impl Writer for Flat {
    /// A size that reads and writes well.
    fn unit(&self) -> u64 {
        GRAIN
    }

    fn is_identified(&self) -> bool {
        !self.plan.is_named()
    }

    fn identify(&self, start: u64, digest: u32) {
        let mut identity = self.identity.lock().unwrap_or_else(PoisonError::into_inner);
        identity.add(start, digest);
    }

    fn reserve(&self, start: u64, piece: Piece) -> Result<Option<Slot>> {
        match piece {
            Piece::Plain(len) => {
                let (part, inside, len) = self.parts.find(start, len);
                Ok(Some(Slot { offset: self.parts.offset(part, inside), len }))
            }
            Piece::Zero(len) => {
                self.zero(start, len).map_err(|error| error.format("vmdk"))?;
                Ok(None)
            }
            Piece::Backing(_) | Piece::Packed(_) => {
                Err(Error::invalid("this image takes bytes only").format("vmdk"))
            }
        }
    }

    fn target(&self) -> &Arc<dyn Target> {
        &self.parts.all
    }

    fn finish(&self) -> Result<()> {
        self.complete().map_err(|error| error.format("vmdk"))
    }
}
