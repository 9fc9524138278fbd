//! What is looked at every few seconds: whether the session is alive, what it
//! takes of the machine, and what stands on its screen. Nothing here decides.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::hash::{DefaultHasher, Hasher};

use crate::clock::Timestamp;
use crate::config::PermissionPolicy;
use crate::cycle::event::{
    DiskRoom, Event, Exit, QuestionKind, Quota, SessionReport, TurnEnd, UsageLimit,
};
use crate::cycle::failure::{Class, SAME_RESET_MS};
use crate::cycle::liveness::Sign;
use crate::disk;
use crate::error::Result;
use crate::memory;
use crate::reset_time::{self, LimitKind};
use crate::session::dialog::{self, Dialog};
use crate::session::oom::{self, Evidence};
use crate::session::screen::{self, Kind, Look, Retry};
use crate::session::sink::{RateLimit, SinkEvent, Status};
use crate::session::vitals::Sampler;
use crate::session::waiting::waits_for;
use crate::session::wire::{KeeperCommand, Key};
use crate::transcript::ReadBytes;

use super::Driver;

/// Between two looks at a session's vitals and screen.
const SENSE_MS: u64 = 2_000;
/// Between two looks at the disks.
const DISK_MS: u64 = 4_000;
/// Between two times of giving memory back.
const RELEASE_MS: u64 = 30_000;
/// The signs of life are told at least this often.
const SIGNS_MS: u64 = 5_000;
/// Less than this of a processor is what an idle server or watcher uses: no sign
/// of life.
const BUSY_PERCENT: u64 = 5;
/// Memory and files are told when they changed by this much.
const GRAIN_MB: u64 = 64;
/// Free room likewise.
const FREE_GRAIN_MB: u64 = 256;
/// Fewer than this many grains of room are scarce.
const SCARCE_GRAINS: u64 = 16;
/// Entries of the temporary folder that are counted, some 10 µs each.
const SCRATCH_ENTRIES: usize = 10_000;
/// A question the CLI's hook answers is gone from the screen by then.
const HOOK_LEAD_MS: u64 = 8_000;
/// The person's command may take so long to answer one, and some more.
const COMMAND_LEAD_MS: u64 = crate::session::permission::COMMAND_LIMIT_MS + 10_000;
/// A question that still stands is told again after this long.
const ASK_AGAIN_MS: u64 = 15_000;
/// Answers to questions told in a minute.
const ANSWERS_PER_MINUTE: u32 = 60;
/// Reports of the CLI that are remembered.
const HEARD_KEPT: usize = 64;
/// Lines about limits that are remembered.
const LIMIT_LINES: usize = 32;

/// What was seen of one live session.
#[derive(Debug, Default)]
pub struct Senses {
    /// The process id and start time of the CLI.
    pub cli: Option<(u32, u64)>,
    sampler: Option<Sampler>,
    sensed_at_ms: u64,
    /// Signs of life not told yet, and when the last were.
    signs: BTreeSet<Sign>,
    signs_told_ms: u64,
    /// What hooks and statusline said last, as hashes.
    heard: VecDeque<u64>,
    read: ReadBytes,
    /// The main transcript grew since the last look at the screen.
    has_grown: bool,
    /// Vitals as told last, in grains.
    vitals_told: Option<(u64, u32, u64, u64)>,
    memory_mb: Option<u64>,
    oom_kills: Option<u64>,
    quota_told: Option<(Option<Quota>, Option<Quota>)>,
    stream_tokens: Option<u64>,
    retry_told: Option<(String, u32)>,
    limit_told: Option<Option<i64>>,
    /// What each line about a limit meant when it was first read.
    limit_lines: BTreeMap<String, Option<i64>>,
    watch: screen::Watch,
    /// The known question that stands on the screen, since when, and when it was told.
    question: Option<(Dialog, u64, Option<u64>)>,
    /// When a waiting session was last told of by its own note.
    note_told_ms: Option<u64>,
    /// The minute that is counted in, and the answers told in it.
    answers: (u64, u32),
    /// Until when the person's command may be thinking about a question.
    command_until_ms: u64,
    /// A question that ends the run, and since when it waits to be seen.
    unseen: Option<(QuestionKind, String, u64)>,
    /// When Esc was pressed, as long as no row says what came of it.
    escaped_ms: Option<u64>,
    /// A hook has called.
    has_hooks: bool,
    /// When it was first seen that the model replied.
    replied_ms: Option<u64>,
    /// It was reported that no hook calls.
    silence_told: bool,
    /// The trust dialog was answered.
    trust_told: bool,
}

