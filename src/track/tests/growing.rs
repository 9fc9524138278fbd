//! Requests that come again and say more.

use super::*;

fn request(entries: &[Value]) -> Value {
    json!({"mode": "log_only", "task_id": "t", "timestamp": "2025-11-28T14:30:00Z",
        "user_request_summary": "Do it.", "entries": entries})
}

fn entry(agent: &str, tokens: u64) -> Value {
    json!({"agent": agent, "model": "opus", "input_tokens": tokens, "output_tokens": 1,
        "total_tokens": tokens + 1, "estimated_cost": 0.5})
}

fn without(mut entry: Value, field: &str) -> Value {
    entry.as_object_mut().unwrap().remove(field);
    entry
}

#[test]
fn one_entry_more_or_another_order_is_the_same_log() {
    let (a, b) = (entry("a", 10), entry("b", 200));
    for requests in [
        vec![vec![a.clone()], vec![a.clone(), b.clone()]],
        vec![vec![a.clone(), b.clone()], vec![b.clone(), a.clone()]],
        vec![vec![without(a.clone(), "model"), b.clone()], vec![b.clone(), a.clone()]],
        // Two that tell different things, and one that tells both.
        vec![vec![a.clone()], vec![b.clone()], vec![a.clone(), b.clone()], vec![b.clone()]],
    ] {
        let lab = Lab::new();
        requests.iter().for_each(|entries| drop(lab.take(&request(entries))));
        assert_eq!((lab.tasks().len(), lab.recorded()), (1, (212, 0, 1_000_000)), "{requests:?}");
        let day = lab.read("usage-2025-11-28.md");
        assert!(day.contains("| b | opus | 200 | 1 | 201 | $0.50 |"), "{day}");
        let errors = fs::read_to_string(lab.path("errors-2025-11-28.md")).unwrap_or_default();
        assert!(!errors.contains("[open]"), "{errors}");
    }
}

#[test]
fn what_is_another_stays_another() {
    let (a, b) = (entry("a", 10), entry("b", 200));
    for other in [
        with(request(&[a.clone(), b.clone()]), json!({"task_id": "u"})),
        with(request(&[a.clone(), b.clone()]), json!({"timestamp": "2025-11-28T14:30:01Z"})),
        request(&[entry("a", 11), b.clone()]),
    ] {
        let lab = Lab::new();
        lab.take(&request(std::slice::from_ref(&a)));
        lab.take(&other);
        assert_eq!(lab.tasks().len(), 2, "{other}");
    }
    // Nobody can tell whether these are of one task.
    let lab = Lab::new();
    let nameless = |entries: &[Value]| with(request(entries), json!({"task_id": null}));
    lab.take(&nameless(&[a.clone(), b.clone()]));
    lab.take(&nameless(&[b.clone(), a.clone()]));
    assert_eq!(lab.tasks().len(), 1);
    lab.take(&nameless(&[a, b, entry("c", 1)]));
    assert_eq!(lab.tasks().len(), 2);
}

#[test]
fn only_what_came_is_resolved() {
    let lab = Lab::new();
    let first = json!({"agent": "a", "model": "m", "input_tokens": 100});
    lab.take(&request(std::slice::from_ref(&first)));
    let second = with(first.clone(), json!({"output_tokens": 7}));
    lab.take(&request(std::slice::from_ref(&second)));
    let errors = lab.read("errors-2025-11-28.md");
    let about = "usage-2025-11-28-1430-t: entries[0]";
    let lines = [
        format!("- [resolved 2025-11-28T15:00:00.000Z] {about}.output_tokens is missing"),
        format!("- [open] {about}.total_tokens is missing; recorded as null"),
        format!("- [open] {about}.estimated_cost is missing; recorded as null"),
    ];
    for line in &lines {
        assert_eq!(errors.matches(line).count(), 1, "{line}\n{errors}");
    }
    // What says less, and the same once more, change nothing.
    for again in [&first, &second] {
        lab.take(&request(std::slice::from_ref(again)));
        assert_eq!(lab.read("errors-2025-11-28.md"), errors);
    }
    // The place of the entry is another: it is missing there.
    lab.take(&request(&[entry("b", 5), second]));
    let errors = lab.read("errors-2025-11-28.md");
    assert!(!errors.contains(&lines[2]), "{errors}");
    assert!(errors.contains("[open] usage-2025-11-28-1430-t: entries[1].estimated_cost"));
}

#[test]
fn what_was_wanted_is_kept_and_filled_in() {
    let lab = Lab::new();
    let entries = [entry("a", 1)];
    let silent = with(request(&entries), json!({"user_request_summary": null}));
    lab.take(&silent);
    lab.take(&request(&entries));
    lab.take(&silent);
    let log: Value = serde_json::from_str(&lab.read("tasks/usage-2025-11-28-1430-t.json")).unwrap();
    assert_eq!(log["user_request_summary"], "Do it.");
    assert!(!lab.read("errors-2025-11-28.md").contains("[open]"));
}

/// Requests each of which says more than the one before: entries, or their fields.
fn chain() -> impl Strategy<Value = Vec<Vec<Value>>> {
    let steps = prop::collection::vec((0..3_usize, 0..4_u64, any::<prop::sample::Index>()), 1..6);
    steps.prop_map(|steps| {
        let mut entries: Vec<Value> = Vec::new();
        let mut chain = Vec::new();
        for (what, number, place) in steps {
            match (what, entries.is_empty()) {
                (0, false) => {
                    let at = place.index(entries.len());
                    entries[at] = with(entries[at].clone(), json!({"estimated_cost": 0.5}));
                }
                (1, false) => {
                    let at = place.index(entries.len());
                    entries.rotate_left(at);
                    let fields = json!({"model": "opus", "output_tokens": 3});
                    entries[at] = with(entries[at].clone(), fields);
                }
                _ => entries.push(json!({"agent": "a", "input_tokens": number})),
            }
            chain.push(entries.clone());
        }
        chain
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]

    #[test]
    fn in_any_order_and_however_often_the_last_counts(
        chain in chain(),
        order in prop::collection::vec(any::<prop::sample::Index>(), 0..8),
    ) {
        let all = order.iter().map(|at| at.index(chain.len()));
        let (first, last) = (Lab::new(), Lab::new());
        for at in all.chain([chain.len() - 1]).chain(order.iter().map(|at| at.index(chain.len()))) {
            first.take(&request(&chain[at]));
        }
        last.take(&request(&chain[chain.len() - 1]));
        let totals = |lab: &Lab| {
            let name = lab.tasks().pop().unwrap();
            TaskLog::from_bytes(&fs::read(lab.path("tasks").join(name)).unwrap()).unwrap().totals
        };
        prop_assert_eq!(first.tasks().len(), 1);
        prop_assert_eq!(totals(&first), totals(&last));
        let open = |lab: &Lab| {
            let text = fs::read_to_string(lab.path("errors-2025-11-28.md")).unwrap_or_default();
            text.matches("- [open]").count()
        };
        prop_assert_eq!(open(&first), open(&last));
    }
}
