//! A keeper holds one program and leaves nothing of it behind.

use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use longhaul::session::sweep::{self, Process};
use longhaul::session::vitals::Sampler;
use longhaul::session::wire::{COLS, FrameBuffer, ROWS};
use longhaul::session::{
    ENTER_DELAY_MS, Ending, FILE_MAX_BYTES, Keeper, KeeperCommand, KeeperEvent, Key, LAST_SCREEN,
    Launch, OOM_SCORE_RISE,
};

const LONGHAUL: &str = env!("CARGO_BIN_EXE_longhaul");

/// A process of a test may take this long to do what it must do.
const PATIENCE: Duration = Duration::from_secs(60);

/// A program under a keeper, with a tag that is in the command line of
/// everything it starts and a run mark that is in the environment.
struct Room {
    keeper: Keeper,
    tag: String,
    run_id: String,
}

/// Digits that `sleep` takes for a very long time and nobody else uses.
fn new_tag() -> String {
    let unique = uuid::Uuid::new_v4().as_u128() % 1_000_000_000_000;
    format!("9{unique:012}")
}

fn launch(program: &str, args: &[&str], run_id: &str) -> Launch {
    let path = std::env::var_os("PATH").unwrap();
    Launch {
        program: program.into(),
        args: args.iter().map(OsString::from).collect(),
        env: vec![
            ("PATH".into(), path),
            ("SHELL".into(), "/bin/sh".into()),
            (sweep::RUN_VARIABLE.into(), run_id.into()),
        ],
        cwd: std::env::temp_dir(),
        scratch: None,
        rows: ROWS,
        cols: COLS,
    }
}

impl Room {
    fn open(program: &str, args: &[&str]) -> Self {
        let run_id = uuid::Uuid::new_v4().to_string();
        let launch = launch(program, args, &run_id);
        let keeper = Keeper::spawn_program(Path::new(LONGHAUL), &launch).unwrap();
        Room { keeper, tag: String::new(), run_id }
    }

    /// Runs a shell script in which `TAG` stands for this room's tag.
    fn script(script: &str) -> Self {
        let tag = new_tag();
        let mut room = Self::open("sh", &["-c", &script.replace("TAG", &tag)]);
        room.tag = tag;
        room
    }

    async fn next(&mut self) -> KeeperEvent {
        tokio::time::timeout(PATIENCE, self.keeper.next()).await.expect("the keeper says nothing")
    }

    async fn spawned(&mut self) -> u32 {
        match self.next().await {
            KeeperEvent::Spawned { pid, start_ticks } => {
                assert_ne!(start_ticks, 0);
                pid
            }
            other => panic!("expected Spawned, got {other:?}"),
        }
    }

