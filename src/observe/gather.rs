//! From runs, results of the queue and threads to executions, none of them twice.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::path::Path;

use uuid::Uuid;

use super::claims;
use super::execution::{Evidence, Execution, Kind, Used, Verified, Work, told_usd};
use super::journals::RunTold;
use super::reading::hash_of;
use super::standing;
use super::thread::{Effect, Prompt, Thread};
use crate::config::InputKind;
use crate::cycle::assignment::{Assignment, End};
use crate::cycle::record::CycleRecord;
use crate::cycle::{EndReason, Outcome};
use crate::queue::{Task, TaskResult, TaskState};
use crate::report::Moment;
use crate::usage::sessions_of;

/// A prompt with fewer characters says too little to be the same work twice.
const PROMPT_CHARS_MIN: u64 = 10;
/// What a session does so long after its process is gone is no work of its cycle,
/// milliseconds: its last rows may be written then.
const AFTER_CYCLE_MS: i64 = 5_000;
/// Files of one execution that are told.
const FILES_MAX: usize = 20;

/// A time, the end excluded, Unix milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// From here,
    pub from_unix_ms: i64,
    /// to before here.
    pub until_unix_ms: i64,
}

impl Span {
    /// Is it within?
    pub fn has(&self, unix_ms: i64) -> bool {
        self.from_unix_ms <= unix_ms && unix_ms < self.until_unix_ms
    }
}

/// What executions are made of.
pub(crate) struct Sources<'a> {
    pub runs: &'a [RunTold],
    pub threads: &'a [Thread],
    /// Tasks of the queue by id.
    pub tasks: &'a HashMap<String, Task>,
    /// Results of attempts whose runs may have no journal any more.
    pub results: &'a [TaskResult],
}

