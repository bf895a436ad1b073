//! `manual`: man pages and shell completions, made from the same definition as the command line.

use std::path::{Path, PathBuf};

use clap::CommandFactory;
use clap_complete::Shell;
use formats::{Error, Result};

use super::Cli;
use crate::exit::Exit;

/// Write man pages and shell completions into a folder
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  diskwright manual /usr/local/share/man/man1
  diskwright manual --completions bash /etc/bash_completion.d")]
pub(crate) struct Args {
    /// Folder to write into
    #[arg(value_name = "DIR")]
    folder: PathBuf,
    /// Completions for this shell, instead of man pages
    #[arg(long, value_enum, value_name = "SHELL")]
    completions: Option<Shell>,
}

pub(crate) fn run(args: &Args) -> Result<Exit> {
    let fail = |error| Error::io("cannot write", error).path(&args.folder);
    match args.completions {
        Some(shell) => {
            clap_complete::generate_to(shell, &mut Cli::command(), "diskwright", &args.folder)
                .map_err(fail)?;
        }
        None => pages(&args.folder).map_err(fail)?,
    }
    Ok(Exit::Ok)
}

fn pages(folder: &Path) -> std::io::Result<()> {
    clap_mangen::generate_to(Cli::command(), folder)
}
