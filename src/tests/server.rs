//! A small HTTP server for tests, with as many bad manners as one asks for.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// What the server does besides what it should.
#[derive(Clone, Default)]
pub(crate) struct Manners {
    /// It knows no ranges, and sends all.
    pub(crate) whole: bool,
    /// It drops the line after so many bytes of every body.
    pub(crate) drop_every: Option<usize>,
    /// It drops the line before the first byte of any body but those of the first so many requests.
    pub(crate) dead_after: Option<u64>,
    /// It says that bodies are so much longer, or shorter.
    pub(crate) length_off: i64,
    /// Ranges begin so many bytes further on.
    pub(crate) range_off: u64,
    /// Ranges for the first so many requests only; then all of it.
    pub(crate) ranges_for: Option<u64>,
    /// Another version for every request.
    pub(crate) changes: bool,
    /// No version at all.
    pub(crate) nameless: bool,
    /// It says this status to so many requests first.
    pub(crate) first: Option<(u16, u64)>,
    /// Further headers of every answer.
    pub(crate) headers: Vec<String>,
    /// It waits so long every few KiB.
    pub(crate) slow: Option<Duration>,
    /// No length: it ends when the line does, or in chunks.
    pub(crate) chunked: bool,
    /// Every request is redirected there, those for `/there` excepted.
    pub(crate) redirect: Option<String>,
}

/// A running server; it ends with this.
pub(crate) struct Server {
    port: u16,
    shared: Arc<Shared>,
}

struct Shared {
    bytes: Vec<u8>,
    manners: Manners,
    served: AtomicU64,
    requests: AtomicU64,
    ended: AtomicBool,
    heads: Mutex<Vec<String>>,
}

impl Server {
    pub(crate) fn new(bytes: Vec<u8>, manners: Manners) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let port = listener.local_addr().expect("it has an address").port();
        let shared = Arc::new(Shared {
            bytes,
            manners,
            served: AtomicU64::new(0),
            requests: AtomicU64::new(0),
            ended: AtomicBool::new(false),
            heads: Mutex::new(Vec::new()),
        });
        let serving = shared.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if serving.ended.load(Ordering::SeqCst) {
                    break;
                }
                let (Ok(stream), serving) = (stream, serving.clone()) else { continue };
                std::thread::spawn(move || serving.serve(&stream));
            }
        });
        Server { port, shared }
    }

    /// Where a file is to be had; of whatever name, it is the same.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    /// Bytes of bodies that went out.
    pub(crate) fn served(&self) -> u64 {
        self.shared.served.load(Ordering::SeqCst)
    }

    /// Requests that came.
    pub(crate) fn requests(&self) -> u64 {
        self.shared.requests.load(Ordering::SeqCst)
    }

    /// What the requests said, line by line.
    pub(crate) fn heads(&self) -> Vec<String> {
        self.shared.heads.lock().expect("nobody panicked").clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

impl Shared {
    /// One line, as long as both sides keep it.
    fn serve(&self, stream: &TcpStream) {
        let mut reader = BufReader::new(stream);
        loop {
            let mut head = String::new();
            loop {
                let mut line = String::new();
                match reader.read_line(&mut line) {
                    Ok(0) | Err(_) => return,
                    Ok(_) if line == "\r\n" => break,
                    Ok(_) => head.push_str(&line),
                }
            }
            let number = self.requests.fetch_add(1, Ordering::SeqCst);
            self.heads.lock().expect("nobody panicked").push(head.clone());
            if self.answer(stream, &head, number).is_err() {
                let _ = stream.shutdown(std::net::Shutdown::Both);
                return;
            }
        }
    }

    fn answer(&self, mut stream: &TcpStream, head: &str, number: u64) -> std::io::Result<()> {
        let manners = &self.manners;
        if let Some((status, count)) = manners.first
            && number < count
        {
            let mut head = vec![format!("HTTP/1.1 {status} Not now")];
            head.extend_from_slice(&manners.headers);
            return stream
                .write_all((head.join("\r\n") + "\r\nContent-Length: 0\r\n\r\n").as_bytes());
        }
        if let Some(to) = manners.redirect.as_ref().filter(|_| !head.starts_with("GET /there")) {
            let head = format!("HTTP/1.1 302 Found\r\nLocation: {to}\r\nContent-Length: 0\r\n\r\n");
            return stream.write_all(head.as_bytes());
        }
        let range = range(head).filter(|_| !manners.whole);
        let range = range.filter(|_| manners.ranges_for.is_none_or(|count| number < count));
        let total = self.bytes.len();
        let (start, end) = range.unwrap_or((0, total));
        let (start, end) = (start.min(total), end.min(total));
        let mut out = match range {
            Some(_) if start == end => {
                vec!["HTTP/1.1 416 No".to_string(), format!("Content-Range: bytes */{total}")]
            }
            Some(_) => {
                let (from, last) = (start as u64 + manners.range_off, end - 1);
                let range = format!("Content-Range: bytes {from}-{last}/{total}");
                vec!["HTTP/1.1 206 Partial".to_string(), range]
            }
            None => vec!["HTTP/1.1 200 OK".to_string()],
        };
        if !manners.nameless {
            let version = if manners.changes { number } else { 0 };
            out.push(format!("ETag: \"v{version}\""));
        }
        out.extend_from_slice(&manners.headers);
        let body = &self.bytes[start..end];
        let said = i64::try_from(body.len()).expect("small") + manners.length_off;
        match manners.chunked {
            true => out.push("Transfer-Encoding: chunked".to_string()),
            false => out.push(format!("Content-Length: {said}")),
        }
        stream.write_all((out.join("\r\n") + "\r\n\r\n").as_bytes())?;
        self.send(stream, body, number)?;
        match manners.length_off {
            0 => Ok(()),
            _ => Err(std::io::ErrorKind::Other.into()),
        }
    }

    fn send(&self, mut stream: &TcpStream, body: &[u8], number: u64) -> std::io::Result<()> {
        let manners = &self.manners;
        let dead = manners.dead_after.is_some_and(|count| number >= count);
        let room = if dead { 0 } else { manners.drop_every.unwrap_or(usize::MAX) };
        let part = &body[..body.len().min(room)];
        for piece in part.chunks(64 << 10) {
            if manners.chunked {
                stream.write_all(format!("{:x}\r\n", piece.len()).as_bytes())?;
            }
            // Counted before: whoever has it may ask at once how much went out.
            let len = piece.len() as u64;
            self.served.fetch_add(len, Ordering::SeqCst);
            if let Err(error) = stream.write_all(piece) {
                self.served.fetch_sub(len, Ordering::SeqCst);
                return Err(error);
            }
            if manners.chunked {
                stream.write_all(b"\r\n")?;
            }
            if let Some(time) = manners.slow {
                std::thread::sleep(time);
            }
        }
        if part.len() < body.len() {
            return Err(std::io::ErrorKind::ConnectionReset.into());
        }
        if manners.chunked { stream.write_all(b"0\r\n\r\n") } else { Ok(()) }
    }
}

/// The range that a request asks for: its first byte, and the one behind its last.
fn range(head: &str) -> Option<(usize, usize)> {
    let line = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("range").then(|| value.trim().to_string())
    })?;
    let (first, last) = line.strip_prefix("bytes=")?.split_once('-')?;
    let behind = last.parse::<usize>().map_or(usize::MAX, |last| last + 1);
    Some((first.parse().ok()?, behind))
}
