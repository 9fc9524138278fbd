//! `checkpoint.git = "commit"`: one commit a checkpoint, of its files alone;
//! what the person has in the making stays as it is.

use super::support::{Lab, Worker};

fn git(lab: &Lab, args: &[&str]) -> String {
    let output = lab.command("git").args(args).output().unwrap();
    assert!(output.status.success(), "git {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn each_checkpoint_is_a_commit_of_its_files_and_nothing_else() {
    let mut lab = Lab::new(Worker {
        done_in_session: Some(3),
        tick_one_per_session: true,
        ..Worker::brisk()
    });
    let identity = "[user]\n\tname = A Person\n\temail = person@localhost\n";
    std::fs::write(lab.home.dir().join(".gitconfig"), identity).unwrap();
    lab.write("mine.txt", "first\n");
    lab.git_init();
    lab.write("mine.txt", "second, staged\n");
    git(&lab, &["add", "mine.txt"]);
    lab.write("mine.txt", "third, not staged\n");
    lab.set("checkpoint.git", "commit");
    let story = lab.story(&[], 0);
    assert_eq!(story.run.named("checkpoint_verified").len(), 2);
    assert_eq!(story.run.named("warning"), Vec::<&serde_json::Value>::new());

    let log = git(&lab, &["log", "--format=%an %s", "--reverse"]);
    let expected = "Lab Start\nA Person longhaul: checkpoint of cycle 1\n\
                    A Person longhaul: checkpoint of cycle 2\n";
    assert_eq!(log, expected);
    for (commit, session) in [("HEAD~1", 1), ("HEAD", 2)] {
        let files = git(&lab, &["show", "--format=", "--name-only", commit]);
        assert_eq!(files, "dev-docs/PROJECT_SUMMARY.md\ndev-docs/plan.md\ndev-docs/tasks.md\n");
        let tasks = git(&lab, &["show", &format!("{commit}:dev-docs/tasks.md")]);
        assert_eq!(tasks.matches("- [x]").count(), session, "{tasks}");
        assert!(tasks.contains(&format!("Checkpoint of session {session},")), "{tasks}");
    }
    assert_eq!(git(&lab, &["diff", "--cached", "--name-only"]), "mine.txt\n");
    assert_eq!(git(&lab, &["show", ":mine.txt"]), "second, staged\n");
    assert_eq!(lab.read("mine.txt"), "third, not staged\n");
}

#[test]
fn without_a_repository_the_run_goes_on_and_says_so() {
    let mut lab = Lab::new(Worker { done_in_session: Some(2), ..Worker::brisk() });
    lab.set("checkpoint.git", "commit");
    let story = lab.story(&[], 0);
    let warnings = story.run.field("warning", "text");
    assert!(warnings[0].as_str().unwrap().contains("no git repository"), "{warnings:?}");
    assert_eq!(story.of_cycles("checkpoint.status"), ["verified", "none"]);
}