impl Senses {
    /// A hook or the statusline was called. The same words again are no sign of
    /// life: the CLI redraws for less, and a loop in the session can repeat them.
    pub fn hear(&mut self, event: &SinkEvent) {
        let is_hook = !matches!(event, SinkEvent::Statusline(_));
        self.has_hooks |= is_hook;
        let mut hasher = DefaultHasher::new();
        hasher.write(&serde_json::to_vec(event).unwrap_or_default());
        let words = hasher.finish();
        if self.heard.contains(&words) {
            return;
        }
        if self.heard.len() == HEARD_KEPT {
            self.heard.pop_front();
        }
        self.heard.push_back(words);
        self.signs.insert(if is_hook { Sign::Hook } else { Sign::Statusline });
    }

    /// May another answer be told in this minute? A report costs the sender nothing,
    /// and the journal a line.
    pub fn may_tell_answer(&mut self, now: Timestamp) -> bool {
        let minute = now.boot_ms / 60_000;
        if self.answers.0 != minute {
            self.answers = (minute, 0);
        }
        self.answers.1 += 1;
        self.answers.1 <= ANSWERS_PER_MINUTE
    }

    /// The person's command is being asked.
    pub fn command_asked(&mut self, now: Timestamp) {
        self.command_until_ms = now.boot_ms + COMMAND_LEAD_MS;
    }

    /// It has answered; the dialog and the CLI's own note go a moment later.
    pub fn command_answered(&mut self, now: Timestamp) {
        self.command_until_ms = now.boot_ms + HOOK_LEAD_MS;
    }

    /// Esc was pressed.
    pub fn escaped(&mut self, now: Timestamp) {
        self.escaped_ms = Some(now.boot_ms);
    }

    /// The transcript says how the turn ended, or that another begins.
    pub fn turn_told(&mut self) {
        self.escaped_ms = None;
    }

    /// The transcript shows a reply.
    pub fn replied(&mut self, now: Timestamp) {
        self.replied_ms.get_or_insert(now.boot_ms);
    }

    /// Did the session reply without the hook of its start? That one comes long
    /// before; what both left behind may be read in any order. True once.
    fn is_without_hooks(&mut self, now: Timestamp) -> bool {
        let since_ms = self.replied_ms.filter(|_| !self.has_hooks && !self.silence_told);
        let is_it = since_ms.is_some_and(|since| now.boot_ms.saturating_sub(since) >= SENSE_MS);
        self.silence_told |= is_it;
        is_it
    }

    fn is_command_asked(&self, now: Timestamp) -> bool {
        now.boot_ms < self.command_until_ms
    }
}

impl Driver {
    /// What grew in the transcripts since the last read.
    pub(super) fn note_growth(&mut self) {
        let Some(session) = &mut self.session else { return };
        let read = session.transcript.read_bytes();
        let senses = &mut session.senses;
        if read.main > senses.read.main {
            senses.signs.insert(Sign::Transcript);
            senses.has_grown = true;
        }
        if read.subagents > senses.read.subagents {
            senses.signs.insert(Sign::Subagent);
        }
        senses.read = read;
    }

    /// Tells the signs of life that were seen, now and then; `at_once` before the
    /// clock of the turn is looked at.
    pub(super) fn tell_signs(&mut self, now: Timestamp, at_once: bool) {
        let hang = &self.setup.config.hang;
        let every_ms = SIGNS_MS.min(hang.warn_ms.min(hang.tool_ms) / 4);
        let Some(session) = &mut self.session else { return };
        let senses = &mut session.senses;
        let is_due = now.boot_ms.saturating_sub(senses.signs_told_ms) >= every_ms;
        if senses.signs.is_empty() || !(is_due || at_once) {
            return;
        }
        senses.signs_told_ms = now.boot_ms;
        let cycle = session.cycle;
        for sign in std::mem::take(&mut senses.signs) {
            let report = SessionReport::Alive { sign };
            self.queue.push_back(Event::Session { cycle, report });
        }
    }

