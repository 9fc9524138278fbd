use super::*;

fn facts() -> RunFacts {
    RunFacts { run_id: Uuid::nil(), project: "/home/me/parser".into() }
}

fn quiet() -> config::Notify {
    config::Notify { command: Vec::new(), webhook: None, on: Occasion::ALL.to_vec() }
}

/// A notifier whose couriers are this program, and what they are given to do
/// shows in the tally only.
fn notifier(program: &str, on: &[Occasion]) -> Notifier {
    let config = config::Notify { command: vec!["x".into()], on: on.to_vec(), ..quiet() };
    Notifier::start_with(&config, facts(), &[program.into()], Patience::default())
}

fn at(boot_ms: u64) -> Timestamp {
    Timestamp { unix_ms: 0, boot_ms }
}

fn in_runtime<T>(f: impl AsyncFnOnce() -> T) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(f())
}

#[test]
fn without_a_way_nothing_is_started_and_no_runtime_is_needed() {
    let mut notifier = Notifier::start(&quiet(), facts());
    notifier.tell(&Notification::new(Occasion::Failed, "x", at(1), 1));
    assert_eq!(notifier.tally(), Tally::default());
}

/// How many of these are put into the queue.
fn queued(on: &[Occasion], all: &[(Occasion, &str, u64)]) -> u64 {
    in_runtime(async || {
        // Nothing is taken out before the first await.
        let mut notifier = notifier("/nonexistent", on);
        for (occasion, text, boot_ms) in all {
            notifier.tell(&Notification::new(*occasion, *text, at(*boot_ms), 1));
        }
        notifier.abandon()
    })
}

#[test]
fn only_what_the_person_asked_for_is_told() {
    let all: Vec<_> = Occasion::ALL.iter().map(|o| (*o, "x", 1)).collect();
    assert_eq!(queued(&Occasion::ALL, &all), 5);
    assert_eq!(queued(&[Occasion::Finished, Occasion::Waiting], &all), 2);
    assert_eq!(queued(&[], &all), 0);
}

#[test]
fn a_repetition_is_told_after_ten_minutes_and_an_end_always() {
    use Occasion::{Failed, Finished, NeedsPerson, Waiting};
    let on = Occasion::ALL;
    assert_eq!(queued(&on, &[(Waiting, "a", 0), (Waiting, "a", REPEAT_MS - 1)]), 1);
    assert_eq!(queued(&on, &[(Waiting, "a", 0), (Waiting, "a", REPEAT_MS)]), 2);
    assert_eq!(queued(&on, &[(Waiting, "a", 0), (Waiting, "b", 0), (NeedsPerson, "a", 0)]), 3);
    assert_eq!(queued(&on, &[(Finished, "a", 0), (Finished, "a", 0), (Failed, "a", 0)]), 3);
    assert_eq!(queued(&on, &[(Failed, "a", 0), (Failed, "a", 0)]), 2);
}

#[test]
fn a_full_queue_throws_the_oldest_away_and_counts_it() {
    in_runtime(async || {
        let mut notifier = notifier("/nonexistent", &Occasion::ALL);
        for n in 0..100 {
            notifier.tell(&Notification::new(Occasion::Failed, n.to_string(), at(n), 1));
        }
        assert_eq!(notifier.tally(), Tally { dropped: 36, ..Tally::default() });
        assert_eq!(notifier.abandon(), 64);
    });
}

#[test]
fn a_courier_that_cannot_be_had_is_a_failure_and_no_more() {
    in_runtime(async || {
        tokio::time::timeout(Duration::from_secs(20), async {
            for program in ["/nonexistent", "/bin/true", "/bin/false"] {
                let mut notifier = notifier(program, &Occasion::ALL);
                notifier.tell(&Notification::new(Occasion::Failed, "x", at(1), 1));
                let tally = notifier.finish(Duration::from_secs(10)).await;
                assert_eq!(tally, Tally { failed: 1, ..Tally::default() }, "{program}");
            }
        })
        .await
        .unwrap();
    });
}