impl Sources<'_> {
    /// The executions of a time, by start.
    pub(crate) fn executions(&self, span: Span, input: InputKind) -> Vec<Execution> {
        let mut index = Index::of(self);
        let mut found = Vec::new();
        for result in self.results {
            found.extend(self.of_result(result, &mut index));
        }
        for run in self.runs {
            match run.is_for_queue {
                true => found.extend(run.tasks.iter().map(|task| self.task(run, task, &index))),
                false => found.extend(run.cycles.iter().map(|cycle| cycle_of(run, cycle, &index))),
            }
        }
        found.retain(|execution| span.has(execution.heard_unix_ms));
        found.extend(index.sessions(span));
        for execution in &mut found {
            execution.count(input);
        }
        found.sort_by(|a, b| (a.started_at.unix_ms, &a.id).cmp(&(b.started_at.unix_ms, &b.id)));
        found
    }

    /// What a run did for a task.
    fn task(&self, run: &RunTold, task: &Assignment, index: &Index<'_>) -> Execution {
        let span = Span {
            from_unix_ms: task.started_at.unix_ms,
            until_unix_ms: task.ended_at.map_or(i64::MAX, |at| at.unix_ms + AFTER_CYCLE_MS),
        };
        let cycles = run.cycles.iter().filter(|cycle| {
            let ended = cycle.ended_at.map_or(i64::MAX, |at| at.unix_ms);
            cycle.started_at.unix_ms < span.until_unix_ms && ended > span.from_unix_ms
        });
        let sessions: Vec<String> = cycles.map(|cycle| cycle.session_id.to_string()).collect();
        let within = |at: i64| span.has(at);
        let verified: Vec<Verified> = run
            .verified
            .iter()
            .filter(|(at, _, _)| within(*at))
            .map(|(at, _, passed)| Verified { at: Moment { unix_ms: *at }, passed: *passed })
            .collect();
        let is_done = matches!(task.end, Some(End::Done));
        let mut evidence = index.evidence(&sessions, span);
        evidence.claim = match (is_done, verified.is_empty()) {
            (true, _) => Some("the task ended done".to_owned()),
            (false, false) => Some("its section of the task file said done, read twice".to_owned()),
            (false, true) => None,
        };
        evidence.claim_words = None;
        evidence.claims_changes = true;
        evidence.verify = verified;
        evidence.verify_command = task.given.verify.clone();
        // The work may have been done by a run before that gave the task back.
        let first = index.begun.get(task.given.task_id.as_str());
        let has_earlier = first.is_some_and(|first| *first < task.started_at.unix_ms);
        if has_earlier || task.given.attempt > 1 {
            evidence.changes = evidence.changes.filter(|changes| *changes > 0);
        }
        evidence.standing = 0;
        evidence.errors = task.end.iter().filter_map(End::why).map(str::to_owned).collect();
        let id = &task.given.task_id;
        let added = match task.end {
            Some(_) => task.added.clone(),
            None => index.added(&sessions, span),
        };
        let mut sources = index.paths(&sessions);
        sources.push(run.journal.display().to_string());
        let ended = task.ended_at.map(|at| at.unix_ms);
        let heard = ended.unwrap_or(run.heard_unix_ms);
        Execution {
            id: format!("task:{id}#{}@{}", task.given.attempt, short(&run.run_id.to_string())),
            kind: Kind::Task,
            project: run.project.display().to_string(),
            title: task.given.title.clone(),
            task_id: Some(id.clone()),
            attempt: Some(task.given.attempt),
            run_id: Some(run.run_id.to_string()),
            sessions,
            started_at: task.started_at.into(),
            ended_at: task.ended_at.map(Moment::from),
            duration_ms: match task.end {
                Some(_) => added.elapsed_ms,
                None => since(task.started_at.unix_ms, heard),
            },
            usage: Used::of(&added.tokens),
            cost_usd: told_usd(added.cost_usd, added.unpriced_tokens),
            unpriced_tokens: added.unpriced_tokens,
            outcome: Some(task.end.as_ref().map_or("in_progress", End::as_str).to_owned()),
            failed: !matches!(task.end, None | Some(End::Done)),
            evidence,
            sources,
            work: self.tasks.get(id).map(same_words),
            heard_unix_ms: heard,
            ..Execution::blank()
        }
    }

    /// An attempt of which no journal is left.
    fn of_result(&self, result: &TaskResult, index: &mut Index<'_>) -> Option<Execution> {
        let id = result.task_id.as_str();
        if result.runs.iter().any(|run| index.told.contains(&(*run, id))) {
            return None;
        }
        let moment = |at: &Option<String>| at.as_ref()?.parse::<jiff::Timestamp>().ok();
        let started = moment(&result.started_at)?.as_millisecond();
        let ended = moment(&result.ended_at)?.as_millisecond();
        let span =
            Span { from_unix_ms: started, until_unix_ms: ended.saturating_add(AFTER_CYCLE_MS) };
        let sessions = index.book(&result.runs, span);
        let seen = index.evidence(&sessions, span);
        let verify = result.verify.as_ref();
        let evidence = Evidence {
            claim: (result.status == TaskState::Done).then(|| "the task ended done".to_owned()),
            claim_words: None,
            claims_changes: true,
            verify: verify
                .and_then(|said| said.passed)
                .map(|passed| Verified { at: Moment { unix_ms: ended }, passed })
                .into_iter()
                .collect(),
            verify_command: verify.map(|said| said.command.clone()),
            // Nobody knows whether these were all of its sessions.
            changes: seen.changes.filter(|changes| *changes > 0),
            errors: result.errors.clone(),
            standing: 0,
            ..seen
        };
        let task = self.tasks.get(id);
        Some(Execution {
            id: format!("task:{id}#{}", result.attempt),
            kind: Kind::Task,
            project: result.project.display().to_string(),
            title: task.map(title).unwrap_or_default(),
            task_id: Some(id.to_owned()),
            attempt: Some(result.attempt),
            run_id: result.runs.last().map(ToString::to_string),
            sources: index.paths(&sessions),
            sessions,
            started_at: Moment { unix_ms: started },
            ended_at: Some(Moment { unix_ms: ended }),
            duration_ms: (result.execution_time_seconds * 1_000.0) as u64,
            usage: Used {
                input: result.tokens.input,
                output: result.tokens.output,
                cache_write: result.tokens.cache_write,
                cache_read: result.tokens.cache_read,
            },
            cost_usd: told_usd(result.cost_usd, result.unpriced_tokens),
            unpriced_tokens: result.unpriced_tokens,
            outcome: Some(result.status.as_str().to_owned()),
            failed: matches!(result.status, TaskState::Error | TaskState::Blocked),
            evidence,
            work: task.map(same_words),
            heard_unix_ms: ended,
            ..Execution::blank()
        })
    }
}

