//! `longhaul task add`: one task from the options, or many as JSON lines.

use std::io::{self, BufRead, Read};

use super::options::{self, TaskOptions};
use super::{TaskView, now_unix_ms, open, print_json, usage};
use crate::cli::print::print;
use crate::cli::target::TargetArgs;
use crate::error::{Error, ErrorKind, Result};
use crate::queue::refusal::QueueError;
use crate::queue::{Code, Draft, NewTask, Refusal, Store, Task, TaskState};

/// A line with the longest texts, every character of them escaped, is shorter.
const LINE_MAX_BYTES: u64 = 2 << 20;
/// Some editors begin a file with it.
const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";
/// Most tasks at once; all of them are held in memory.
const LINES_MAX: usize = 200_000;

/// Arguments of `longhaul task add`.
#[derive(Debug, clap::Args)]
pub struct AddArgs {
    /// What is to be done; `-` reads tasks from standard input, one JSON object a line,
    /// and adds all of them or none. The options then hold for lines that do not say
    #[arg(value_name = "DESCRIPTION|-", required_unless_present = "description_option")]
    description: Option<String>,
    /// The same as an option
    #[arg(
        id = "description_option",
        long = "description",
        value_name = "TEXT",
        conflicts_with = "description",
        allow_hyphen_values = true
    )]
    description_option: Option<String>,
    /// Its id; made up if not given
    #[arg(long, alias = "task-id", value_name = "ID")]
    id: Option<String>,
    #[command(flatten)]
    options: TaskOptions,
    #[command(flatten)]
    pub(super) target: TargetArgs,
    /// JSON instead of text for people
    #[arg(long)]
    json: bool,
}

/// `longhaul task add`
pub fn add(mut args: AddArgs) -> Result<()> {
    let (project, _) = args.target.resolve()?;
    let is_stream = args.description.as_deref() == Some("-");
    if is_stream && args.id.is_some() {
        return Err(Error::usage("--id is for one task; give each line an \"id\" of its own"));
    }
    let mut store = open()?;
    let mut batch = options::new_batch();
    let mut check = |mut draft: Draft| {
        args.options.fill(&mut draft)?;
        batch.name(&mut store, &mut draft.batch_id)?;
        Ok(draft.check(&project)?)
    };
    if is_stream {
        let (tasks, lines) = read_lines(&mut io::stdin().lock(), &mut check)?;
        let added = store.add(now_unix_ms(), tasks).map_err(|err| on_line(err, &lines))?;
        return print_added(&added, args.json, true);
    }
    let draft = Draft {
        id: args.id.take(),
        description: args.description.take().or(args.description_option.take()),
        ..Draft::default()
    };
    let task = check(draft).map_err(|err| said(err, usage))?;
    let added = store.add(now_unix_ms(), vec![task])?;
    print_added(&added, args.json, false)
}

/// The tasks, and on which lines they stand.
fn read_lines(
    input: &mut impl BufRead,
    check: &mut impl FnMut(Draft) -> Result<NewTask, QueueError>,
) -> Result<(Vec<NewTask>, Vec<usize>)> {
    let (mut tasks, mut lines) = (Vec::new(), Vec::new());
    let refuse = |line: usize, refusal: Refusal| nothing_added(refusal.of(format!("line {line}")));
    let mut bytes = Vec::new();
    for line in 1.. {
        bytes.clear();
        let count = (&mut *input)
            .take(LINE_MAX_BYTES + 1)
            .read_until(b'\n', &mut bytes)
            .map_err(|err| Error::io(ErrorKind::Usage, "cannot read standard input", err))?;
        if count == 0 {
            break;
        }
        if count as u64 > LINE_MAX_BYTES {
            let message = format!("it has more than {LINE_MAX_BYTES} bytes");
            return Err(refuse(line, Refusal::new(Code::TooLong, message)));
        }
        if line == 1 && bytes.starts_with(BYTE_ORDER_MARK) {
            bytes.drain(..BYTE_ORDER_MARK.len());
        }
        if bytes.trim_ascii().is_empty() {
            continue;
        }
        if tasks.len() == LINES_MAX {
            let message = format!("more than {LINES_MAX} tasks at once");
            return Err(refuse(line, Refusal::new(Code::TooLong, message)));
        }
        let task = parsed(&bytes).map_err(QueueError::from).and_then(&mut *check);
        tasks.push(task.map_err(|err| said(err, |refusal| refuse(line, refusal)))?);
        lines.push(line);
    }
    if tasks.is_empty() {
        return Err(Error::usage("there is no task on standard input")
            .hint("one JSON object a line: {\"description\": \"Fix the parser\"}"));
    }
    Ok((tasks, lines))
}

