//! `longhaul task import`: a queue that the seed's own programs left.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use serde::Serialize;

use super::{now_unix_ms, open, open_existing, print_json, usage};
use crate::cli::print::print;
use crate::cli::target::TargetArgs;
use crate::error::{Error, ErrorKind, Result};
use crate::queue::files::import::{self, Bad, Plan};
use crate::queue::refusal::QueueError;
use crate::queue::store::Keep;
use crate::queue::{Code, Refusal, SqliteStore, Store, Task, TaskId};
use crate::text;

/// Faults that are named one by one.
const MAX_NAMED: usize = 20;

/// Arguments of `longhaul task import`.
#[derive(Debug, clap::Args)]
pub struct ImportArgs {
    /// The queue: {"tasks": {ID: {...}}}, {"tasks": [...]}, {ID: {...}} or [...];
    /// `-` reads standard input
    #[arg(value_name = "FILE|-")]
    file: PathBuf,
    /// Import what can be had, and tell what cannot
    #[arg(long)]
    skip_bad: bool,
    /// Make ids valid that cannot be one
    #[arg(long)]
    rename: bool,
    /// Show what would happen, and change nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    pub(super) target: TargetArgs,
    /// JSON instead of text for people
    #[arg(long)]
    json: bool,
}

/// What was imported, as JSON.
#[derive(Debug, Serialize)]
struct Imported {
    dry_run: bool,
    imported: Vec<String>,
    taken_up_again: Vec<String>,
    renamed: BTreeMap<String, String>,
    finished_left_out: BTreeMap<String, u64>,
    fields_kept_out: BTreeMap<String, u64>,
    skipped: Vec<Skipped>,
}

#[derive(Debug, Serialize)]
struct Skipped {
    task: String,
    code: &'static str,
    message: String,
}

/// `longhaul task import`
pub fn import(args: &ImportArgs) -> Result<()> {
    let (project, _) = args.target.resolve()?;
    let bytes = read(&args.file)?;
    let mut plan = import::read(&bytes, &project, args.rename)
        .map_err(|refusal| usage(refusal.of(args.file.display())).hint("nothing was imported"))?;
    let mut store = match args.dry_run {
        true => match open_existing()? {
            Some(store) => store,
            None => SqliteStore::of_nobody(&project)?,
        },
        false => open()?,
    };
    leave_out_known(&mut store, &mut plan)?;
    if !args.skip_bad && !plan.bad.is_empty() {
        return Err(refused(&plan.bad));
    }
    let keep = if args.dry_run { Keep::Nothing } else { Keep::Tasks };
    let imported = add(&mut store, &mut plan, args.skip_bad, keep)?;
    if args.json {
        return print_json(&answer(plan, imported, args.dry_run));
    }
    print(&told(&plan, &imported, args.dry_run))
}

fn name(id: Option<&TaskId>) -> String {
    id.map_or_else(|| "(an id is made up)".to_owned(), TaskId::to_string)
}

