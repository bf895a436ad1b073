//! Files on servers with good and bad manners.

#![allow(clippy::unwrap_used, reason = "a test fails where it is wrong")]
#![allow(clippy::print_stderr, reason = "what is skipped is said aloud")]

use std::io::Read;
use std::path::Path;
use std::time::{Duration, Instant};

use formats::{Kind, Result, Source};

use super::Patience;
use super::{BLOCK, Opened, Remote, is_url, local, open_with, shown};

#[path = "../tests/server.rs"]
mod server;

use server::{Manners, Server};

const PATIENCE: Patience = Patience {
    connect: Duration::from_secs(5),
    read: Duration::from_secs(2),
    pause: Duration::from_millis(5),
    attempts: 4,
};

/// Bytes of which no two stretches are the same.
fn noise(len: usize) -> Vec<u8> {
    let mut seed = 1_u64;
    let mut next = || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        seed.to_be_bytes()
    };
    std::iter::repeat_with(&mut next).flatten().take(len).collect()
}

fn open(url: &str) -> Result<Opened> {
    open_with(Path::new(url), PATIENCE)
}

fn ranged(server: &Server) -> Remote {
    match open(&server.url("/disk.raw")).unwrap() {
        Opened::Ranged(remote) => remote,
        Opened::Forward(..) => panic!("it gives ranges"),
    }
}

fn forward(server: &Server) -> (Box<dyn Read + Send>, Option<u64>) {
    match open(&server.url("/disk.raw")).unwrap() {
        Opened::Ranged(_) => panic!("it gives no ranges"),
        Opened::Forward(stream, len) => (stream, len),
    }
}

fn refused(manners: Manners) -> String {
    let server = Server::new(noise(3 << 20), manners);
    let failed = match open(&server.url("/disk.raw")) {
        Ok(Opened::Ranged(remote)) => remote.read_at(0, &mut vec![0; 3 << 20]).unwrap_err(),
        Ok(Opened::Forward(mut stream, _)) => stream.read_to_end(&mut Vec::new()).unwrap_err(),
        Err(error) => {
            assert_eq!(error.kind(), Kind::Io);
            assert_eq!(error.file(), Some(Path::new(&server.url("/disk.raw"))));
            let source = std::error::Error::source(&error).unwrap();
            return source.to_string();
        }
    };
    failed.to_string()
}

/// All of it, in pieces that are no power of two.
fn all(remote: &Remote) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut piece = vec![0; 300_007];
    loop {
        let count = remote.read_at(bytes.len() as u64, &mut piece).unwrap();
        if count == 0 {
            return bytes;
        }
        bytes.extend_from_slice(&piece[..count]);
    }
}

#[test]
fn a_file_is_read_once_and_in_large_pieces_from_front_to_end() {
    let bytes = noise((40 << 20) + 123);
    let server = Server::new(bytes.clone(), Manners::default());
    let remote = ranged(&server);
    assert_eq!(remote.len(), bytes.len() as u64);
    assert!(all(&remote) == bytes);
    assert_eq!(server.served(), bytes.len() as u64, "no byte twice");
    assert!(server.requests() <= 12, "{} requests", server.requests());
}

#[test]
fn only_what_is_asked_for_is_fetched() {
    let bytes = noise(64 << 20);
    let server = Server::new(bytes.clone(), Manners::default());
    let remote = ranged(&server);
    for at in [0, 30 << 20, (64 << 20) - 512, (30 << 20) + 512] {
        let mut buf = [0; 512];
        assert_eq!(remote.read_at(at, &mut buf).unwrap(), 512);
        let from = usize::try_from(at).unwrap();
        assert_eq!(buf, bytes[from..from + 512]);
    }
    assert_eq!(server.served(), 3 * BLOCK);
    let mut buf = [0; 512];
    assert_eq!(remote.read_at((64 << 20) - 100, &mut buf).unwrap(), 100);
    assert_eq!(remote.read_at(64 << 20, &mut buf).unwrap(), 0);
    assert_eq!(remote.read_at(u64::MAX, &mut buf).unwrap(), 0);
}

#[test]
fn many_threads_read_at_once() {
    let bytes = noise(24 << 20);
    let server = Server::new(bytes.clone(), Manners::default());
    let remote = ranged(&server);
    let next = std::sync::atomic::AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                loop {
                    let at = next.fetch_add(1 << 20, std::sync::atomic::Ordering::SeqCst);
                    if at >= bytes.len() {
                        return;
                    }
                    let mut buf = vec![0; 1 << 20];
                    assert_eq!(remote.read_at(at as u64, &mut buf).unwrap(), 1 << 20);
                    assert!(buf == bytes[at..at + (1 << 20)]);
                }
            });
        }
    });
    assert_eq!(server.served(), bytes.len() as u64, "no byte twice");
}

#[test]
fn a_line_that_drops_is_taken_up_where_it_broke() {
    let bytes = noise(5 << 20);
    for nameless in [false, true] {
        let drop_every = Some(300_001);
        let manners = Manners { drop_every, nameless, ..Default::default() };
        let server = Server::new(bytes.clone(), manners);
        assert!(all(&ranged(&server)) == bytes);
        assert_eq!(server.served(), bytes.len() as u64, "no byte twice");
    }
}

