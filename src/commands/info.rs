//! `info`: what an image says of itself.

use std::path::{Path, PathBuf};

use formats::{
    Caching, Error, Facts, HazardKind, Input, Result, Role, Snapshot, Source, Value, Wrapper,
    default_threads,
};
use metadata::json_value;
use rayon::prelude::*;
use serde_json::{Map, Value as Json, json};

use crate::args::{Opening, OutputKind};
use crate::exit::Exit;
use crate::input;
use crate::policy;
use crate::report::{Report, bytes, escape, print_json};
use crate::sandbox::Reach;

/// Tell what an image says of itself
///
/// No file that it names is opened, unless --backing-chain asks for that and --allow-refs allows
/// it.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  diskwright info cloud.qcow2
  diskwright info --output json cloud.qcow2
  diskwright info --backing-chain --allow-refs overlay.qcow2")]
pub(crate) struct Args {
    /// Images to look at
    #[arg(required = true, value_name = "FILE")]
    paths: Vec<PathBuf>,
    /// Format of the images; found out if not given
    #[arg(short, long = "format", value_name = "FORMAT")]
    format: Option<String>,
    /// The images underneath as well
    #[arg(long)]
    backing_chain: bool,
    /// How the result is told
    #[arg(long, value_enum, value_name = "KIND", default_value_t)]
    output: OutputKind,
    #[command(flatten)]
    opening: Opening,
}

pub(crate) fn run(args: &Args) -> Result<Exit> {
    let reach = Reach::of(&args.opening).room_for(args.paths.len());
    args.paths.iter().fold(reach, |reach, path| reach.reads(path)).close()?;
    let report = Report::new(args.output, false);
    let all = look_at_all(args)?;
    if !report.is_json() {
        let texts: Vec<_> = all.iter().map(Info::text).collect();
        report.text(&texts.join("\n\n"));
        return Ok(Exit::Ok);
    }
    let list: Vec<_> = all.iter().map(Info::json).collect();
    match &list[..] {
        [one] if !args.backing_chain => print_json(one),
        _ => print_json(&Json::Array(list)),
    }
    Ok(Exit::Ok)
}

/// An image and what it says.
struct Info {
    path: String,
    len: u64,
    stored: Option<u64>,
    /// What is around it, the outermost first.
    wrappers: Vec<Wrapper>,
    facts: Facts,
}

/// What each says, in their order; the first that fails in that order is the error. Several are
/// looked at together, but for those of strangers: what memory may be taken is for one at a time.
fn look_at_all(args: &Args) -> Result<Vec<Info>> {
    let threads = default_threads().min(args.paths.len());
    if threads < 2 || args.opening.untrusted {
        let all: Result<Vec<_>> = args.paths.iter().map(|path| look(path, args)).collect();
        return all.map(|all| all.into_iter().flatten().collect());
    }
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .build()
        .map_err(|error| Error::io("cannot start threads", std::io::Error::other(error)))?;
    let looks: Vec<Result<Vec<Info>>> =
        pool.install(|| args.paths.par_iter().map(|path| look(path, args)).collect());
    let all: Result<Vec<_>> = looks.into_iter().collect();
    all.map(|all| all.into_iter().flatten().collect())
}