fn parsed(line: &[u8]) -> Result<Draft, Refusal> {
    let draft = serde_json::from_slice(line).map_err(|err| malformed(&err))?;
    // An array would be taken for the fields in their order.
    if line.trim_ascii_start().starts_with(b"{") {
        return Ok(draft);
    }
    Err(Refusal::new(Code::MalformedJson, "it is no task: not a JSON object"))
}

/// What is wrong with the JSON of a line; serde's own line number says nothing here.
fn malformed(err: &serde_json::Error) -> Refusal {
    let said = err.to_string();
    let what = said.rsplit_once(" at line ").map_or(said.as_str(), |(what, _)| what);
    let column = err.column();
    let message = if err.is_data() {
        format!("it is no task: {what}")
    } else {
        format!("it is not valid JSON: {what} (column {column})")
    };
    Refusal::new(Code::MalformedJson, message)
}

/// The store counts tasks; the person counts lines.
fn on_line(err: QueueError, lines: &[usize]) -> Error {
    said(err, |refusal| match refusal.index.and_then(|index| lines.get(index)) {
        Some(line) => nothing_added(refusal.of(format!("line {line}"))),
        None => nothing_added(refusal),
    })
}

fn said(err: QueueError, refused: impl FnOnce(Refusal) -> Error) -> Error {
    match err {
        QueueError::Refused(refusal) => refused(refusal),
        QueueError::Failed(err) => err,
    }
}

fn nothing_added(refusal: Refusal) -> Error {
    usage(refusal).hint("none of the tasks was added")
}

fn print_added(added: &[Task], json: bool, is_many: bool) -> Result<()> {
    if json && is_many {
        return print_json(&added.iter().map(TaskView::of).collect::<Vec<_>>());
    }
    let mut out = String::new();
    for task in added {
        if json {
            return print_json(&TaskView::of(task));
        }
        out.push_str(&format!("added {}", task.id));
        if let (Some(batch), Some(position)) = (&task.batch_id, task.batch_position) {
            out.push_str(&format!(" (number {position} of {batch})"));
        }
        if task.state == TaskState::Blocked {
            out.push_str(", blocked: what it waits for did not end done");
        }
        out.push('\n');
    }
    print(&out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<(Vec<NewTask>, Vec<usize>)> {
        let mut check = |draft: Draft| Ok(draft.check("/".as_ref())?);
        read_lines(&mut text.as_bytes(), &mut check)
    }

    #[test]
    fn lines_are_counted_as_the_person_counts_them() {
        let (tasks, lines) =
            read("\u{feff}\n{\"description\":\"a\"}\r\n  \n{\"id\":\"b\",\"description\":\"b\"}")
                .unwrap();
        assert_eq!((tasks.len(), lines), (2, vec![2, 4]));
        for (text, words) in [
            ("{\"description\":\"a\"}\n{", "line 2: it is not valid JSON"),
            ("\n[]", "line 2: it is no task: not a JSON object"),
            ("[\"a\",\"do it\"]", "line 1: it is no task: not a JSON object"),
            ("7", "line 1: it is no task"),
            ("{\"descripton\":\"a\"}", "line 1: it is no task: unknown field `descripton`"),
            ("{\"id\":\"a\"}", "line 1: the description is missing"),
            ("{\"description\":\" \"}", "line 1: the description is blank"),
            ("\n\n", "no task on standard input"),
        ] {
            let err = read(text).unwrap_err();
            assert_eq!(err.kind(), ErrorKind::Usage);
            assert!(err.message().contains(words), "{text}: {err}");
        }
        let long = format!("{{\"description\":\"{}\"}}", "x".repeat(LINE_MAX_BYTES as usize));
        assert!(read(&long).unwrap_err().message().contains("line 1"), "too long");
    }
}