    /// Looks at the live session's processes and asks for its screen.
    pub(super) fn sense(&mut self, now: Timestamp) -> Result<()> {
        if self.look_at_disks(now) {
            self.journal.check_in_place()?;
        }
        if now.boot_ms.saturating_sub(self.released_at_ms) >= RELEASE_MS {
            self.released_at_ms = now.boot_ms;
            memory::release_program();
        }
        let limits = &self.setup.config.limits;
        let exact_from_mb = limits.tree_memory_soft_mb.min(limits.tree_memory_hard_mb);
        let Some(session) = self.session.as_mut().filter(|s| s.exit.is_none()) else {
            return Ok(());
        };
        let senses = &mut session.senses;
        let since_ms = now.boot_ms.saturating_sub(senses.sensed_at_ms);
        if since_ms < SENSE_MS {
            if self.guard.settings.suspects() {
                self.look_at_settings();
            }
            return Ok(());
        }
        let (Some(keeper), Some((pid, ticks))) = (&session.keeper, senses.cli) else {
            return Ok(());
        };
        senses.sensed_at_ms = now.boot_ms;
        let sampler = senses
            .sampler
            .get_or_insert_with(|| Sampler::new(keeper.keeper_pid(), pid, ticks, exact_from_mb));
        let vitals = sampler.sample();
        if vitals.below_cli_cpu_ms.saturating_mul(100) >= since_ms.saturating_mul(BUSY_PERCENT) {
            senses.signs.insert(Sign::Cpu);
        }
        senses.memory_mb = Some(vitals.tree_memory_mb);
        senses.oom_kills = oom::kills();
        let scratch_mb = disk::folder_mb(&self.setup.scratch, SCRATCH_ENTRIES).mb;
        let (memory_mb, subagents) =
            (vitals.tree_memory_mb, session.transcript.subagents_at_work());
        let written_mb = vitals.written_mb;
        let grains = |mb: u64| mb / GRAIN_MB;
        let in_grains = (grains(memory_mb), subagents, grains(scratch_mb), grains(written_mb));
        // Above a limit every look counts: the first may have come too early.
        let limits = &self.setup.config.limits;
        let is_over = memory_mb >= exact_from_mb
            || scratch_mb > limits.scratch_mb
            || written_mb > limits.written_mb
            || subagents > limits.max_subagents;
        if is_over || senses.vitals_told != Some(in_grains) {
            senses.vitals_told = Some(in_grains);
            self.report(SessionReport::Vitals { memory_mb, subagents, scratch_mb, written_mb });
        }
        let asks_command =
            matches!(self.setup.config.permissions.policy, PermissionPolicy::Command(_));
        let session = self.session.as_mut().filter(|_| asks_command);
        if session.is_some_and(|session| session.senses.is_without_hooks(now)) {
            self.report(SessionReport::HooksSilent);
        }
        self.look_at_settings();
        self.send(&KeeperCommand::ScreenRequest { id: 0 })
    }

    /// True if it was time to look.
    fn look_at_disks(&mut self, now: Timestamp) -> bool {
        if now.boot_ms.saturating_sub(self.disks_at_ms) < DISK_MS {
            return false;
        }
        self.disks_at_ms = now.boot_ms;
        let setup = &self.setup;
        let places = [setup.project.as_path(), setup.run.path(), setup.scratch.as_path()];
        let rooms: Vec<DiskRoom> = places
            .into_iter()
            .filter_map(disk::room)
            .map(|room| DiskRoom {
                free_mb: room.free_mb,
                size_mb: room.size_mb,
                place: room.path.display().to_string(),
            })
            .collect();
        let in_grains: Vec<u64> = rooms.iter().map(|room| room.free_mb / FREE_GRAIN_MB).collect();
        // Where there is little, every look counts.
        let is_scarce = in_grains.iter().any(|grains| *grains < SCARCE_GRAINS);
        if is_scarce && self.rooms_told != rooms || self.free_told != in_grains {
            self.free_told = in_grains;
            self.rooms_told.clone_from(&rooms);
            self.queue.push_back(Event::Disks { rooms });
        }
        true
    }