fn look(path: &Path, args: &Args) -> Result<Vec<Info>> {
    let stated = args.format.as_deref().map(formats::format).transpose()?;
    let shown = crate::remote::shown(path);
    let found = input::find(path, stated, &args.opening, Caching::Writeback, &[])?;
    let (limits, wrappers) = (args.opening.limits(), found.wrappers);
    let info = |source: &dyn Source, facts| {
        let fail = |error| Error::io("cannot tell its size", error).path(source.name());
        Ok(Info {
            path: source.name(),
            len: source.len(),
            stored: source.stored().map_err(fail)?,
            wrappers: wrappers.clone(),
            facts,
        })
    };
    let source = match found.input {
        Input::Whole(source) => source,
        Input::Forward(forward) if !args.backing_chain => {
            let (facts, len) = crate::inspection::stream(forward, stated, &limits, false)
                .map_err(|error| error.path(&shown))?;
            let path = shown.to_string_lossy().into_owned();
            return Ok(vec![Info { path, len, stored: None, wrappers, facts }]);
        }
        forward @ Input::Forward(_) => policy::whole(forward, &wrappers, &args.opening)?,
    };
    let named = policy::known(path, source, stated)?;
    if args.backing_chain {
        let options = policy::open_options(path, &args.opening, &limits)?;
        let chain = formats::chain(named.source, named.format, &options)?;
        return chain.into_iter().map(|layer| info(&*layer.source, layer.facts)).collect();
    }
    let mut facts = (named.format.inspect)(&*named.source, &limits)
        .map_err(|error| error.format(named.format.name).path(&shown))?;
    if named.format.holds_disks {
        // What a container says of a disk is no proof of it.
        let options = policy::open_options(path, &args.opening, &limits)?;
        if let Ok(disk) = formats::open(named.source.clone(), named.format, &options) {
            facts.disk_size = disk.disk_size();
        }
    }
    Ok(vec![info(&*named.source, facts)?])
}

impl Info {
    /// With qemu-img's keys, in its order; ours behind them.
    fn json(&self) -> Json {
        let facts = &self.facts;
        let mut object = Map::new();
        let mut add = |key: &str, value: Json| object.insert(key.into(), value);
        add("children", json!([{"name": "file", "info": self.file_json()}]));
        let backing = facts.references.iter().find(|reference| reference.role == Role::Backing);
        if let Some(format) = backing.and_then(|backing| backing.format.as_ref()) {
            add("backing-filename-format", json!(format));
        }
        if !facts.snapshots.is_empty() {
            add("snapshots", facts.snapshots.iter().map(snapshot_json).collect());
        }
        add("virtual-size", json!(facts.disk_size));
        add("filename", json!(self.path));
        if let Some(unit) = facts.unit {
            add("cluster-size", json!(unit));
        }
        add("format", json!(facts.format));
        add("actual-size", json!(self.stored.unwrap_or(self.len)));
        if facts.encrypted {
            add("encrypted", json!(true));
        }
        if !facts.details.is_empty() {
            let data: Map<_, _> =
                facts.details.iter().map(|d| (d.name.to_owned(), json_value(&d.value))).collect();
            add("format-specific", json!({"type": facts.format, "data": data}));
        }
        if let Some(backing) = backing {
            let full = policy::folder(Path::new(&self.path)).join(&backing.name);
            let full = full.strip_prefix(".").unwrap_or(&full).to_string_lossy().into_owned();
            add("full-backing-filename", json!(full));
            add("backing-filename", json!(backing.name));
        }
        if !self.wrappers.is_empty() {
            add("wrappers", self.wrappers.iter().map(|wrapper| json!(wrapper.name())).collect());
        }
        add("dirty-flag", json!(facts.dirty));
        add("variant", json!(facts.variant));
        add("hazards", hazards_json(facts));
        Json::Object(object)
    }

    fn file_json(&self) -> Json {
        json!({
            "children": [],
            "virtual-size": self.len,
            "filename": self.path,
            "format": "file",
            "actual-size": self.stored.unwrap_or(self.len),
            "format-specific": {"type": "file", "data": {}},
            "dirty-flag": false,
        })
    }

