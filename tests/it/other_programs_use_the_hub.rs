//! `longhaul serve` as scripts meet it: the curl lines that the seed system's users
//! have, who may ask, and how it begins and ends.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::process::Command;

use rustix::process::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::Run;

/// Opens a running hub on a free port; gone when dropped.
struct Served {
    run: Run,
    url: String,
    token: String,
    place: Place,
}

/// Folders of one test.
struct Place(TempDir);

impl Place {
    fn new() -> Self {
        let place = Self(tempfile::Builder::new().prefix("lh-").tempdir_in("/tmp").unwrap());
        for name in ["home", "project", "state", "tmp"] {
            fs::create_dir(place.at(name)).unwrap();
        }
        use std::os::unix::fs::PermissionsExt;
        fs::set_permissions(place.at("state"), fs::Permissions::from_mode(0o700)).unwrap();
        place
    }

    fn at(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command
            .current_dir(self.at("project"))
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap())
            .env("HOME", self.at("home"))
            .env("TMPDIR", self.at("tmp"))
            .env("LONGHAUL_STATE_DIR", self.at("state"))
            .stdin(std::process::Stdio::null());
        command
    }

    fn serve(&self, args: &[&str]) -> Run {
        let mut command = self.command(env!("CARGO_BIN_EXE_longhaul"));
        Run::start(command.arg("serve").args(args))
    }
}

fn serve(args: &[&str]) -> Served {
    let place = Place::new();
    let all: Vec<&str> = ["--json", "--hub", "127.0.0.1:0"].iter().chain(args).copied().collect();
    let run = place.serve(&all);
    let told = run.wait_event("listening");
    assert_eq!(run.events()[0], told, "it is the first line");
    let text = |name: &str| told[name].as_str().unwrap().to_owned();
    Served { url: text("hub"), token: text("token"), run, place }
}

impl Served {
    fn port(&self) -> &str {
        self.url.strip_prefix("http://127.0.0.1:").unwrap()
    }

    /// A shell line written for port 5001.
    fn line(&self, line: &str) -> Value {
        let line = line.replace(":5001", &format!(":{}", self.port()));
        let output = self
            .place
            .command("sh")
            // Quiet, and no proxy between.
            .env("CURL_HOME", self.curlrc())
            .args(["-c", &line])
            .output()
            .unwrap();
        assert!(output.status.success(), "{line}\n{output:?}");
        serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {line}\n{output:?}"))
    }

    fn curlrc(&self) -> PathBuf {
        fs::write(self.place.at("home").join(".curlrc"), "silent\nnoproxy = \"*\"\n").unwrap();
        self.place.at("home")
    }

    /// Sends these bytes as they are, and gives the whole answer.
    fn raw(&self, bytes: &[u8]) -> String {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port().parse().unwrap())).unwrap();
        stream.write_all(bytes).unwrap();
        let mut text = Vec::new();
        stream.read_to_end(&mut text).unwrap();
        String::from_utf8_lossy(&text).into_owned()
    }

    fn get(&self, path: &str, more: &str) -> String {
        let port = self.port();
        let head = format!("GET {path} HTTP/1.1\r\nconnection: close\r\n{more}\r\n");
        self.raw(head.replace("PORT", port).as_bytes())
    }
}

const SUPPORTED: &str = "curl http://localhost:5001/get_supported_actions";

const CREATE: &str = r#"curl -X POST http://localhost:5001/execute_task \
  -H 'Content-Type: application/json' \
  -d '{
    "tool_name": "claude_assistant",
    "action": "assign_task",
    "params": {
      "task_id": "my_task_id",
      "description": "Do something",
      "batch_id": "batch_20251107_120000"
    }
  }'"#;

#[test]
fn the_lines_of_the_seed_work_unchanged() {
    let served = serve(&["--set", "hub.allow_unauthenticated_loopback=true"]);
    assert_eq!(served.line(SUPPORTED)["tools"][0]["name"], "claude_assistant");
    let answer = served.line(CREATE);
    assert_eq!(
        (&answer["status"], &answer["task_id"], &answer["batch_id"]),
        (&json!("success"), &json!("my_task_id"), &json!("batch_20251107_120000"))
    );
    // It is in the queue, and not a second time.
    let again = served.line(CREATE);
    assert_eq!(
        (&again["status"], &again["error"]["code"]),
        (&json!("error"), &json!("task_exists"))
    );
    let task = served.line("curl http://localhost:5001/api/v1/tasks/my_task_id");
    assert_eq!(
        task["task"]["project"],
        served.place.at("project").canonicalize().unwrap().to_str().unwrap()
    );
    served.run.signal(Signal::TERM);
    assert_eq!(served.run.finished().code(), 143);
}

