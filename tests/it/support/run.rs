//! A `longhaul` process under test: its JSON events as they come, its exit.

use std::io::{BufRead, BufReader, Read};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::DEADLINE;

#[derive(Default)]
struct Seen {
    lines: Vec<String>,
    events: Vec<Value>,
    stderr: String,
    /// Set by each of stdout, stderr and the process when it ends.
    exit: Option<ExitStatus>,
    closed: u32,
}

/// A running process; killed when dropped.
pub struct Run {
    pid: Pid,
    seen: Arc<(Mutex<Seen>, Condvar)>,
    threads: Vec<JoinHandle<()>>,
    /// How long a fact is waited for.
    patience: Duration,
}

/// A process that has ended.
#[derive(Debug)]
pub struct Finished {
    pub status: ExitStatus,
    pub stdout: String,
    pub stderr: String,
    pub events: Vec<Value>,
}

impl Finished {
    /// The exit code; 128 + n for a signal.
    pub fn code(&self) -> i32 {
        use std::os::unix::process::ExitStatusExt;
        self.status.code().unwrap_or_else(|| 128 + self.status.signal().unwrap())
    }
}

impl Run {
    /// Starts any program.
    pub fn start(command: &mut Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let pid = Pid::from_raw(child.id() as i32).unwrap();
        let seen = Arc::new((Mutex::new(Seen::default()), Condvar::new()));
        let (stdout, mut stderr) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
        let change = |seen: &Arc<(Mutex<Seen>, Condvar)>| {
            let seen = Arc::clone(seen);
            move |apply: &mut dyn FnMut(&mut Seen)| {
                apply(&mut seen.0.lock().unwrap());
                seen.1.notify_all();
            }
        };
        let (out, err, end) = (change(&seen), change(&seen), change(&seen));
        let threads = vec![
            std::thread::spawn(move || {
                for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                    out(&mut |seen| {
                        seen.events.extend(
                            serde_json::from_str::<Value>(&line).ok().filter(Value::is_object),
                        );
                        seen.lines.push(line.clone());
                    });
                }
                out(&mut |seen| seen.closed += 1);
            }),
            std::thread::spawn(move || {
                let mut bytes = [0; 4096];
                while let Ok(count @ 1..) = stderr.read(&mut bytes) {
                    err(&mut |seen| {
                        seen.stderr.push_str(&String::from_utf8_lossy(&bytes[..count]))
                    });
                }
                err(&mut |seen| seen.closed += 1);
            }),
            std::thread::spawn(move || {
                let status = child.wait().unwrap();
                end(&mut |seen| seen.exit = Some(status));
            }),
        ];
        Self { pid, seen, threads, patience: DEADLINE }
    }

    /// Waits up to this long for each fact: the run itself has to wait.
    pub fn patient(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    pub fn pid(&self) -> i32 {
        self.pid.as_raw_nonzero().get()
    }

    /// All events so far.
    pub fn events(&self) -> Vec<Value> {
        self.seen.0.lock().unwrap().events.clone()
    }

    /// Waits for the `nth` (from 0) event of this name.
    pub fn wait_event_nth(&self, name: &str, nth: usize) -> Value {
        self.wait_event_where(&format!("event {name} #{nth}"), |events| {
            events.iter().filter(|event| event["event"] == name).nth(nth).cloned()
        })
    }

    /// Waits for the first event of this name.
    pub fn wait_event(&self, name: &str) -> Value {
        self.wait_event_nth(name, 0)
    }

    /// Waits until `find` finds what it looks for among the events. Fails when
    /// the process ends without it.
    pub fn wait_event_where<T>(&self, what: &str, find: impl Fn(&[Value]) -> Option<T>) -> T {
        let mut found = None;
        let seen = self.wait(|seen| {
            found = find(&seen.events);
            found.is_some() || (seen.exit.is_some() && seen.closed == 2)
        });
        match found {
            Some(found) => found,
            None => panic!("{what} did not come\n{}", dump(&seen)),
        }
    }

    /// Waits until `text` stands in standard output or standard error.
    pub fn wait_output(&self, text: &str) {
        let has = |seen: &Seen| {
            seen.stderr.contains(text) || seen.lines.iter().any(|line| line.contains(text))
        };
        let seen = self.wait(|seen| has(seen) || (seen.exit.is_some() && seen.closed == 2));
        assert!(has(&seen), "{text:?} did not come\n{}", dump(&seen));
    }

    pub fn signal(&self, signal: Signal) {
        let seen = self.seen.0.lock().unwrap();
        assert!(seen.exit.is_none(), "it has ended already\n{}", dump(&seen));
        kill_process(self.pid, signal).unwrap();
    }

    /// Waits for the end of the process (its output may still be held open by
    /// something it left behind).
    pub fn wait_exit(&self) -> ExitStatus {
        let seen = self.wait(|seen| seen.exit.is_some());
        seen.exit.unwrap_or_else(|| panic!("it did not end\n{}", dump(&seen)))
    }

    /// Waits for the end of the process and of its output.
    pub fn finished(self) -> Finished {
        let seen = self.wait(|seen| seen.exit.is_some() && seen.closed == 2);
        let Some(status) = seen.exit.filter(|_| seen.closed == 2) else {
            panic!("it did not end, or left its output open\n{}", dump(&seen));
        };
        Finished {
            status,
            stdout: seen.lines.iter().map(|line| format!("{line}\n")).collect(),
            stderr: seen.stderr.clone(),
            events: seen.events.clone(),
        }
    }

    fn wait(&self, mut until: impl FnMut(&Seen) -> bool) -> MutexGuard<'_, Seen> {
        let (seen, changed) = &*self.seen;
        let seen = seen.lock().unwrap();
        changed.wait_timeout_while(seen, self.patience, |seen| !until(seen)).unwrap().0
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        let running = self.seen.0.lock().is_ok_and(|seen| seen.exit.is_none());
        if running {
            let _ = kill_process(self.pid, Signal::KILL);
        }
        // The readers end when the laboratory has killed what holds the pipes.
        drop(std::mem::take(&mut self.threads));
    }
}

fn dump(seen: &Seen) -> String {
    format!("exit: {:?}\nstdout:\n{}\nstderr:\n{}", seen.exit, seen.lines.join("\n"), seen.stderr)
}

impl Run {
    /// Waits for the first event of this name or the end of the process,
    /// whichever comes first.
    pub fn wait_event_or_exit(&self, name: &str) {
        drop(self.wait(|seen| {
            seen.exit.is_some() || seen.events.iter().any(|event| event["event"] == name)
        }));
    }

    pub fn has_exited(&self) -> bool {
        self.seen.0.lock().unwrap().exit.is_some()
    }
}
