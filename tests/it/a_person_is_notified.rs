//! A notification reaches the person's command and webhook, or is given up in
//! bounded time, and leaves no process behind. Real processes, a real server.

use std::ffi::OsString;
use std::fs;
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use longhaul::clock::Timestamp;
use longhaul::config::{self, Occasion};
use longhaul::notify::{Notification, Notifier, Patience, RunFacts, Tally};
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use serde_json::{Value, json};
use tempfile::TempDir;
use uuid::Uuid;

use super::support::{GONE_WITHIN, wait_for_end, with_argument, with_variable};

/// Longest wait for something that comes soon.
const SOON: Duration = Duration::from_secs(30);

/// How a server behaves on one connection.
enum Answer {
    /// These bytes, and the connection is closed.
    Says(String),
    /// The same, once the test lets it.
    SaysWhenLet(String, mpsc::Receiver<()>),
    /// The connection is closed at once.
    HangsUp,
    /// These bytes, and nothing more until the other side gives up.
    Stalls(&'static str),
}

fn status(line: &str, headers: &str) -> Answer {
    Answer::Says(format!("HTTP/1.1 {line}\r\n{headers}content-length: 0\r\n\r\n"))
}

fn ok() -> Answer {
    status("200 OK", "")
}

/// A webhook on loopback that answers one connection after the other.
struct Server {
    port: u16,
    /// Requests as they come: head and body.
    requests: mpsc::Receiver<(String, String)>,
    /// One for each connection on which the other side gave up.
    given_up: mpsc::Receiver<()>,
}

impl Server {
    fn start(answers: impl IntoIterator<Item = Answer> + Send + 'static) -> Self
    where
        <Vec<Answer> as IntoIterator>::IntoIter: Send,
    {
        let answers: Vec<Answer> = answers.into_iter().collect();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let (request, requests) = mpsc::channel();
        let (gave_up, given_up) = mpsc::channel();
        std::thread::spawn(move || {
            for answer in answers {
                let (stream, _) = listener.accept().unwrap();
                let Some(heard) = read_request(&mut BufReader::new(&stream)) else { continue };
                let _ = request.send(heard);
                respond(stream, answer, &gave_up);
            }
        });
        Self { port, requests, given_up }
    }

    fn url(&self) -> String {
        format!("http://127.0.0.1:{}/hooks/s3cret?key=s3cret", self.port)
    }

    fn next(&self) -> (String, String) {
        self.requests.recv_timeout(SOON).expect("a request")
    }

    fn body(&self) -> Value {
        serde_json::from_str(&self.next().1).unwrap()
    }
}

fn respond(mut stream: TcpStream, answer: Answer, gave_up: &mpsc::Sender<()>) {
    match answer {
        // The other side may be gone already.
        Answer::Says(text) => drop(stream.write_all(text.as_bytes())),
        Answer::SaysWhenLet(text, let_through) => {
            let_through.recv_timeout(SOON).expect("it is let through");
            let _ = stream.write_all(text.as_bytes());
        }
        Answer::HangsUp => {}
        Answer::Stalls(beginning) => {
            let _ = stream.write_all(beginning.as_bytes());
            stream.set_read_timeout(Some(SOON)).unwrap();
            let end = stream.read(&mut [0; 1]);
            let is_over = match end {
                Ok(n) => n == 0,
                Err(err) => err.kind() == ErrorKind::ConnectionReset,
            };
            if is_over {
                let _ = gave_up.send(());
            }
        }
    }
}

fn read_request(reader: &mut impl BufRead) -> Option<(String, String)> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head).ok()? == 0 {
            return None;
        }
    }
    let head = head.to_ascii_lowercase();
    let length = head.split("content-length: ").nth(1).and_then(|rest| rest.lines().next());
    let length = length.map_or(0, |digits| digits.parse().unwrap());
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some((head, String::from_utf8(body).unwrap()))
}

/// One test's notifier settings.
struct Desk {
    config: config::Notify,
    facts: RunFacts,
    patience: Patience,
    /// Variables the couriers get.
    variables: Vec<(&'static str, String)>,
}

impl Desk {
    fn new() -> Self {
        Self {
            config: config::Notify {
                command: Vec::new(),
                webhook: None,
                on: Occasion::ALL.to_vec(),
            },
            facts: RunFacts { run_id: Uuid::new_v4(), project: "/home/me/parser".into() },
            patience: Patience {
                pauses: vec![Duration::from_millis(1); 4],
                longest: Duration::from_millis(1),
                ..Patience::default()
            },
            variables: Vec::new(),
        }
    }