    /// Was the session that just ended killed for want of memory?
    pub(super) fn out_of_memory(&self, exit: Exit) -> Option<String> {
        let senses = &self.session.as_ref()?.senses;
        let (code, signal) = match exit {
            Exit::Code(code) => (Some(code), None),
            Exit::Signal(number) => (None, Some(number)),
            Exit::Unknown => (None, None),
        };
        let finding = oom::judge(&Evidence {
            code,
            signal,
            kills_before: senses.oom_kills,
            kills_after: oom::kills(),
            tree_memory_mb: senses.memory_mb,
            machine_memory_mb: oom::machine_memory_mb(),
        });
        finding.was_out_of_memory.then_some(finding.reason)
    }

    /// How much of the subscription is used, when that changed.
    pub(super) fn look_at_quota(&mut self, status: &Status) {
        let quota = |limit: Option<RateLimit>| {
            let limit = limit?;
            Some(Quota {
                used_percent: limit.used_percent?,
                resets_unix_ms: limit.resets_at_s.and_then(|s| s.checked_mul(1_000)),
            })
        };
        let (five_hour, seven_day) = (quota(status.five_hour), quota(status.seven_day));
        let Some(session) = &mut self.session else { return };
        let now = Some((five_hour, seven_day));
        if (five_hour.is_some() || seven_day.is_some()) && session.senses.quota_told != now {
            session.senses.quota_told = now;
            self.report(SessionReport::QuotaUsed { five_hour, seven_day });
        }
    }

    /// What stands on the screen, as reports. `knows_layout`: the keeper has seen
    /// the input line of this CLI.
    pub(super) fn on_screen(&mut self, text: String, knows_layout: bool) -> Result<()> {
        let now = Timestamp::now();
        let look = screen::look(&text);
        let Some(session) = &mut self.session else { return Ok(()) };
        session.screen = text;
        if session.exit.is_some() {
            return Ok(());
        }
        let ready = session.ready;
        let senses = &mut session.senses;
        if let Some(tokens) = look.stream_tokens
            && senses.stream_tokens.replace(tokens) != Some(tokens)
        {
            senses.signs.insert(Sign::Stream);
        }
        let grew = std::mem::take(&mut senses.has_grown);
        let waiting = senses.watch.feed(now.boot_ms, &look, knows_layout, ready, grew);
        if let Some(waiting) = waiting {
            let what = match waiting.heading {
                Some(heading) => format!("something longhaul does not know: {heading}"),
                None => "something longhaul does not know".into(),
            };
            self.ask_person(QuestionKind::Unknown, what);
        }
        self.look_at_limit(now, &look);
        self.look_at_retry(&look);
        self.show_unseen(now, &look);
        self.look_after_escape(now, &look)?;
        self.look_at_question(now, &look)
    }

    /// Esc before anything of a reply came takes the prompt back into the input
    /// line, and no row tells of it: the turn is over all the same. What is typed
    /// next would be added to that prompt, so the line is cleared; Ctrl-U would
    /// take one line of several.
    fn look_after_escape(&mut self, now: Timestamp, look: &Look) -> Result<()> {
        self.read_transcript();
        let Some(session) = &mut self.session else { return Ok(()) };
        let is_due = session.senses.escaped_ms.is_some_and(|since| now.boot_ms - since >= SENSE_MS);
        if !is_due || look.kind != Kind::Idle {
            return Ok(());
        }
        session.senses.escaped_ms = None;
        self.send(&KeeperCommand::Press(Key::CtrlC))?;
        self.report(SessionReport::TurnEnded { end: TurnEnd::Interrupted });
        Ok(())
    }