#[test]
fn a_line_that_brings_nothing_any_more_is_given_up() {
    let server = Server::new(noise(1 << 20), Manners { dead_after: Some(1), ..Default::default() });
    let remote = ranged(&server);
    let error = remote.read_at(0, &mut vec![0; 1 << 20]).unwrap_err();
    assert!(error.to_string().contains("4 attempts brought nothing"), "{error}");
    assert_eq!(server.requests(), 5);
}

#[test]
fn empty_and_tiny_files_are_files() {
    for len in [0, 1, 512] {
        let bytes = noise(len);
        let server = Server::new(bytes.clone(), Manners::default());
        assert_eq!(all(&ranged(&server)), bytes);
        let manners = Manners { whole: true, ..Default::default() };
        let server = Server::new(bytes.clone(), manners);
        let (mut stream, said) = forward(&server);
        let mut read = Vec::new();
        stream.read_to_end(&mut read).unwrap();
        assert_eq!((read, said), (bytes, Some(len as u64)));
    }
}

#[test]
fn a_server_without_ranges_gives_a_stream() {
    let bytes = noise(3 << 20);
    for chunked in [false, true] {
        let manners = Manners { whole: true, chunked, ..Default::default() };
        let server = Server::new(bytes.clone(), manners);
        let (mut stream, len) = forward(&server);
        assert_eq!(len, (!chunked).then_some(bytes.len() as u64));
        let mut read = Vec::new();
        stream.read_to_end(&mut read).unwrap();
        assert!(read == bytes);
        assert_eq!(server.requests(), 1);
    }
}

#[test]
fn a_stream_that_breaks_is_an_error() {
    for chunked in [false, true] {
        let drop_every = Some(1 << 20);
        let manners = Manners { whole: true, chunked, drop_every, ..Default::default() };
        let what = refused(manners);
        assert_eq!(what, "the line broke at byte 1048576, and the server gives no ranges");
    }
}

#[test]
fn a_server_that_lies_about_a_length_is_caught() {
    for length_off in [-1000, 1000] {
        let what = refused(Manners { length_off, ..Default::default() });
        assert!(what.contains("bytes as those from 0 to 262144"), "{what}");
    }
    let what = refused(Manners { whole: true, length_off: 1000, ..Default::default() });
    assert!(what.contains("gives no ranges"), "{what}");
}

#[test]
fn another_range_than_asked_for_is_not_taken() {
    let what = refused(Manners { range_off: 512, ..Default::default() });
    assert!(what.contains("from 512 to 262144, asked for 0 to 262144"), "{what}");
    let what = refused(Manners { ranges_for: Some(1), ..Default::default() });
    assert!(what.contains("all of it instead of a range"), "{what}");
}

#[test]
fn a_file_that_changes_is_an_error() {
    let what = refused(Manners { changes: true, ..Default::default() });
    assert_eq!(what, "it changed while it was read");
}

#[test]
fn a_server_that_is_busy_is_asked_again() {
    let bytes = noise(1 << 20);
    for status in [500, 502, 503, 429, 408] {
        let manners = Manners { first: Some((status, 3)), ..Default::default() };
        let server = Server::new(bytes.clone(), manners);
        assert!(all(&ranged(&server)) == bytes);
    }
    let what = refused(Manners { first: Some((503, 99)), ..Default::default() });
    assert!(what.starts_with("the server says 503"), "{what}");
}

#[test]
fn a_server_says_when_to_come_back() {
    let headers = vec!["Retry-After: 1".to_string()];
    let manners = Manners { first: Some((429, 1)), headers, ..Default::default() };
    let server = Server::new(noise(100), manners);
    let start = Instant::now();
    ranged(&server);
    assert!(start.elapsed() >= Duration::from_secs(1));
}

#[test]
fn a_file_that_is_not_there_is_not_asked_for_again() {
    for status in [404, 403, 401, 410, 400, 501] {
        let server =
            Server::new(vec![], Manners { first: Some((status, 9)), ..Default::default() });
        let error = open(&server.url("/disk.raw")).err().unwrap();
        assert_eq!((error.kind(), server.requests()), (Kind::Io, 1));
    }
}

#[test]
fn a_slow_line_is_a_line_and_a_dead_one_is_not() {
    let bytes = noise(1 << 20);
    let slow = Some(Duration::from_millis(50));
    let server = Server::new(bytes.clone(), Manners { slow, ..Default::default() });
    assert!(all(&ranged(&server)) == bytes);
    let manners = Manners { slow: Some(Duration::from_secs(30)), ..Default::default() };
    let server = Server::new(bytes.clone(), manners);
    let hasty = Patience { read: Duration::from_millis(200), attempts: 2, ..PATIENCE };
    let opened = open_with(Path::new(&server.url("/disk.raw")), hasty).unwrap();
    let Opened::Ranged(remote) = opened else { panic!("it gives ranges") };
    // What comes is one piece a request: that is progress, and is taken.
    assert_eq!(remote.read_at(0, &mut [0; 100]).unwrap(), 100);
}