    fn webhook(url: impl Into<String>) -> Self {
        let mut desk = Self::new();
        desk.config.webhook = Some(url.into());
        desk
    }

    /// `sh -c script` with `$1` = the folder.
    fn script(script: &str, folder: &TempDir) -> Self {
        let mut desk = Self::new();
        let folder = folder.path().to_str().unwrap();
        desk.config.command = ["sh", "-c", script, "sh", folder].map(str::to_owned).to_vec();
        desk
    }

    /// Needs a runtime. Couriers are the built longhaul, without the proxies of
    /// whoever runs the tests.
    fn open(&self) -> Notifier {
        let mut program: Vec<OsString> = vec!["env".into()];
        for name in ["ALL_PROXY", "HTTPS_PROXY", "HTTP_PROXY"] {
            for name in [name.to_owned(), name.to_ascii_lowercase()] {
                program.extend(["-u".into(), name.into()]);
            }
        }
        program.extend(self.variables.iter().map(|(name, value)| format!("{name}={value}").into()));
        program.push(env!("CARGO_BIN_EXE_longhaul").into());
        Notifier::start_with(&self.config, self.facts.clone(), &program, self.patience.clone())
    }

    /// Tells these texts and waits for what becomes of them.
    fn tells(&self, texts: &[&str]) -> Tally {
        in_runtime(async || {
            let mut notifier = self.open();
            for text in texts {
                notifier.tell(&finished(text));
            }
            notifier.finish(SOON).await
        })
    }

    /// No courier and nothing below one lives any longer.
    fn wait_gone(&self) {
        let run_id = self.facts.run_id.to_string();
        let left = wait_for_end(|| with_variable("LONGHAUL_RUN", &run_id), GONE_WITHIN);
        assert_eq!(left, []);
    }
}

fn finished(text: &str) -> Notification {
    Notification::new(Occasion::Finished, text, Timestamp::now(), 3)
}

fn in_runtime<T>(f: impl AsyncFnOnce() -> T) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(f())
}

const fn tally(delivered: u64, failed: u64, dropped: u64) -> Tally {
    Tally { delivered, failed, dropped }
}

#[test]
fn a_webhook_that_fails_twice_gets_the_same_json_three_times() {
    let server = Server::start([
        status("500 Internal Server Error", ""),
        status("429 Too Many Requests", "retry-after: 86400\r\n"),
        ok(),
    ]);
    let desk = Desk::webhook(server.url());
    assert_eq!(desk.tells(&["the task file says done"]), tally(1, 0, 0));
    let all: Vec<_> = (0..3).map(|_| server.next()).collect();
    assert!(all.iter().all(|request| request == &all[0]), "{all:#?}");
    let (head, body) = &all[0];
    assert!(head.starts_with("post /hooks/s3cret?key=s3cret http/1.1\r\n"), "{head}");
    assert!(head.contains("\r\ncontent-type: application/json\r\n"), "{head}");
    assert!(head.contains("\r\nuser-agent: longhaul/"), "{head}");
    let body: Value = serde_json::from_str(body).unwrap();
    assert_eq!(body["text"], "longhaul, parser: the task file says done");
    assert_eq!(body["occasion"], "finished");
    assert_eq!(body["run_id"], desk.facts.run_id.to_string());
    desk.wait_gone();
}

#[test]
fn a_connection_that_breaks_is_tried_again() {
    let server = Server::start([
        Answer::HangsUp,
        Answer::Says("what do you want?\r\n\r\n".into()),
        Answer::Says("HTTP/1.1 200 O".into()),
        status("503 Service Unavailable", "retry-after: Wed, 21 Oct 2015 07:28:00 GMT\r\n"),
        ok(),
    ]);
    assert_eq!(Desk::webhook(server.url()).tells(&["x"]), tally(1, 0, 0));
    for _ in 0..5 {
        server.next();
    }
}

#[test]
fn a_server_that_is_down_is_given_up_after_five_attempts() {
    // Bound and closed again: nobody listens there.
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let desk = Desk::webhook(format!("http://127.0.0.1:{port}/"));
    assert_eq!(desk.tells(&["x"]), tally(0, 1, 0));
    let server = Server::start((0..6).map(|_| status("500 No", "")).collect::<Vec<_>>());
    assert_eq!(Desk::webhook(server.url()).tells(&["x"]), tally(0, 1, 0));
    assert_eq!(server.requests.try_iter().count(), 5);
}