    /// Reports a question that ends the run as soon as its dialog stands on the
    /// screen, or soon: the person is to see what was asked.
    pub(super) fn ask_when_seen(&mut self, kind: QuestionKind, what: String) -> Result<()> {
        let Some(session) = &mut self.session else { return Ok(()) };
        let since_ms = Timestamp::now().boot_ms;
        session.senses.unseen.get_or_insert((kind, what, since_ms));
        self.send(&KeeperCommand::ScreenRequest { id: 0 })
    }

    fn show_unseen(&mut self, now: Timestamp, look: &Look) {
        let Some(session) = &mut self.session else { return };
        let is_due = |(_, _, since_ms): &mut (_, _, u64)| {
            look.dialog().is_some() || now.boot_ms.saturating_sub(*since_ms) >= SENSE_MS
        };
        if let Some((kind, what, _)) = session.senses.unseen.take_if(is_due) {
            self.ask_person(kind, what);
        }
    }

    /// The limit as the screen tells it: for a login by API key nothing else does.
    fn look_at_limit(&mut self, now: Timestamp, look: &Look) {
        let Some(session) = &mut self.session else { return };
        let Some(line) = &look.limit else {
            return;
        };
        // What was read once stays: five minutes after its time the same words would
        // mean tomorrow.
        let words = lasting_words(line);
        let zone = self.setup.zone();
        let read = || reset_time::reset_at(line, now.unix_ms, &zone);
        let lines = &mut session.senses.limit_lines;
        if lines.len() > LIMIT_LINES {
            lines.clear();
        }
        let resets = *lines.entry(words).or_insert_with(read);
        let is_told = match (session.senses.limit_told, resets) {
            (Some(Some(told)), Some(new)) => told.abs_diff(new) <= SAME_RESET_MS,
            (Some(told), new) => told == new,
            (None, _) => false,
        };
        if is_told {
            return;
        }
        session.senses.limit_told = Some(resets);
        let which = LimitKind::of_text(line).map_or("usage_limit", LimitKind::as_str).to_owned();
        let limit = UsageLimit { which, resets_unix_ms: resets, continues: look.continues_itself };
        self.report(SessionReport::Limited { limit });
    }

    /// The CLI tries a request again by itself; only the screen says so.
    fn look_at_retry(&mut self, look: &Look) {
        let Some(session) = &mut self.session else { return };
        let Some(retry) = look.retry.as_ref().filter(|_| look.limit.is_none()) else {
            if look.stream_tokens.is_some() {
                session.senses.retry_told = None;
            }
            return;
        };
        let attempt = retry.attempt.unwrap_or(1);
        let told = Some((retry.class.clone(), attempt));
        // What is shown counts down; what is told is each attempt, once.
        if session.senses.retry_told == told {
            return;
        }
        let Some(class) = class_of(retry, look.connection_trouble) else { return };
        session.senses.retry_told = told;
        let after_ms = retry.in_seconds.unwrap_or(0).saturating_mul(1_000);
        self.report(SessionReport::Retrying { class, attempt, after_ms });
    }

