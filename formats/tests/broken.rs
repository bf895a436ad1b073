//! A parser that strangers have taken over, for tests of what keeps it in: it does whatever it can
//! to get out, and tells what came of it. Never part of the program, but with a feature that tests
//! alone ask for.
//!
//! ```text
//!   BROKEN\n  then the name of a file to make, up to the end of the line, then a port
//! ```

#![allow(clippy::disallowed_methods, reason = "it does what is not allowed")]

use std::fs::File;
use std::io;
use std::net::{TcpStream, UdpSocket};
use std::os::unix::net::UnixDatagram;
use std::process::Command;

use crate::base::error::Result;
use crate::base::limits::Limits;
use crate::base::model::facts::{Detail, Facts, Value};
use crate::base::model::format::Format;
use crate::base::storage::{Span, Window};

const MAGIC: &[u8] = b"BROKEN\n";

pub(crate) static FORMAT: Format =
    Format::known_by("broken", "a parser that attacks", probe, inspect);

fn probe(window: &dyn Window) -> Result<bool> {
    window.starts_with(0, MAGIC)
}

/// Every attempt, and whether it came through: `done`, or how it was denied.
fn inspect(window: &dyn Window, limits: &Limits) -> Result<Facts> {
    let len = window.len()?;
    let bytes = window.bytes(Span::new(0, len)?, "it", limits)?;
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let mut lines = text.lines().skip(1);
    let own = lines.next().unwrap_or_default().to_owned();
    let port = lines.next().and_then(|port| port.parse().ok()).unwrap_or(1);
    let mut facts = Facts::new("broken", "attack", 0);
    let detail = |(name, value)| Detail { name, value };
    facts.details.extend(attempts(&own, port).into_iter().map(detail));
    // Workers are bound as well.
    let there = std::thread::spawn(move || attempts(&own, port));
    let from_a_thread = there.join().unwrap_or_default();
    facts.details.push(detail(("thread", Value::Map(from_a_thread))));
    Ok(facts)
}

fn attempts(own: &str, port: u16) -> Vec<(&'static str, Value)> {
    let address = ("127.0.0.1", port);
    let folder = std::path::Path::new(own).parent().unwrap_or(std::path::Path::new("."));
    let tried: [(&'static str, io::Result<()>); 9] = [
        ("read-passwd", File::open("/etc/passwd").map(drop)),
        ("read-environment", File::open("/proc/self/environ").map(drop)),
        ("list-root", std::fs::read_dir("/").map(drop)),
        ("list-own-folder", std::fs::read_dir(folder).map(drop)),
        ("write-file", File::create(own).map(drop)),
        ("connect", TcpStream::connect(address).map(drop)),
        (
            "datagram",
            UdpSocket::bind("127.0.0.1:0").and_then(|s| s.send_to(b"x", address)).map(drop),
        ),
        ("unix-socket", UnixDatagram::unbound().map(drop)),
        ("execute", Command::new("/bin/true").status().map(drop)),
    ];
    let told = |done: io::Result<()>| match done {
        Ok(()) => "done".into(),
        Err(error) => Value::Text(format!("{:?}", error.kind())),
    };
    tried.into_iter().map(|(name, done)| (name, told(done))).collect()
}
