//! What a command writes: an image's own file or a pipe, and the files beside it.

use std::fs::File;
use std::io::IsTerminal;
use std::os::fd::AsFd;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use formats::{Beside, Caching, Error, Format, Options, Output, Result, Source, Stream, Target};

use crate::policy;

/// Files under way. None of them appears before [`commit`](Outputs::commit).
pub(crate) struct Outputs {
    target: Arc<dyn Target>,
    /// The image's own file, unless it goes into a pipe.
    own: Option<Output>,
    beside: Arc<Siblings>,
}

/// The files beside an image.
struct Siblings {
    name: String,
    folder: PathBuf,
    caching: Caching,
    inputs: Vec<Arc<dyn Source>>,
    made: Mutex<Vec<Output>>,
}

impl Outputs {
    /// A new image at `path`, or into the pipe that `path` is; `-` is the standard output.
    /// `Invalid` if one of the inputs lies there, or if such an image does not go into a pipe.
    pub(crate) fn create(
        path: &Path,
        caching: Caching,
        inputs: &[Arc<dyn Source>],
        format: &Format,
        options: &Options,
    ) -> Result<Outputs> {
        policy::not_an_input(path, inputs)?;
        if !is_pipe(path) {
            return Ok(Outputs::of(Output::create(path, caching)?, path, caching, inputs));
        }
        if !format.appends.is_some_and(|appends| appends(options)) {
            let name = format.name;
            let what = format!("{name} with these settings is not written from front to end");
            return Err(Error::invalid(format!("{what}, as a pipe wants it")).path(path));
        }
        let target = Arc::new(Stream::new(pipe(path)?));
        let beside = Arc::new(Siblings::of(path, caching, inputs));
        Ok(Outputs { target, own: None, beside })
    }

    /// Over a file or device that is there and stays. `zero`: all of it reads as zeros.
    pub(crate) fn in_place(path: &Path, caching: Caching, zero: bool) -> Result<Outputs> {
        Ok(Outputs::of(Output::in_place(path, caching, zero)?, path, caching, &[]))
    }

    fn of(own: Output, path: &Path, caching: Caching, inputs: &[Arc<dyn Source>]) -> Outputs {
        let beside = Arc::new(Siblings::of(path, caching, inputs));
        Outputs { target: own.target(), own: Some(own), beside }
    }

    /// Where the image goes.
    pub(crate) fn target(&self) -> Arc<dyn Target> {
        self.target.clone()
    }

    /// Bytes that the image's own file has so far, where it is a file.
    pub(crate) fn len(&self) -> Option<u64> {
        self.own.as_ref().map(|own| Source::len(&*own.target()))
    }

    /// Where files beside it go.
    pub(crate) fn beside(&self) -> Arc<dyn Beside> {
        self.beside.clone()
    }

    /// Gives all files their names; the image itself is the last one.
    pub(crate) fn commit(self) -> Result<()> {
        let made = std::mem::take(&mut *self.beside.lock());
        made.into_iter().chain(self.own).try_for_each(Output::commit)
    }
}

impl Siblings {
    fn of(path: &Path, caching: Caching, inputs: &[Arc<dyn Source>]) -> Siblings {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let (folder, inputs) = (policy::folder(path).to_path_buf(), inputs.to_vec());
        Siblings { name, folder, caching, inputs, made: Mutex::new(Vec::new()) }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Output>> {
        self.made.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Beside for Siblings {
    fn name(&self) -> &str {
        &self.name
    }

    fn make(&self, name: &str) -> Result<Arc<dyn Target>> {
        let path = self.folder.join(name);
        policy::not_an_input(&path, &self.inputs)?;
        let output = Output::create(&path, self.caching)?;
        let target = output.target();
        self.lock().push(output);
        Ok(target)
    }
}

/// Whether `path` is the standard output, a pipe or something like it.
pub(crate) fn is_pipe(path: &Path) -> bool {
    let kind = path.metadata().map(|data| data.file_type());
    path == Path::new("-") || kind.is_ok_and(|kind| kind.is_fifo() || kind.is_char_device())
}

fn pipe(path: &Path) -> Result<File> {
    let fail = |error| Error::io("cannot write to it", error).path(path);
    if path != Path::new("-") {
        return File::options().write(true).open(path).map_err(fail);
    }
    if std::io::stdout().is_terminal() {
        return Err(Error::invalid("an image is nothing for a terminal").path(path));
    }
    let fd = std::io::stdout().as_fd().try_clone_to_owned().map_err(fail)?;
    Ok(File::from(fd))
}