/// What was claimed in a cycle, and what the verify command said to it. True if the run
/// ended done with it.
fn claim_of_cycle(run: &RunTold, cycle: &CycleRecord, evidence: &mut Evidence) -> bool {
    let is_last = run.cycles.last().is_some_and(|last| last.cycle == cycle.cycle);
    let is_end = is_last && run.outcome == Some(Outcome::Done);
    evidence.verify = run
        .verified
        .iter()
        .filter(|(_, of, _)| *of == cycle.cycle)
        .map(|(at, _, passed)| Verified { at: Moment { unix_ms: *at }, passed: *passed })
        .collect();
    evidence.verify_command = (!evidence.verify.is_empty()).then(|| "task.verify".to_owned());
    // What it said when it was asked for a checkpoint is no claim about the task.
    let ended_by_itself = matches!(
        cycle.end_reason,
        Some(EndReason::NoProgress | EndReason::Exited | EndReason::Done)
    );
    if is_end {
        evidence.claim = Some("the run ended done".to_owned());
        (evidence.claim_words, evidence.claims_changes) = (None, true);
    } else if !evidence.verify.is_empty() {
        evidence.claim = Some("the task file said done, read twice".to_owned());
        (evidence.claim_words, evidence.claims_changes) = (None, true);
    } else if ended_by_itself {
        let open = cycle.tasks_total.saturating_sub(cycle.tasks_done_after);
        evidence.boxes = (cycle.tasks_total > 0).then_some((open, cycle.tasks_total));
    } else {
        (evidence.claim, evidence.claim_words) = (None, None);
    }
    is_end
}

/// A session of a run of the task file.
fn cycle_of(run: &RunTold, cycle: &CycleRecord, index: &Index<'_>) -> Execution {
    let session = cycle.session_id.to_string();
    let ended = cycle.ended_at.map(|at| at.unix_ms);
    let span = Span {
        from_unix_ms: cycle.started_at.unix_ms,
        until_unix_ms: ended.map_or(i64::MAX, |at| at.saturating_add(AFTER_CYCLE_MS)),
    };
    let sessions = vec![session];
    let mut evidence = index.evidence(&sessions, span);
    let is_end = claim_of_cycle(run, cycle, &mut evidence);
    if is_end || !evidence.verify.is_empty() {
        // The work may have been done in the cycles before.
        let so_far = Span { from_unix_ms: i64::MIN, ..span };
        let all: Vec<String> = run.cycles.iter().map(|c| c.session_id.to_string()).collect();
        evidence.changes = index.evidence(&all, so_far).changes;
    }
    let failure = run.outcome.as_ref().filter(|outcome| **outcome != Outcome::Done);
    let why_failed = failure.map(Outcome::sentence);
    // How the run ended is of its last session.
    let is_last = run.cycles.last().is_some_and(|last| last.cycle == cycle.cycle);
    if evidence.claim_words.is_none() {
        // The verify command has the last word, and the claim of a run is of all its sessions.
        (evidence.standing, evidence.errors) = (0, Vec::new());
    }
    evidence.errors.extend(why_failed.iter().filter(|_| is_last).cloned());
    let mut sources = index.paths(&sessions);
    sources.push(run.journal.display().to_string());
    let digest = run.task_file_digest.as_ref().filter(|_| cycle.cycle == 1);
    let work = digest.map(|digest| Work {
        name: format!("task file {digest}"),
        words: "a run of the same task file".to_owned(),
    });
    let heard = ended.unwrap_or(run.heard_unix_ms);
    Execution {
        id: format!("cycle:{}@{}", cycle.cycle, short(&run.run_id.to_string())),
        kind: Kind::Cycle,
        project: run.project.display().to_string(),
        title: format!("cycle {} of a run", cycle.cycle),
        run_id: Some(run.run_id.to_string()),
        sessions,
        started_at: cycle.started_at.into(),
        ended_at: cycle.ended_at.map(Moment::from),
        duration_ms: since(cycle.started_at.unix_ms, heard),
        usage: Used::of(&cycle.spend.tokens),
        cost_usd: told_usd(cycle.cost().0, cycle.spend.unpriced_tokens),
        unpriced_tokens: cycle.spend.unpriced_tokens,
        outcome: cycle.end_reason.map(|reason| reason.as_str().to_owned()),
        failed: failure.is_some(),
        why_failed,
        evidence,
        sources,
        work,
        heard_unix_ms: heard,
        ..Execution::blank()
    }
}

