//! One session of the stand-in: prompts in, turns out.

use std::collections::VecDeque;
use std::fs;
use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde_json::{Value, json};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use uuid::Uuid;

use super::keyboard::{Key, Keyboard};
use super::ledger::{Ledger, What};
use super::limb;
use super::reports::Reports;
use super::rows::{Transcript, Usage, VERSION};
use super::script::{Behaviour, Checkpoint, Moment};

/// Before the answer to a checkpoint request, however quick the script wants it.
/// File times are those of the last tick of the kernel, 10 ms ago at most: what
/// is written sooner after the request looks older than it. No model is as fast.
const THINKING_MS: u64 = 15;
/// What a checkpoint request starts with.
const REQUEST: &str = "CHECKPOINT";
const TASKS: &str = "dev-docs/tasks.md";
const NOTES: [&str; 3] = ["dev-docs/PROJECT_SUMMARY.md", "dev-docs/plan.md", TASKS];

/// Why what is going on does not go on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stop {
    /// The process ends, with this code.
    End(i32),
    /// Esc: the turn ends.
    Interrupted,
    /// The request failed for good: the turn ends.
    Failed { error: String, status: Option<u16>, text: String },
}

pub struct Session {
    pub behaviour: Behaviour,
    pub ledger: Ledger,
    pub transcript: Transcript,
    pub reports: Reports,
    keyboard: Keyboard,
    line: String,
    /// Prompts that wait, and where they come from.
    queue: VecDeque<(String, &'static str)>,
    in_turn: bool,
    /// From 1.
    pub turn: u32,
    context_tokens: u64,
    signal: Arc<AtomicUsize>,
    wake: UnixStream,
    is_open: bool,
}

impl Session {
    pub fn new(id: &str, settings: Option<Value>, behaviour: Behaviour, ledger: Ledger) -> Self {
        let cwd = std::env::current_dir().expect("a folder");
        let config_dir = std::env::var_os("CLAUDE_CONFIG_DIR").map_or_else(
            || PathBuf::from(std::env::var_os("HOME").expect("HOME")).join(".claude"),
            PathBuf::from,
        );
        let transcript = Transcript::new(&config_dir, &cwd, id, &behaviour.model);
        let path = transcript.path().to_string_lossy().into_owned();
        let reports = Reports::new(settings, id, &path, &cwd.to_string_lossy());
        let (wake, write) = UnixStream::pair().expect("a socket pair");
        wake.set_nonblocking(true).expect("a socket");
        let signal = Arc::new(AtomicUsize::new(0));
        for (name, number) in [("TERM", SIGTERM), ("HUP", SIGHUP), ("INT", SIGINT)] {
            let ignored = behaviour.ignores.iter().any(|ignored| ignored == name);
            let into = if ignored { Arc::default() } else { Arc::clone(&signal) };
            signal_hook::flag::register_usize(number, into, number as usize).expect("a handler");
            let write = write.try_clone().expect("a socket");
            signal_hook::low_level::pipe::register(number, write).expect("a handler");
        }
        let note = json!({
            "pid": std::process::id(), "sessionId": id, "cwd": cwd, "status": "busy",
            "statusUpdatedAt": jiff::Timestamp::now().as_millisecond(),
        });
        let notes = config_dir.join("sessions");
        let _ = fs::create_dir_all(&notes);
        let _ = fs::write(notes.join(format!("{}.json", std::process::id())), note.to_string());
        Self {
            behaviour,
            ledger,
            transcript,
            reports,
            keyboard: Keyboard::open(),
            line: String::new(),
            queue: VecDeque::new(),
            in_turn: false,
            turn: 0,
            context_tokens: 0,
            signal,
            wake,
            is_open: true,
        }
    }

    /// Lives to the end, and gives the exit code.
    pub fn live(mut self, prompt: String) -> i32 {
        let stop = self.serve(prompt).expect_err("it never ends by itself");
        let Stop::End(code) = stop else { panic!("{stop:?} outside of a turn") };
        self.ledger.note(What::End, code as u64);
        if self.turn > 0 {
            self.transcript.cost_state();
        }
        code
    }

    fn serve(&mut self, prompt: String) -> Result<(), Stop> {
        self.fault(Moment::Start)?;
        self.paint("\x1b[?2004h\x1b[2J\x1b[H Claude Code\r\n\r\n❯ ");
        let limbs = self.behaviour.limbs.clone();
        if !limbs.is_empty() {
            limb::grow(&limbs, &self.ledger);
        }
        let model = self.behaviour.model.clone();
        self.reports.hook("SessionStart", json!({"source": "startup", "model": model}));
        self.fault(Moment::Ready)?;
        if !prompt.is_empty() {
            self.queue.push_back((prompt, "typed"));
        }
        loop {
            match self.queue.pop_front() {
                Some((text, source)) => self.take_turn(&text, source)?,
                None => self.listen(None)?,
            }
        }
    }

