//! A program on a terminal of its own, driven by hand.

use std::io::{Read, Write};
use std::process::Command;
use std::sync::{Arc, Condvar, Mutex, mpsc};
use std::thread::JoinHandle;

use portable_pty::{CommandBuilder, ExitStatus, MasterPty, PtySize, native_pty_system};
use rustix::process::{Pid, Signal, kill_process};

use super::DEADLINE;

/// A running program; killed when dropped.
pub struct Terminal {
    pid: Pid,
    master: Box<dyn MasterPty + Send>,
    keys: Box<dyn Write + Send>,
    exit: mpsc::Receiver<ExitStatus>,
    /// All bytes written so far.
    screen: Arc<(Mutex<Vec<u8>>, Condvar)>,
    reader: JoinHandle<()>,
}

impl Terminal {
    /// Starts `command` with exactly its environment and folder.
    pub fn start(command: &Command) -> Self {
        let size = PtySize { rows: 40, cols: 120, pixel_width: 0, pixel_height: 0 };
        let pair = native_pty_system().openpty(size).unwrap();
        let mut builder = CommandBuilder::new(command.get_program());
        builder.args(command.get_args());
        builder.env_clear();
        for (name, value) in command.get_envs() {
            builder.env(name, value.unwrap());
        }
        builder.cwd(command.get_current_dir().unwrap());
        let mut child = pair.slave.spawn_command(builder).unwrap();
        drop(pair.slave);
        let pid = Pid::from_raw(child.process_id().unwrap() as i32).unwrap();
        let mut output = pair.master.try_clone_reader().unwrap();
        let screen = Arc::new((Mutex::new(Vec::new()), Condvar::new()));
        let shown = Arc::clone(&screen);
        let reader = std::thread::spawn(move || {
            let mut bytes = [0; 8192];
            while let Ok(count @ 1..) = output.read(&mut bytes) {
                shown.0.lock().unwrap().extend_from_slice(&bytes[..count]);
                shown.1.notify_all();
            }
        });
        let (sender, exit) = mpsc::channel();
        std::thread::spawn(move || {
            let _ = sender.send(child.wait().unwrap());
        });
        let keys = pair.master.take_writer().unwrap();
        Self { pid, master: pair.master, keys, exit, screen, reader }
    }

    /// Types `text` and, once its last word shows, return: sent together they
    /// could be taken for a paste.
    pub fn say(&mut self, text: &str) {
        let from = self.screen.0.lock().unwrap().len();
        self.keys(text);
        let word = text.split_whitespace().next_back().unwrap().as_bytes();
        let shows = |bytes: &Vec<u8>| bytes[from..].windows(word.len()).any(|part| part == word);
        let (bytes, changed) = &*self.screen;
        let bytes = changed
            .wait_timeout_while(bytes.lock().unwrap(), DEADLINE, |bytes| !shows(bytes))
            .unwrap()
            .0;
        assert!(shows(&bytes), "{text:?} does not show\n{}", String::from_utf8_lossy(&bytes));
        drop(bytes);
        self.keys("\r");
    }

    pub fn keys(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).unwrap();
        self.keys.flush().unwrap();
    }

    /// Ends the program with SIGTERM; all it has written to the terminal.
    pub fn end(self) -> String {
        kill_process(self.pid, Signal::TERM).unwrap();
        let ended = self.exit.recv_timeout(DEADLINE);
        if ended.is_err() {
            let _ = kill_process(self.pid, Signal::KILL);
        }
        drop((self.keys, self.master));
        self.reader.join().unwrap();
        let text = String::from_utf8_lossy(&self.screen.0.lock().unwrap()).into_owned();
        assert!(ended.is_ok(), "it did not end\n{text}");
        text
    }
}