/// Threads by session, and when sessions belonged to runs.
struct Index<'a> {
    by_session: HashMap<&'a str, Vec<&'a Thread>>,
    cycles: HashMap<String, Vec<Span>>,
    /// The tasks that journals tell of, by run.
    told: HashSet<(Uuid, &'a str)>,
    /// When journals tell that work on a task began first, Unix milliseconds.
    begun: HashMap<&'a str, i64>,
    /// The sessions that are left of runs without a journal.
    left: HashMap<Uuid, Vec<String>>,
}

impl<'a> Index<'a> {
    fn of(sources: &Sources<'a>) -> Self {
        let mut by_session: HashMap<&str, Vec<&Thread>> = HashMap::new();
        for thread in sources.threads {
            by_session.entry(&thread.session).or_default().push(thread);
        }
        let mut cycles: HashMap<String, Vec<Span>> = HashMap::new();
        for cycle in sources.runs.iter().flat_map(|run| &run.cycles) {
            let until = cycle.ended_at.map_or(i64::MAX, |at| at.unix_ms + AFTER_CYCLE_MS);
            let span = Span { from_unix_ms: cycle.started_at.unix_ms, until_unix_ms: until };
            cycles.entry(cycle.session_id.to_string()).or_default().push(span);
        }
        let mut told = HashSet::new();
        let mut begun: HashMap<&str, i64> = HashMap::new();
        for (run, task) in
            sources.runs.iter().flat_map(|run| run.tasks.iter().map(move |t| (run, t)))
        {
            let (id, at) = (task.given.task_id.as_str(), task.started_at.unix_ms);
            told.insert((run.run_id, id));
            begun.entry(id).and_modify(|first| *first = at.min(*first)).or_insert(at);
        }
        Self { by_session, cycles, told, begun, left: HashMap::new() }
    }

    /// The sessions of these runs that did something in that time, which is no work by hand
    /// then. Their ids follow from those of the runs: no journal is needed for that.
    fn book(&mut self, runs: &[Uuid], span: Span) -> Vec<String> {
        let mut found = Vec::new();
        for run in runs {
            let by_session = &self.by_session;
            let left = self.left.entry(*run).or_insert_with(|| {
                let is_there = |id: &Uuid| by_session.contains_key(id.to_string().as_str());
                let sessions = sessions_of(*run, None, is_there);
                sessions.iter().map(|(_, session)| session.to_string()).collect()
            });
            let works = |session: &&String| {
                let threads = by_session.get(session.as_str()).into_iter().flatten();
                let mut steps = threads.flat_map(|thread| &thread.steps);
                steps.any(|step| step.unix_ms.is_some_and(|at| span.has(at)))
            };
            for session in left.iter().filter(works) {
                self.cycles.entry(session.clone()).or_default().push(span);
                found.push(session.clone());
            }
        }
        found
    }

    fn threads_of(&self, session: &str) -> &[&'a Thread] {
        self.by_session.get(session).map_or(&[], Vec::as_slice)
    }

    fn paths(&self, sessions: &[String]) -> Vec<String> {
        let main = sessions.iter().flat_map(|session| self.threads_of(session));
        let main = main.filter(|thread| thread.agent.is_none());
        main.map(|thread| thread.path.display().to_string()).collect()
    }

