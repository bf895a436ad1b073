//! `image`: what an image service has.

use std::fmt::Write as _;

use clap::Subcommand;
use formats::Result;
use serde_json::Value;

use super::info::aligned;
use crate::args::{Opening, OutputKind};
use crate::client::{Client, Image, Login};
use crate::exit::Exit;
use crate::report::{Report, bytes, escape, print_json};
use crate::sandbox::Reach;

/// Look at what an OpenStack image service has
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  diskwright image list --os-cloud mycloud
  diskwright image list --status active --visibility public --filter os_distro=debian
  diskwright image show --output json debian-13")]
pub(crate) struct Args {
    #[command(subcommand)]
    deed: Deed,
}

#[derive(Subcommand)]
enum Deed {
    List(Box<ListArgs>),
    Show(Box<ShowArgs>),
}

/// List images
#[derive(clap::Args)]
struct ListArgs {
    /// Those of this name
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Those of this status
    #[arg(long, value_name = "STATUS")]
    status: Option<String>,
    /// Those that these people see: public, private, shared, community, all
    #[arg(long, value_name = "WHO")]
    visibility: Option<String>,
    /// Those with this tag; again for more
    #[arg(long = "tag", value_name = "TAG")]
    tags: Vec<String>,
    /// Those of which this is so, as the service understands it; again for more
    #[arg(long = "filter", value_name = "KEY=VALUE", value_parser = pair)]
    filters: Vec<(String, String)>,
    /// In this order: `name:asc`, `size:desc,name`
    #[arg(long, value_name = "KEY[:DIRECTION]")]
    sort: Option<String>,
    /// So many at most
    #[arg(long, value_name = "N", default_value_t = 1000)]
    limit: usize,
    /// How the result is told
    #[arg(long, value_enum, value_name = "KIND", default_value_t)]
    output: OutputKind,
    #[command(flatten)]
    login: Login,
    #[command(flatten)]
    opening: Opening,
}

/// Show one image
#[derive(clap::Args)]
struct ShowArgs {
    /// Its id or its name
    #[arg(value_name = "IMAGE")]
    image: String,
    /// How the result is told
    #[arg(long, value_enum, value_name = "KIND", default_value_t)]
    output: OutputKind,
    #[command(flatten)]
    login: Login,
    #[command(flatten)]
    opening: Opening,
}

fn pair(text: &str) -> Result<(String, String), String> {
    let pair = text.split_once('=').filter(|(key, _)| !["", "limit", "marker"].contains(key));
    let (key, value) = pair.ok_or("a filter is KEY=VALUE")?;
    Ok((key.into(), value.into()))
}

pub(crate) fn run(args: &Args) -> Result<Exit> {
    match &args.deed {
        Deed::List(args) => list(args),
        Deed::Show(args) => show(args),
    }
}

fn list(args: &ListArgs) -> Result<Exit> {
    let client = connect(&args.login, &args.opening)?;
    let stated = [
        ("name", args.name.as_ref()),
        ("status", args.status.as_ref()),
        ("visibility", args.visibility.as_ref()),
        ("sort", args.sort.as_ref()),
    ];
    let stated = stated.into_iter().filter_map(|(key, value)| Some((key.into(), value?.clone())));
    let tags = args.tags.iter().map(|tag| ("tag".to_string(), tag.clone()));
    let query: Vec<_> = stated.chain(tags).chain(args.filters.iter().cloned()).collect();
    let images = client.list(&query, args.limit).map_err(|error| error.path(client.name()))?;
    let report = Report::new(args.output, false);
    match report.is_json() {
        true => print_json(&Value::Array(images.into_iter().map(|image| image.0).collect())),
        false => report.text(&table(&images)),
    }
    Ok(Exit::Ok)
}

fn show(args: &ShowArgs) -> Result<Exit> {
    let client = connect(&args.login, &args.opening)?;
    let image = client.find(&args.image).map_err(|error| error.path(client.name()))?;
    let report = Report::new(args.output, false);
    match report.is_json() {
        true => print_json(&image.0),
        false => report.text(&lines(&image)),
    }
    Ok(Exit::Ok)
}

/// What a service says is looked at where it can do no harm, like an image.
fn connect(login: &Login, opening: &Opening) -> Result<Client> {
    let service = login.service()?;
    Reach::of(opening).speaks().close()?;
    Client::connect(service)
}

/// A row for each.
fn table(images: &[Image]) -> String {
    let text = |image: &Image, key| escape(image.text(key).unwrap_or("-"));
    let head = ["id", "name", "status", "format", "size", "visibility"].map(str::to_string);
    let row = |image: &Image| {
        let size = image.number("size").map_or("-".into(), bytes);
        let [id, name, status] = ["id", "name", "status"].map(|key| text(image, key));
        [id, name, status, text(image, "disk_format"), size, text(image, "visibility")]
    };
    let rows: Vec<_> = std::iter::once(head).chain(images.iter().map(row)).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max();
    let widths: Vec<_> = (0..6).map(|column| width(column).unwrap_or(0)).collect();
    let mut out = String::new();
    for row in &rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            let _ = write!(line, "{cell:<width$}  ");
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out.pop();
    out
}

/// All that a record says, for people.
pub(super) fn lines(image: &Image) -> String {
    let said = |value: &Value| match value {
        Value::Null => None,
        Value::String(text) => Some(escape(text)).filter(|text| !text.is_empty()),
        Value::Array(list) if list.iter().all(Value::is_string) => {
            let parts: Vec<_> = list.iter().filter_map(Value::as_str).map(escape).collect();
            Some(parts.join(", ")).filter(|text| !text.is_empty())
        }
        Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => {
            Some(escape(&value.to_string()))
        }
    };
    let none = serde_json::Map::new();
    let record = image.0.as_object().unwrap_or(&none);
    let first = ["id", "name", "status", "disk_format", "container_format", "visibility"];
    let first = first.into_iter().filter_map(|key| Some((key, record.get(key)?)));
    let rest = record.iter().map(|(key, value)| (&**key, value));
    let rest = rest.filter(|(key, _)| {
        !["id", "name", "status", "disk_format", "container_format", "visibility"].contains(key)
    });
    let lines: Vec<_> =
        first.chain(rest).filter_map(|(key, value)| Some((escape(key), said(value)?))).collect();
    let lines: Vec<_> = lines.iter().map(|(key, text)| (&**key, text.clone())).collect();
    aligned(&lines)
}
