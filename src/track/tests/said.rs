//! Whatever goes wrong is said, at the latest when it can be, and once.

use std::time::{Duration, SystemTime};

use super::*;

const ERRORS: &str = "errors-2025-11-28.md";

fn review() -> Value {
    json!({"mode": "review_period"})
}

#[test]
fn a_review_that_failed_is_said_when_it_can_be() {
    let lab = Lab::new();
    let folder = lab.project().join("token-usage");
    fs::write(&folder, "in the way").unwrap();
    lab.take_at(NOW, &review()).unwrap_err();
    fs::remove_file(&folder).unwrap();
    lab.take(&seed());
    lab.take(&seed());
    let errors = lab.read(ERRORS);
    assert_eq!(errors.matches("- [noted] review_period: ").count(), 1, "{errors}");
    assert!(errors.contains("a file is in the way"), "{errors}");
}

#[test]
fn what_was_refused_while_others_recorded_is_said_later() {
    let lab = Lab::new();
    let held = crate::lock::ProjectLock::take(&lab.tracker_at(NOW).lock_file()).unwrap();
    lab.tracker_at(NOW).note_refused("the request is not JSON");
    drop(held);
    lab.take(&seed());
    let line = "- [noted] 2025-11-28T15:00:00.000Z: the request is not JSON";
    assert_eq!(lab.read(ERRORS).matches(line).count(), 1);
}

#[test]
fn what_is_damaged_is_said_once() {
    let lab = Lab::new();
    lab.take(&seed());
    let log = lab.path("tasks/usage-2025-11-28-1430-create-usage-tracker.json");
    let bytes = fs::read(&log).unwrap();
    fs::write(&log, &bytes[..bytes.len() / 2]).unwrap();
    let line = "- [noted] tasks/usage-2025-11-28-1430-create-usage-tracker.json: is no task log";
    lab.take(&review());
    assert_eq!(lab.read(ERRORS).matches(line).count(), 1);
    for id in ["x", "y"] {
        lab.take(&with(seed(), json!({"task_id": id})));
    }
    fs::write(lab.path("reports/usage-review-2025-11-28.json"), "{").unwrap();
    lab.take_at(NOW + DAY_MS, &review()).unwrap();
    lab.take_at(NOW + DAY_MS, &review()).unwrap();
    let errors = lab.read(ERRORS);
    assert_eq!(errors.matches(line).count(), 1, "{errors}");
    let line = "- [noted] reports/usage-review-2025-11-28.json: cannot be read";
    assert_eq!(errors.matches(line).count(), 1, "{errors}");
}

#[test]
fn what_the_errors_file_does_not_take_waits() {
    let lab = Lab::new();
    fs::create_dir_all(lab.path(ERRORS).join("x")).unwrap();
    let mut partial = seed();
    partial["entries"][0]["estimated_cost"] = Value::Null;
    partial["entries"][0]["agent"] = Value::Null;
    lab.take(&partial);
    lab.tracker_at(NOW).note_refused("nonsense");
    // One of both comes before it can be said that it was missing.
    partial["entries"][0]["agent"] = json!("a");
    lab.take(&partial);
    fs::remove_dir_all(lab.path(ERRORS)).unwrap();
    lab.take(&with(seed(), json!({"task_id": "next"})));
    let errors = lab.read(ERRORS);
    let about = "usage-2025-11-28-1430-create-usage-tracker: entries[0]";
    for line in [
        format!("- [open] {about}.estimated_cost is missing"),
        format!("- [resolved 2025-11-28T15:00:00.000Z] {about}.agent is missing"),
        "nonsense".into(),
    ] {
        assert_eq!(errors.matches(&line).count(), 1, "{line}\n{errors}");
    }
    assert_eq!(fs::read_dir(lab.state().join("said")).unwrap().count(), 0);
}