    /// What the sessions used in that time, by their transcripts.
    fn added(&self, sessions: &[String], span: Span) -> crate::cycle::assignment::Totals {
        let mut totals = crate::cycle::assignment::Totals::default();
        for thread in sessions.iter().flat_map(|session| self.threads_of(session)) {
            for step in thread.steps.iter().filter(|s| s.unix_ms.is_some_and(|at| span.has(at))) {
                totals.tokens.add(&step.tokens);
                totals.cost_usd += step.cost_usd;
                totals.unpriced_tokens += step.unpriced_tokens;
            }
        }
        totals
    }

    /// What the transcripts of these sessions say about the work of that time.
    fn evidence(&self, sessions: &[String], span: Span) -> Evidence {
        let threads: Vec<&&Thread> =
            sessions.iter().flat_map(|session| self.threads_of(session)).collect();
        let in_time = |at: Option<i64>| at.is_some_and(|at| span.has(at));
        let mut evidence = evidence_of(&threads, in_time);
        let is_there =
            |session: &String| self.threads_of(session).iter().any(|thread| thread.agent.is_none());
        if !sessions.iter().all(is_there) {
            evidence.changes = evidence.changes.filter(|changes| *changes > 0);
        }
        evidence
    }

    /// What sessions did in that time that no run started.
    fn sessions(&self, span: Span) -> Vec<Execution> {
        let mut names: Vec<&&str> = self.by_session.keys().collect();
        names.sort();
        names.into_iter().filter_map(|name| self.session(name, span)).collect()
    }

    fn session(&self, name: &str, span: Span) -> Option<Execution> {
        let of_runs = self.cycles.get(name).map_or(&[][..], Vec::as_slice);
        let is_ours = |at: i64| span.has(at) && of_runs.iter().all(|cycle| !cycle.has(at));
        let threads = self.threads_of(name);
        let main = threads.iter().find(|thread| thread.agent.is_none());
        let (mut usage, mut cost, mut unpriced) = (Used::default(), 0.0, 0);
        let (mut first, mut last, mut responses) = (i64::MAX, i64::MIN, 0_u64);
        let see = |at: i64, first: &mut i64, last: &mut i64| {
            *first = (*first).min(at);
            *last = (*last).max(at);
        };
        for step in threads.iter().flat_map(|thread| &thread.steps) {
            let Some(at) = step.unix_ms.filter(|at| is_ours(*at)) else { continue };
            see(at, &mut first, &mut last);
            usage.add(&Used::of(&step.tokens));
            cost += step.cost_usd;
            unpriced += step.unpriced_tokens;
            responses += 1;
        }
        if responses == 0 {
            return None;
        }
        let prompts = main.map_or(&[][..], |main| own_prompts(main));
        let prompts: Vec<&Prompt> = prompts.iter().filter(|p| is_ours(p.unix_ms)).collect();
        for prompt in &prompts {
            see(prompt.unix_ms, &mut first, &mut last);
        }
        let words = main.into_iter().flat_map(|main| &main.words).filter(|w| is_ours(w.unix_ms));
        words.for_each(|words| see(words.unix_ms, &mut first, &mut last));
        let threads: Vec<&&Thread> = threads.iter().collect();
        let evidence = evidence_of(&threads, |at| at.is_some_and(is_ours));
        let prompt = prompts.first();
        Some(Execution {
            id: format!("session:{name}"),
            kind: Kind::Session,
            project: main.or(self.threads_of(name).first())?.project.clone(),
            title: prompt.map(|prompt| prompt.title.clone()).unwrap_or_default(),
            sessions: vec![name.to_owned()],
            started_at: Moment { unix_ms: first },
            ended_at: Some(Moment { unix_ms: last }),
            duration_ms: since(first, last),
            usage,
            cost_usd: told_usd(cost, unpriced),
            unpriced_tokens: unpriced,
            evidence,
            sources: self.paths(&[name.to_owned()]),
            work: prompt.and_then(|prompt| same_prompt(prompt)),
            heard_unix_ms: last,
            ..Execution::blank()
        })
    }
}

/// What a thread was told, what it took over from another one aside.
fn own_prompts(thread: &Thread) -> &[Prompt] {
    if !thread.is_continuation {
        return &thread.prompts;
    }
    // The newest prompt before its first own response is the first of its own.
    let first = thread.steps.first().and_then(|step| step.unix_ms).unwrap_or(i64::MAX);
    let at = thread.prompts.partition_point(|prompt| prompt.unix_ms <= first);
    &thread.prompts[at.saturating_sub(1)..]
}

