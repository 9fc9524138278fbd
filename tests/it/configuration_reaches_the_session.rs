//! What a person sets is what the session gets: thresholds, prompts, files.

use longhaul::demo::api::{Reply, Request, Script};
use serde_json::json;

use super::support::{Lab, Worker, said};

fn finishes_in_its_second_session() -> Lab {
    Lab::new(Worker { done_in_session: Some(2), ..Worker::brisk() })
}

#[test]
fn the_threshold_in_percent_by_an_option() {
    let story =
        finishes_in_its_second_session().story(&["--set", "context.threshold_percent=40"], 0);
    assert_eq!(story.run.named("threshold_reached")[0]["tokens"], 90_000);
}

#[test]
fn the_threshold_in_tokens_whichever_comes_first() {
    let mut lab = finishes_in_its_second_session();
    lab.set("context.threshold_tokens", 60_000);
    let story = lab.story(&[], 0);
    let reached = story.run.named("threshold_reached")[0];
    assert_eq!((&reached["tokens"], &reached["percent"]), (&json!(90_000), &json!(45)));
}

#[test]
fn the_window_is_the_persons_word_over_the_clis() {
    let mut lab = finishes_in_its_second_session();
    lab.set("context.window_tokens", 100_000);
    let story = lab.story(&[], 0);
    let reached = story.run.named("threshold_reached")[0];
    assert_eq!(
        [&reached["tokens"], &reached["window"], &reached["percent"], &reached["window_source"]],
        [&json!(90_000), &json!(100_000), &json!(90), &json!("config")]
    );
    assert_eq!(story.of_cycles("window_tokens"), [100_000, 100_000]);
}

#[test]
fn prompts_and_files_of_its_own() {
    let worker = Worker { marker: "SAVE NOW", ..Worker::brisk() };
    let mut lab = Lab::new(move |request: &Request| {
        let usage = worker.usage_now(request);
        match (worker.asked(request), worker.calls(request)) {
            (Some(_), 0) => Reply::bash("echo news >> notes/state.md", usage),
            (Some(_), _) => Reply::text("Saved.", usage),
            (None, 0) if request.session_index == 1 => {
                Reply::bash("sed -i 's/\\[ \\]/[x]/' work/WORK.md", usage)
            }
            (None, 1) if request.session_index == 1 => Reply::text("Done.", usage),
            _ => worker.reply(request),
        }
    });
    lab.write("work/WORK.md", "* [ ] the one thing\n");
    lab.write("notes/state.md", "Nothing yet.\n");
    std::fs::remove_dir_all(lab.project().join("dev-docs")).unwrap();
    std::fs::remove_dir_all(lab.project().join(".claude")).unwrap();
    lab.set("task.file", "work/WORK.md");
    lab.set("checkpoint.files", vec!["notes/state.md"]);
    lab.set("checkpoint.prompt", "SAVE NOW: write notes/state.md, then end your turn.");
    lab.set("session.init_prompt", "Begin with the first open box in work/WORK.md.");
    let story = lab.story(&[], 0);
    let sessions = story.run.sessions();
    assert_eq!(
        said(&lab, &sessions[0]),
        [
            "Begin with the first open box in work/WORK.md.",
            "SAVE NOW: write notes/state.md, then end your turn."
        ]
    );
    assert_eq!(said(&lab, &sessions[1]), ["Begin with the first open box in work/WORK.md."]);
    assert_eq!(story.run.field("checkpoint_verified", "files"), [json!(["notes/state.md"])]);
    let folder = &story.of_cycles("checkpoint.folder")[0];
    let copy = format!("{}/notes/state.md", folder.as_str().unwrap());
    assert_eq!(std::fs::read_to_string(copy).unwrap(), "Nothing yet.\nnews\n");
    assert!(!lab.project().join("dev-docs").exists(), "nothing was laid out");
}

#[test]
fn arguments_after_the_dashes_reach_the_cli() {
    let mut lab = Lab::new(Worker { done_in_session: Some(1), ..Worker::default() });
    let story = lab.story(&["--", "--append-system-prompt", "Speak of rivers only."], 0);
    let id = &story.run.sessions()[0];
    let requests = lab.api.requests();
    let first = requests.iter().find(|r| !r.side && r.session_id == *id).unwrap();
    assert!(first.body["system"].to_string().contains("Speak of rivers only."));
    assert_eq!(first.model, "claude-haiku-4-5", "claude.args hold as well");
}