    fn take_turn(&mut self, text: &str, source: &str) -> Result<(), Stop> {
        self.turn += 1;
        self.ledger.note(What::Turn, self.turn.into());
        self.in_turn = true;
        let done = self.work(text, source);
        self.in_turn = false;
        match done {
            Ok(()) => self.transcript.turn_duration(),
            Err(Stop::Interrupted) => {
                let said = [json!({"type": "text", "text": "[Request interrupted by user]"})];
                let message = json!({"role": "user", "content": said});
                self.transcript.row(json!({"type": "user", "message": message}));
            }
            Err(Stop::Failed { error, status, text }) => {
                self.transcript.api_error(&error, status, &text);
            }
            Err(end) => return Err(end),
        }
        self.fault(Moment::Idle)
    }

    fn work(&mut self, text: &str, source: &str) -> Result<(), Stop> {
        if self.turn == 1 {
            self.transcript.quiet("mode", json!({"mode": "normal"}));
            self.transcript.quiet("permission-mode", json!({"permissionMode": "default"}));
        }
        self.transcript.prompt(&as_shown(text), source);
        if self.behaviour.damaged {
            self.transcript.damage();
        }
        self.fault(Moment::Prompt)?;
        let mut asked = text.starts_with(REQUEST);
        if !asked {
            self.tool("Bash", json!({"command": "make", "description": "Do the next task"}))?;
            self.tick();
            self.fault(Moment::Tool)?;
            self.pause(self.behaviour.tool_ms)?;
            asked = self.end_tool();
        }
        if asked {
            self.checkpoint()?;
        }
        self.reply(&[json!({"type": "text", "text": "That is it."})])?;
        self.fault(Moment::Reply)
    }

    fn checkpoint(&mut self) -> Result<(), Stop> {
        self.ledger.note(What::Asked, self.turn.into());
        self.fault(Moment::Asked)?;
        match self.behaviour.checkpoint {
            Checkpoint::Refuse => {}
            Checkpoint::Ignore => {
                self.tool("Bash", json!({"command": "make"}))?;
                self.end_tool();
            }
            Checkpoint::Comply => {
                self.pause(THINKING_MS)?;
                self.tool("Bash", json!({"command": "cat >> dev-docs/plan.md"}))?;
                let line = format!("\nCheckpoint of {}.\n", self.ledger.session());
                for file in NOTES {
                    let file = fs::File::options().append(true).open(file);
                    file.and_then(|mut file| file.write_all(line.as_bytes())).expect("dev-docs");
                }
                self.ledger.note(What::Checkpoint, self.turn.into());
                self.fault(Moment::Written)?;
                self.end_tool();
            }
        }
        Ok(())
    }

    /// A reply that calls a tool; its result is still to come.
    fn tool(&mut self, name: &str, input: Value) -> Result<(), Stop> {
        let call = json!({"type": "tool_use", "id": "toolu_1", "name": name, "input": input});
        self.reply(&[json!({"type": "text", "text": "working"}), call])
    }

    /// The tool's result, and at this boundary what was typed meanwhile. True
    /// if that asks for a checkpoint.
    fn end_tool(&mut self) -> bool {
        self.transcript.result("toolu_1", "ok");
        if self.behaviour.subagent {
            self.transcript.subagent(3_000);
        }
        let mut asked = false;
        while let Some((text, _)) = self.queue.pop_front() {
            self.transcript.quiet("queue-operation", json!({"operation": "remove"}));
            self.transcript.row(json!({
                "type": "attachment",
                "attachment": {"type": "queued_command", "prompt": text, "commandMode": "prompt"},
            }));
            asked |= text.starts_with(REQUEST);
        }
        asked
    }

    fn reply(&mut self, blocks: &[Value]) -> Result<(), Stop> {
        self.pause(self.behaviour.reply_ms)?;
        let fresh = if self.context_tokens == 0 {
            self.behaviour.first_tokens
        } else {
            self.behaviour.step_tokens
        };
        self.context_tokens += fresh;
        let usage = Usage::of_context(self.context_tokens, fresh, self.behaviour.output_tokens);
        for (index, line) in self.transcript.reply(blocks, usage).into_iter().enumerate() {
            if index > 0 {
                self.pause(self.behaviour.row_ms)?;
            }
            self.transcript.raw((line + "\n").as_bytes());
        }
        self.ledger.note(What::Reply, self.transcript.replies());
        self.statusline();
        Ok(())
    }