    fn look_at_question(&mut self, now: Timestamp, look: &Look) -> Result<()> {
        let trusts = self.setup.config.claude.trust_workspace;
        let Some(session) = &mut self.session else { return Ok(()) };
        let ready = session.ready;
        let known = look.dialog().filter(|dialog| *dialog != Dialog::Unknown);
        let senses = &mut session.senses;
        let Some(dialog) = known else {
            senses.question = None;
            return Ok(());
        };
        let (since_ms, told_ms) = match senses.question {
            Some((same, since_ms, told_ms)) if same == dialog => (since_ms, told_ms),
            _ => (now.boot_ms, None),
        };
        senses.question = Some((dialog, since_ms, told_ms));
        let stood_ms = now.boot_ms - since_ms;
        let kind = match dialog {
            // Later it is none of the CLI's.
            Dialog::Trust if trusts && !ready => return self.answer_trust(now),
            Dialog::UsageLimitMenu => return self.leave_limit_menu(now, stood_ms),
            Dialog::Permission => QuestionKind::Permission,
            Dialog::Question | Dialog::Plan => QuestionKind::Question,
            _ => QuestionKind::Known,
        };
        let lead_ms = match kind {
            QuestionKind::Permission | QuestionKind::Question => HOOK_LEAD_MS,
            // Before the first turn nothing else can be meant.
            _ if !ready => 0,
            _ => SENSE_MS,
        };
        let told_ms = told_ms.max(senses.note_told_ms);
        let is_again = told_ms.is_none_or(|told| now.boot_ms - told >= ASK_AGAIN_MS);
        if stood_ms < lead_ms || !is_again || senses.is_command_asked(now) {
            return Ok(());
        }
        senses.question = Some((dialog, since_ms, Some(now.boot_ms)));
        let what = match (&look.heading, kind) {
            (Some(heading), QuestionKind::Permission | QuestionKind::Question) => {
                format!("{} ({heading})", dialog.question())
            }
            _ => dialog.question().to_owned(),
        };
        self.ask_person(kind, what);
        Ok(())
    }

    /// The error row has said of what limit it is, and until when. Nothing could be
    /// typed into the menu, and whoever shows it does not go on by itself.
    fn leave_limit_menu(&mut self, now: Timestamp, stood_ms: u64) -> Result<()> {
        let Some(session) = &mut self.session else { return Ok(()) };
        let Some((dialog, _, told_ms)) = &mut session.senses.question else { return Ok(()) };
        let is_again = told_ms.is_none_or(|told| now.boot_ms - told >= ASK_AGAIN_MS);
        if stood_ms < SENSE_MS || !is_again {
            return Ok(());
        }
        *told_ms = Some(now.boot_ms);
        let (kind, answer) = (dialog.name().to_owned(), "wait".to_owned());
        let what = dialog.question().to_owned();
        self.report(SessionReport::Answered { kind, what, answer });
        let limit =
            UsageLimit { which: "usage_limit".to_owned(), resets_unix_ms: None, continues: false };
        self.report(SessionReport::Limited { limit });
        self.send(&KeeperCommand::Press(Key::Escape))
    }

    fn answer_trust(&mut self, now: Timestamp) -> Result<()> {
        let Some(session) = &mut self.session else { return Ok(()) };
        let paused = now.boot_ms.saturating_sub(session.trust_key_ms) >= dialog::KEY_PAUSE_MS;
        let Some(key) = dialog::answer_trust(&session.screen).filter(|_| paused) else {
            return Ok(());
        };
        session.trust_key_ms = now.boot_ms;
        tracing::info!(?key, "answering the trust dialog: claude.trust_workspace is set");
        if key == Key::Enter && !std::mem::replace(&mut session.senses.trust_told, true) {
            let what = "whether this folder is trusted".to_owned();
            let (kind, answer) = ("trust".to_owned(), "yes".to_owned());
            self.report(SessionReport::Answered { kind, what, answer });
        }
        self.send(&KeeperCommand::Press(key))
    }

    /// Reports that a person is waited for, with what the screen shows.
    pub(super) fn ask_person(&mut self, kind: QuestionKind, what: String) {
        let screen = self.session.as_ref().map_or("", |s| &s.screen);
        let [what, screen] = [&*what, screen].map(|text| self.secrets.redact(text).into_owned());
        self.report(SessionReport::AsksPerson { kind, what, screen });
    }

    /// Sees that a person is waited for where neither hook nor screen tells it.
    pub(super) fn look_at_note(&mut self, now: Timestamp) {
        let pid = self.machine.live().and_then(|c| c.pid);
        let alive = self.session.as_mut().filter(|s| s.exit.is_none());
        let (Some(session), Some(pid)) = (alive, pid) else { return };
        let id = session.session_id.to_string();
        let Some(what) = waits_for(&self.setup.claude_dir, pid, &id, now) else {
            session.senses.note_told_ms = None;
            return;
        };
        let senses = &mut session.senses;
        let is_again = senses.note_told_ms.is_none_or(|told| now.boot_ms - told >= ASK_AGAIN_MS);
        // The screen tells it, in better words; and two Esc would be one too many.
        if senses.question.is_some() || !is_again || senses.is_command_asked(now) {
            return;
        }
        senses.note_told_ms = Some(now.boot_ms);
        let kind = match what.as_str() {
            "permission prompt" | "sandbox request" => QuestionKind::Permission,
            "input needed" => QuestionKind::Question,
            _ => QuestionKind::Unknown,
        };
        self.ask_person(kind, format!("for somebody's answer ({what})"));
    }
}