#[test]
fn redirects_are_followed_and_not_for_ever() {
    let bytes = noise(1 << 20);
    let there = Server::new(bytes.clone(), Manners::default());
    let redirect = Some(there.url("/there"));
    let server = Server::new(vec![], Manners { redirect, ..Default::default() });
    assert!(all(&ranged(&server)) == bytes);
    assert_eq!(server.requests(), 1, "later requests go where it led");

    let redirect = Some("/there?x=1".to_string());
    let server = Server::new(bytes.clone(), Manners { redirect, ..Default::default() });
    assert!(all(&ranged(&server)) == bytes);

    let what = refused(Manners { redirect: Some("/round".into()), ..Default::default() });
    assert_eq!(what, "more than 10 redirects");
    let what =
        refused(Manners { redirect: Some("file:///etc/passwd".into()), ..Default::default() });
    assert_eq!(what, "the server redirects to what is no URL of a file");
}

#[test]
fn names_and_passwords_go_to_their_server_only_and_are_not_shown() {
    let there = Server::new(noise(100), Manners::default());
    let redirect = Some(there.url("/there"));
    let server = Server::new(vec![], Manners { redirect, ..Default::default() });
    let url = server.url("/disk.raw?token=secret").replace("//", "//me:p%40ss@");
    let Ok(Opened::Ranged(remote)) = open(&url) else { panic!("it gives ranges") };
    assert_eq!(remote.name(), server.url("/disk.raw"));
    // me:p@ss
    assert!(server.heads()[0].to_lowercase().contains("authorization: basic bwu6cebzcw=="));
    assert!(!there.heads()[0].to_lowercase().contains("authorization"));

    let missing = Server::new(vec![], Manners { first: Some((404, 9)), ..Default::default() });
    let url = missing.url("/disk.raw?token=secret").replace("//", "//me:word@");
    let error = format!("{:?}", open(&url).err().unwrap());
    assert!(!error.contains("word") && !error.contains("secret"), "{error}");
    let shown = shown(Path::new(&url));
    assert_eq!(shown, Path::new(&missing.url("/disk.raw")));
}

#[test]
fn bytes_that_the_server_packs_are_not_taken_for_the_file() {
    let headers = vec!["Content-Encoding: gzip".to_string()];
    let what = refused(Manners { headers: headers.clone(), ..Default::default() });
    assert_eq!(what, "the server sends it as gzip, unasked");
    let server = Server::new(noise(100), Manners { headers, ..Default::default() });
    assert!(open(&server.url("/disk.raw.gz")).is_ok(), "its name says that it is");
}

#[test]
fn nobody_at_the_other_end_is_an_error_at_once() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let start = Instant::now();
    let url = format!("http://127.0.0.1:{port}/x");
    let error = open_with(Path::new(&url), Patience::default()).err().unwrap();
    assert_eq!(error.kind(), Kind::Io);
    assert!(start.elapsed() < Duration::from_secs(2));
}

#[test]
fn a_server_whose_certificate_nobody_vouches_for_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let openssl = |words: &str| {
        let mut command = std::process::Command::new("openssl");
        command.args(words.split(' ')).current_dir(&folder).stderr(std::process::Stdio::null());
        command.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::null());
        command
    };
    let request = "req -x509 -newkey rsa:2048 -nodes -keyout key -out cert -days 9 -subj /CN=me";
    if !openssl(request).status().is_ok_and(|status| status.success()) {
        eprintln!("skipped: there is no openssl here");
        return;
    }
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let serve = format!("s_server -accept {port} -key key -cert cert -WWW");
    let mut server = openssl(&serve).spawn().unwrap();
    while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
        std::thread::sleep(Duration::from_millis(20));
    }
    let url = format!("https://127.0.0.1:{port}/key");
    let error = open_with(Path::new(&url), Patience::default()).err().unwrap();
    server.kill().unwrap();
    server.wait().unwrap();
    let what = std::error::Error::source(&error).unwrap().to_string();
    assert!(what.contains("certificate"), "{what}");
}

#[test]
fn urls_are_told_from_paths() {
    for url in ["http://host/x", "HTTPS://host/x"] {
        assert!(is_url(Path::new(url)));
    }
    for path in ["http", "http:/x", "ftp://host/x", "file:///x", "./http://x", ""] {
        assert!(!is_url(Path::new(path)));
    }
    for url in ["http://", "http:///", "https://[x"] {
        assert_eq!(open(url).err().unwrap().kind(), Kind::Invalid, "{url}");
    }
    let paths = [
        ("file:///tmp/a%20b", "/tmp/a b"),
        ("file://localhost/tmp/x", "/tmp/x"),
        ("/tmp/x", "/tmp/x"),
        ("disk.raw", "disk.raw"),
    ];
    for (url, path) in paths {
        assert_eq!(local(Path::new(url)).unwrap(), Path::new(path));
    }
    assert_eq!(local(Path::new("file://elsewhere/x")).unwrap_err().kind(), Kind::Invalid);
}