    fn statusline(&mut self) {
        let (tokens, window) = (self.context_tokens, self.behaviour.window_tokens);
        let percent = (tokens as f64 / window as f64 * 100.0).round().min(100.0);
        self.reports.statusline(json!({
            "model": {"id": self.behaviour.model},
            "version": VERSION,
            "cost": {"total_cost_usd": self.transcript.cost_usd()},
            "context_window": {
                "total_input_tokens": tokens, "context_window_size": window,
                "used_percentage": percent,
            },
            "exceeds_200k_tokens": tokens > 200_000,
        }));
    }

    /// Ticks the next open box. In one step, so that a kill leaves the file as
    /// it was or ticked: what a torn task file does is another test's question.
    fn tick(&mut self) {
        let Ok(text) = fs::read_to_string(TASKS) else { return };
        if !self.behaviour.ticks || !text.contains("- [ ]") {
            return;
        }
        let ticked = text.replacen("- [ ]", "- [x]", 1);
        let fresh = format!("{TASKS}.{}", Uuid::new_v4().simple());
        fs::write(&fresh, &ticked).and_then(|()| fs::rename(&fresh, TASKS)).expect("dev-docs");
        self.ledger.note(What::Tick, ticked.matches("- [x]").count() as u64);
    }

    /// So long nothing happens but what comes from outside.
    pub fn pause(&mut self, ms: u64) -> Result<(), Stop> {
        let until = Instant::now() + Duration::from_millis(ms);
        loop {
            let left = until.saturating_duration_since(Instant::now());
            self.listen(Some(left))?;
            if left.is_zero() {
                return Ok(());
            }
        }
    }

    /// Waits for keys or a signal, and takes them.
    fn listen(&mut self, at_most: Option<Duration>) -> Result<(), Stop> {
        for key in self.wait_keys(at_most)? {
            match key {
                Key::Char(c) => self.line.push(c),
                Key::ClearLine => self.line.clear(),
                Key::Escape if self.in_turn => return Err(Stop::Interrupted),
                Key::Enter => self.submit()?,
                Key::Escape | Key::Up | Key::Down => {}
            }
        }
        Ok(())
    }

    fn submit(&mut self) -> Result<(), Stop> {
        let text = std::mem::take(&mut self.line).trim().to_owned();
        if text == "/exit" {
            return Err(Stop::End(0));
        }
        if text.is_empty() {
            return Ok(());
        }
        let source = if self.in_turn { "queued" } else { "typed" };
        if self.in_turn {
            let stamp = format!("{:.3}", jiff::Timestamp::now());
            self.transcript.quiet(
                "queue-operation",
                json!({"operation": "enqueue", "content": text, "timestamp": stamp}),
            );
        }
        self.queue.push_back((text, source));
        Ok(())
    }

    /// Keys as they come; a signal or the end of the terminal ends the session.
    pub fn wait_keys(&mut self, at_most: Option<Duration>) -> Result<Vec<Key>, Stop> {
        self.reports.reap();
        let stdin = std::io::stdin();
        let timeout = at_most.map(|left| Timespec::try_from(left).expect("a short time"));
        let mut fds = vec![PollFd::new(&self.wake, PollFlags::IN)];
        if self.is_open {
            fds.push(PollFd::from_borrowed_fd(stdin.as_fd(), PollFlags::IN));
        }
        let _ = poll(&mut fds, timeout.as_ref());
        let has_keys = fds.get(1).is_some_and(|fd| !fd.revents().is_empty());
        let mut bytes = [0; 8192];
        while matches!(rustix::io::read(&self.wake, &mut bytes), Ok(count) if count > 0) {}
        match self.signal.swap(0, Ordering::Relaxed) as i32 {
            0 => {}
            SIGINT => return Err(Stop::End(0)),
            signal => return Err(Stop::End(128 + signal)),
        }
        if !has_keys {
            return Ok(Vec::new());
        }
        match rustix::io::read(stdin.as_fd(), &mut bytes) {
            Ok(count @ 1..) => Ok(self.keyboard.keys(&bytes[..count])),
            Ok(_) | Err(_) => {
                self.is_open = false;
                let is_deaf = self.behaviour.ignores.iter().any(|signal| signal == "HUP");
                if is_deaf { Ok(Vec::new()) } else { Err(Stop::End(128 + SIGHUP)) }
            }
        }
    }

    /// Onto the screen; a terminal that is gone is no matter.
    pub fn paint(&self, text: &str) {
        let mut out = std::io::stdout().lock();
        let _ = out.write_all(text.as_bytes());
        let _ = out.flush();
    }
}

/// How the transcript shows what was typed.
fn as_shown(text: &str) -> String {
    let Some(command) = text.strip_prefix('/') else { return text.to_owned() };
    let (name, args) = command.split_once(' ').unwrap_or((command, ""));
    format!(
        "<command-message>{name}</command-message>\n<command-name>/{name}</command-name>\n\
         <command-args>{args}</command-args>"
    )
}
