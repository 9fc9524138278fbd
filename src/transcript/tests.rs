use super::*;
#[test]
fn lab() {
    let Ok(dir) = std::env::var("LAB_RUNS") else {
        return;
    };
    let mut n = 0;
    for run in std::fs::read_dir(dir).unwrap().flatten() {
        let projects = run.path().join("home/.claude/projects");
        let Ok(rd) = std::fs::read_dir(&projects) else {
            continue;
        };
        for p in rd.flatten() {
            for f in std::fs::read_dir(p.path()).unwrap().flatten() {
                if f.path().extension().is_none_or(|e| e != "jsonl") {
                    continue;
                }
                let mut t = SessionTranscript::with_path(f.path());
                let facts = t.poll().unwrap();
                let bill = facts.iter().rev().find_map(|s| match &s.fact {
                    Fact::CostState(c) => Some(c.clone()),
                    _ => None,
                });
                let cost = t.usage().cost(crate::models::Models::builtin());
                let same = bill
                    .as_ref()
                    .is_some_and(|b| (b.total_cost_usd - cost.usd).abs() < 1e-9);
                n += 1;
                if !same || t.usage().damage() != Default::default() {
                    println!(
                        "{} bill {:?} cost {:?} responses {} {:?}",
                        run.path().file_name().unwrap().to_string_lossy(),
                        bill,
                        cost,
                        t.usage().responses(),
                        t.usage().damage()
                    );
                }
            }
        }
    }
    println!("{n} transcripts");
}