    /// Waits until the screen shows `text`; gives the whole screen.
    async fn shows(&mut self, text: &str) -> String {
        let mut last = String::new();
        let wait = async {
            loop {
                self.keeper.send(&KeeperCommand::ScreenRequest { id: 7 }).unwrap();
                last = loop {
                    match self.keeper.next().await {
                        KeeperEvent::Screen { id: 7, text, .. } => break text,
                        KeeperEvent::Spawned { .. } | KeeperEvent::Submitted { .. } => {}
                        other => panic!("before {text:?} was shown: {other:?}"),
                    }
                };
                if last.contains(text) {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let waited = tokio::time::timeout(PATIENCE, wait).await;
        assert!(waited.is_ok(), "{text:?} never shown; the screen is:\n{last}");
        last
    }

    /// Takes events up to the last; gives code, signal, killed, survivors.
    async fn ends(&mut self) -> (Option<i32>, Option<i32>, u32, u32) {
        let mut exit = None;
        loop {
            match self.next().await {
                KeeperEvent::Exited { code, signal } => exit = Some((code, signal)),
                KeeperEvent::Swept { killed, survivors } => {
                    let (code, signal) = exit.expect("Exited comes before Swept");
                    return (code, signal, killed, survivors);
                }
                KeeperEvent::Screen { .. }
                | KeeperEvent::Submitted { .. }
                | KeeperEvent::Spawned { .. } => {}
                other => panic!("expected the end, got {other:?}"),
            }
        }
    }

    fn left_over(&self) -> Vec<String> {
        tagged(&self.tag)
    }
}

/// Command lines of living processes that carry `tag`.
fn tagged(tag: &str) -> Vec<String> {
    assert!(!tag.is_empty());
    std::fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok())
        .filter(|pid| Process::read(*pid).is_some_and(|process| !process.zombie))
        .filter_map(|pid| std::fs::read(format!("/proc/{pid}/cmdline")).ok())
        .map(|line| String::from_utf8_lossy(&line).replace('\0', " "))
        .filter(|line| line.contains(tag))
        .collect()
}

/// Waits for a fact that nobody announces.
fn until(what: &str, fact: impl Fn() -> bool) {
    let start = std::time::Instant::now();
    while !fact() {
        assert!(start.elapsed() < PATIENCE, "never came true: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn run<F: Future>(test: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(test)
}

/// Trees that are hard to fell. Each says READY when it stands, and its root
/// ends on SIGTERM.
const TREES: &[(&str, &str)] = &[
    ("a plain child", "sleep TAG & echo READY; sleep TAG"),
    ("a double fork", "sh -c '(sleep TAG &) ; exit 0'; echo READY; sleep TAG"),
    ("a session of its own", "setsid sleep TAG & echo READY; sleep TAG"),
    ("nohup", "nohup sleep TAG >/dev/null 2>&1 & echo READY; sleep TAG"),
    (
        "one that ignores TERM and HUP",
        "sh -c 'trap \"\" TERM HUP; echo READY; while :; do sleep TAG; done' & sleep TAG",
    ),
    (
        "one that forks on TERM",
        "setsid sh -c 'trap \"setsid sleep TAG & setsid sleep TAG &\" TERM; echo READY; \
         while :; do sleep 0.02; done' & sleep TAG",
    ),
    ("a cleared environment", "env -i setsid sleep TAG & echo READY; sleep TAG"),
    (
        "fifty children",
        "i=0; while [ $i -lt 50 ]; do setsid sleep TAG & i=$((i+1)); done; echo READY; sleep TAG",
    ),
    ("a stopped one", "setsid sleep TAG & kill -STOP $!; echo READY; sleep TAG"),
    (
        "one that hops: forks, exits, and goes on in its child",
        "hop='setsid sh -c \"$HOP\" TAG & exit'; export HOP=\"$hop\"; \
         sh -c \"$HOP\" TAG & echo READY; sleep TAG",
    ),
    ("the program itself stopped", "setsid sleep TAG & echo READY; kill -STOP $$; sleep TAG"),
    (
        "a chain of sessions",
        "setsid sh -c 'setsid sh -c \"setsid sleep TAG & sleep TAG\" & sleep TAG' & echo READY; sleep TAG",
    ),
];

#[test]
fn every_tree_is_gone_after_kill() {
    run(async {
        for (name, script) in TREES {
            let mut room = Room::script(script);
            room.spawned().await;
            room.shows("READY").await;
            assert!(!room.left_over().is_empty(), "{name}: the check sees what lives");
            room.keeper.send(&KeeperCommand::End(Ending::Kill)).unwrap();
            let (code, signal, _, survivors) = room.ends().await;
            assert_eq!((code, signal, survivors), (None, Some(9), 0), "{name}");
            assert_eq!(room.left_over(), [""; 0], "{name}");
        }
    });
}

#[test]
fn every_tree_is_gone_after_a_polite_end() {
    run(async {
        for (name, script) in TREES {
            let mut room = Room::script(script);
            room.spawned().await;
            room.shows("READY").await;
            room.keeper.send(&KeeperCommand::End(Ending::Terminate)).unwrap();
            let (code, signal, _, survivors) = room.ends().await;
            assert_eq!((code, signal, survivors), (None, Some(15), 0), "{name}");
            assert_eq!(room.left_over(), [""; 0], "{name}");
        }
    });
}

#[test]
fn what_outlives_the_program_is_counted() {
    run(async {
        let mut room = Room::script("setsid sh -c 'echo READY; exec sleep TAG' & exec sleep TAG");
        room.shows("READY").await;
        room.keeper.send(&KeeperCommand::End(Ending::Terminate)).unwrap();
        assert_eq!(room.ends().await, (None, Some(15), 1, 0));
    });
}

#[test]
fn every_tree_is_gone_after_the_leash_is_let_go() {
    run(async {
        for (name, script) in TREES {
            let mut room = Room::script(script);
            room.spawned().await;
            room.shows("READY").await;
            let keeper = Process::read(room.keeper.keeper_pid()).unwrap();
            let tag = room.tag.clone();
            drop(room);
            tokio::task::spawn_blocking(move || until("the keeper ends", || !keeper.alive()))
                .await
                .unwrap();
            assert_eq!(tagged(&tag), [""; 0], "{name}");
        }
    });
}

#[test]
fn a_program_that_ignores_every_polite_signal_is_killed_when_the_leash_is_let_go() {
    run(async {
        let mut room = Room::script(
            "trap '' TERM HUP INT; echo READY; while :; do setsid sleep TAG & wait; done",
        );
        room.spawned().await;
        room.shows("READY").await;
        let keeper = Process::read(room.keeper.keeper_pid()).unwrap();
        let tag = room.tag.clone();
        drop(room);
        tokio::task::spawn_blocking(move || until("the keeper ends", || !keeper.alive()))
            .await
            .unwrap();
        assert_eq!(tagged(&tag), [""; 0]);
    });
}

/// A keeper whose leash is held by a process that can be killed: `sleep` with
/// longhaul's end of the socket as its standard input.
struct Held {
    holder: Child,
    keeper: Child,
    spawned: Process,
}

fn held(launch: Launch, run_id: &str) -> Held {
    use std::io::{Read, Write};
    let (mut ours, theirs) = UnixStream::pair().unwrap();
    let keeper = Command::new(LONGHAUL)
        .arg("__keeper")
        .env_clear()
        .env(sweep::KEEPER_VARIABLE, run_id)
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .spawn()
        .unwrap();
    ours.write_all(&KeeperCommand::Launch(launch).encode()).unwrap();
    let mut frames = FrameBuffer::default();
    let spawned = loop {
        let mut buffer = [0; 256];
        let count = ours.read(&mut buffer).unwrap();
        frames.extend(&buffer[..count]);
        if let Some(body) = frames.next_body().unwrap() {
            match KeeperEvent::decode(&body).unwrap() {
                KeeperEvent::Spawned { pid, .. } => break Process::read(pid).unwrap(),
                other => panic!("{other:?}"),
            }
        }
    };
    let holder =
        Command::new("sleep").arg("600").stdin(Stdio::from(OwnedFd::from(ours))).spawn().unwrap();
    Held { holder, keeper, spawned }
}

#[test]
fn killing_the_holder_of_the_leash_ends_the_session_politely() {
    let dir = tempfile::tempdir().unwrap();
    let last_words = dir.path().join("last-words");
    let tag = new_tag();
    let run_id = uuid::Uuid::new_v4().to_string();
    let script = format!(
        "trap 'echo bill > {}; exit 0' TERM; setsid sleep {tag} & while :; do sleep 0.02; done",
        last_words.display()
    );
    let mut held = held(launch("sh", &["-c", &script], &run_id), &run_id);
    until("the tree stands", || tagged(&tag).iter().any(|line| line.starts_with("sleep")));
    held.holder.kill().unwrap();
    held.holder.wait().unwrap();
    assert!(held.keeper.wait().unwrap().success());
    assert_eq!(std::fs::read_to_string(last_words).unwrap(), "bill\n");
    assert!(!held.spawned.alive());
    assert_eq!(tagged(&tag), [""; 0]);
}

#[test]
fn a_run_that_was_killed_is_cleared_before_the_next_begins() {
    let tag = new_tag();
    let run_id = uuid::Uuid::new_v4().to_string();
    let script = format!("trap '' TERM HUP; env -i setsid sleep {tag} & sleep {tag}; sleep {tag}");
    let mut held = held(launch("sh", &["-c", &script], &run_id), &run_id);
    until("the tree stands", || tagged(&tag).len() >= 3);
    held.holder.kill().unwrap();
    held.holder.wait().unwrap();
    assert_eq!(sweep::clear_run(&run_id).survivors, 0);
    assert_eq!(tagged(&tag), [""; 0]);
    assert!(held.keeper.wait().unwrap().success(), "the keeper was not killed but awaited");
}

#[test]
fn a_lost_keeper_is_noticed_and_what_it_held_is_found_by_its_mark() {
    run(async {
        let mut room = Room::script(
            "trap '' HUP TERM; setsid sleep TAG & echo READY; while :; do sleep TAG; done",
        );
        room.spawned().await;
        room.shows("READY").await;
        assert!(!sweep::marked(sweep::RUN_VARIABLE, &room.run_id).is_empty());
        let keeper = Process::read(room.keeper.keeper_pid()).unwrap();
        assert!(keeper.signal(rustix::process::Signal::KILL));
        assert!(matches!(room.next().await, KeeperEvent::Lost { .. }));
        let swept = sweep::kill_all(100, || sweep::marked(sweep::RUN_VARIABLE, &room.run_id));
        assert!(swept.killed >= 2 && swept.survivors == 0, "{swept:?}");
        assert_eq!(room.left_over(), [""; 0]);
    });
}

#[test]
fn a_term_to_the_keeper_itself_ends_the_session() {
    run(async {
        let mut room = Room::script("sleep TAG & echo READY; sleep TAG");
        room.spawned().await;
        room.shows("READY").await;
        let keeper = Process::read(room.keeper.keeper_pid()).unwrap();
        assert!(keeper.signal(rustix::process::Signal::TERM));
        tokio::task::spawn_blocking(move || until("the keeper ends", || !keeper.alive()))
            .await
            .unwrap();
        assert_eq!(room.left_over(), [""; 0]);
    });
}

#[test]
fn exit_codes_come_through_exactly() {
    run(async {
        for code in [0, 1, 2, 10, 42, 126, 127, 128, 129, 134, 137, 143, 255] {
            let mut room = Room::open("sh", &["-c", &format!("exit {code}")]);
            assert_eq!(room.ends().await, (Some(code), None, 0, 0));
        }
    });
}

#[test]
fn signals_come_through_exactly() {
    run(async {
        for signal in [1, 2, 3, 6, 9, 11, 13, 14, 15] {
            let mut room = Room::open("sh", &["-c", &format!("ulimit -c 0; kill -{signal} $$")]);
            assert_eq!(room.ends().await, (None, Some(signal), 0, 0));
        }
    });
}

#[test]
fn the_last_screen_comes_before_the_exit() {
    run(async {
        let mut room = Room::open("sh", &["-c", "echo it went wrong because; exit 3"]);
        room.spawned().await;
        match room.next().await {
            KeeperEvent::Screen { id: LAST_SCREEN, text, bytes_seen, .. } => {
                assert!(text.contains("it went wrong because"), "{text}");
                assert!(bytes_seen > 0);
            }
            other => panic!("expected the last screen, got {other:?}"),
        }
        assert_eq!(room.next().await, KeeperEvent::Exited { code: Some(3), signal: None });
    });
}

#[test]
fn a_program_that_cannot_run_is_a_failed_spawn_that_says_why() {
    run(async {
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &[u8], mode: u32| {
            let path = dir.path().join(name);
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            path.to_str().unwrap().to_owned()
        };
        let cases = [
            ("/nonexistent/claude".to_owned(), "cannot start /nonexistent/claude"),
            ("no-such-program-anywhere".to_owned(), "cannot start no-such-program-anywhere"),
            (dir.path().to_str().unwrap().to_owned(), "is a directory"),
            (file("plain", b"text", 0o600), "cannot start"),
            (file("no-interpreter", b"#!/nonexistent/shell\n", 0o700), "could not be executed"),
        ];
        for (program, why) in cases {
            let mut room = Room::open(&program, &[]);
            let message = loop {
                match room.next().await {
                    KeeperEvent::SpawnFailed { message } => break message,
                    KeeperEvent::Spawned { .. } | KeeperEvent::Screen { .. } => {}
                    other => panic!("{program}: {other:?}"),
                }
            };
            assert!(message.contains(why), "{program}: {message}");
        }
    });
}

#[test]
fn a_directory_that_is_not_there_is_a_failed_spawn_and_not_the_home_directory() {
    run(async {
        let mut launch = launch("pwd", &[], "none");
        launch.cwd = "/nonexistent/project".into();
        let mut keeper = Keeper::spawn_program(Path::new(LONGHAUL), &launch).unwrap();
        match tokio::time::timeout(PATIENCE, keeper.next()).await.unwrap() {
            KeeperEvent::SpawnFailed { message } => {
                assert_eq!(message, "/nonexistent/project is not a directory");
            }
            other => panic!("{other:?}"),
        }
    });
}

#[test]
fn the_program_inherits_three_descriptors_its_own_environment_and_clean_signals() {
    run(async {
        let dir = tempfile::tempdir().unwrap();
        let wrapper = dir.path().join("keeper-with-ignored-signals");
        let text =
            format!("#!/bin/sh\ntrap '' TSTP TTOU TTIN USR1 USR2 HUP\nexec {LONGHAUL} \"$@\"\n");
        std::fs::write(&wrapper, text).unwrap();
        std::fs::set_permissions(&wrapper, std::fs::Permissions::from_mode(0o700)).unwrap();
        let script = "ls -m /proc/$$/fd; env; grep -E 'Sig(Blk|Ign)' /proc/self/status; \
                      ps -o tty= -p $$; echo READY; sleep 600";
        let launch = launch("sh", &["-c", script], "fd-check");
        let keeper = Keeper::spawn_program(&wrapper, &launch).unwrap();
        let mut room = Room { keeper, tag: String::new(), run_id: String::new() };
        let screen = room.shows("READY").await;
        assert!(screen.contains("0, 1, 2\n"), "{screen}");
        assert!(!screen.contains("0, 1, 2,"), "{screen}");
        assert!(screen.contains("LONGHAUL_RUN=fd-check\n"), "{screen}");
        assert!(!screen.contains("LONGHAUL_KEEPER"), "{screen}");
        assert!(!screen.contains("CARGO"), "{screen}");
        for line in ["SigBlk:", "SigIgn:"] {
            let line = screen.lines().find(|l| l.contains(line)).unwrap();
            let mask = u64::from_str_radix(line[7..].trim(), 16).unwrap();
            // Above 31 are real-time signals, two of which belong to libc.
            assert_eq!(mask & 0x7fff_ffff, 0, "{screen}");
        }
        assert!(screen.contains("pts/"), "the pty is the controlling terminal: {screen}");
    });
}

/// Shows each read of raw input as one `cat -v` piece in angle brackets.
const ECHO_READS: &str = "stty raw -echo; printf '\\033[?2004hREADY '; \
    while :; do printf '<%s>' \"$(dd bs=65536 count=1 2>/dev/null | cat -v)\"; done";

#[test]
fn a_submitted_text_and_its_enter_arrive_apart() {
    run(async {
        let mut room = Room::open("sh", &["-c", ECHO_READS]);
        room.shows("READY").await;
        room.keeper.send(&KeeperCommand::Submit { id: 5, text: "go on".into() }).unwrap();
        room.keeper.send(&KeeperCommand::Press(Key::Escape)).unwrap();
        match room.next().await {
            KeeperEvent::Submitted { id: 5, text_written_us, enter_written_us } => {
                assert!(enter_written_us - text_written_us >= ENTER_DELAY_MS * 1000);
            }
            other => panic!("{other:?}"),
        }
        let screen = room.shows("^[").await;
        assert!(screen.contains("<go on><^M"), "{screen}");
    });
}

#[test]
fn a_long_text_arrives_as_one_paste() {
    run(async {
        let mut room = Room::open("sh", &["-c", ECHO_READS]);
        room.shows("READY").await;
        let text = "first line\nsecond \x1b[201~line".to_owned();
        room.keeper.send(&KeeperCommand::Submit { id: 1, text }).unwrap();
        let screen = room.shows("<^M>").await;
        assert!(
            screen.contains("<^[[200~first line\nsecond [201~line^[[201~><^M>")
                || screen.replace(' ', "").contains("^[[200~firstline"),
            "{screen}"
        );
    });
}

#[test]
fn a_program_that_does_not_read_holds_up_nothing() {
    run(async {
        let mut room = Room::script("stty raw -echo; printf '\\033[?2004hREADY'; sleep TAG");
        room.shows("READY").await;
        for id in 1..=4 {
            let text = "x".repeat(200_000);
            room.keeper.send(&KeeperCommand::Submit { id, text }).unwrap();
        }
        room.shows("READY").await;
        room.keeper.send(&KeeperCommand::End(Ending::Kill)).unwrap();
        assert_eq!(room.ends().await.1, Some(9));
    });
}

#[test]
fn a_flood_of_output_is_drained_while_nobody_reads_the_keeper() {
    run(async {
        let script = "head -c 20000000 /dev/zero | tr '\\0' x; echo; echo DONE; exit 7";
        let mut room = Room::open("sh", &["-c", script]);
        let pid = room.spawned().await;
        tokio::task::spawn_blocking(move || {
            until("the program got rid of its output", || Process::read(pid).is_none());
        })
        .await
        .unwrap();
        assert_eq!(room.ends().await, (Some(7), None, 0, 0));
    });
}

#[test]
fn a_reader_that_lags_behind_loses_screens_but_never_the_end() {
    run(async {
        let mut room = Room::script(
            "i=0; while [ $i -lt 38 ]; do printf '%0118d\\n' $i; i=$((i+1)); done; \
             echo READY; while [ ! -e /tmp/keeper-TAG ]; do sleep 0.01; done; exit 4",
        );
        room.shows("READY").await;
        for id in 100..1100 {
            room.keeper.send(&KeeperCommand::ScreenRequest { id }).unwrap();
        }
        let go = format!("/tmp/keeper-{}", room.tag);
        std::fs::write(&go, "").unwrap();
        let tag = room.tag.clone();
        tokio::task::spawn_blocking(move || {
            until("the program ended", || tagged(&tag).is_empty());
        })
        .await
        .unwrap();
        std::fs::remove_file(&go).unwrap();
        assert_eq!(room.ends().await, (Some(4), None, 0, 0));
    });
}

#[test]
fn a_large_environment_reaches_the_program_whole() {
    run(async {
        let mut launch =
            launch("sh", &["-c", "echo ${#BIG_1} ${#BIG_9}; echo READY; sleep 600"], "big");
        for i in 0..10 {
            launch.env.push((format!("BIG_{i}").into(), "y".repeat(100_000).into()));
        }
        let keeper = Keeper::spawn_program(Path::new(LONGHAUL), &launch).unwrap();
        let mut room = Room { keeper, tag: String::new(), run_id: String::new() };
        room.spawned().await;
        let screen = room.shows("READY").await;
        assert!(screen.contains("100000 100000"), "{screen}");
    });
}

#[test]
fn the_tree_below_a_process_is_found_and_ended_except_what_is_to_stay() {
    let (tag, staying) = (new_tag(), new_tag());
    let script = format!("sh -c 'sleep {tag} & wait' & sleep {tag} & sleep {staying}");
    let mut root = Command::new("sh").args(["-c", &script]).spawn().unwrap();
    let below = |except: &[u32]| sweep::descendants_of(root.id(), except);
    until("the tree stands", || below(&[]).len() == 4 && tagged(&staying).len() == 2);
    let stays = below(&[])
        .into_iter()
        .find(|process| {
            let line = std::fs::read_to_string(format!("/proc/{}/cmdline", process.pid)).unwrap();
            line.starts_with("sleep") && line.contains(&staying)
        })
        .unwrap();
    // Zombies of the shell's are the shell's to reap.
    let swept = sweep::kill_all(0, || {
        below(&[stays.pid]).into_iter().filter(|process| !process.zombie).collect()
    });
    assert_eq!(swept, sweep::Swept { killed: 3, survivors: 0 });
    assert!(stays.alive());
    assert!(stays.signal(rustix::process::Signal::KILL));
    root.wait().unwrap();
    assert_eq!(tagged(&tag), [""; 0]);
}

#[test]
fn a_keeper_with_nothing_to_do_sleeps() {
    run(async {
        let mut room = Room::script("echo READY; sleep TAG");
        room.shows("READY").await;
        let status = format!("/proc/{}/status", room.keeper.keeper_pid());
        let wake_ups = || -> u64 {
            let status = std::fs::read_to_string(&status).unwrap();
            let line = status.lines().find(|l| l.starts_with("voluntary_ctxt_switches")).unwrap();
            line.split_whitespace().last().unwrap().parse().unwrap()
        };
        // The last answer is behind it; what follows is at most the end of a pause.
        tokio::time::sleep(Duration::from_millis(300)).await;
        let before = wake_ups();
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(wake_ups() - before <= 1, "it woke up {} times", wake_ups() - before);
    });
}

/// The figure in a file of `/proc` that holds just one.
fn figure(path: &str) -> i64 {
    std::fs::read_to_string(path).unwrap().trim().parse().unwrap()
}

#[test]
fn the_program_and_its_children_die_first_and_write_no_file_without_end() {
    run(async {
        let dir = tempfile::tempdir().unwrap();
        let script = "cat /proc/$$/oom_score_adj; setsid sh -c 'cat /proc/$$/oom_score_adj; \
             grep \"Max file size\" /proc/$$/limits; truncate -s 30G \"$0\"; echo code $?; \
             echo READY' DIR/huge & exec sleep TAG";
        let mut room = Room::script(&script.replace("DIR", dir.path().to_str().unwrap()));
        let screen = room.shows("READY").await;
        let ours = figure("/proc/self/oom_score_adj");
        let theirs = (ours + i64::from(OOM_SCORE_RISE)).min(1_000).to_string();
        let scores: Vec<&str> = screen.lines().filter(|line| line.parse::<i64>().is_ok()).collect();
        assert_eq!(scores, [theirs.as_str(); 2], "{screen}");
        let keeper = format!("/proc/{}/oom_score_adj", room.keeper.keeper_pid());
        assert_eq!(figure(&keeper), ours, "the keeper itself is as before");
        // SIGXFSZ, and nothing written.
        assert!(screen.contains("code 153"), "{screen}");
        let limit = screen.lines().find(|line| line.starts_with("Max file size")).unwrap();
        let limits: Vec<u64> = limit.split_whitespace().filter_map(|w| w.parse().ok()).collect();
        assert_eq!(limits, [FILE_MAX_BYTES; 2], "soft and hard: {limit}");
    });
}

fn zombies_below(pid: u32) -> usize {
    sweep::descendants_of(pid, &[]).iter().filter(|process| process.zombie).count()
}

#[test]
fn orphans_that_end_are_reaped_while_the_session_goes_on() {
    run(async {
        // Each `sleep` outlives the shell that started it.
        let mut room = Room::script(
            "i=0; while [ $i -lt 50 ]; do (sleep 0.05 &); i=$((i+1)); done; echo READY; \
             exec sleep TAG",
        );
        room.shows("READY").await;
        let keeper = room.keeper.keeper_pid();
        tokio::task::spawn_blocking(move || {
            until("only the program is left", || sweep::descendants_of(keeper, &[]).len() == 1);
        })
        .await
        .unwrap();
    });
}

#[test]
fn zombies_are_reaped_at_the_end_and_not_counted_as_ended() {
    run(async {
        // Neither the program nor what outlives it waits for its child, which ends when its
        // parent is a shell no longer: that might wait for it.
        let mut room = Room::script(
            "export child='until grep -qx sleep /proc/$PPID/comm; do sleep 0.01; done'
             sh -c \"$child\" & setsid sh -c 'sh -c \"$child\" & echo READY; exec sleep TAG' &
             exec sleep TAG",
        );
        room.shows("READY").await;
        let keeper = room.keeper.keeper_pid();
        tokio::task::spawn_blocking(move || {
            until("two lie there dead", || zombies_below(keeper) == 2);
        })
        .await
        .unwrap();
        room.keeper.send(&KeeperCommand::End(Ending::Terminate)).unwrap();
        assert_eq!(room.ends().await, (None, Some(15), 1, 0));
        assert_eq!(zombies_below(keeper), 0);
    });
}

/// The version 2 group of a process, as a path of its hierarchy.
fn group_of(pid: u32) -> Option<String> {
    let groups = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
    groups.lines().find_map(|line| line.strip_prefix("0::")).map(str::to_owned)
}

/// Folders below the one mounted at the usual places that end in `name`.
fn folders_of_group(name: &str) -> Vec<std::path::PathBuf> {
    let roots = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"];
    roots
        .map(|root| Path::new(root).join(name.trim_start_matches('/')))
        .into_iter()
        .filter(|dir| dir.exists())
        .collect()
}

#[test]
fn a_group_of_its_own_holds_the_program_where_there_can_be_one_and_goes_with_it() {
    run(async {
        for ending in [Ending::Kill, Ending::Terminate] {
            let mut room =
                Room::script("setsid sh -c 'echo READY; exec sleep TAG' & exec sleep TAG");
            let pid = room.spawned().await;
            room.shows("READY").await;
            let keeper = room.keeper.keeper_pid();
            assert_eq!(group_of(keeper), group_of(std::process::id()), "the keeper stays");
            let run_id = room.run_id.replace('-', "");
            let expected = format!("longhaul-{run_id}-{keeper}");
            let group = group_of(pid).unwrap_or_default();
            let is_held = group.ends_with(&expected);
            assert!(is_held || group_of(pid) == group_of(keeper), "{group}");
            if is_held {
                assert_eq!(folders_of_group(&group).len(), 1);
            }
            room.keeper.send(&KeeperCommand::End(ending)).unwrap();
            let (_, _, killed, survivors) = room.ends().await;
            assert_eq!(survivors, 0);
            assert_eq!(killed, 1, "what outlived the program, however it was ended: {ending:?}");
            assert!(room.left_over().is_empty());
            if is_held {
                assert_eq!(folders_of_group(&group), [""; 0].map(std::path::PathBuf::from));
            }
        }
    });
}

#[test]
fn what_cleared_its_marks_is_ended_even_when_its_keeper_was_killed() {
    let tag = new_tag();
    let run_id = uuid::Uuid::new_v4().to_string();
    let script = format!("trap '' HUP; env -i setsid sleep {tag} & sleep {tag}; sleep {tag}");
    let mut held = held(launch("sh", &["-c", &script], &run_id), &run_id);
    until("the tree stands", || {
        tagged(&tag).iter().filter(|l| l.starts_with("sleep")).count() == 2
    });
    let is_held = group_of(held.spawned.pid) != group_of(std::process::id());
    held.keeper.kill().unwrap();
    held.keeper.wait().unwrap();
    held.holder.kill().unwrap();
    held.holder.wait().unwrap();
    assert_eq!(sweep::clear_run(&run_id).survivors, 0);
    until("all is gone where a group held it", || !is_held || tagged(&tag).is_empty());
    // Without a group nothing is left to find it by, except for this test.
    sweep::kill_all(0, || {
        let living = sweep::descendants_of(1, &[std::process::id()]);
        living.into_iter().filter(|p| command_line(p.pid).contains(&tag)).collect()
    });
    assert_eq!(tagged(&tag), [""; 0]);
}

fn command_line(pid: u32) -> String {
    let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&line).replace('\0', " ")
}

/// A question as the CLI paints it: its first option has the pointer.
const QUESTION: &str =
    "printf '\\n Do you want to proceed?\\n \\342\\235\\257 1. Yes\\n   2. No\\n'";

/// It took the place of an input line that nobody had looked at before.
#[test]
fn a_text_is_withheld_from_what_nobody_knows() {
    run(async {
        let input_line = r"\342\224\200\342\224\200\342\224\200\n\342\235\257 \n\342\224\200\342\224\200\342\224\200\n";
        let script = format!(
            "stty raw -echo opost; printf '{input_line}'; sleep 0.1; \
             printf '\\033[2J\\033[H  New terms\\n\\n  [ Accept ] [ Decline ]\\n'; exec cat"
        );
        let mut room = Room::open("sh", &["-c", &script]);
        room.shows("Decline").await;
        room.keeper.send(&KeeperCommand::Submit { id: 9, text: "go on".into() }).unwrap();
        match room.next().await {
            KeeperEvent::Withheld { id: 9, screen } => assert!(screen.contains("Decline")),
            other => panic!("{other:?}"),
        }
        room.keeper.send(&KeeperCommand::ScreenRequest { id: 7 }).unwrap();
        match room.next().await {
            KeeperEvent::Screen { id: 7, knows_layout: true, text, .. } => {
                assert!(!text.contains("go on"), "{text}");
            }
            other => panic!("{other:?}"),
        }
    });
}

#[test]
fn a_text_is_withheld_from_a_question_and_that_is_told() {
    run(async {
        let script = format!(
            "stty raw -echo; {QUESTION}; dd bs=1 count=1 >/dev/null 2>&1; echo TYPED; exec cat"
        );
        let mut room = Room::open("sh", &["-c", &script]);
        room.shows("2. No").await;
        room.keeper.send(&KeeperCommand::Submit { id: 9, text: "go on".into() }).unwrap();
        match room.next().await {
            KeeperEvent::Withheld { id: 9, screen } => {
                assert!(screen.contains("1. Yes"), "{screen}")
            }
            other => panic!("{other:?}"),
        }
        assert!(!room.shows("2. No").await.contains("TYPED"));
        // Keys are pressed all the same: they are how a question is answered.
        room.keeper.send(&KeeperCommand::Press(Key::Escape)).unwrap();
        room.shows("TYPED").await;
    });
}

#[test]
fn the_enter_of_a_text_is_withheld_from_a_question_that_came_up_meanwhile() {
    run(async {
        // The question is there as soon as the text is.
        let script = format!(
            "stty raw -echo; echo READY; dd bs=65536 count=1 2>/dev/null | cat -v; {QUESTION}; \
             dd bs=1 count=1 2>/dev/null; echo TYPED"
        );
        let mut room = Room::open("sh", &["-c", &script]);
        room.shows("READY").await;
        room.keeper.send(&KeeperCommand::Submit { id: 9, text: "go on".into() }).unwrap();
        match room.next().await {
            KeeperEvent::Withheld { id: 9, screen } => {
                assert!(screen.contains("go on") && screen.contains("1. Yes"), "{screen}");
            }
            other => panic!("{other:?}"),
        }
        assert!(!room.shows("2. No").await.contains("TYPED"));
    });
}

#[test]
fn the_vitals_of_a_session_follow_what_left_its_parents() {
    run(async {
        // The work is done by an orphan in a session of its own, which the
        // keeper has adopted, and by the short-lived children of that one.
        let dir = tempfile::tempdir().unwrap();
        let work = dir.path().join("work");
        let text =
            "kill -STOP $$; i=0; while [ $i -lt 200 ]; do /bin/true; i=$((i+1)); done; exec sleep";
        std::fs::write(&work, format!("{text} \"$1\"")).unwrap();
        let work = work.display();
        let mut room =
            Room::script(&format!("(setsid sh {work} TAG &); echo READY; exec sleep TAG"));
        let (cli, start_ticks) = match room.next().await {
            KeeperEvent::Spawned { pid, start_ticks } => (pid, start_ticks),
            other => panic!("{other:?}"),
        };
        room.shows("READY").await;
        let keeper = room.keeper.keeper_pid();
        let stopped = || {
            sweep::descendants_of(keeper, &[]).into_iter().find(|process| {
                process.parent == keeper
                    && process.pid != cli
                    && std::fs::read_to_string(format!("/proc/{}/stat", process.pid))
                        .is_ok_and(|stat| stat.contains(") T "))
            })
        };
        until("the orphan waits to begin", || stopped().is_some());
        let mut sampler = Sampler::new(keeper, cli, start_ticks, u64::MAX);
        let first = sampler.sample();
        assert_eq!((first.below_cli_cpu_ms, first.processes, first.is_stopped), (0, 2, false));
        stopped().unwrap().signal(rustix::process::Signal::CONT);
        let tag = room.tag.clone();
        let is_done = || tagged(&tag).iter().filter(|line| line.starts_with("sleep")).count() == 2;
        let mut below_ms = 0;
        while !is_done() {
            below_ms += sampler.sample().below_cli_cpu_ms;
        }
        below_ms += sampler.sample().below_cli_cpu_ms;
        assert!(below_ms >= 30, "{below_ms} ms for 200 processes");
        assert_eq!(sampler.sample().below_cli_cpu_ms, 0, "it sleeps");
    });
}