#[test]
fn a_summary_that_is_made_later_resolves_what_was_said_of_it() {
    let lab = Lab::new();
    for _ in 0..2 {
        fs::create_dir_all(lab.path("usage-2025-11-28.md/x")).unwrap();
        lab.take(&seed());
        let line = "] usage-2025-11-28.md: the summary of the day is not made";
        let errors = lab.read(ERRORS);
        assert!(errors.contains(&format!("- [pending{line}")), "{errors}");
        fs::remove_dir_all(lab.path("usage-2025-11-28.md")).unwrap();
        lab.take(&seed());
        let errors = lab.read(ERRORS);
        assert!(
            errors.contains(&format!("- [resolved 2025-11-28T15:00:00.000Z{line}")),
            "{errors}"
        );
        assert!(!errors.contains("[pending]"), "{errors}");
        fs::remove_file(lab.path("usage-2025-11-28.md")).unwrap();
    }
}

#[test]
fn a_damaged_record_is_put_aside_said_and_not_counted() {
    let lab = Lab::new();
    fs::write(lab.project().join("token-usage"), "in the way").unwrap();
    lab.take_at(NOW, &seed()).unwrap_err();
    fs::remove_file(lab.project().join("token-usage")).unwrap();
    let pending = fs::read_dir(lab.state().join("pending")).unwrap().next().unwrap().unwrap();
    let bytes = fs::read(pending.path()).unwrap();
    fs::write(pending.path(), &bytes[..bytes.len() / 2]).unwrap();
    let said = lab.take(&with(seed(), json!({"task_id": "next"})));
    assert_eq!(said.get("reconciled"), None, "{said}");
    assert_eq!((lab.tasks().len(), lab.pending()), (1, 0));
    let name = pending.file_name().into_string().unwrap();
    assert!(lab.state().join(format!("unreadable-{name}")).exists());
    let errors = lab.read(ERRORS);
    assert!(errors.contains(&format!("- [noted] {name}: what waited")), "{errors}");
}

#[test]
fn what_a_killed_call_left_is_swept() {
    let lab = Lab::new();
    lab.take(&seed());
    let digits = "0123456789abcdef0123456789abcdef";
    let at = |ms: i64| SystemTime::UNIX_EPOCH + Duration::from_millis(ms.unsigned_abs());
    let put = |name: &str, ms: i64| {
        let file = fs::File::create(lab.path(name)).unwrap();
        file.set_modified(at(ms)).unwrap();
        lab.path(name)
    };
    let old = NOW - 11 * 60_000;
    let gone = [
        put(&format!(".usage-2025-11-28.md.{digits}.tmp"), old),
        put(&format!(".errors-2025-11-28.md.{digits}.tmp"), old),
        put(&format!("tasks/.usage-2025-11-28-1430-x.json.{digits}.tmp"), old),
    ];
    let kept = [
        put(&format!(".usage-2025-11-28.json.{digits}.tmp"), NOW - 60_000),
        put(&format!(".mine.{digits}.tmp"), old),
        put(".usage-2025-11-28.md.tmp", old),
    ];
    lab.take(&seed());
    assert!(gone.iter().all(|path| !path.exists()), "{gone:?}");
    assert!(kept.iter().all(|path| path.exists()), "{kept:?}");
}

#[test]
fn a_folder_whose_making_was_interrupted_is_ignored_by_git() {
    let lab = Lab::new();
    let digits = "0123456789abcdef0123456789abcdef";
    fs::create_dir(lab.path("")).unwrap();
    fs::write(lab.path(&format!("..gitignore.{digits}.tmp")), "").unwrap();
    lab.take(&seed());
    assert!(lab.read(".gitignore").ends_with("*\n"));
    // In a folder with something in it, it is missing since somebody wants it so.
    let lab = Lab::new();
    fs::create_dir(lab.path("")).unwrap();
    fs::write(lab.path("README.md"), "Ours.").unwrap();
    lab.take(&seed());
    assert!(!lab.path(".gitignore").exists());
}
