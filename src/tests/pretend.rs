//! A small image service for tests, with a small Keystone before it, that fails as it is told to.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use formats::{Algorithm, Hasher};
use serde_json::{Value, json};

/// What is asked of a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Deed {
    Token,
    Create,
    List,
    Show,
    Put,
    Stage,
    Import,
    Tasks,
    Change,
    Delete,
    Get,
}

/// How it goes wrong.
#[derive(Debug, Clone)]
pub(crate) enum How {
    /// The line breaks after so many bytes of the request's body.
    DropAfter(usize),
    /// The deed is done, and nobody hears of it.
    DropAnswer,
    /// This is said after so many bytes of the body, and the line closed.
    Say(u16, &'static str, &'static str, usize),
    /// The answer is these bytes, as JSON.
    Answer(String),
    /// Nothing is said for so long.
    Stall(Duration),
    /// After so many bytes of the image the line breaks.
    Cut(usize),
}

/// A service that is told how to fail.
#[derive(Default)]
pub(crate) struct Manners {
    /// Each in its turn, when its deed is asked for.
    pub(crate) faults: Vec<(Deed, How)>,
    /// What records say, whatever is true.
    pub(crate) lies: Vec<(&'static str, Value)>,
    /// No image gets any further than this.
    pub(crate) stuck: Option<&'static str>,
    /// Imports fail for this reason.
    pub(crate) import_fails: Option<&'static str>,
    /// It knows no ranges.
    pub(crate) whole: bool,
    /// Tokens are good for two deeds each.
    pub(crate) forgetful: bool,
}

/// A running service; it ends with this.
pub(crate) struct Service {
    port: u16,
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    ended: AtomicBool,
    port: u16,
}

struct State {
    manners: Manners,
    images: BTreeMap<String, (Value, Vec<u8>)>,
    deeds: Vec<Deed>,
    tokens: u32,
    used: u32,
}

struct Request {
    deed: Option<Deed>,
    id: String,
    query: String,
    headers: String,
    length: Option<usize>,
    chunked: bool,
}

impl Service {
    pub(crate) fn new(manners: Manners) -> Service {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let (images, deeds) = (BTreeMap::new(), Vec::new());
        let state = State { manners, images, deeds, tokens: 0, used: 0 };
        let shared =
            Arc::new(Shared { state: Mutex::new(state), ended: AtomicBool::new(false), port });
        let own = shared.clone();
        std::thread::spawn(move || {
            for line in listener.incoming().flatten() {
                if own.ended.load(Ordering::SeqCst) {
                    return;
                }
                let own = own.clone();
                // A line that a client has left is no failure of the test.
                std::thread::spawn(move || drop(serve(line, &own)));
            }
        });
        Service { port, shared }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().unwrap()
    }

    /// What was asked of it, in order.
    pub(crate) fn deeds(&self) -> Vec<Deed> {
        self.state().deeds.clone()
    }

    /// The records that are left, with the bytes of each.
    pub(crate) fn images(&self) -> Vec<(Value, Vec<u8>)> {
        self.state().images.values().cloned().collect()
    }

