//! What the process gives up before it looks into an image that a stranger made.
//!
//! ```text
//!   named on the command line ─▶ Reach ─▶ close ─▶ Landlock: these files, and no network
//!                                               ─▶ seccomp: these system calls (calls.rs, edges.rs)
//! ```
//!
//! Outputs are open by then. What is left is to read the inputs, and to give the outputs their
//! names. Threads that begin later are bound as well, so it comes before all of them.

mod calls;
mod edges;

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use formats::{Error, Result};
use landlock::{
    ABI, Access, AccessFs, AccessNet, AddRuleError, AddRulesError, BitFlags, CompatLevel,
    Compatible, PathBeneath, Ruleset, RulesetAttr, RulesetCreatedAttr, RulesetError, RulesetStatus,
    Scope,
};
use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::args::{Opening, began};
use crate::exit::Exit;
use crate::outputs::Place;
use crate::report::{self, note};
use crate::{policy, progress, remote};

/// The newest Landlock whose rights are known here.
const KNOWN: ABI = ABI::V6;
/// What the process takes without an image: stacks, mostly.
const BASE_MEMORY: u64 = 128 << 20;
/// Seconds for work to see by itself that it is late.
const GRACE: Duration = Duration::from_secs(2);
/// And to take back what a service was told.
const FAREWELL: Duration = Duration::from_secs(30);
/// Files for which there is room under any limit.
const FEW: usize = 256;
/// Files without a name that are opened in advance: tables and what goes by may need them.
const SCRATCH: usize = 6;
/// What the resolver of names and TLS read.
const NETWORK_FILES: [&str; 14] = [
    "/etc/resolv.conf",
    "/etc/hosts",
    "/etc/host.conf",
    "/etc/nsswitch.conf",
    "/etc/gai.conf",
    "/etc/services",
    "/etc/ssl",
    "/etc/pki",
    "/etc/ld.so.cache",
    "/usr/share/ca-certificates",
    "/usr/local/share/ca-certificates",
    "/usr/lib",
    "/lib",
    "/lib64",
];

/// The files that a command still has to open, and how.
pub(crate) struct Reach<'a> {
    opening: &'a Opening,
    rights: Vec<(OwnedFd, BitFlags<AccessFs>)>,
    network: bool,
    /// Whether a service is told things, and may have to be told that nothing came of them.
    speaks: bool,
    /// Whether files are made on the way.
    files: bool,
    /// Why a file cannot be reached, though it is there.
    failure: Option<Error>,
}