#[test]
fn a_refusal_is_not_argued_with() {
    for line in ["400 Bad Request", "403 Forbidden", "404 Not Found", "410 Gone"] {
        let server = Server::start([status(line, "retry-after: 1\r\n"), ok()]);
        assert_eq!(Desk::webhook(server.url()).tells(&["x"]), tally(0, 1, 0), "{line}");
        assert_eq!(server.requests.try_iter().count(), 1, "{line}");
    }
}

#[test]
fn a_redirect_takes_the_notification_nowhere() {
    for line in ["301 Moved", "302 Found", "307 Temporary Redirect", "308 Permanent Redirect"] {
        let elsewhere = Server::start([ok()]);
        let server = Server::start([status(line, &format!("location: {}\r\n", elsewhere.url()))]);
        assert_eq!(Desk::webhook(server.url()).tells(&["x"]), tally(0, 1, 0), "{line}");
        assert_eq!(elsewhere.requests.try_iter().count(), 0, "{line}");
    }
}

#[test]
fn a_server_that_never_finishes_its_answer_is_left_and_tried_again() {
    for beginning in ["", "HTTP/1.1 200 OK\r\ncontent-le"] {
        let server = Server::start([Answer::Stalls(beginning), ok(), ok(), ok(), ok()]);
        let mut desk = Desk::webhook(server.url());
        desk.patience.webhook = Duration::from_millis(300);
        assert_eq!(desk.tells(&["x"]), tally(1, 0, 0));
        server.given_up.recv_timeout(SOON).expect("it was left");
    }
}

#[test]
fn the_end_of_the_run_is_not_held_up_by_a_server() {
    let server = Server::start([Answer::Stalls("")]);
    let desk = Desk::webhook(server.url());
    in_runtime(async || {
        let mut notifier = desk.open();
        notifier.tell(&finished("one"));
        notifier.tell(&finished("two"));
        assert_eq!(notifier.finish(Duration::from_millis(300)).await, tally(0, 0, 2));
    });
    desk.wait_gone();
}

#[test]
fn at_the_end_nobody_waits_for_the_next_attempt() {
    let server = Server::start([status("500 No", ""), ok()]);
    let mut desk = Desk::webhook(server.url());
    desk.patience.pauses = vec![Duration::from_secs(3_600)];
    assert_eq!(desk.tells(&["x"]), tally(1, 0, 0));
}

#[test]
fn a_second_interrupt_ends_it_at_once() {
    let server = Server::start([Answer::Stalls("")]);
    let desk = Desk::webhook(server.url());
    in_runtime(async || {
        let mut notifier = desk.open();
        notifier.tell(&finished("one"));
        let interrupted = async {
            // The request is there: it is being delivered.
            while server.requests.try_recv().is_err() {
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            _ = notifier.finish(SOON) => panic!("it cannot be delivered"),
            () = interrupted => {}
        }
        drop(notifier);
    });
    server.given_up.recv_timeout(SOON).expect("the connection was let go");
    desk.wait_gone();
}

#[test]
fn notifications_come_in_order_and_the_newest_survive_a_flood() {
    let (let_through, gate) = mpsc::channel();
    let held = Answer::SaysWhenLet("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n".into(), gate);
    let server =
        Server::start(std::iter::once(held).chain((0..64).map(|_| ok())).collect::<Vec<_>>());
    let desk = Desk::webhook(server.url());
    in_runtime(async || {
        let mut notifier = desk.open();
        notifier.tell(&finished("first"));
        let first = loop {
            match server.requests.try_recv() {
                Ok((_, body)) => break body,
                Err(_) => tokio::task::yield_now().await,
            }
        };
        assert!(first.contains("parser: first"), "{first}");
        for n in 0..70 {
            notifier.tell(&finished(&n.to_string()));
        }
        assert_eq!(notifier.tally(), tally(0, 0, 6));
        let_through.send(()).unwrap();
        assert_eq!(notifier.finish(SOON).await, tally(65, 0, 6));
    });
    for n in 6..70 {
        assert_eq!(server.body()["text"], format!("longhaul, parser: {n}"));
    }
}

/// A server with a certificate for `localhost`, by an authority that was made for
/// this test and whose key is nowhere any more.
fn tls_server() -> (u16, mpsc::Receiver<(String, String)>) {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/tls");
    let read = |name| fs::read(data.join(name)).unwrap();
    let certificate = CertificateDer::from(read("localhost.der"));
    let key = PrivatePkcs8KeyDer::from(read("localhost.key.der"));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key.into())
        .unwrap();
    let config = Arc::new(config);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let (request, requests) = mpsc::channel();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let connection = rustls::ServerConnection::new(Arc::clone(&config)).unwrap();
            let mut tls = rustls::StreamOwned::new(connection, stream.unwrap());
            let Some(heard) = read_request(&mut BufReader::new(&mut tls)) else { continue };
            let _ = request.send(heard);
            let _ = tls.write_all(b"HTTP/1.1 204 No Content\r\n\r\n");
        }
    });
    (port, requests)
}

