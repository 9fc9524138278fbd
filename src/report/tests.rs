use jiff::tz::TimeZone;

use super::staged::{self, Stage};
use super::*;
use crate::cycle::Event;
use crate::cycle::event::Exit;

fn around() -> Surroundings {
    Surroundings {
        project: "/home/me/project".into(),
        journal: Some("/home/me/.local/state/longhaul/p-1/run.jsonl".into()),
        checkpoints: Some("/home/me/.local/state/longhaul/p-1/checkpoints".into()),
        transcripts: Some("/home/me/.claude/projects/-home-me-project".into()),
        ..Surroundings::default()
    }
}

fn human(stage: &Stage, around: Surroundings) -> String {
    Report::of(&stage.view(), around).human(&TimeZone::UTC)
}

#[test]
fn show() {
    println!("{}", human(&staged::good_night(), around()));
    println!("{}", human(&staged::bad_night(), around()));
}
