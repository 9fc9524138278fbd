//! What a session takes of the machine and of the purse at a time: memory,
//! subagents, room on disks, tokens and dollars.

use super::Machine;
use crate::clock::Timestamp;
use crate::cycle::action::Notice;
use crate::cycle::event::DiskRoom;
use crate::cycle::failure::Class;
use crate::cycle::state::{Budget, EndReason, Outcome, State};

/// The free room that is kept on a large disk where the person set none.
const FLOOR_MB: u64 = 1_024;
/// The part of a small one.
const FLOOR_SHARE: u64 = 20;

impl Machine {
    pub(super) fn on_vitals(
        &mut self,
        now: Timestamp,
        memory_mb: u64,
        subagents: u32,
        scratch_mb: u64,
        written_mb: u64,
    ) {
        if matches!(self.state, State::Ending { .. }) {
            return;
        }
        let limits = &self.params;
        let (soft_mb, hard_mb) = (limits.tree_memory_soft_mb, limits.tree_memory_hard_mb);
        if subagents > limits.max_subagents {
            let seen = format!("{subagents} subagents were at work at the same time");
            self.breach(now, Budget::Subagents, &seen);
        } else if scratch_mb > limits.scratch_mb {
            let seen = format!("the run's temporary files take {scratch_mb} MB");
            self.breach(now, Budget::Scratch, &seen);
        } else if written_mb > limits.written_mb {
            let limit_mb = limits.written_mb;
            let seen = format!(
                "the session and what it started wrote {written_mb} MB to disks ({limit_mb} MB \
                 are allowed)"
            );
            self.breach(now, Budget::Written, &seen);
        } else if memory_mb >= hard_mb {
            self.fail(Class::OutOfMemory);
            self.failed = Some(Class::OutOfMemory);
            self.warn_memory(memory_mb, hard_mb, "limits.tree_memory_hard_mb");
            self.note = Some(memory_note());
            self.cancel_judge();
            self.end_hurriedly(EndReason::Memory);
        } else if memory_mb >= soft_mb && matches!(self.state, State::Working) && self.has_replied()
        {
            self.warn_memory(memory_mb, soft_mb, "limits.tree_memory_soft_mb");
            self.begin_ask(EndReason::Memory);
        }
    }

    fn warn_memory(&mut self, memory_mb: u64, limit_mb: u64, key: &str) {
        let text = format!(
            "the session and what it started use {memory_mb} MB of memory ({key} is {limit_mb})"
        );
        self.warn(text);
    }

    /// A limit on what goes on at a time was broken: the session ends at once, and
    /// the run with it, before more is lost.
    pub(super) fn breach(&mut self, now: Timestamp, which: Budget, seen: &str) {
        if self.verdict.is_some() && matches!(self.state, State::Ending { .. }) {
            return;
        }
        let text = format!("{seen}, which is more than {} allows", which.key());
        self.warn(text);
        self.end_now(now, Outcome::Budget { which }, EndReason::Budget);
    }

    pub(super) fn on_disks(&mut self, now: Timestamp, rooms: &[DiskRoom]) {
        let is_low = |room: &&DiskRoom| room.free_mb < self.disk_floor_mb(room);
        let Some(room) = rooms.iter().find(is_low) else { return };
        if matches!(self.verdict, Some(Outcome::Disk { .. })) {
            return;
        }
        let why = format!(
            "{} MB are free at {}, and the floor (limits.disk_floor_mb) is {} MB",
            room.free_mb,
            room.place,
            self.disk_floor_mb(room)
        );
        self.tell(Notice::Warning { text: why.clone() });
        self.end_now(now, Outcome::Disk { why }, EndReason::Disk);
    }

    fn disk_floor_mb(&self, room: &DiskRoom) -> u64 {
        match self.params.disk_floor_mb {
            0 => FLOOR_MB.min(room.size_mb / FLOOR_SHARE),
            floor_mb => floor_mb,
        }
    }
}

/// What a session is told after one that ran out of memory.
pub(super) fn memory_note() -> String {
    "The session before this one was ended because it, or something it had started, used too \
     much memory. Do the same work in a way that needs less."
        .to_owned()
}