#[test]
fn https_trusts_what_the_machine_trusts_and_nothing_else() {
    let (port, requests) = tls_server();
    let authority = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/tls/ca.pem");
    let mut desk = Desk::webhook(format!("https://localhost:{port}/s3cret"));
    desk.variables = vec![("SSL_CERT_FILE", authority.into())];
    assert_eq!(desk.tells(&["by tls"]), tally(1, 0, 0));
    assert!(requests.recv_timeout(SOON).unwrap().1.contains("by tls"));

    // A name that is not in the certificate.
    desk.config.webhook = Some(format!("https://127.0.0.1:{port}/s3cret"));
    assert_eq!(desk.tells(&["x"]), tally(0, 1, 0));
    // An authority this machine does not know, and a machine that knows none.
    desk.config.webhook = Some(format!("https://localhost:{port}/s3cret"));
    let stranger = TempDir::new().unwrap();
    let file = stranger.path().join("none.pem");
    fs::write(&file, "").unwrap();
    desk.variables = vec![("SSL_CERT_FILE", file.to_str().unwrap().into())];
    assert_eq!(desk.tells(&["x"]), tally(0, 1, 0));
    assert_eq!(requests.try_iter().count(), 0);
}

/// Lines of a log that is kept in memory.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// What is logged while these are told.
fn logged(desk: &Desk, texts: &[&str]) -> String {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .finish();
    tracing::subscriber::with_default(subscriber, || desk.tells(texts));
    let bytes = log.0.lock().unwrap().clone();
    String::from_utf8(bytes).unwrap()
}

#[test]
fn the_url_is_a_secret_and_the_log_names_the_host_only() {
    let server = Server::start([Answer::HangsUp, status("500 No", ""), status("404 No", "")]);
    let desk = Desk::webhook(server.url().replace("//", "//me:s3cret@"));
    let log = logged(&desk, &["x"]);
    assert!(log.contains(&format!("http://127.0.0.1:{}", server.port)), "{log}");
    assert!(log.contains("WARN") && log.contains("it answered 404"), "{log}");
    assert!(!log.contains("s3cret"), "{log}");
    for url in ["http:///s3cret", "https://[/s3cret", "http://?s3cret", "http://h:99999999/s3cret"]
    {
        let log = logged(&Desk::webhook(url), &["x"]);
        assert!(log.contains("WARN"), "{log}");
        assert!(!log.contains("s3cret"), "{log}");
    }
}

#[test]
fn a_command_gets_its_arguments_as_they_stand_and_json_on_its_input() {
    let folder = TempDir::new().unwrap();
    let script = r#"cat > "$1/input"; printf '<%s>' "$@" > "$1/words""#;
    let mut desk = Desk::script(script, &folder);
    desk.config.command.extend(["$HOME".into(), "a  b;c".into(), "*".into(), String::new()]);
    let mut told = finished("done");
    told.exit_code = Some(0);
    told.screen = Some("é\u{1b}[2J".repeat(5_000));
    let tally_now = in_runtime(async || {
        let mut notifier = desk.open();
        notifier.tell(&told);
        notifier.finish(SOON).await
    });
    assert_eq!(tally_now, tally(1, 0, 0));
    let words = fs::read_to_string(folder.path().join("words")).unwrap();
    assert_eq!(words, format!("<{}><$HOME><a  b;c><*><>", folder.path().display()));
    let input = fs::read_to_string(folder.path().join("input")).unwrap();
    assert!(!input.contains('\u{1b}'));
    let body: Value = serde_json::from_str(&input).unwrap();
    assert_eq!(body["exit_code"], json!(0));
    assert_eq!(body["screen"].as_str().unwrap().chars().count(), 8_000);
    desk.wait_gone();
}