impl<'a> Reach<'a> {
    /// What the flags allow, and no more yet.
    pub(crate) fn of(opening: &'a Opening) -> Reach<'a> {
        let mut reach = Reach {
            opening,
            rights: Vec::new(),
            network: false,
            speaks: false,
            files: false,
            failure: None,
        };
        if let Some(Some(folder)) = opening.allow_refs.as_ref().filter(|_| !opening.untrusted) {
            reach.allow(folder, AccessFs::ReadFile | AccessFs::ReadDir);
        }
        for parent in &opening.parents {
            reach.allow(parent, AccessFs::ReadFile | AccessFs::IoctlDev);
        }
        reach
    }

    /// An image that is read, with its folder if the flags allow names in it.
    pub(crate) fn reads(mut self, path: &Path) -> Self {
        if remote::is_url(path) {
            self.network = true;
            return self;
        }
        let read = AccessFs::ReadFile | AccessFs::IoctlDev;
        if path == Path::new("-") {
            let stdin = std::io::stdin().as_fd().try_clone_to_owned();
            self.rights.extend(stdin.ok().map(|file| (file, read)));
            return self;
        }
        // What is no path after all is told when it is opened.
        if let Ok(path) = remote::local(path) {
            // A folder is opened as well, to say that it is one.
            let read = if path.is_dir() { AccessFs::ReadDir.into() } else { read };
            self.allow(&path, read);
            if let (Some(None), false) = (&self.opening.allow_refs, self.opening.untrusted) {
                let folder = policy::folder(&path);
                self.allow_for(&path, folder, AccessFs::ReadFile | AccessFs::ReadDir);
            }
        }
        self
    }

    /// A service is spoken to, for as long as it takes: lines to it are made again.
    pub(crate) fn speaks(mut self) -> Self {
        (self.network, self.speaks) = (true, true);
        self
    }

    /// An image that is changed in place.
    pub(crate) fn changes(mut self, path: &Path) -> Self {
        let write = AccessFs::WriteFile | AccessFs::Truncate;
        self.allow(path, AccessFs::ReadFile | AccessFs::IoctlDev | write);
        self.reads(path)
    }

    /// An output that is open, and gets its name in the end. `others`: it brings files along.
    pub(crate) fn names(mut self, output: &Place, others: bool) -> Self {
        let Some((path, takes_away)) = output.named() else { return self };
        let mut rights = BitFlags::from(AccessFs::MakeReg);
        if takes_away {
            rights |= AccessFs::RemoveFile;
        }
        if others {
            self.files = true;
            rights |= new_files();
        }
        self.allow_for(&path, policy::folder(&path), rights);
        self
    }

    /// A folder that new files and folders go into.
    pub(crate) fn fills(mut self, folder: &Path) -> Self {
        self.files = true;
        let tree = AccessFs::MakeDir | AccessFs::MakeSym | AccessFs::ReadDir;
        self.allow(folder, new_files() | tree);
        // It was made for this, perhaps, and is taken away if nothing comes of it.
        let path = folder.canonicalize().unwrap_or_else(|_| folder.into());
        self.allow_for(folder, policy::folder(&path), AccessFs::RemoveDir);
        self
    }

    /// So many files are to be read: each is held open until the end of the preparations, and a
    /// shell allows for a thousand.
    pub(crate) fn room_for(self, files: usize) -> Self {
        if files > FEW {
            let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
            // What cannot be had is told when there are too many.
            let _ = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
        }
        self
    }

    fn allow(&mut self, path: &Path, rights: impl Into<BitFlags<AccessFs>>) {
        self.allow_for(path, path, rights);
    }

    /// `shown`: for which file it is.
    fn allow_for(&mut self, shown: &Path, path: &Path, rights: impl Into<BitFlags<AccessFs>>) {
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        let open = || rustix::fs::openat(CWD, path, flags, Mode::empty());
        match rustix::io::retry_on_intr(open) {
            Ok(file) => self.rights.push((file, rights.into())),
            // What is not there, or not to be reached, is told when it is opened.
            Err(Errno::NOENT | Errno::NOTDIR | Errno::ACCESS | Errno::LOOP) => {}
            Err(error) => {
                self.failure.get_or_insert(Error::io("cannot open", error.into()).path(shown));
            }
        }
    }

    /// Gives up everything else, and listens to signals from then on. `Unsupported` if the kernel
    /// cannot do that and --untrusted wants it.
    pub(crate) fn close(mut self) -> Result<()> {
        if let Some(error) = self.failure.take() {
            return Err(error);
        }
        formats::keep_scratch(SCRATCH);
        formats::default_threads();
        if self.network {
            for path in NETWORK_FILES {
                self.allow(Path::new(path), AccessFs::ReadFile | AccessFs::ReadDir);
            }
            for name in ["SSL_CERT_FILE", "SSL_CERT_DIR"] {
                if let Some(path) = std::env::var_os(name) {
                    self.allow(Path::new(&path), AccessFs::ReadFile | AccessFs::ReadDir);
                }
            }
        }
        let opening = self.opening;
        let left = calls::Left {
            network: self.network,
            files: self.files,
            beneath: opening.allow_refs.is_some() && !opening.untrusted,
        };
        let grace = if self.speaks { FAREWELL } else { GRACE };
        let lacks = [self.landlock().err(), calls::filter(&left).err()];
        for lack in lacks.into_iter().flatten() {
            if opening.untrusted {
                let what = format!("--untrusted wants a sandbox, and {lack}");
                return Err(Error::unsupported(what));
            }
            if opening.verbose {
                note(&format!("diskwright: {lack}: the work is done without that protection"));
            }
        }
        bound_resources(opening, grace);
        progress::catch_signals();
        Ok(())
    }

    /// Rights to files and to the network. The error says what is missing.
    fn landlock(self) -> Result<(), String> {
        let done = self.rules().map_err(|error| format!("Landlock failed: {error}"))?;
        match done {
            RulesetStatus::FullyEnforced | RulesetStatus::PartiallyEnforced => Ok(()),
            RulesetStatus::NotEnforced => {
                Err("this kernel has no Landlock, as Linux has from 5.13 on".into())
            }
        }
    }

    fn rules(self) -> Result<RulesetStatus, RulesetError> {
        let mut ruleset = Ruleset::default()
            .set_compatibility(CompatLevel::BestEffort)
            .handle_access(AccessFs::from_all(KNOWN))?
            .scope(Scope::from_all(KNOWN))?;
        if !self.network {
            ruleset = ruleset.handle_access(AccessNet::from_all(KNOWN))?;
        }
        let mut ruleset = ruleset.create()?;
        for (file, rights) in self.rights {
            let file = File::from(file);
            let folder = file.metadata().is_ok_and(|data| data.is_dir());
            let all = if folder { rights } else { rights & AccessFs::from_file(KNOWN) };
            match (&mut ruleset).add_rule(PathBeneath::new(file, all)) {
                Err(error) if !is_nowhere(&error) => return Err(error),
                Ok(_) | Err(_) => {}
            }
        }
        Ok(ruleset.restrict_self()?.ruleset)
    }
}

/// Has the kernel stand behind the limits that were asked for: work that reads nothing does not
/// see the deadline, and memory that nobody foresaw is not counted.
fn bound_resources(opening: &Opening, grace: Duration) {
    if let Some(memory) = opening.bounds.max_memory {
        let most = Some(memory.saturating_mul(2).saturating_add(BASE_MEMORY));
        // Not to be had is not asked for again: it is the second line.
        let _ = setrlimit(Resource::Data, Rlimit { current: most, maximum: most });
    }
    if let Some(time) = opening.time() {
        std::thread::spawn(move || {
            std::thread::sleep((time + grace).saturating_sub(began().elapsed()));
            let error = Error::limit(format!("it took longer than {} seconds", time.as_secs()));
            report::failure(&error);
            std::process::exit(Exit::Failed(error.kind()).code().into());
        });
    }
}

/// Whether there was no rule to be made for a file that lies in no folder: for a pipe, which is
/// open already and needs none.
fn is_nowhere(error: &RulesetError) -> bool {
    let RulesetError::AddRules(AddRulesError::Fs(error)) = error else { return false };
    let AddRuleError::AddRuleCall { source, .. } = error else { return false };
    source.raw_os_error() == Some(libc::EBADFD)
}

/// What it takes to make files and to give them their names.
fn new_files() -> BitFlags<AccessFs> {
    let content = AccessFs::ReadFile | AccessFs::WriteFile | AccessFs::Truncate;
    content | AccessFs::MakeReg | AccessFs::RemoveFile | AccessFs::Refer
}
