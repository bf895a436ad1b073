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

use clap::Parser;

use commands::Cli;
use exit::Exit;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
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