#[test]
fn without_leave_the_lines_of_the_seed_need_the_token() {
    let served = serve(&[]);
    assert_eq!(served.line(CREATE)["error"]["code"], "unauthorized");
    let with = CREATE.replacen("-X POST", "-X POST -H \"Authorization: Bearer $TOKEN\"", 1);
    let with = format!("TOKEN=$(cat \"$LONGHAUL_STATE_DIR/hub.token\"); {with}");
    assert_eq!(served.line(&with)["status"], "success");
    let file = served.place.at("state/hub.token");
    assert_eq!(fs::metadata(&file).unwrap().mode() & 0o777, 0o600);
    assert_eq!(fs::read_to_string(&file).unwrap().trim_end(), served.token);
    // Nobody who looks at processes finds it.
    let proc = PathBuf::from("/proc").join(served.run.pid().to_string());
    for name in ["cmdline", "environ"] {
        let text = String::from_utf8_lossy(&fs::read(proc.join(name)).unwrap()).into_owned();
        assert!(!text.is_empty() && !text.contains(&served.token), "{name}");
    }
    // The next one has the same.
    served.run.signal(Signal::INT);
    assert_eq!(served.run.wait_exit().code(), Some(130));
    let again = served.place.serve(&["--json", "--hub", "127.0.0.1:0"]);
    assert_eq!(again.wait_event("listening")["token"], served.token);
}

#[test]
fn a_page_in_a_browser_gets_nothing() {
    let served = serve(&["--set", "hub.allow_unauthenticated_loopback=true"]);
    for (head, code) in [
        ("host: evil.example:PORT\r\n", "host_not_allowed"),
        ("host: localhost\r\n", "host_not_allowed"),
        ("host: localhost:PORT\r\norigin: http://evil.example\r\n", "origin_not_allowed"),
        ("host: localhost:PORT\r\norigin: null\r\n", "origin_not_allowed"),
        ("host: localhost:PORT\r\nhost: localhost:PORT\r\n", "host_not_allowed"),
    ] {
        for path in ["/healthz", "/api/v1/results", "/api/v1/openapi.json"] {
            let said = served.get(path, head);
            assert!(said.starts_with("HTTP/1.1 403") && said.contains(code), "{head}{said}");
        }
    }
    for head in
        ["host: localhost:PORT\r\n", "host: [::1]:PORT\r\norigin: http://127.0.0.1:PORT\r\n"]
    {
        let said = served.get("/healthz", head);
        assert!(said.starts_with("HTTP/1.1 200"), "{said}");
        assert!(!said.to_lowercase().contains("access-control"), "{said}");
    }
}

#[test]
fn bodies_too_large_or_broken_are_refused_and_nothing_is_left() {
    let served = serve(&["--set", "hub.max_body_kb=64"]);
    let post = |more: &str, body: &str| {
        let (port, token) = (served.port(), &served.token);
        let head = format!(
            "POST /api/v1/tasks HTTP/1.1\r\nhost: localhost:{port}\r\nauthorization: Bearer {token}\r\n\
             content-type: application/json\r\nconnection: close\r\n{more}\r\n"
        );
        served.raw((head + body).as_bytes())
    };
    let large = json!({ "description": "x".repeat(70_000) }).to_string();
    let said = post(&format!("content-length: {}\r\n", large.len()), &large);
    assert!(said.starts_with("HTTP/1.1 413") && said.contains("body_too_large"), "{said}");
    // The largest come from clients that read the answer only when they are through.
    let huge = json!({ "description": "x".repeat(8 << 20) }).to_string();
    let said = post(&format!("content-length: {}\r\n", huge.len()), &huge);
    assert!(said.starts_with("HTTP/1.1 413") && said.contains("body_too_large"), "{said}");
    // Nor does it help not to say how large it is, or to say something else.
    let chunked = format!("{:x}\r\n{large}\r\n0\r\n\r\n", large.len());
    let said = post("transfer-encoding: chunked\r\n", &chunked);
    assert!(said.starts_with("HTTP/1.1 413") && said.contains("body_too_large"), "{said}");
    let said = post("content-length: 999999999999\r\n", "");
    assert!(said.starts_with("HTTP/1.1 413") && said.contains("body_too_large"), "{said}");
    let said = post("transfer-encoding: chunked\r\n", "zz\r\n");
    assert!(said.starts_with("HTTP/1.1 400"), "{said}");
    for broken in ["", "{", "\u{0}", "{\"description\": \"x\"}}"] {
        let said = post(&format!("content-length: {}\r\n", broken.len()), broken);
        assert!(said.starts_with("HTTP/1.1 400") && said.contains("malformed_json"), "{said}");
    }
    let said = served.get("/api/v1/tasks", "host: localhost:PORT\r\n");
    assert!(said.contains("\"tasks\":[],\"count\":0"), "{said}");
}