    fn text(&self) -> String {
        let facts = &self.facts;
        let mut lines = vec![("image", escape(&self.path))];
        let variant = Some(facts.variant).filter(|variant| *variant != facts.format);
        let variant = variant.map(|variant| format!(" ({variant})")).unwrap_or_default();
        let around = self.wrappers.iter().rev().map(|wrapper| format!(", in {}", wrapper.name()));
        let around: String = around.collect();
        lines.push(("format", format!("{}{variant}{around}", facts.format)));
        let size = facts.disk_size;
        lines.push(("disk size", format!("{} ({size} bytes)", bytes(size))));
        let stored = self.stored.map(|stored| format!(", {} of it stored", bytes(stored)));
        lines.push(("file size", bytes(self.len) + &stored.unwrap_or_default()));
        if let Some(unit) = facts.unit {
            lines.push(("cluster size", bytes(unit)));
        }
        for reference in &facts.references {
            let format = reference.format.as_deref().unwrap_or("unknown format");
            let text = format!("{} ({})", escape(&reference.name), escape(format));
            lines.push((reference.role.name(), text));
        }
        for (yes, name) in [(facts.encrypted, "encrypted"), (facts.dirty, "dirty")] {
            if yes {
                lines.push((name, "yes".into()));
            }
        }
        for detail in &facts.details {
            lines.push((detail.name, value_text(&detail.value)));
        }
        for snapshot in &facts.snapshots {
            lines.push(("snapshot", snapshot_text(snapshot)));
        }
        let told = |kind| matches!(kind, HazardKind::Reference | HazardKind::Encrypted);
        for hazard in facts.hazards.iter().filter(|hazard| !told(hazard.kind)) {
            lines.push(("hazard", escape(&hazard.what)));
        }
        aligned(&lines)
    }
}

/// `name:  value` lines, the values under each other.
pub(super) fn aligned(lines: &[(&str, String)]) -> String {
    let width = lines.iter().map(|(name, _)| name.len()).max().unwrap_or(0) + 1;
    let line = |(name, value): &(&str, String)| format!("{:<width$} {value}", format!("{name}:"));
    lines.iter().map(line).collect::<Vec<_>>().join("\n")
}

pub(super) fn hazards_json(facts: &Facts) -> Json {
    let one = |hazard: &formats::Hazard| json!({"kind": hazard.kind.name(), "what": hazard.what});
    facts.hazards.iter().map(one).collect()
}

fn snapshot_json(snapshot: &Snapshot) -> Json {
    let mut value = json!({});
    if let Some(icount) = snapshot.icount {
        value["icount"] = json!(icount);
    }
    value["vm-clock-nsec"] = json!(snapshot.vm_clock % 1_000_000_000);
    value["name"] = json!(snapshot.name);
    value["date-sec"] = json!(snapshot.seconds);
    value["date-nsec"] = json!(snapshot.nanoseconds);
    value["vm-clock-sec"] = json!(snapshot.vm_clock / 1_000_000_000);
    value["id"] = json!(snapshot.id);
    value["vm-state-size"] = json!(snapshot.vm_state);
    value["disk-size"] = json!(snapshot.disk_size);
    value
}

fn snapshot_text(snapshot: &Snapshot) -> String {
    let Snapshot { id, name, seconds, vm_state, disk_size, .. } = snapshot;
    let state = match vm_state {
        0 => String::new(),
        bytes_of_it => format!(", {} of machine state", bytes(*bytes_of_it)),
    };
    let (id, name, size) = (escape(id), escape(name), bytes(*disk_size));
    format!("{id} '{name}', {size}, taken {}{state}", date(*seconds))
}

/// A moment in UTC.
fn date(seconds: u32) -> String {
    let layout =
        time::macros::format_description!("[year]-[month]-[day] [hour]:[minute]:[second] UTC");
    let moment = time::OffsetDateTime::from_unix_timestamp(i64::from(seconds));
    let text = moment.ok().and_then(|moment| moment.format(&layout).ok());
    text.expect("32 bits of seconds end in 2106")
}

/// A value as people read it.
pub(super) fn value_text(value: &Value) -> String {
    match value {
        Value::Flag(flag) => if *flag { "yes" } else { "no" }.into(),
        Value::Number(number) => number.to_string(),
        Value::Bytes(number) => bytes(*number),
        Value::Text(text) => escape(text),
        Value::List(list) if list.is_empty() => "none".into(),
        Value::List(list) => list.iter().map(value_text).collect::<Vec<_>>().join(", "),
        Value::Map(map) => {
            let pair = |(name, value): &(&str, Value)| format!("{name} {}", value_text(value));
            format!("({})", map.iter().map(pair).collect::<Vec<_>>().join(", "))
        }
    }
}