    /// Puts an image there.
    pub(crate) fn keep(&self, id: &str, name: &str, format: &str, bytes: &[u8]) {
        let mut record = json!({"id": id, "name": name, "disk_format": format, "status": "active"});
        record["container_format"] = "bare".into();
        fill(&mut record, bytes);
        self.state().images.insert(id.into(), (record, bytes.to_vec()));
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

/// What a record says of its bytes.
fn fill(record: &mut Value, bytes: &[u8]) {
    let digest = |algorithm| {
        let mut hasher = Hasher::new(algorithm);
        hasher.update(bytes);
        hasher.finish().hex()
    };
    record["size"] = bytes.len().into();
    record["checksum"] = digest(Algorithm::Md5).into();
    record["os_hash_algo"] = "sha512".into();
    record["os_hash_value"] = digest(Algorithm::Sha512).into();
}

fn head(line: &mut BufReader<TcpStream>) -> Option<Request> {
    let mut first = String::new();
    line.read_line(&mut first).ok()?;
    let mut words = first.split(' ');
    let (method, target) = (words.next()?, words.next()?.to_string());
    let mut request = Request {
        deed: None,
        id: String::new(),
        query: String::new(),
        headers: String::new(),
        length: None,
        chunked: false,
    };
    loop {
        let mut header = String::new();
        line.read_line(&mut header).ok()?;
        let header = header.trim_end().to_lowercase();
        if header.is_empty() {
            break;
        }
        if let Some(length) = header.strip_prefix("content-length: ") {
            request.length = length.parse().ok();
        }
        request.chunked |= header == "transfer-encoding: chunked";
        request.headers.push_str(&header);
        request.headers.push('\n');
    }
    let (path, query) = target.split_once('?').unwrap_or((&target, ""));
    request.query = query.to_string();
    let parts: Vec<_> = path.trim_start_matches('/').split('/').collect();
    let deed = match (method, &parts[..]) {
        ("POST", ["v3", "auth", "tokens"]) => Deed::Token,
        ("POST", ["v2", "images"]) => Deed::Create,
        ("GET", ["v2", "images"]) => Deed::List,
        ("GET", ["v2", "images", _]) => Deed::Show,
        ("PUT", ["v2", "images", _, "file"]) => Deed::Put,
        ("PUT", ["v2", "images", _, "stage"]) => Deed::Stage,
        ("POST", ["v2", "images", _, "import"]) => Deed::Import,
        ("GET", ["v2", "images", _, "tasks"]) => Deed::Tasks,
        ("PATCH", ["v2", "images", _]) => Deed::Change,
        ("DELETE", ["v2", "images", _]) => Deed::Delete,
        ("GET", ["v2", "images", _, "file"]) => Deed::Get,
        _ => return Some(request),
    };
    request.deed = Some(deed);
    request.id = parts.get(2).unwrap_or(&"").to_string();
    Some(request)
}

/// So much of a body, and whether that was all.
fn body(line: &mut BufReader<TcpStream>, request: &Request, most: usize) -> (Vec<u8>, bool) {
    let mut bytes = Vec::new();
    if !request.chunked {
        let length = request.length.unwrap_or(0);
        let _ = line.take(length.min(most) as u64).read_to_end(&mut bytes);
        return (bytes, length <= most);
    }
    while bytes.len() < most {
        let mut size = String::new();
        if line.read_line(&mut size).is_err() || size.is_empty() {
            return (bytes, false);
        }
        let size = usize::from_str_radix(size.trim(), 16).unwrap();
        let mut chunk = vec![0; size + 2];
        if line.read_exact(&mut chunk).is_err() {
            return (bytes, false);
        }
        bytes.extend_from_slice(&chunk[..size]);
        if size == 0 {
            return (bytes, true);
        }
    }
    (bytes, false)
}

fn answer(line: &mut TcpStream, status: u16, headers: &str, body: &[u8]) -> std::io::Result<()> {
    let length = body.len();
    let head = format!("HTTP/1.1 {status} So\r\nConnection: close\r\nContent-Length: {length}\r\n");
    // At once: a line that is closed while much is unread takes along what still waits.
    line.write_all(&[format!("{head}{headers}\r\n").as_bytes(), body].concat())
}

fn serve(line: TcpStream, shared: &Shared) -> std::io::Result<()> {
    let mut out = line.try_clone()?;
    let mut line = BufReader::new(line);
    let Some(request) = head(&mut line) else { return Ok(()) };
    let Some(deed) = request.deed else { return answer(&mut out, 404, "", b"no such thing") };
    let fault = {
        let mut state = shared.state.lock().unwrap();
        state.deeds.push(deed);
        let at = state.manners.faults.iter().position(|(on, _)| *on == deed);
        at.map(|at| state.manners.faults.remove(at).1)
    };
    let mut cut = None;
    match fault {
        Some(How::DropAfter(most)) => {
            body(&mut line, &request, most);
            return Ok(());
        }
        Some(How::Say(status, headers, text, most)) => {
            body(&mut line, &request, most);
            return answer(&mut out, status, headers, text.as_bytes());
        }
        Some(How::Answer(text)) => {
            body(&mut line, &request, usize::MAX);
            return answer(&mut out, 200, "Content-Type: application/json\r\n", text.as_bytes());
        }
        Some(How::Stall(time)) => {
            std::thread::sleep(time);
            return Ok(());
        }
        Some(How::DropAnswer) => {
            let (bytes, _) = body(&mut line, &request, usize::MAX);
            reply(shared, deed, &request, bytes);
            return Ok(());
        }
        Some(How::Cut(most)) => cut = Some(most),
        None => {}
    }
    let (bytes, whole) = body(&mut line, &request, usize::MAX);
    if !whole {
        return Ok(());
    }
    if deed == Deed::Get {
        return give(&mut out, shared, &request, cut);
    }
    let (status, headers, value) = reply(shared, deed, &request, bytes);
    let text = if value.is_null() { Vec::new() } else { value.to_string().into_bytes() };
    answer(&mut out, status, &headers, &text)
}

/// The bytes of an image, or a range of them.
fn give(
    out: &mut TcpStream,
    shared: &Shared,
    request: &Request,
    cut: Option<usize>,
) -> std::io::Result<()> {
    let (bytes, whole) = {
        let state = shared.state.lock().unwrap();
        let bytes = state.images.get(&request.id).map(|(_, bytes)| bytes.clone());
        (bytes.unwrap_or_default(), state.manners.whole)
    };
    let from = request.headers.split("range: bytes=").nth(1).filter(|_| !whole);
    let from = from.and_then(|text| text.split('-').next()?.parse().ok());
    let (at, total): (usize, _) = (from.unwrap_or(0), bytes.len());
    let status = if from.is_some() { "206 Partial Content" } else { "200 OK" };
    let range = format!("Content-Range: bytes {at}-{}/{total}\r\n", total - 1);
    let range = if from.is_some() { range } else { String::new() };
    // Without a length, as some servers do: the line's end is the image's.
    let head = format!("HTTP/1.1 {status}\r\nConnection: close\r\n{range}\r\n");
    out.write_all(head.as_bytes())?;
    out.write_all(&bytes[at..cut.map_or(total, |cut| total.min(at + cut))])
}

impl State {
    /// Whether the last token came, and was good for one more deed.
    fn lets_in(&mut self, headers: &str) -> bool {
        let token = format!("x-auth-token: token-{}\n", self.tokens);
        self.used += 1;
        self.used <= 2 && headers.contains(&token)
    }
}

/// What Keystone says.
fn token(state: &mut State, port: u16, asked: &[u8]) -> (u16, String, Value) {
    if !String::from_utf8_lossy(asked).contains("right horse") {
        let why = json!({"error": {"message": "No such horse.", "title": "Unauthorized"}});
        return (401, String::new(), why);
    }
    state.tokens += 1;
    state.used = 0;
    let url = format!("http://127.0.0.1:{port}");
    let endpoint = json!({"interface": "public", "region": "R", "region_id": "R", "url": url});
    let catalogue = json!([{"type": "image", "endpoints": [endpoint]}]);
    let header = format!("X-Subject-Token: token-{}\r\n", state.tokens);
    (201, header, json!({"token": {"catalog": catalogue}}))
}

/// A new record.
fn created(images: &mut BTreeMap<String, (Value, Vec<u8>)>, asked: &[u8]) -> (u16, String, Value) {
    let mut record: Value = serde_json::from_slice(asked).unwrap();
    let id = record["id"].as_str().unwrap().to_string();
    if images.contains_key(&id) {
        let why = json!({"message": format!("Image ID {id} already exists!")});
        return (409, String::new(), why);
    }
    for key in ["size", "checksum", "os_hash_value", "os_hash_algo"] {
        record[key] = Value::Null;
    }
    record["status"] = "queued".into();
    images.insert(id, (record.clone(), Vec::new()));
    (201, String::new(), record)
}

fn reply(shared: &Shared, deed: Deed, request: &Request, bytes: Vec<u8>) -> (u16, String, Value) {
    let mut state = shared.state.lock().unwrap();
    let none = String::new;
    if deed == Deed::Token {
        return token(&mut state, shared.port, &bytes);
    }
    if state.manners.forgetful && !state.lets_in(&request.headers) {
        return (401, none(), json!({"error": {"message": "This token is used up."}}));
    }
    let State { manners, images, .. } = &mut *state;
    let lie = |mut record: Value| {
        for (key, value) in &manners.lies {
            record[*key] = value.clone();
        }
        record
    };
    if deed == Deed::Create {
        return created(images, &bytes);
    }
    if deed == Deed::List {
        return (200, none(), list(images, &request.query));
    }
    let Some((record, kept)) = images.get_mut(&request.id) else {
        return (404, none(), json!({"message": "No image found"}));
    };
    match deed {
        Deed::Show => (200, none(), lie(record.clone())),
        Deed::Put | Deed::Stage if record["status"] != "queued" => {
            (409, none(), json!({"message": "Image status transition is not allowed"}))
        }
        Deed::Put => {
            fill(record, &bytes);
            *kept = bytes;
            record["status"] = manners.stuck.unwrap_or("active").into();
            (204, none(), Value::Null)
        }
        Deed::Stage => {
            *kept = bytes;
            record["status"] = "uploading".into();
            (204, none(), Value::Null)
        }
        Deed::Import => {
            let failed = manners.import_fails.is_some();
            if !failed {
                fill(record, &kept.clone());
            }
            record["status"] = manners.stuck.unwrap_or("active").into();
            (202, none(), Value::Null)
        }
        Deed::Tasks => {
            let failed =
                manners.import_fails.map(|why| json!({"status": "failure", "message": why}));
            (200, none(), json!({"tasks": failed.into_iter().collect::<Vec<_>>()}))
        }
        Deed::Change => {
            let changes: Value = serde_json::from_slice(&bytes).unwrap();
            for change in changes.as_array().unwrap() {
                let key = change["path"].as_str().unwrap().trim_start_matches('/').to_string();
                record[&key] = change["value"].clone();
            }
            (200, none(), record.clone())
        }
        Deed::Delete => {
            images.remove(&request.id);
            (204, none(), Value::Null)
        }
        Deed::Token | Deed::Create | Deed::List | Deed::Get => unreachable!("answered above"),
    }
}

/// A page of the images, by id.
fn list(images: &BTreeMap<String, (Value, Vec<u8>)>, query: &str) -> Value {
    let value = |key: &str| {
        let pair = query.split('&').filter_map(|pair| pair.split_once('='));
        pair.filter(|(k, _)| *k == key).map(|(_, value)| value.to_string()).next()
    };
    let (marker, name) = (value("marker").unwrap_or_default(), value("name"));
    let limit: usize = value("limit").and_then(|text| text.parse().ok()).unwrap_or(25);
    let records = images.iter().filter(|(id, _)| **id > marker).map(|(_, (record, _))| record);
    let records = records.filter(|r| name.as_deref().is_none_or(|name| r["name"] == name));
    let page: Vec<_> = records.take(limit + 1).cloned().collect();
    let next = (page.len() > limit).then_some("/v2/images?marker=x");
    json!({"images": page[..page.len().min(limit)], "next": next})
}