#[test]
fn many_slow_clients_do_not_hold_it_up() {
    let served = serve(&[]);
    let port = served.port();
    let head = format!(
        "POST /api/v1/tasks HTTP/1.1\r\nhost: localhost:{port}\r\nauthorization: Bearer {}\r\n\
         content-type: application/json\r\ncontent-length: 1000\r\n\r\n{{",
        served.token
    );
    let mut slow = Vec::new();
    for count in 0..300 {
        let mut stream = TcpStream::connect(("127.0.0.1", port.parse().unwrap())).unwrap();
        // Some stop in the head, some in the body, some say nothing at all.
        let begun = [head.as_bytes(), &head.as_bytes()[..30], b""][count % 3];
        let _ = stream.write_all(begun);
        slow.push(stream);
    }
    let said = served.get("/healthz", "host: localhost:PORT\r\n");
    assert!(said.starts_with("HTTP/1.1 200"), "{said}");
}

#[test]
fn an_address_that_is_taken_is_said() {
    let served = serve(&[]);
    let address = format!("127.0.0.1:{}", served.port());
    let said = served.place.serve(&["--json", "--hub", &address]).finished();
    let said = said.failed(64, &["cannot listen on", &address, "--hub 127.0.0.1:0"]);
    assert_eq!(said.stdout, "");
    let place = Place::new();
    for wrong in ["5001", "localhost", "on", ""] {
        place.serve(&["--hub", wrong]).finished().failed(64, &["--hub"]);
    }
}

#[test]
fn with_the_hub_off_it_waits_for_a_signal() {
    let place = Place::new();
    let run = place.serve(&["--json", "--hub", "off"]);
    let told = run.wait_event("listening");
    assert_eq!((&told["hub"], &told["token"]), (&Value::Null, &Value::Null));
    run.signal(Signal::HUP);
    let ended = run.finished();
    assert_eq!((ended.code(), ended.count("stopped")), (129, 1));
}

#[test]
fn a_session_does_not_serve() {
    let place = Place::new();
    let mut command = place.command(env!("CARGO_BIN_EXE_longhaul"));
    command.args(["serve", "--hub", "127.0.0.1:0"]).env("LONGHAUL_RUN", "7d2c");
    Run::start(&mut command).finished().failed(64, &["session"]);
}

#[test]
fn a_person_is_told_where_and_how() {
    let place = Place::new();
    let run = place.serve(&["--hub", "localhost:0"]);
    run.wait_output("Ctrl-C ends it");
    run.signal(Signal::INT);
    let said = run.finished();
    assert_eq!(said.code(), 130);
    for words in ["http://127.0.0.1:", "hub.token", "openapi.json"] {
        assert!(said.stdout.contains(words), "{}", said.stdout);
    }
    let token = fs::read_to_string(place.at("state/hub.token")).unwrap();
    assert!(!said.stdout.contains(token.trim_end()));
}

#[test]
fn the_lines_of_the_documentation_work() {
    let served = serve(&[]);
    let text = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/dev-docs/HUB.md")).unwrap();
    let mut blocks = 0;
    for block in text.split("```sh\n").skip(1) {
        let block = block.split("```").next().unwrap();
        let block = block.replace(
            "~/.local/state/longhaul/hub.token",
            served.place.at("state/hub.token").to_str().unwrap(),
        );
        if block.contains("curl ") {
            let said = served.line(&block);
            assert_eq!(said["status"], "success", "{block}\n{said}");
            blocks += 1;
        }
    }
    assert!(blocks >= 8, "{blocks}");
}
