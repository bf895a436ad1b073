//! What may be typed: sizes, key=value options, and the flags that many commands share.

use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};
use formats::{
    Access, Algorithm, Caching, Digest, Error, Format, Limits, Options, Result, Wrapper,
};
use nom::bytes::complete::{tag, take_while1};
use nom::character::complete::none_of;
use nom::combinator::{all_consuming, opt, value};
use nom::multi::{many0, separated_list1};
use nom::sequence::{preceded, separated_pair};
use nom::{IResult, Parser, branch::alt};

/// Seconds that work on an untrusted image may take, unless something else is said.
const UNTRUSTED_SECONDS: u64 = 600;

/// How results are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum OutputKind {
    /// For people.
    #[default]
    Human,
    /// For machines, with the keys of qemu-img where it has them.
    Json,
}

/// How an image is opened for reading.
#[derive(Debug, Clone, Args)]
pub(crate) struct Opening {
    /// Read the image even if another process is writing to it
    #[arg(short = 'U', long)]
    pub(crate) force_share: bool,
    /// Follow names in the image to files beside it, or below DIR
    #[arg(long, value_name = "DIR", num_args = 0..=1, require_equals = true)]
    #[expect(clippy::option_option, reason = "absent, alone, and with a folder are three answers")]
    pub(crate) allow_refs: Option<Option<PathBuf>>,
    /// Format of the backing file, where the image does not say
    #[arg(long, value_name = "FORMAT")]
    pub(crate) backing_format: Option<String>,
    /// The image underneath, whatever the image says; again for the one underneath that
    #[arg(long = "parent", value_name = "FILE")]
    pub(crate) parents: Vec<PathBuf>,
    /// Refuse images in which a check finds a corruption
    #[arg(long, alias = "sound")]
    pub(crate) strict: bool,
    /// For images by strangers: strict, with tight limits, no name in an image followed whatever
    /// else is said, and nothing done unless the kernel can lock the process in
    #[arg(long)]
    pub(crate) untrusted: bool,
    /// Say what protection the kernel could not give
    #[arg(short, long)]
    pub(crate) verbose: bool,
    /// Which of the disks that a container holds (default 1)
    #[arg(long, value_name = "N")]
    pub(crate) disk: Option<usize>,
    #[command(flatten)]
    pub(crate) bounds: Bounds,
}

/// What an image may not push us past.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Limits")]
pub(crate) struct Bounds {
    /// Largest size of a disk
    #[arg(long, value_name = "SIZE", value_parser = size)]
    pub(crate) max_virtual_size: Option<u64>,
    /// Most bytes of data to hand on
    #[arg(long, value_name = "SIZE", value_parser = size)]
    pub(crate) max_output: Option<u64>,
    /// How many times larger than the file its data may be (default 1000)
    #[arg(long, value_name = "N")]
    pub(crate) max_ratio: Option<u64>,
    /// Most images on top of each other (default 16)
    #[arg(long, value_name = "N")]
    pub(crate) max_depth: Option<usize>,
    /// Memory for tables and for unpacking (default 512M)
    #[arg(long, value_name = "SIZE", value_parser = size)]
    pub(crate) max_memory: Option<u64>,
    /// Seconds that the work may take
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) timeout: Option<u64>,
}

impl Opening {
    /// The limits asked for.
    pub(crate) fn limits(&self) -> Limits {
        let Bounds { max_virtual_size, max_output, max_ratio, max_depth, max_memory, .. } =
            self.bounds;
        let usual = if self.untrusted { Limits::untrusted() } else { Limits::default() };
        let max_memory = max_memory.unwrap_or(usual.max_memory);
        Limits {
            max_disk_size: max_virtual_size.unwrap_or(usual.max_disk_size),
            max_output: max_output.unwrap_or(usual.max_output),
            max_ratio: max_ratio.unwrap_or(usual.max_ratio),
            max_chain: max_depth.unwrap_or(usual.max_chain),
            max_memory,
            max_table: usual.max_table.min(max_memory / 4),
            deadline: self.time().map(|time| began() + time),
            ..usual
        }
    }

    /// Whether images have to be sound.
    pub(crate) fn strict(&self) -> bool {
        self.strict || self.untrusted
    }

    /// How long the work may take.
    pub(crate) fn time(&self) -> Option<Duration> {
        let usual = self.untrusted.then_some(UNTRUSTED_SECONDS);
        self.bounds.timeout.or(usual).map(Duration::from_secs)
    }

    /// How files are opened for reading.
    pub(crate) fn access(&self) -> Access {
        if self.force_share { Access::ReadShared } else { Access::Read }
    }
}

/// When the process began, as far as limits are concerned.
pub(crate) fn began() -> Instant {
    static BEGAN: OnceLock<Instant> = OnceLock::new();
    *BEGAN.get_or_init(Instant::now)
}

/// A size, as people write it.
pub(crate) fn size(text: &str) -> Result<u64, String> {
    let wanted = "a size is a number, with k, M, G, T, P or E behind it if need be";
    formats::parse_size(text).ok_or_else(|| wanted.into())
}

