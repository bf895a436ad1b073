//! Uploads and downloads with a real Glance and a real Keystone, and what the real client sees.
//!
//! The scripts that start them lie outside the project, in the folder `images_api` of
//! `$DISKWRIGHT_SHARED`, or of `shared` beside the project; what they start is installed by the
//! `setup.sh` among them, in `$IMAGES_API` or in `.cache/images-api` below `$HOME`.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test may fail")]
#![allow(clippy::print_stderr, reason = "a test that is skipped says so")]

#[path = "server.rs"]
#[allow(dead_code, reason = "other tests use other parts of it")]
mod server;

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

/// The services, which end with the tests.
struct Services {
    /// Where their state is.
    root: PathBuf,
    keystone: String,
    glance: String,
    /// A server that Glance may fetch from, with an image.
    web: server::Server,
}

/// The services, or nothing where they cannot be had.
fn services() -> Option<&'static Services> {
    static SERVICES: OnceLock<Option<Result<Services, String>>> = OnceLock::new();
    match SERVICES.get_or_init(start) {
        None => None,
        Some(Ok(services)) => Some(services),
        Some(Err(why)) => panic!("{why}"),
    }
}

/// Ends what runs under the number in this file, and waits until its port is free.
fn end(pid: &Path, port: u16) {
    let number = std::fs::read_to_string(pid).unwrap();
    let number = Pid::from_raw(number.trim().parse().unwrap()).unwrap();
    kill_process(number, Signal::TERM).unwrap();
    while TcpStream::connect(("127.0.0.1", port)).is_ok() {
        std::thread::sleep(Duration::from_millis(100));
    }
    let _ = std::fs::remove_file(pid);
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn start() -> Option<Result<Services, String>> {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared");
    let shared = std::env::var_os("DISKWRIGHT_SHARED").map_or(beside, PathBuf::from);
    let scripts = shared.join("images_api");
    let home = std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache/images-api"));
    let installed = std::env::var_os("IMAGES_API").map(PathBuf::from).or(home)?;
    if !scripts.join("start-glance.sh").exists() || !installed.join("venv/bin/uwsgi").exists() {
        eprintln!(
            "skipped: there is no Glance here; images_api/setup.sh of $DISKWRIGHT_SHARED gets it"
        );
        return None;
    }
    // State of its own; whoever uses the same installation is left alone.
    let root = TempDir::new().unwrap().keep();
    std::os::unix::fs::symlink(installed.join("venv"), root.join("venv")).unwrap();
    let web = server::Server::new(qcow2(&disk()), server::Manners::default());
    let web_port = web.url("").rsplit(':').next().unwrap().to_string();
    let (keystone, glance) = (free_port(), free_port());
    let script = |name: &str| {
        let mut command = Command::new("bash");
        command.arg(scripts.join(name)).env("ROOT", &root).env("HTTP_PORT", &web_port);
        command.env("KS_PORT", keystone.to_string()).env("GL_PORT", glance.to_string());
        command.env("GLANCE_URL", format!("http://127.0.0.1:{glance}")).env("REMOTE", "0");
        command.env("EXTRA_DEFAULT", "image_size_cap = 40000000").stdin(Stdio::null());
        command
    };
    // When this process is gone, however it went, its end of the pipe is closed.
    let stop = format!(
        "cat; ROOT={0} bash {1} --stop; kill -TERM $(cat {0}/run/keystone/uwsgi.pid); sleep 2; \
         rm -rf {0}",
        root.display(),
        scripts.join("start-glance.sh").display(),
    );
    let mut watch = Command::new("sh");
    watch.args(["-c", &stop]).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    std::mem::forget(watch.spawn().unwrap().stdin);
    let pid = root.join("run/keystone/uwsgi.pid");
    for name in ["start-keystone.sh", "start-keystone.sh", "start-glance.sh"] {
        // The first Keystone remembers a catalogue without images for a while: another one is
        // started.
        if pid.exists() && name == "start-keystone.sh" {
            end(&pid, keystone);
        }
        let log = std::fs::File::create(root.join("log")).unwrap();
        let again = log.try_clone().unwrap();
        let done = script(name).stdout(log).stderr(again).status().unwrap();
        let said = std::fs::read_to_string(root.join("log")).unwrap();
        if !done.success() {
            return Some(Err(format!("{name}: {said}")));
        }
    }
    let [keystone, glance] = [keystone, glance].map(|port| format!("http://127.0.0.1:{port}"));
    Some(Ok(Services { root, keystone: format!("{keystone}/v3"), glance, web }))
}

/// A way to the image service on which so many lines break in the middle of a body.
fn shaky_way(to: &str, breaks: usize) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (to, left) = (to.trim_start_matches("http://").to_string(), AtomicUsize::new(breaks));
    let left = Arc::new(left);
    std::thread::spawn(move || {
        for near in listener.incoming().flatten() {
            let (Ok(far), left) = (TcpStream::connect(&to), left.clone()) else { return };
            let (mut back, mut answer) = (near.try_clone().unwrap(), far.try_clone().unwrap());
            std::thread::spawn(move || std::io::copy(&mut answer, &mut back));
            std::thread::spawn(move || pass(near, far, &left));
        }
    });
    url
}

