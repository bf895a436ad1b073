//! A conversion, from its inputs to what is said of it.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use formats::{
    Algorithm, Caching, Copied, CopyOptions, Create, Digest, Error, FORMATS, Format, Forward,
    Image, Mark, Options, PourOptions, Rehearsal, Result, Source, Stage, Survey, Target, Watch,
    Wrapper, Writer,
};
use serde_json::{Map, Value, json};

use super::{Args, Base, fit};
use crate::args::Opening;
use crate::commands::ova::{Asked, Packed};
use crate::exit::Exit;
use crate::input::Digesting;
use crate::origin::{self, Disk, Origin};
use crate::outputs::{How, Outputs, Place, appends, blamed, is_pipe};
use crate::policy;
use crate::progress::Progress;
use crate::report::{Report, bytes, note, print_json};

/// One conversion.
pub(in crate::commands) struct Job<'a> {
    pub(in crate::commands) args: &'a Args,
    pub(in crate::commands) format: &'static Format,
    pub(in crate::commands) output: &'a Path,
    pub(in crate::commands) options: Options,
}

/// What came of a job.
pub(in crate::commands) struct Done {
    /// Bytes of the disk.
    pub(in crate::commands) size: u64,
    padding: u64,
    copied: Copied,
    of_output: Vec<Digest>,
    of_input: Vec<Digest>,
}

