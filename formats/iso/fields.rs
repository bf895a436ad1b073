//! Rock Ridge, written: the fields of a record, and the areas where they go on.

use super::dates;
use super::layout::{SECTOR_BYTES, Twice};
use super::rock_ridge::{ABOVE, GOES_ON, ITSELF, ROOT, USED};

/// Bytes of a field that says where more are.
const CONTINUATION: usize = 28;
/// The most that a field has for its content.
const CONTENT: usize = 250;

/// Which protocol the fields follow, and a word about it.
const PROTOCOL: &[u8] = b"RRIP_1991A";
const ABOUT: &[u8] = b"ROCK RIDGE: NAMES, MODES AND LINKS OF POSIX";

fn field(kind: [u8; 2], content: &[u8]) -> Vec<u8> {
    let len = u8::try_from(content.len() + 4).expect("no field of ours is longer");
    [&kind[..], &[len, 1], content].concat()
}

/// Says that fields are used, and that none stands behind other bytes.
pub(super) fn used() -> Vec<u8> {
    field(*b"SP", &[USED[0], USED[1], 0])
}

/// Says which fields.
pub(super) fn protocol() -> Vec<u8> {
    let lens = [PROTOCOL.len(), ABOUT.len()].map(|len| u8::try_from(len).expect("short texts"));
    field(*b"ER", &[&[lens[0], lens[1], 0, 1][..], PROTOCOL, ABOUT].concat())
}

/// Kind and permissions, names that a file has; user and group are 0.
pub(super) fn mode(mode: u32, links: u32) -> Vec<u8> {
    let numbers = [mode, links, 0, 0].map(|number| Twice::new(number).to_bytes());
    field(*b"PX", &numbers.concat())
}

/// One moment as the time of every change.
pub(super) fn times(seconds: i64) -> Vec<u8> {
    let moment = dates::to_short(seconds);
    // Of the content, of the last look, of the attributes.
    field(*b"TF", &[&[0b1110][..], &moment, &moment, &moment].concat())
}

/// The name, in as many fields as it takes.
pub(super) fn name(name: &str) -> Vec<Vec<u8>> {
    let parts: Vec<_> = name.as_bytes().chunks(CONTENT).collect();
    let last = parts.len().saturating_sub(1);
    let part = |(index, part): (usize, &&[u8])| {
        let flags = if index < last { GOES_ON } else { 0 };
        field(*b"NM", &[&[flags][..], part].concat())
    };
    parts.iter().enumerate().map(part).collect()
}

/// Where a link points, in as many fields as it takes.
pub(super) fn link(target: &str) -> Vec<Vec<u8>> {
    let mut contents = vec![Vec::new()];
    for component in components(target) {
        let open = contents.last_mut().expect("there is one from the beginning");
        match open.len() + component.len() < CONTENT {
            true => open.extend(component),
            false => contents.push(component),
        }
    }
    let last = contents.len() - 1;
    let part = |(index, content): (usize, &Vec<u8>)| {
        let flags = if index < last { GOES_ON } else { 0 };
        field(*b"SL", &[&[flags][..], content].concat())
    };
    contents.iter().enumerate().map(part).collect()
}

/// The parts of a path, each with its flags and its length; long ones in several.
fn components(target: &str) -> Vec<Vec<u8>> {
    let mut components = Vec::new();
    let rest = target.strip_prefix('/').inspect(|_| components.push(vec![ROOT, 0]));
    for part in rest.unwrap_or(target).split('/').filter(|part| !part.is_empty()) {
        let pieces: Vec<_> = match part {
            "." => vec![(ITSELF, &b""[..])],
            ".." => vec![(ABOVE, &b""[..])],
            name => name.as_bytes().chunks(CONTENT - 3).map(|piece| (GOES_ON, piece)).collect(),
        };
        let last = pieces.len() - 1;
        for (index, (flags, piece)) in pieces.into_iter().enumerate() {
            let flags = if index == last { flags & !GOES_ON } else { flags };
            let len = u8::try_from(piece.len()).expect("chunks are shorter");
            components.push([&[flags, len][..], piece].concat());
        }
    }
    components
}

/// Where fields are that their records have no room for.
pub(super) struct Continuations {
    /// Sector where they begin.
    sector: u32,
    pub(super) bytes: Vec<u8>,
}

impl Continuations {
    pub(super) fn new(sector: u32) -> Continuations {
        Continuations { sector, bytes: Vec::new() }
    }

    /// The fields of a record that has this much room for them: as many as fit, and where the
    /// others are.
    pub(super) fn spread(&mut self, fields: Vec<Vec<u8>>, room: usize) -> Vec<u8> {
        let (mut own, mut rest) = fitting(fields, room);
        let (mut areas, mut starts) = (Vec::new(), Vec::new());
        while !rest.is_empty() {
            let (area, more) = fitting(rest, SECTOR_BYTES);
            areas.push(area);
            rest = more;
        }
        let last = areas.len().saturating_sub(1);
        let mut at = self.bytes.len();
        for index in 0..areas.len() {
            let len = areas[index].len() + if index < last { CONTINUATION } else { 0 };
            // No area lies in two sectors.
            if at % SECTOR_BYTES + len > SECTOR_BYTES {
                at = at.next_multiple_of(SECTOR_BYTES);
            }
            let lead = self.lead(at, len);
            match index {
                0 => own.extend(lead),
                _ => areas[index - 1].extend(lead),
            }
            starts.push(at);
            at += len;
        }
        for (area, start) in areas.iter().zip(starts) {
            self.bytes.resize(start, 0);
            self.bytes.extend(area);
        }
        own
    }

    /// The field that leads to so many bytes at this offset of all areas.
    fn lead(&self, at: usize, len: usize) -> Vec<u8> {
        let number =
            |number: usize| u32::try_from(number).expect("offsets in a sector, and sectors");
        let sector = self.sector + number(at / SECTOR_BYTES);
        let numbers = [sector, number(at % SECTOR_BYTES), number(len)];
        field(*b"CE", &numbers.map(|number| Twice::new(number).to_bytes()).concat())
    }
}

/// The first fields, as many as fit into this room, with one that leads to the others; and those.
fn fitting(fields: Vec<Vec<u8>>, room: usize) -> (Vec<u8>, Vec<Vec<u8>>) {
    let all: usize = fields.iter().map(Vec::len).sum();
    if all <= room {
        return (fields.concat(), Vec::new());
    }
    let mut here = Vec::new();
    let mut fields = fields.into_iter().peekable();
    while let Some(field) = fields.next_if(|next| here.len() + next.len() + CONTINUATION <= room) {
        here.extend(field);
    }
    (here, fields.collect())
}