/// Passes bytes on; a line that brings many breaks if one is left to break.
fn pass(mut near: TcpStream, mut far: TcpStream, left: &AtomicUsize) {
    let (mut buffer, mut came) = (vec![0; 65_536], 0);
    while let Ok(len @ 1..) = near.read(&mut buffer) {
        came += len;
        let less = |left: usize| left.checked_sub(1);
        let breaks =
            came > 2 << 20 && left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, less).is_ok();
        if breaks || far.write_all(&buffer[..len]).is_err() {
            break;
        }
    }
    let _ = (near.shutdown(Shutdown::Both), far.shutdown(Shutdown::Both));
}

/// A disk with data and zeros.
fn disk() -> Vec<u8> {
    let mut disk = vec![0; 12 << 20];
    let mut state = 7_u32;
    for (at, byte) in disk.iter_mut().enumerate() {
        if (at >> 18) % 3 == 0 {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            *byte = state.to_be_bytes()[0];
        }
    }
    disk
}

fn qcow2(disk: &[u8]) -> Vec<u8> {
    let mut convert = Command::new(env!("CARGO_BIN_EXE_diskwright"));
    convert.args(["convert", "-f", "raw", "-O", "qcow2", "-", "-"]);
    let output = fed(convert, disk);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

fn fed(mut command: Command, input: &[u8]) -> Output {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    let feeder = std::thread::spawn(move || drop(stdin.write_all(&input)));
    let output = child.wait_with_output().unwrap();
    feeder.join().unwrap();
    output
}

/// A folder that vanishes, with somebody in it who uses the services.
struct Place {
    folder: TempDir,
    services: &'static Services,
    login: Vec<(&'static str, String)>,
    /// One at a time: a service with so small a database stumbles over many.
    _turn: Option<MutexGuard<'static, ()>>,
}

impl Place {
    fn new() -> Option<Place> {
        static TURN: Mutex<()> = Mutex::new(());
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        Some(Place { _turn: Some(turn), ..Place::of(services()?, "admin") })
    }

    fn of(services: &'static Services, who: &str) -> Place {
        let folder = TempDir::new().unwrap();
        let login = vec![
            ("OS_AUTH_URL", services.keystone.clone()),
            ("OS_USERNAME", who.into()),
            ("OS_PASSWORD", format!("{who}pw")),
            ("OS_PROJECT_NAME", who.into()),
            ("OS_USER_DOMAIN_ID", "default".into()),
            ("OS_PROJECT_DOMAIN_NAME", "Default".into()),
            ("OS_REGION_NAME", "RegionOne".into()),
        ];
        let place = Place { folder, services, login, _turn: None };
        std::fs::write(place.path("disk.raw"), disk()).unwrap();
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn command(&self, program: &Path, args: &[&str]) -> Command {
        let mut command = Command::new(program);
        command.args(args).current_dir(self.folder.path()).env_clear();
        command.envs(self.login.iter().map(|(name, value)| (name, value)));
        command.env("PATH", std::env::var_os("PATH").unwrap()).env("HOME", self.folder.path());
        command
    }

    fn ours(&self, args: &[&str]) -> Command {
        self.command(Path::new(env!("CARGO_BIN_EXE_diskwright")), args)
    }

    fn must(&self, args: &[&str], input: &[u8]) -> String {
        let output = fed(self.ours(args), input);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{args:?}: {said}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// The exit code and what was said, which is one line.
    fn fails(&self, args: &[&str]) -> (i32, String) {
        let output = fed(self.ours(args), b"");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success(), "{args:?}");
        assert_eq!(said.lines().count(), 1, "{said}");
        (output.status.code().unwrap(), said)
    }

    /// What the real client says.
    fn theirs(&self, args: &[&str]) -> String {
        let program = self.services.root.join("venv/bin/openstack");
        let output = self.command(&program, args).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "openstack {args:?}: {said}");
        String::from_utf8(output.stdout).unwrap()
    }

    fn upload(&self, args: &[&str]) -> Value {
        let all = [&["upload", "--output", "json"], args].concat();
        serde_json::from_str(&self.must(&all, b"")).unwrap()
    }

    /// The same by way of an import, which a Glance with so small a database fails at now and then:
    /// then nothing is left of it.
    fn staged(&self, args: &[&str]) -> Value {
        let all = [&["upload", "--output", "json", "--wait", "60"], args].concat();
        for _ in 0..5 {
            let output = fed(self.ours(&all), b"");
            if output.status.success() {
                return serde_json::from_slice(&output.stdout).unwrap();
            }
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            let own = ["Task failed due to Internal Error", "after 60 seconds", "says 500"];
            assert!(own.iter().any(|words| said.contains(words)), "{args:?}: {said}");
            assert_eq!(self.count(args[args.iter().position(|a| *a == "--name").unwrap() + 1]), 0);
        }
        panic!("no import succeeds");
    }

    /// How many images of this name there are.
    fn count(&self, name: &str) -> usize {
        let list = self.must(&["image", "list", "--name", name, "--output", "json"], b"");
        serde_json::from_str::<Value>(&list).unwrap().as_array().unwrap().len()
    }

    /// Whether a file holds the disk.
    fn holds_the_disk(&self, name: &str) {
        self.must(&["compare", name, "disk.raw"], b"");
        if Command::new("qemu-img").arg("--version").output().is_ok() {
            let args = ["compare", "-F", "raw", name, "disk.raw"];
            let output = self.command(Path::new("qemu-img"), &args).output().unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
        }
    }
}

#[test]
fn a_vmdk_becomes_a_qcow2_on_the_way_and_the_real_client_sees_and_saves_it() {
    let Some(place) = Place::new() else { return };
    place.must(&["convert", "-O", "vmdk", "disk.raw", "disk.vmdk"], b"");
    let image = place.upload(&[
        "--name",
        "converted",
        "--convert",
        "qcow2",
        "--property",
        "hw_firmware_type=uefi",
        "--property",
        "os_distro=debian",
        "--tag",
        "golden",
        "--tag",
        "x",
        "--visibility",
        "public",
        "--min-ram",
        "512",
        "--protected",
        "disk.vmdk",
    ]);
    let id = image["id"].as_str().unwrap();
    let show: Value =
        serde_json::from_str(&place.theirs(&["image", "show", "-f", "json", id])).unwrap();
    let wanted = [
        ("name", "converted"),
        ("disk_format", "qcow2"),
        ("container_format", "bare"),
        ("status", "active"),
        ("visibility", "public"),
    ];
    for (key, value) in wanted {
        assert_eq!(show[key], value, "{key}");
    }
    assert_eq!(show["virtual_size"], 12 << 20);
    assert_eq!((&show["min_disk"], &show["min_ram"]), (&1.into(), &512.into()));
    assert_eq!(show["protected"], true);
    assert_eq!(show["properties"]["hw_firmware_type"], "uefi");
    assert_eq!(show["properties"]["os_distro"], "debian");
    let mut tags: Vec<_> = show["tags"].as_array().unwrap().clone();
    tags.sort_by_key(Value::to_string);
    assert_eq!(tags, ["golden", "x"]);
    place.theirs(&["image", "save", "--file", "saved.qcow2", id]);
    assert_eq!(show["size"], std::fs::metadata(place.path("saved.qcow2")).unwrap().len());
    place.holds_the_disk("saved.qcow2");
    // As convert makes it, byte by byte.
    place.must(&["convert", "-O", "qcow2", "disk.vmdk", "made.qcow2"], b"");
    let [saved, made] = ["saved.qcow2", "made.qcow2"].map(|name| std::fs::read(place.path(name)));
    assert!(saved.unwrap() == made.unwrap());
}

#[test]
fn every_format_that_it_knows_arrives_and_comes_back() {
    let Some(place) = Place::new() else { return };
    for format in ["raw", "qcow2", "vmdk", "vhd", "vhdx", "vdi"] {
        let image = place.upload(&["--name", format, "--convert", format, "disk.raw"]);
        assert_eq!(image["disk_format"], format);
        let (back, raw) = (format!("{format}.back"), format!("{format}.raw"));
        let id = image["id"].as_str().unwrap();
        place.must(&["download", id, &back], b"");
        place.must(&["compare", "-f", format, "-F", "raw", &back, "disk.raw"], b"");
        place.must(&["download", "-O", "raw", format, &raw], b"");
        assert!(std::fs::read(place.path(&raw)).unwrap()[..12 << 20] == disk(), "{format}");
        // What is a file of that format already.
        let image = place.upload(&["--name", "again", "-f", format, &back]);
        assert_eq!(image["disk_format"], format);
    }
}

#[test]
fn containers_are_called_what_they_are() {
    let Some(place) = Place::new() else { return };
    place.must(&["convert", "-O", "ova", "disk.raw", "machine.ova"], b"");
    std::fs::create_dir(place.path("files")).unwrap();
    std::fs::write(place.path("files/a"), "a").unwrap();
    place.must(&["iso", "create", "--label", "x", "files", "disc.iso"], b"");
    for (file, disk, container) in [("machine.ova", "vmdk", "ova"), ("disc.iso", "iso", "bare")] {
        let image = place.upload(&["--name", file, file]);
        assert_eq!(
            (&image["disk_format"], &image["container_format"]),
            (&disk.into(), &container.into())
        );
        place.must(&["download", file, "back"], b"");
        assert!(
            std::fs::read(place.path("back")).unwrap() == std::fs::read(place.path(file)).unwrap()
        );
    }
    place.must(&["download", "-O", "raw", "machine.ova", "back.raw"], b"");
    assert!(std::fs::read(place.path("back.raw")).unwrap() == disk());
    let image = place.upload(&["--name", "out", "--convert", "qcow2", "machine.ova"]);
    assert_eq!(
        (&image["disk_format"], &image["container_format"]),
        (&"qcow2".into(), &"bare".into())
    );
}

#[test]
fn a_stream_arrives_as_well_with_its_compression_taken_off() {
    let Some(place) = Place::new() else { return };
    place.must(&["convert", "disk.raw", "disk.raw.xz"], b"");
    let packed = std::fs::read(place.path("disk.raw.xz")).unwrap();
    place.must(&["upload", "--name", "stream", "-"], &packed);
    let show = place.must(&["image", "show", "--output", "json", "stream"], b"");
    let show: Value = serde_json::from_str(&show).unwrap();
    assert_eq!((&show["size"], &show["min_disk"]), (&(12 << 20).into(), &1.into()));
    place.must(&["download", "stream", "back.raw"], b"");
    assert!(std::fs::read(place.path("back.raw")).unwrap() == disk());
}

#[test]
fn what_is_staged_is_imported_into_several_stores() {
    let Some(place) = Place::new() else { return };
    let image = place.staged(&[
        "--name",
        "staged",
        "--convert",
        "qcow2",
        "--method",
        "stage",
        "--store",
        "cheap,robust",
        "disk.raw",
    ]);
    let stores = image["stores"].as_str().unwrap_or_else(|| panic!("{image:#}"));
    let mut stores: Vec<_> = stores.split(',').collect();
    stores.sort_unstable();
    assert_eq!(stores, ["cheap", "robust"]);
    let image = place.upload(&["--name", "put", "--store", "robust", "disk.raw"]);
    assert_eq!(image["stores"], "robust");
    let (code, said) = place.fails(&["upload", "--name", "nowhere", "--store", "none", "disk.raw"]);
    assert!(code == 6 && said.contains("none not found"), "{code}: {said}");
    assert_eq!(place.count("nowhere"), 0);
}

#[test]
fn the_service_fetches_an_image_that_was_inspected_here() {
    let Some(place) = Place::new() else { return };
    let url = place.services.web.url("/disk.qcow2");
    let image = place.upload(&["--name", "web", "--method", "web-download", &url]);
    assert_eq!((&image["disk_format"], &image["status"]), (&"qcow2".into(), &"active".into()));
    place.must(&["download", "web", "web.qcow2"], b"");
    place.holds_the_disk("web.qcow2");
    // A port that the service may not fetch from.
    let other = server::Server::new(qcow2(&disk()), server::Manners::default());
    let url = other.url("/disk.qcow2");
    let (code, said) =
        place.fails(&["upload", "--name", "unfetched", "--method", "web-download", &url]);
    assert!(code == 6 && said.contains("the service"), "{code}: {said}");
    assert_eq!(place.count("unfetched"), 0);
}

#[test]
fn a_line_that_breaks_is_no_harm_and_leaves_no_record() {
    let Some(place) = Place::new() else { return };
    let way = |breaks| shaky_way(&place.services.glance, breaks);
    for (name, method) in [("shaky-put", "put"), ("shaky-stage", "stage")] {
        let args = ["--name", name, "--convert", "qcow2", "--method", method, "disk.raw"];
        let endpoint = way(2);
        let image = place.staged(&[&["--endpoint", &*endpoint], &args[..]].concat());
        assert_eq!((&image["status"], place.count(name)), (&"active".into(), 1));
        place.must(&["download", "-O", "raw", name, "back.raw"], b"");
        assert!(std::fs::read(place.path("back.raw")).unwrap() == disk());
        let args = ["--name", "never", "--attempts", "2", "--method", method, "disk.raw"];
        let endpoint = way(9);
        let (code, said) =
            place.fails(&[&["upload", "--endpoint", &*endpoint], &args[..]].concat());
        assert!(code == 7 && said.contains("2 attempts brought nothing"), "{code}: {said}");
        assert_eq!(place.count("never"), 0);
    }
}

#[test]
fn ctrl_c_takes_the_record_away() {
    let Some(place) = Place::new() else { return };
    let mut command = place.ours(&["upload", "--name", "stopped", "-"]);
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(&disk()[..5 << 20]).unwrap();
    while place.count("stopped") == 0 {
        std::thread::sleep(Duration::from_millis(50));
    }
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert_eq!(place.count("stopped"), 0);
    drop(stdin);
}

#[test]
fn a_refusal_comes_in_one_sentence_with_the_services_reason() {
    let Some(place) = Place::new() else { return };
    let demo = Place::of(place.services, "demo");
    let (code, said) =
        demo.fails(&["upload", "--name", "public", "--visibility", "public", "disk.raw"]);
    assert!(code == 6 && said.contains("not authorized to complete publicize_image"), "{said}");
    let long = "x".repeat(300);
    let (code, said) = place.fails(&["upload", "--name", &long, "disk.raw"]);
    assert!(code == 6 && said.contains("the service says 400"), "{code}: {said}");
    std::fs::write(place.path("large.raw"), vec![1; 50 << 20]).unwrap();
    for method in ["put", "stage"] {
        let args = ["upload", "--name", "large", "--method", method, "large.raw"];
        let (code, said) = place.fails(&args);
        assert!([5, 6].contains(&code) && said.contains("the service"), "{method}: {code}: {said}");
    }
    assert_eq!((place.count("public"), place.count("large")), (0, 0));
}

#[test]
fn wrong_credentials_are_told_and_the_password_is_not() {
    let Some(mut place) = Place::new() else { return };
    place.login[2].1 = "not-the-password".into();
    let (code, said) = place.fails(&["upload", "--name", "no", "disk.raw"]);
    assert!(code == 6 && said.contains("wrong credentials"), "{code}: {said}");
    assert!(!said.contains("not-the-password"));
}

#[test]
fn all_ways_to_be_let_in_lead_in() {
    let Some(place) = Place::new() else { return };
    let json = |text: String| serde_json::from_str::<Value>(&text).unwrap();
    let made = place.theirs(&["application", "credential", "create", "-f", "json", "for-a-test"]);
    let made = json(made);
    let token = json(place.theirs(&["token", "issue", "-f", "json"]));
    let text = |value: &Value, key: &str| value[key].as_str().unwrap().to_string();
    let url = || ("OS_AUTH_URL", place.services.keystone.clone());
    let logins = [
        vec![
            url(),
            ("OS_AUTH_TYPE", "v3applicationcredential".into()),
            ("OS_APPLICATION_CREDENTIAL_ID", text(&made, "ID")),
            ("OS_APPLICATION_CREDENTIAL_SECRET", text(&made, "Secret")),
        ],
        vec![
            url(),
            ("OS_APPLICATION_CREDENTIAL_NAME", "for-a-test".into()),
            ("OS_APPLICATION_CREDENTIAL_SECRET", text(&made, "Secret")),
            ("OS_USERNAME", "admin".into()),
        ],
        vec![url(), ("OS_TOKEN", text(&token, "id")), ("OS_PROJECT_NAME", "admin".into())],
        vec![("OS_CLOUD", "mine".into())],
    ];
    std::fs::create_dir_all(place.path(".config/openstack")).unwrap();
    let clouds = format!(
        "clouds:\n  mine:\n    auth:\n      auth_url: {}\n      username: admin\n      \
         project_name: admin\n      user_domain_name: Default\n      project_domain_name: \
         Default\n    region_name: RegionOne\n",
        place.services.keystone
    );
    std::fs::write(place.path(".config/openstack/clouds.yaml"), clouds).unwrap();
    let secure = "clouds: {mine: {auth: {password: adminpw}}}";
    std::fs::write(place.path(".config/openstack/secure.yaml"), secure).unwrap();
    for login in logins {
        let who = login[login.len() - 1].0;
        let other = Place { login, ..Place::of(place.services, "admin") };
        let mut command = other.ours(&["image", "list"]);
        command.env("HOME", place.folder.path());
        let output = fed(command, b"");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{who}: {said}");
    }
}
