//! Reads, writes, checks, compares and converts disk images.

mod args;
mod client;
mod commands;
mod exit;
mod folder;
mod input;
mod inspection;
mod origin;
mod outputs;
mod policy;
mod progress;
mod remote;
mod report;
mod sandbox;

use std::process::ExitCode;

use clap::error::ErrorKind::{DisplayHelp, DisplayHelpOnMissingArgumentOrSubcommand};
use clap::{CommandFactory, FromArgMatches, Parser};

use commands::Cli;
use exit::Exit;

fn main() -> ExitCode {
    let cli = match parsed() {
        Ok(cli) => cli,
        Err(error) => {
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    args::began();
    let done = commands::run(cli).and_then(|exit| report::printed().map(|()| exit));
    let exit = done.unwrap_or_else(|error| {
        report::failure(&error);
        Exit::Failed(error.kind())
    });
    ExitCode::from(exit.code())
}

/// The command line. Verbs know their flags only when they are asked for, since to make those of
/// all takes as long as many an answer: the help, which tells of all, is made once more.
fn parsed() -> Result<Cli, clap::Error> {
    Cli::try_parse().or_else(|error| {
        if !matches!(error.kind(), DisplayHelp | DisplayHelpOnMissingArgumentOrSubcommand) {
            return Err(error);
        }
        let mut command = Cli::command();
        command.build();
        Cli::from_arg_matches(&command.try_get_matches()?)
    })
}
