//! An image made for a target: its format and size, and whether the target would take it.

use formats::{Error, Format, Input, Options, Result};
use metadata::{Gate, Subject, Target, Weight};

use super::Args;
use crate::args::Opening;
use crate::input;
use crate::inspection::Inspection;
use crate::outputs::Outputs;
use crate::report::note;

/// Adds the settings that an image for this target has, unless they were said. `Invalid` for
/// another format than the one that is made for it.
pub(super) fn prepare(
    target: &Target,
    args: &Args,
    format: &Format,
    options: &mut Options,
) -> Result<()> {
    let (name, recipe) = (target.name, &target.recipe);
    if format.name != recipe.format {
        let (wanted, made) = (format.name, recipe.format);
        let what = format!("for {name} an image is {made}, and -O says {wanted}");
        return Err(Error::invalid(what));
    }
    if let (Some((wrapper, _)), packing) = (args.compress_output, recipe.packing)
        && packing != Some(wrapper.name())
    {
        let what = format!("for {name} an image is not compressed by {}", wrapper.name());
        return Err(Error::invalid(what));
    }
    for (key, value) in recipe.options {
        if options.text(key).is_none() {
            options.set(key, *value);
        }
    }
    Ok(())
}

/// The size of a disk for this target, which may be larger.
pub(super) fn size(target: &Target, size: u64) -> Result<u64> {
    let recipe = &target.recipe;
    let size = size.max(recipe.least).checked_next_multiple_of(recipe.align);
    size.ok_or_else(|| Error::limit("a disk of more than 2^64 bytes"))
}

/// `Refused` if the target would not take what was written.
pub(super) fn prove(target: &Target, output: &Outputs, opening: &Opening) -> Result<()> {
    let Some(file) = output.stored() else {
        note("diskwright: what went into a pipe was not looked at again");
        return Ok(());
    };
    let gate = Gate::of(&*file)?;
    // What was written is ours: nothing of it is asked for elsewhere.
    let opening = Opening { allow_refs: None, parents: Vec::new(), ..opening.clone() };
    let found = input::inside(Input::Whole(file), None, &opening, &[])?;
    let inspection = Inspection::inside(found, None, &opening)?;
    let wrappers: Vec<_> = inspection.wrappers.iter().map(|one| one.name()).collect();
    let subject = Subject { wrappers: &wrappers, ..Subject::new(&gate, &inspection.facts) };
    let judgement = target.judge(&subject);
    let why = judgement.remarks.iter().find(|remark| remark.weight != Weight::Note);
    match why {
        None => Ok(()),
        Some(remark) => {
            let what = format!("{} would not take it: {}", target.name, remark.what);
            Err(Error::refused(what))
        }
    }
}