fn read(path: &Path) -> Result<Vec<u8>> {
    let shown = text::safe(&path.display().to_string()).into_owned();
    let failed = |err| Error::io(ErrorKind::Usage, format!("cannot read {shown}"), err);
    let mut input: Box<dyn Read> = if path == Path::new("-") {
        Box::new(io::stdin().lock())
    } else {
        // A pipe in its place must not make anybody wait.
        let waits_not = OFlags::NONBLOCK.bits().cast_signed();
        let open = File::options().read(true).custom_flags(waits_not).open(path);
        let file = open.map_err(failed)?;
        if !file.metadata().map_err(failed)?.is_file() {
            return Err(Error::usage(format!("{shown} is no file")));
        }
        Box::new(file)
    };
    let mut bytes = Vec::new();
    (&mut input).take(import::MAX_BYTES + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > import::MAX_BYTES {
        let mib = import::MAX_BYTES >> 20;
        return Err(Error::usage(format!("{shown} is larger than {mib} MiB")));
    }
    Ok(bytes)
}

/// Moves tasks whose id was used before to the bad ones.
fn leave_out_known(store: &mut SqliteStore, plan: &mut Plan) -> Result<()> {
    let mut tasks = Vec::with_capacity(plan.tasks.len());
    for task in std::mem::take(&mut plan.tasks) {
        let known = task.id.as_ref().map(|id| store.task(id)).transpose()?.flatten();
        match known {
            None => tasks.push(task),
            Some(known) => {
                let state = known.state.as_str();
                let message = format!("there is a task of that id already ({state})");
                let refusal = Refusal::new(Code::TaskExists, message);
                plan.bad.push(Bad { which: known.id.to_string(), refusal });
            }
        }
    }
    plan.tasks = tasks;
    Ok(())
}

/// Adds the tasks: all or none, or as many as can be had. Gives their ids.
fn add(store: &mut dyn Store, plan: &mut Plan, skip_bad: bool, keep: Keep) -> Result<Vec<String>> {
    let tasks = std::mem::take(&mut plan.tasks);
    let id_of = |task: &Task| task.id.to_string();
    if !skip_bad {
        return match store.add_all(now_unix_ms(), tasks, keep) {
            Ok(added) => Ok(added.iter().map(id_of).collect()),
            Err(QueueError::Refused(refusal)) => {
                Err(usage(refusal).hint("nothing was imported; --skip-bad imports the rest"))
            }
            Err(QueueError::Failed(err)) => Err(err),
        };
    }
    let names: Vec<String> = tasks.iter().map(|task| name(task.id.as_ref())).collect();
    let mut added = Vec::new();
    for (answer, which) in store.add_each(now_unix_ms(), tasks, keep)?.into_iter().zip(names) {
        match answer {
            Ok(task) => added.push(id_of(&task)),
            Err(refusal) => plan.bad.push(Bad { which, refusal }),
        }
    }
    Ok(added)
}

fn refused(bad: &[Bad]) -> Error {
    let mut message = format!(
        "{} of the file cannot be imported",
        text::count(bad.len() as u64, "task", "tasks")
    );
    for bad in bad.iter().take(MAX_NAMED) {
        let (which, why) = (text::safe(&bad.which), text::safe(&bad.refusal.message));
        message.push_str(&format!("\n  {which}: {why} ({})", bad.refusal.code.as_str()));
    }
    if bad.len() > MAX_NAMED {
        message.push_str(&format!("\n  and {} more", bad.len() - MAX_NAMED));
    }
    let err = Error::usage(message).hint("nothing was imported; --skip-bad imports the rest");
    if bad.iter().any(|bad| bad.refusal.code == Code::InvalidId) {
        return err.hint("--rename makes ids valid");
    }
    err
}

fn answer(plan: Plan, imported: Vec<String>, dry_run: bool) -> Imported {
    let skipped = |bad: Bad| Skipped {
        task: bad.which,
        code: bad.refusal.code.as_str(),
        message: bad.refusal.message,
    };
    Imported {
        dry_run,
        imported,
        taken_up_again: plan.taken_up_again,
        renamed: plan.renamed.into_iter().map(|(old, new)| (old, new.to_string())).collect(),
        finished_left_out: plan.finished,
        fields_kept_out: plan.kept_out,
        skipped: plan.bad.into_iter().map(skipped).collect(),
    }
}

fn told(plan: &Plan, imported: &[String], dry_run: bool) -> String {
    let done = if dry_run { "would import" } else { "imported" };
    let mut out = String::new();
    for id in imported {
        out.push_str(&format!("{done} {id}\n"));
    }
    for (old, new) in &plan.renamed {
        out.push_str(&format!("renamed {} to {new}\n", text::safe(old)));
    }
    for which in &plan.taken_up_again {
        let which = text::safe(which);
        out.push_str(&format!("{which} was in progress; it begins anew\n"));
    }
    for (field, count) in &plan.kept_out {
        let tasks = text::count(*count, "task", "tasks");
        out.push_str(&format!("kept out the field {} of {tasks}\n", text::safe(field)));
    }
    for bad in &plan.bad {
        let (which, why) = (text::safe(&bad.which), text::safe(&bad.refusal.message));
        out.push_str(&format!("skipped {which}: {why}\n"));
    }
    let finished: u64 = plan.finished.values().sum();
    if finished > 0 {
        let by_status: Vec<String> =
            plan.finished.iter().map(|(status, count)| format!("{count} {status}")).collect();
        let tasks = text::count(finished, "finished task", "finished tasks");
        let by_status = by_status.join(", ");
        out.push_str(&format!(
            "left out {tasks} ({by_status}): what they cost is known to nobody\n"
        ));
    }
    let total = text::count(imported.len() as u64, "task", "tasks");
    out.push_str(&format!("{done} {total}\n"));
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(file: &str, project: &Path) -> Plan {
        import::read(file.as_bytes(), project, false).unwrap()
    }

    #[test]
    fn all_or_none_are_imported_unless_the_bad_are_skipped() {
        let file = r#"{"z": {"description": "x", "after": "b"}, "a": {"description": "x"},
            "b": {"description": "x", "after": "nobody"}, "c": {"description": "x", "after": "d"},
            "d": {"description": "x"}}"#;
        let dir = tempfile::tempdir().unwrap();
        let (state_root, project) = (dir.path().join("state"), dir.path().join("project"));
        std::fs::create_dir(&project).unwrap();
        let mut store = SqliteStore::open(&state_root).unwrap();
        let err = add(&mut store, &mut plan(file, &project), false, Keep::Tasks).unwrap_err();
        assert!(err.render().contains("nothing was imported"), "{}", err.render());
        assert_eq!(store.counts(None).unwrap().queued, 0);
        let ids = ["a", "c", "d"].map(str::to_owned).to_vec();
        let mut skipping = plan(file, &project);
        let added = add(&mut store, &mut skipping, true, Keep::Nothing).unwrap();
        assert_eq!((added, store.counts(None).unwrap().queued), (ids.clone(), 0));
        let mut skipping = plan(file, &project);
        assert_eq!(add(&mut store, &mut skipping, true, Keep::Tasks).unwrap(), ids);
        let bad: Vec<&str> = skipping.bad.iter().map(|bad| bad.which.as_str()).collect();
        assert_eq!(bad, ["z", "b"]);
        let mut known = plan(file, &project);
        leave_out_known(&mut store, &mut known).unwrap();
        assert_eq!((known.tasks.len(), known.bad.len()), (2, 3));
        assert!(refused(&known.bad).message().contains("task_exists"));
    }

    #[test]
    fn what_happened_is_told() {
        let plan = plan(
            r#"[{"id": "a", "description": "x", "status": "in_progress", "by\u001b": 1},
            {"id": "b", "status": "done"}, {"id": "c", "status": "\u001b[2J"}]"#,
            Path::new("/"),
        );
        let told = told(&plan, &["a".into()], true);
        assert!(told.contains("would import a\na was in progress; it begins anew\n"), "{told}");
        assert!(told.contains("left out 1 finished task (1 done)"), "{told}");
        assert!(told.contains("kept out the field by\\u{1b} of 1 task"), "{told}");
        assert!(told.contains("skipped c") && !told.contains('\u{1b}'), "{told}");
        let answer = serde_json::to_value(answer(plan, vec!["a".into()], true)).unwrap();
        assert_eq!(answer["skipped"][0]["code"], "invalid_parameter");
    }

    #[test]
    fn what_is_no_file_is_refused_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let fifo = dir.path().join("fifo");
        let (kind, mode) = (rustix::fs::FileType::Fifo, rustix::fs::Mode::RUSR);
        rustix::fs::mknodat(rustix::fs::CWD, &fifo, kind, mode, 0).unwrap();
        let huge = dir.path().join("huge");
        File::create(&huge).unwrap().set_len(1 << 30).unwrap();
        for path in [dir.path(), &fifo, &huge, &dir.path().join("none")] {
            assert_eq!(read(path).unwrap_err().kind(), ErrorKind::Usage, "{}", path.display());
        }
    }
}