/// Compression around an output: its name, and a level behind a colon.
pub(crate) fn packing(text: &str) -> Result<(Wrapper, Option<u32>), String> {
    let (name, level) = text.split_once(':').map_or((text, None), |(name, l)| (name, Some(l)));
    let wanted = || "zstd, gz or xz, with a level behind a colon if need be".to_string();
    let wrapper = Wrapper::named(name).ok_or_else(wanted)?;
    let level = level.map(|level| level.parse().map_err(|_| wanted())).transpose()?;
    Ok((wrapper, level))
}

/// How bytes are digested.
pub(crate) fn algorithm(text: &str) -> Result<Algorithm, String> {
    Algorithm::named(text).ok_or_else(|| "md5, sha1, sha256 or sha512".into())
}

/// A digest: its algorithm and its hexadecimal digits, or these alone, whose number tells.
pub(crate) fn digest(text: &str) -> Result<Digest, String> {
    let wanted = "an algorithm, a colon, and as many hexadecimal digits as it gives";
    let found = match text.split_once([':', '=']) {
        Some((name, hex)) => Algorithm::named(name).and_then(|how| Digest::parse(how, hex.trim())),
        None => Algorithm::ALL.into_iter().find_map(|how| Digest::parse(how, text.trim())),
    };
    found.ok_or_else(|| wanted.into())
}

/// A cache mode, in qemu's words.
pub(crate) fn caching(text: &str) -> Result<Caching, String> {
    Ok(match text {
        "auto" => Caching::Auto,
        "writeback" => Caching::Writeback,
        "writethrough" => Caching::Writethrough,
        "none" | "off" => Caching::None,
        "directsync" => Caching::Directsync,
        "unsafe" => Caching::Unsafe,
        _ => return Err("auto, writeback, writethrough, none, directsync or unsafe".into()),
    })
}

/// What `-o` was given: settings, or a cry for help.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Settings {
    /// `key=value`, several times.
    Pairs(Options),
    /// `help` or `?` stood among them.
    Help,
}

/// Reads all `-o` of a command line. A comma within a value is written twice.
pub(crate) fn settings(lists: &[String]) -> Result<Settings> {
    let mut pairs = Vec::new();
    for list in lists {
        let (_, found) = all_consuming(separated_list1(tag(","), setting)).parse(list).map_err(
            |_: nom::Err<nom::error::Error<&str>>| {
                Error::invalid(format!("-o takes key=value[,key=value...], not '{list}'"))
            },
        )?;
        for (key, text) in found {
            match text {
                Some(text) => pairs.push((key, text)),
                None if key == "help" || key == "?" => return Ok(Settings::Help),
                // A flag by itself means yes.
                None => pairs.push((key, "on".into())),
            }
        }
    }
    Ok(Settings::Pairs(Options::new(pairs)))
}

fn setting(text: &str) -> IResult<&str, (String, Option<String>)> {
    let key = |text| take_while1(|c: char| c.is_ascii_alphanumeric() || "_-.?".contains(c))(text);
    let character = alt((value(',', tag(",,")), none_of(",")));
    let content = many0(character).map(|characters| characters.into_iter().collect::<String>());
    let (rest, (key, content)) = (key, opt(preceded(tag("="), content))).parse(text)?;
    Ok((rest, (key.to_owned(), content)))
}

/// What `-l` was given: `snapshot.id=ID`, `snapshot.name=NAME`, or either by itself.
pub(crate) fn snapshot(text: &str) -> Result<String, String> {
    let named = separated_pair(take_while1(|c| c != '='), tag("="), take_while1(|_| true));
    let parsed: IResult<&str, (&str, &str)> = all_consuming(named).parse(text);
    match parsed {
        Ok((_, ("snapshot.id" | "snapshot.name", which))) => Ok(which.into()),
        _ if text.is_empty() => Err("the name or identifier of a snapshot".into()),
        _ => Ok(text.into()),
    }
}

/// The lines of `-o help`.
pub(crate) fn options_help(format: &Format) -> String {
    if format.options.is_empty() {
        return format!("{} has no options", format.name);
    }
    let line = |help: &formats::OptionHelp| {
        format!("  {}=<{}>\n      {}", help.name, help.values, help.about)
    };
    let lines: Vec<_> = format.options.iter().map(line).collect();
    format!("Options of {} (-o key=value,...):\n{}", format.name, lines.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_pairs_with_commas_between() {
        let given = ["cluster_size=64k,lazy_refcounts".to_owned(), "data_file=a,,b".to_owned()];
        let Ok(Settings::Pairs(options)) = settings(&given) else { panic!("pairs") };
        assert_eq!(options.text("cluster_size"), Some("64k"));
        assert_eq!(options.text("lazy_refcounts"), Some("on"));
        assert_eq!(options.text("data_file"), Some("a,b"));
        assert_eq!(settings(&["help".into()]).ok(), Some(Settings::Help));
        for bad in ["", "=", "a=1,,b", "a b=c"] {
            let given = settings(&[bad.to_owned()]);
            assert!(given.is_err() || bad == "a=1,,b", "{bad}: {given:?}");
        }
    }

    #[test]
    fn a_snapshot_is_named_with_or_without_its_key() {
        for text in ["snapshot.name=a=b", "a=b"] {
            assert_eq!(snapshot(text).as_deref(), Ok("a=b"));
        }
    }
}