fn same_prompt(prompt: &Prompt) -> Option<Work> {
    let is_bare_command = prompt.title.starts_with('/') && !prompt.title.contains(' ');
    let says_enough = prompt.chars >= PROMPT_CHARS_MIN && !is_bare_command;
    says_enough.then(|| Work {
        name: format!("prompt {:016x}", prompt.hash),
        words: "a session with the same first prompt".to_owned(),
    })
}

fn same_words(task: &Task) -> Work {
    let words = [Some(task.description.as_str()), task.context.as_deref()]
        .map(|text| text.unwrap_or_default().split_whitespace().collect::<Vec<_>>().join(" "));
    Work {
        name: format!("task {:016x}", hash_of(words.join("\n"))),
        words: "a task of the same words".to_owned(),
    }
}

fn title(task: &Task) -> String {
    task.description.lines().next().unwrap_or_default().to_owned()
}

/// What threads say about the work done in a time.
fn evidence_of(threads: &[&&Thread], in_time: impl Fn(Option<i64>) -> bool) -> Evidence {
    let mut evidence = Evidence::default();
    let is_known = threads.iter().any(|thread| thread.agent.is_none())
        && threads.iter().all(|thread| thread.bad_rows == 0);
    let has_agents = threads.iter().any(|thread| thread.agent.is_some());
    let (mut changes, mut may_have) = (0_u64, false);
    let mut files: BTreeSet<String> = BTreeSet::new();
    for thread in threads {
        for step in thread.steps.iter().filter(|step| in_time(step.unix_ms)) {
            for call in &step.calls {
                let has_failed = call.output.is_some_and(|output| output.is_error);
                // What subagents did stands in files of their own.
                let is_agent = matches!(&*call.tool, "Agent" | "Task") && has_agents;
                match call.effect {
                    Effect::Changes if !has_failed => {
                        changes += 1;
                        files.extend(call.file.as_deref().map(|file| below(file, &thread.project)));
                    }
                    Effect::May if !call.is_check && !is_agent => may_have = true,
                    Effect::Changes | Effect::May | Effect::Looks | Effect::Notes => {}
                }
            }
        }
    }
    evidence.changes = (is_known && (changes > 0 || !may_have)).then_some(changes);
    evidence.changed_files = files.into_iter().take(FILES_MAX).collect();
    let standing = standing::of(threads, &in_time);
    evidence.last_check = standing.last_check;
    evidence.standing = standing.errors.len();
    evidence.errors = standing.errors;
    evidence.errors.extend(standing.check_error);
    let main = threads.iter().filter(|thread| thread.agent.is_none());
    let words = main.flat_map(|thread| &thread.words).filter(|w| in_time(Some(w.unix_ms)));
    if let Some(claim) = words.max().and_then(|words| claims::claim(&words.text)) {
        evidence.claim = Some("the last words of the session".to_owned());
        evidence.claim_words = Some(claim.words);
        evidence.claims_changes = claim.of_change;
    }
    evidence
}

fn below(file: &str, project: &str) -> String {
    let short = Path::new(file).strip_prefix(project).ok().filter(|p| !p.as_os_str().is_empty());
    short.map_or(file.to_owned(), |path| path.display().to_string())
}

fn since(from: i64, to: i64) -> u64 {
    u64::try_from(to.saturating_sub(from)).unwrap_or(0)
}

/// The first part of a run's id, as its folder has it.
fn short(id: &str) -> &str {
    id.split('-').next().unwrap_or(id)
}

/// A day of a time zone.
pub fn day_span(day: jiff::civil::Date, zone: &jiff::tz::TimeZone) -> Span {
    let start = |day: jiff::civil::Date| {
        day.to_zoned(zone.clone()).map(|at| at.timestamp().as_millisecond())
    };
    let from_unix_ms = start(day).unwrap_or(i64::MIN);
    let until_unix_ms = day.tomorrow().and_then(start).unwrap_or(i64::MAX);
    Span { from_unix_ms, until_unix_ms }
}