#[test]
fn a_command_that_fails_is_logged_with_its_last_words_and_not_repeated() {
    let folder = TempDir::new().unwrap();
    let script = "echo tried >> \"$1/tries\"; seq 1000; printf 'no \\033[2Jroute' >&2; exit 3";
    let desk = Desk::script(script, &folder);
    let log = logged(&desk, &["x"]);
    assert!(log.contains("exit status: 3") && log.contains("1000\\nno \\u{1b}[2Jroute"), "{log}");
    assert!(!log.contains("500"), "only the end: {log}");
    assert_eq!(fs::read_to_string(folder.path().join("tries")).unwrap(), "tried\n");
    let mut desk = Desk::new();
    desk.config.command = vec!["/nonexistent/tell-me".into(), "--token=s3cret".into()];
    let log = logged(&desk, &["x"]);
    assert!(log.contains("/nonexistent/tell-me") && !log.contains("s3cret"), "{log}");
}

#[test]
fn a_command_need_not_read_and_may_print_without_end() {
    let folder = TempDir::new().unwrap();
    let desk = Desk::script("exec <&-; seq 1000000", &folder);
    assert_eq!(desk.tells(&["one", "two"]), tally(2, 0, 0));
}

#[test]
fn a_command_that_never_ends_is_killed_with_all_that_is_below_it() {
    let folder = TempDir::new().unwrap();
    let script =
        "trap '' TERM INT HUP; setsid sleep 600 & setsid sh -c 'sleep 600 & wait' & sleep 600";
    let mut desk = Desk::script(script, &folder);
    desk.patience.command = Duration::from_millis(500);
    assert_eq!(desk.tells(&["x"]), tally(0, 1, 0));
    desk.wait_gone();
}

#[test]
fn what_a_command_leaves_in_the_background_goes_with_it() {
    let folder = TempDir::new().unwrap();
    let script = "setsid sleep 600 >/dev/null 2>&1 & (setsid sh -c 'sleep 600; :' &) ; exit 0";
    let desk = Desk::script(script, &folder);
    assert_eq!(desk.tells(&["x"]), tally(1, 0, 0));
    desk.wait_gone();
}

#[test]
fn a_slow_command_does_not_hold_up_the_webhook() {
    let folder = TempDir::new().unwrap();
    let server = Server::start([ok()]);
    let mut desk = Desk::script("sleep 600", &folder);
    desk.config.webhook = Some(server.url());
    in_runtime(async || {
        let mut notifier = desk.open();
        notifier.tell(&finished("x"));
        while notifier.tally() != tally(1, 0, 0) {
            tokio::task::yield_now().await;
        }
        assert_eq!(notifier.finish(Duration::from_millis(1)).await, tally(1, 0, 1));
    });
    desk.wait_gone();
}

/// A courier of our own with a command that never ends, and the variable that
/// marks both.
fn courier() -> (std::process::Child, String) {
    let folder = TempDir::new().unwrap();
    let fifo = folder.path().join("up");
    assert!(Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    let mark = Uuid::new_v4().to_string();
    let mut courier = Command::new(env!("CARGO_BIN_EXE_longhaul"))
        .arg("__courier")
        .env("LAB_ID", &mark)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    // One without the mark, told by an argument.
    let script = "trap '' TERM; setsid sleep 600 & (setsid env -i sh -c 'sleep 600; :' $2 &); \
                  echo up > \"$1\"; sleep 600";
    let order = json!({
        "way": {"command": ["sh", "-c", script, "sh", fifo, mark]},
        "body": "{}",
        "limit_ms": 600_000,
    });
    let mut leash = courier.stdin.take().unwrap();
    leash.write_all(format!("{order}\n").as_bytes()).unwrap();
    // Opened for reading only once the command writes.
    assert_eq!(fs::read_to_string(&fifo).unwrap(), "up\n");
    assert!(with_variable("LAB_ID", &mark).len() >= 3);
    courier.stdin = Some(leash);
    (courier, mark)
}

#[test]
fn nothing_outlives_a_longhaul_that_is_killed() {
    let (mut courier, mark) = courier();
    // What the kernel does for the one who held the leash.
    drop(courier.stdin.take());
    assert_eq!(wait_for_end(|| with_variable("LAB_ID", &mark), GONE_WITHIN), []);
    assert_eq!(with_argument(&mark), []);
    assert!(courier.wait().unwrap().success());
}

#[test]
fn a_courier_without_an_order_ends_quietly() {
    for input in ["", "\n", "{}\n", "not json"] {
        let mut courier = Command::new(env!("CARGO_BIN_EXE_longhaul"))
            .arg("__courier")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let _ = courier.stdin.take().unwrap().write_all(input.as_bytes());
        let said = courier.wait_with_output().unwrap();
        assert!(said.status.success() && said.stdout.is_empty(), "{input:?}: {said:?}");
    }
}