impl Job<'_> {
    /// Reads the inputs as one disk, and writes that.
    pub(super) fn read(&self, inputs: &[PathBuf], opening: &Opening, place: Place) -> Result<Exit> {
        let streams = place.streams() || packing_of(self.args, self.output).is_some();
        let (origin, digests) = origin::open(inputs, &self.wants(streams), opening)?;
        let (done, output) = self.write(origin, digests.begin(), place)?;
        if let Some(target) = self.args.target {
            fit::prove(target, &output, opening).map_err(blamed(self.output))?;
        }
        output.commit()?;
        self.report(&done);
        Ok(Exit::Ok)
    }

    /// What is wanted of the inputs. `streams`: the output is written from front to end.
    pub(in crate::commands) fn wants(&self, streams: bool) -> origin::Wants<'_> {
        let args = self.args;
        let twice = streams && !appends(self.format, &self.options);
        origin::Wants {
            format: args.format.as_deref(),
            snapshot: args.snapshot.as_deref(),
            caching: args.source_cache,
            algorithms: input_algorithms(args),
            once: !twice && args.backing.is_none() && self.options.text("backing_file").is_none(),
            bytes: self.format.name == "raw" && args.output_format_is_plain(&self.options),
            quiet: args.quiet,
        }
    }

    /// Writes what is read into its place. The output is complete then, and has no name yet.
    pub(in crate::commands) fn write(
        &self,
        origin: Origin,
        digesting: Digesting,
        place: Place,
    ) -> Result<(Done, Outputs)> {
        match origin {
            Origin::Raw(forward) => self.pour(forward, digesting, place),
            Origin::Disk(disk) => self.convert(&disk, digesting, place),
        }
    }

    /// Bytes of the disk that is written, which may be a little larger than the one that is read.
    pub(in crate::commands) fn disk_size(&self, disk: &Disk) -> Result<u64> {
        let mut size = disk.image().disk_size();
        if let Some(target) = self.args.target {
            size = fit::size(target, size)?;
        }
        let size = (self.format.padded)(size, &self.options);
        size.map_err(|error| error.format(self.format.name))
    }

    /// Packs the inputs for a machine.
    pub(super) fn pack(&self, inputs: &[PathBuf], place: Place) -> Result<Exit> {
        let args = self.args;
        if args.no_create || args.backing.is_some() || !input_algorithms(args).is_empty() {
            let what = "-n, -B and digests of the input are nothing for an archive of a machine";
            return Err(Error::invalid(what));
        }
        let asked = Asked {
            format: args.format.as_deref(),
            snapshot: args.snapshot.as_deref(),
            caching: args.source_cache,
            opening: &args.opening,
        };
        let packed = Packed::open(inputs, self.output, &asked, &args.wishes)?;
        let output = Outputs::at(place, &packed.files(), &self.how())?;
        let progress = Progress::new(args.progress && !args.quiet);
        let how = CopyOptions {
            threads: self.threads(),
            sparse: self.sparse(),
            rate: args.rate,
            watch: &progress,
            ..CopyOptions::default()
        };
        let copied = packed.write(&output.target(), &how).map_err(blamed(self.output))?;
        let of_output = self.output_digests(&output)?;
        output.commit()?;
        let (size, of_input) = (packed.size(), Vec::new());
        self.report(&Done { size, padding: 0, copied, of_output, of_input });
        Ok(Exit::Ok)
    }

    fn how(&self) -> How {
        How {
            packing: packing_of(self.args, self.output),
            threads: self.threads(),
            algorithms: self.args.hash.clone(),
        }
    }

    fn threads(&self) -> usize {
        self.args.threads.map_or_else(formats::default_threads, usize::from)
    }

    /// Runs of zeros from this size on are left out: a page is the least that a file can.
    fn sparse(&self) -> u64 {
        self.args.sparse.next_multiple_of(4096)
    }

    /// Passes on bytes of which nobody knows how many there will be.
    fn pour(
        &self,
        forward: Forward,
        digesting: Digesting,
        place: Place,
    ) -> Result<(Done, Outputs)> {
        let name = forward.name.clone();
        let output = Outputs::at(place, &[], &self.how())?;
        let progress = Progress::new(self.args.progress && !self.args.quiet);
        let limits = self.args.opening.limits();
        let how = PourOptions {
            formats: FORMATS,
            stated: self.args.format.as_deref() == Some("raw"),
            sparse: self.sparse(),
            limits: &limits,
            watch: &progress,
        };
        let poured = formats::pour(forward, &output.target(), &how);
        let poured = poured.map_err(blamed(self.output));
        let (size, copied) = poured.map_err(|error| error.path(name))?;
        let of_output = self.output_digests(&output)?;
        let of_input = self.expected(digesting)?;
        Ok((Done { size, padding: 0, copied, of_output, of_input }, output))
    }

    /// Writes a disk into its place, with the settings that it is to have.
    pub(in crate::commands) fn convert(
        &self,
        disk: &Disk,
        digesting: Digesting,
        place: Place,
    ) -> Result<(Done, Outputs)> {
        let image = disk.image();
        let survey = match disk {
            Disk::Whole(image) => Survey::of(&**image, &self.args.opening.limits())
                .map_err(|error| error.path(&self.args.paths[0]))?,
            Disk::Passing(_) => Survey::default(),
        };
        let base = self.base()?;
        if let Some(base) = &base {
            policy::not_an_input(self.output, base.disk.files())?;
        }
        let padded = self.disk_size(disk)?;
        let mut create = Create {
            size: padded,
            compress: self.args.compress,
            backing: base.as_ref().map(|base| (base.name.clone(), base.format.to_owned())),
            data_file: None,
            beside: None,
            options: self.options.clone(),
        };
        if self.args.no_create && self.format.name != "raw" {
            create = self.like_the_one_there(&create)?;
        }
        let output = self.output_for(image, place)?;
        let progress = Progress::new(self.args.progress && !self.args.quiet);
        let limits = self.args.opening.limits();
        let allows = |data| match disk {
            Disk::Whole(_) => Ok(()),
            Disk::Passing(passing) => passing.allows(data, &limits),
        };
        let how = CopyOptions {
            // So many portions of what goes by are kept, and no more.
            threads: match disk {
                Disk::Whole(_) => self.threads(),
                Disk::Passing(_) => self.threads().min(8),
            },
            sparse: self.sparse(),
            base: base.as_ref().map(|base| &*base.disk),
            rate: self.args.rate,
            total: survey.data,
            stage: Stage::All,
            mark: None,
            allows: Some(&allows),
            watch: &progress,
        };
        let written = self.copy(image, &output, create, &how);
        let (copied, followed) = written.map_err(blamed(self.output))?;
        disk.finish()?;
        let of_output = match followed {
            Some(digests) => digests,
            None => self.output_digests(&output)?,
        };
        let of_input = self.expected(digesting)?;
        let padding = padded - image.disk_size();
        Ok((Done { size: padded, padding, copied, of_output, of_input }, output))
    }

    /// Copies the disk. Returns the image's digests if they could be taken meanwhile.
    fn copy(
        &self,
        image: &dyn Image,
        output: &Outputs,
        mut create: Create,
        how: &CopyOptions,
    ) -> Result<(Copied, Option<Vec<Digest>>)> {
        if output.streams() && !appends(self.format, &create.options) {
            return Ok((self.write_twice(image, output, &create, how)?, None));
        }
        if !output.streams() {
            create.beside = Some(output.beside());
            let name = create.options.text("data_file");
            create.data_file = name.map(|name| output.beside().make(name)).transpose()?;
        }
        let writer = self.writer(output.target(), &create)?;
        let file = output.file().filter(|_| self.format.name == "raw" && !self.args.no_create);
        let Some(file) = file.filter(|_| !self.args.hash.is_empty()) else {
            return Ok((formats::copy(image, &*writer, how)?, None));
        };
        let mark = Mark::default();
        let how = CopyOptions { mark: Some(&mark), ..*how };
        std::thread::scope(|scope| {
            let digests = scope.spawn(|| formats::follow(&*file, &mark, &self.args.hash));
            let copied = formats::copy(image, &*writer, &how);
            mark.end();
            let digests = digests.join().unwrap_or_else(|p| std::panic::resume_unwind(p));
            Ok((copied?, Some(digests?)))
        })
    }

    /// Writes an image whose tables stand in front of its data from front to end: first only the
    /// tables, to know them.
    fn write_twice(
        &self,
        image: &dyn Image,
        output: &Outputs,
        create: &Create,
        how: &CopyOptions,
    ) -> Result<Copied> {
        if create.options.text("data_file").is_some() {
            return Err(Error::invalid("a data file does not go into a stream"));
        }
        let rehearsal = Arc::new(Rehearsal::default());
        let writer = self.writer(rehearsal.clone(), create)?;
        let unseen = Unseen(how.watch);
        let tables = CopyOptions { stage: Stage::Tables, watch: &unseen, ..*how };
        formats::copy(image, &*writer, &tables)?;
        let performance = Arc::new(rehearsal.perform(output.target()));
        let writer = self.writer(performance.clone(), create)?;
        let whole = CopyOptions { stage: Stage::Whole, ..*how };
        let copied = formats::copy(image, &*writer, &whole)?;
        performance.finish()?;
        Ok(copied)
    }

    fn output_for(&self, image: &dyn Image, place: Place) -> Result<Outputs> {
        let output = Outputs::at(place, image.files(), &self.how())?;
        if !self.args.no_create || self.format.name != "raw" {
            return Ok(output);
        }
        let there = output.file().map(|file| Source::len(&*file));
        let wanted = image.disk_size();
        if let Some(there) = there.filter(|there| *there < wanted) {
            let what = format!("the output has {there} bytes, and the disk {wanted}");
            return Err(Error::invalid(what).path(self.output));
        }
        Ok(output)
    }

    /// Brings the output on its way, and tells what it digests to.
    fn output_digests(&self, output: &Outputs) -> Result<Vec<Digest>> {
        let digests = output.finish().map_err(blamed(self.output))?;
        match output.file().filter(|_| !self.args.hash.is_empty()) {
            Some(file) => formats::digests(&*file, &self.args.hash),
            None => Ok(digests),
        }
    }

    /// The digests of the input; `Refused` if it had to have another one.
    fn expected(&self, digesting: Digesting) -> Result<Vec<Digest>> {
        let mut digests = digesting.finish()?;
        if let Some(expected) = &self.args.expect_hash {
            let is = digests.iter().find(|digest| digest.algorithm == expected.algorithm);
            let is = is.map(Digest::hex).unwrap_or_default();
            if is != expected.hex() {
                let (how, wanted) = (expected.algorithm.name(), expected.hex());
                let what = format!("its {how} digest is {is}, and {wanted} is wanted");
                return Err(Error::refused(what).path(&self.args.paths[0]));
            }
        }
        digests.retain(|digest| self.args.hash_input.contains(&digest.algorithm));
        Ok(digests)
    }

    /// With -n an image that is not raw is made anew, with the settings of the one that is there.
    fn like_the_one_there(&self, asked: &Create) -> Result<Create> {
        if asked.options != Options::default() || asked.backing.is_some() {
            return Err(Error::invalid(
                "with -n the settings are those of the image that is there",
            ));
        }
        let (name, path) = (self.format.name, self.output);
        // It is held already, to be replaced.
        let opening = Opening { force_share: true, ..self.args.opening.clone() };
        let there = policy::file(path, Some(name), &opening, Caching::Writeback)?;
        let likeness = self.format.likeness.ok_or_else(|| {
            Error::unsupported(format!("-n does not keep the settings of {name} images"))
        })?;
        let like = likeness(&*there.source, &self.args.opening.limits())
            .map_err(|error| error.format(name).path(path))?;
        if like.size != asked.size {
            let what = format!("the image has {} bytes, and the disk {}", like.size, asked.size);
            return Err(Error::invalid(what).path(path));
        }
        Ok(Create { compress: asked.compress, ..like })
    }

    fn writer(&self, target: Arc<dyn Target>, create: &Create) -> Result<Box<dyn Writer>> {
        let make = self.format.create.ok_or_else(|| {
            Error::unsupported(format!("{} images are read, not written", self.format.name))
        })?;
        make(target, create).map_err(|error| error.format(self.format.name).path(self.output))
    }

    fn base(&self) -> Result<Option<Base>> {
        let option = |key| self.options.text(key);
        let Some(name) = self.args.backing.as_deref().or(option("backing_file").map(Path::new))
        else {
            return Ok(None);
        };
        let format =
            self.args.backing_fmt.as_deref().or(option("backing_fmt")).ok_or_else(|| {
                Error::invalid("-B wants the format of the backing file as well, with -F")
            })?;
        Base::open(name, format, self.output, &self.args.opening).map(Some)
    }

    fn report(&self, done: &Done) {
        let Done { size, padding, copied, .. } = *done;
        // What is printed would go into the image.
        let piped = is_pipe(self.output);
        let report = Report::new(self.args.output, self.args.quiet || piped);
        if padding > 0 && !self.args.quiet {
            let name = self.format.name;
            note(&format!("diskwright: padded by {padding} bytes to what {name} can say"));
        }
        if report.is_json() {
            let mut value = json!({
                "filename": self.output.to_string_lossy(),
                "format": self.format.name,
                "virtual-size": size,
                "padding": padding,
                "read": copied.read,
                "written": copied.written,
            });
            for (key, digests) in [("hashes", &done.of_output), ("input-hashes", &done.of_input)] {
                if !digests.is_empty() {
                    value[key] = digests_json(digests);
                }
            }
            print_json(&value);
            return;
        }
        let say = |line: String| if piped { note(&line) } else { report.text(&line) };
        for (name, digests) in
            [(&self.args.paths[0], &done.of_input), (&self.output.into(), &done.of_output)]
        {
            for digest in digests {
                // As sha256sum --tag writes it, and reads it.
                let (how, hex) = (digest.algorithm.name().to_uppercase(), digest.hex());
                let name = crate::remote::shown(name);
                say(format!("{how} ({}) = {hex}", crate::report::escape(&name.to_string_lossy())));
            }
        }
        if self.args.progress {
            let (read, written) = (bytes(copied.read), bytes(copied.written));
            report.text(&format!("{read} of data, {written} written"));
        }
    }
}