/// The line without what counts down or up.
fn lasting_words(line: &str) -> String {
    let parts = line.split('·').map(str::trim);
    let counts = |part: &str| {
        part.starts_with("attempt ") || (part.starts_with("retrying") && !part.contains('('))
    };
    let lasting = parts.filter(|part| !counts(part));
    let words: Vec<&str> = lasting
        .map(|part| match part.split_once(" (") {
            Some((before, behind)) if before.starts_with("retrying") => behind,
            _ => part,
        })
        .collect();
    words.join("·")
}

/// What the CLI's words for a retry mean. Nothing for a refused login: its error
/// row is final, and no attempt helps.
fn class_of(retry: &Retry, is_connection: bool) -> Option<Class> {
    let words = retry.class.to_ascii_lowercase();
    let has = |word: &str| words.contains(word);
    if is_connection {
        Some(Class::Connection)
    } else if has("401") || has("403") || has("api-key") || has("authenticat") {
        None
    } else if has("429") || has("rate limit") {
        Some(Class::RateLimit)
    } else {
        Some(Class::Overloaded)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_words_again_are_no_sign_of_life() {
        let statusline = |tokens| {
            let status = Status { context_tokens: Some(tokens), ..Status::default() };
            SinkEvent::Statusline(Box::new(status))
        };
        let hook = SinkEvent::PreCompact { trigger: Some("auto".into()) };
        let mut senses = Senses::default();
        let mut signs = |event: &SinkEvent| {
            senses.hear(event);
            Vec::from_iter(std::mem::take(&mut senses.signs))
        };
        assert_eq!(signs(&statusline(1)), [Sign::Statusline]);
        assert_eq!(signs(&hook), [Sign::Hook]);
        assert_eq!(signs(&statusline(2)), [Sign::Statusline]);
        for again in [statusline(2), statusline(1), hook] {
            assert_eq!(signs(&again), [], "{again:?}");
        }
        for tokens in 3..1_000 {
            assert_eq!(signs(&statusline(tokens)), [Sign::Statusline]);
        }
        assert!(senses.heard.len() <= HEARD_KEPT);
    }

    #[test]
    fn a_reply_without_the_hook_of_the_start_tells_that_hooks_are_off_once() {
        let at = |boot_ms| Timestamp { boot_ms, ..Timestamp::now() };
        let mut senses = Senses::default();
        assert!(!senses.is_without_hooks(at(60_000)), "nothing was to be heard yet");
        senses.replied(at(60_000));
        senses.replied(at(61_000));
        assert!(!senses.is_without_hooks(at(60_000 + SENSE_MS - 1)));
        assert!(senses.is_without_hooks(at(60_000 + SENSE_MS)));
        assert!(!senses.is_without_hooks(at(90_000)));
        let mut senses = Senses::default();
        senses.replied(at(60_000));
        senses.hear(&SinkEvent::Stop);
        assert!(!senses.is_without_hooks(at(90_000)));
    }

    #[test]
    fn a_line_that_counts_down_is_the_same_line() {
        let line = |s, n| {
            lasting_words(&format!(
                "5-hour limit reached · retrying in {s}s (2:17am) · attempt {n}/10"
            ))
        };
        assert_eq!(line(8, 5), line(36, 9));
        assert_ne!(
            line(8, 5),
            lasting_words("5-hour limit reached · retrying in 8s (7:17am) · attempt 5/10")
        );
        assert_eq!(
            lasting_words("Weekly limit reached · retrying… · attempt 1/10"),
            "Weekly limit reached"
        );
    }
}