/// The digests that are needed of the input.
fn input_algorithms(args: &Args) -> Vec<Algorithm> {
    let mut all = args.hash_input.clone();
    all.extend(args.expect_hash.as_ref().map(|digest| digest.algorithm));
    all.dedup();
    all
}

/// What goes around the whole output.
fn packing_of(args: &Args, output: &Path) -> Option<(Wrapper, Option<u32>)> {
    let ending = output.extension().and_then(|ending| ending.to_str());
    let by_name = ending.and_then(Wrapper::named).map(|wrapper| (wrapper, None));
    let by_target = args.target.and_then(|target| target.recipe.packing);
    let by_target = by_target.and_then(Wrapper::named).map(|wrapper| (wrapper, None));
    args.compress_output.or(by_target).or(by_name.filter(|_| !args.no_create))
}

impl Args {
    /// Whether a raw output is nothing but the bytes that come: then their number need not be
    /// known in advance.
    fn output_format_is_plain(&self, options: &Options) -> bool {
        *options == Options::default() && !self.compress && self.target.is_none()
    }
}

fn digests_json(digests: &[Digest]) -> Value {
    let pair = |digest: &Digest| (digest.algorithm.name().to_owned(), json!(digest.hex()));
    Value::Object(digests.iter().map(pair).collect::<Map<_, _>>())
}

/// Lets nobody see how far a rehearsal is, and stops it all the same.
struct Unseen<'a>(&'a dyn Watch);

impl Watch for Unseen<'_> {
    fn progress(&self, _: u64, total: u64) -> ControlFlow<()> {
        self.0.progress(0, total)
    }
}
