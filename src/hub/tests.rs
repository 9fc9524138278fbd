//! The hub as another program meets it, without a network: requests in, answers out.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, Request};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tempfile::TempDir;
use uuid::Uuid;

use super::*;
use crate::queue::files;
use crate::queue::store::{Spell, SpellEnd};
use crate::queue::task::{Sharing, TaskTokens, VerifyResult};
use crate::queue::{SqliteStore, TaskState};

/// A runner that runs nothing.
#[derive(Default)]
struct Idle {
    is_running: AtomicBool,
    refuses: AtomicBool,
    started: AtomicU32,
}

impl Runner for Idle {
    fn start(&self) -> Started {
        if self.refuses.load(Ordering::Relaxed) {
            return Started::Refused("not today".into());
        }
        if self.is_running.swap(true, Ordering::Relaxed) {
            return Started::AlreadyRunning;
        }
        self.started.fetch_add(1, Ordering::Relaxed);
        Started::Started
    }

    fn is_running(&self) -> bool {
        self.is_running.load(Ordering::Relaxed)
    }
}

/// A hub with a queue of its own, and its token.
struct Lab {
    runtime: tokio::runtime::Runtime,
    app: Router,
    hub: Hub,
    runner: Arc<Idle>,
    token: String,
    root: TempDir,
}

#[derive(Debug)]
struct Said {
    status: u16,
    headers: HeaderMap,
    body: Value,
}

impl Said {
    /// It was done, with this status.
    fn done(self, status: u16) -> Value {
        assert_eq!((self.status, &self.body["status"]), (status, &json!("success")), "{self:?}");
        self.body
    }

    /// It was refused with this status and code, in the shape of every error.
    fn refused(self, status: u16, code: &str) -> Value {
        let Said { status: is, body, headers } = &self;
        assert_eq!(
            (*is, &body["status"], &body["error"]["code"]),
            (status, &json!("error"), &json!(code)),
            "{self:?}"
        );
        assert!(body["error"]["message"].as_str().is_some_and(|m| !m.is_empty()), "{body}");
        assert_eq!(headers["content-type"], "application/json");
        self.body
    }
}

const LOCAL: &str = "127.0.0.1:5001";

fn lab() -> Lab {
    lab_with(|_| {})
}

fn lab_with(change: impl FnOnce(&mut Settings)) -> Lab {
    let root = tempfile::tempdir().unwrap();
    let (state, project) = (root.path().join("state"), root.path().join("project"));
    std::fs::create_dir(&project).unwrap();
    let store = SqliteStore::open(&state).unwrap();
    let token = Token::of(&state).unwrap();
    let project = project.canonicalize().unwrap();
    let address = LOCAL.parse().unwrap();
    let mut settings = Settings::of(&Config::defaults(), project, address);
    change(&mut settings);
    let runner = Arc::new(Idle::default());
    let hub = Hub::new(Box::new(store), Arc::clone(&runner) as _, token.clone(), settings);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let token = token.as_str().to_owned();
    Lab { runtime, app: router(hub.clone()), hub, runner, token, root }
}

impl Lab {
    fn send(&self, remote: &str, request: Request<Body>) -> Said {
        let peer = Peer::new(remote.parse().unwrap(), self.hub.settings().address);
        let mut request = request;
        request.extensions_mut().insert(peer);
        let mut app = self.app.clone();
        self.runtime.block_on(async move {
            let response = tower_service::Service::call(&mut app, request).await.unwrap();
            let (parts, body) = response.into_parts();
            let bytes = body.collect().await.unwrap().to_bytes();
            let body = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
            Said { status: parts.status.as_u16(), headers: parts.headers, body }
        })
    }

    /// A request with the token.
    fn ask(&self, method: &str, path: &str, body: Option<&Value>) -> Said {
        let request = self.request(method, path).header("authorization", self.bearer());
        let request = match body {
            Some(body) => {
                let request = request.header("content-type", "application/json");
                request.body(Body::from(body.to_string()))
            }
            None => request.body(Body::empty()),
        };
        self.send("127.0.0.1:9", request.unwrap())
    }

    fn request(&self, method: &str, path: &str) -> axum::http::request::Builder {
        Request::builder().method(method).uri(path).header("host", LOCAL)
    }

    fn bearer(&self) -> String {
        format!("Bearer {}", self.token)
    }

    fn get(&self, path: &str) -> Said {
        self.ask("GET", path, None)
    }

    /// `/execute_task` with this action and parameters.
    fn act(&self, action: &str, params: Value) -> Said {
        let call = json!({ "tool_name": "claude_assistant", "action": action, "params": params });
        self.ask("POST", "/execute_task", Some(&call))
    }

    fn assign(&self, params: Value) -> Value {
        self.act("assign_task", params).done(200)
    }

    fn counts(&self) -> Value {
        self.get("/api/v1/queue").done(200)["tasks"].clone()
    }

    fn with_store<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut dyn Store) -> crate::queue::store::Result<T> + Send + 'static,
    ) -> T {
        self.runtime.block_on(self.hub.with_store(work)).unwrap()
    }

    /// Takes the next task up and ends it.
    fn work_off(&self, ended_unix_ms: i64, end: SpellEnd) {
        self.with_store(move |store| {
            let run_id = Uuid::new_v4();
            let task = store.claim(ended_unix_ms - 1_500, run_id, &[], None)?.expect("a task");
            let spell = Spell {
                task_id: task.id,
                attempt: task.attempt,
                run_id,
                started_unix_ms: ended_unix_ms - 1_500,
                ended_unix_ms,
                elapsed_ms: 1_500,
                tokens: TaskTokens { input: 1, output: 2, cache_write: 3, cache_read: 4 },
                cost_usd: 0.25,
                unpriced_tokens: 0,
                unpriced_usd: 0.0,
                sessions: 2,
                actions: vec!["Bash: make".into()],
                output: "All \u{1b}[1mdone".into(),
                errors: vec![],
                warnings: vec![],
                verify: Some(VerifyResult { command: "make test".into(), passed: Some(true) }),
                sharing: Sharing::default(),
                end,
            };
            store.settle(ended_unix_ms, &spell)
        });
    }
}

fn now_unix_ms() -> i64 {
    crate::clock::Timestamp::now().unix_ms
}

#[test]
fn a_task_is_assigned_as_the_seed_does_it() {
    let lab = lab();
    let answer = lab.assign(json!({
        "task_id": "my_task_id",
        "description": "Do something",
        "batch_id": "batch_20251107_120000"
    }));
    assert_eq!(answer["task_id"], "my_task_id");
    assert_eq!(answer["task_status"], "queued");
    assert_eq!(answer["batch_id"], "batch_20251107_120000");
    assert_eq!((&answer["batch_position"], &answer["execution"]), (&json!(1), &Value::Null));
    let task = lab.get("/api/v1/tasks/my_task_id").done(200)["task"].clone();
    let project = lab.root.path().join("project").canonicalize().unwrap();
    assert_eq!(task["project"], project.to_str().unwrap());
    assert_eq!((&task["status"], &task["priority"]), (&json!("queued"), &json!("normal")));
    // Everything that may be said is kept.
    let answer = lab.assign(json!({
        "description": "Another", "context": {"why": ["x"]}, "priority": "HIGH", "batch_id": null,
        "project": project, "verify": "make", "after": "my_task_id", "model": "opus",
        "budget_usd": 2, "auto_execute": false
    }));
    let id = answer["task_id"].as_str().unwrap();
    assert!(id.starts_with("task_"), "{id}");
    assert_eq!(answer["batch_id"], Value::Null);
    let task = lab.get(&format!("/api/v1/tasks/{id}")).done(200)["task"].clone();
    for (name, value) in [
        ("priority", json!("high")),
        ("verify", json!("make")),
        ("after", json!(["my_task_id"])),
        ("model", json!("opus")),
        ("budget_usd", json!(2.0)),
    ] {
        assert_eq!(task[name], value, "{name}");
    }
    assert!(task["context"].as_str().unwrap().contains("\"why\""), "{task}");
    assert_eq!(lab.runner.started.load(Ordering::Relaxed), 0);
}

#[test]
fn a_new_batch_is_one_that_was_not_there() {
    let lab = lab();
    let new = || lab.assign(json!({"description": "x", "batch_id": "new"}));
    let (one, two) = (new(), new());
    let (one, two) = (one["batch_id"].as_str().unwrap(), two["batch_id"].as_str().unwrap());
    assert_ne!(one, two);
    for id in [one, two] {
        let digits: String = id.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
        assert_eq!(digits, "batch_00000000_000000", "{id}");
    }
    // Those of one list share theirs.
    let list = json!([{"description": "a", "batch_id": "new"}, {"description": "b", "batch_id": "new"},
        {"description": "c"}]);
    let tasks = lab.ask("POST", "/api/v1/tasks", Some(&list)).done(201)["tasks"].clone();
    assert_eq!(tasks[0]["batch_id"], tasks[1]["batch_id"]);
    assert_eq!((&tasks[1]["batch_position"], &tasks[2]["batch_id"]), (&json!(2), &Value::Null));
    assert_ne!(tasks[0]["batch_id"], two);
    // Also where a task is changed.
    let mut seen = vec![json!(one), json!(two), tasks[0]["batch_id"].clone()];
    let id = tasks[2]["task_id"].as_str().unwrap();
    for changed in [
        lab.act("update_task", json!({"task_id": id, "batch_id": "new"})).done(200),
        lab.ask("PATCH", &format!("/api/v1/tasks/{id}"), Some(&json!({"batch": "new"}))).done(200)
            ["task"]
            .clone(),
    ] {
        assert!(changed["batch_id"].as_str().unwrap().starts_with("batch_2"), "{changed}");
        assert!(!seen.contains(&changed["batch_id"]), "{changed}");
        seen.push(changed["batch_id"].clone());
    }
    // Nowhere is it the name of one.
    lab.get("/api/v1/tasks?batch_id=new").refused(400, "invalid_id");
    lab.act("get_all_results", json!({"batch_id": "new"})).refused(400, "invalid_id");
}

#[test]
fn the_queue_is_begun_once_and_says_so() {
    let lab = lab();
    let nothing = lab.act("execute_queue", Value::Null).done(200);
    assert_eq!(nothing["task_count"], 0);
    assert_eq!(lab.runner.started.load(Ordering::Relaxed), 0, "there was nothing to do");
    lab.assign(json!({"description": "x"}));
    lab.assign(json!({"description": "y"}));
    let begun = lab.act("execute_queue", json!({})).done(200);
    assert_eq!(begun["task_count"], 2);
    assert!(begun["message"].as_str().unwrap().contains("2 tasks"));
    for again in [lab.act("execute_queue", json!({})), lab.ask("POST", "/api/v1/queue/run", None)] {
        assert_eq!((again.status, &again.body["status"]), (200, &json!("already_running")));
        assert_eq!(again.body["task_count"], 2);
    }
    assert_eq!(lab.runner.started.load(Ordering::Relaxed), 1);
    assert_eq!(lab.get("/api/v1/queue").done(200)["running"], true);
    lab.runner.is_running.store(false, Ordering::Relaxed);
    lab.runner.refuses.store(true, Ordering::Relaxed);
    lab.act("execute_queue", json!({})).refused(503, "not_started");
    // A task is accepted whatever becomes of the wish to begin.
    let answer = lab.assign(json!({"description": "z", "auto_execute": true}));
    assert_eq!(answer["execution"], json!({"status": "error", "message": "not today"}));
}

#[test]
fn work_begins_at_once_where_it_is_wanted() {
    let lab = lab_with(|settings| settings.auto_execute = true);
    lab.ask("POST", "/api/v1/tasks", Some(&json!({"description": "x"}))).done(201);
    assert!(!lab.runner.is_running(), "that is for the action alone");
    let wish = json!({"description": "x", "auto_execute": true});
    lab.ask("POST", "/api/v1/tasks", Some(&wish)).refused(400, "unknown_parameter");
    let answer = lab.assign(json!({"description": "x", "auto_execute": false}));
    assert_eq!((&answer["execution"], lab.runner.is_running()), (&Value::Null, false));
    let answer = lab.assign(json!({"description": "x"}));
    assert_eq!(
        (&answer["execution"]["status"], lab.runner.is_running()),
        (&json!("started"), true)
    );
    let answer = lab.assign(json!({"description": "x", "auto_execute": true}));
    assert_eq!(answer["execution"]["status"], "already_running");
}

#[test]
fn a_task_that_somebody_left_in_the_middle_is_work() {
    let lab = lab();
    lab.assign(json!({"description": "x"}));
    lab.with_store(|store| store.claim(now_unix_ms(), Uuid::new_v4(), &[], None));
    let said = lab.act("execute_queue", Value::Null).done(200);
    assert_eq!((&said["task_count"], lab.runner.is_running()), (&json!(1), true));
}

#[test]
fn a_relative_project_begins_at_the_hubs_own() {
    let lab = lab();
    std::fs::create_dir(lab.root.path().join("project/part")).unwrap();
    let id = lab.assign(json!({"description": "x", "project": "part"}))["task_id"].clone();
    let task = lab.get(&format!("/api/v1/tasks/{}", id.as_str().unwrap())).done(200);
    assert!(task["task"]["project"].as_str().unwrap().ends_with("/project/part"), "{task}");
    lab.work_off(now_unix_ms(), SpellEnd::Done);
    lab.assign(json!({"description": "y"}));
    for (asked, tasks, results) in
        [(".", 1, 0), ("part", 1, 1), ("part/../part", 1, 1), ("..", 0, 0), ("src", 0, 0)]
    {
        let list = lab.get(&format!("/api/v1/tasks?project={asked}")).done(200);
        assert_eq!(list["total"], tasks, "{asked}");
        let list = lab.act("get_all_results", json!({"project": asked})).done(200);
        assert_eq!(list["total"], results, "{asked}");
    }
}

#[test]
fn a_body_may_be_as_large_as_is_configured() {
    let lab = lab_with(|settings| settings.max_body_bytes = 4 << 20);
    let text = json!({"description": "x".repeat(3 << 20)});
    lab.ask("POST", "/api/v1/tasks", Some(&text)).refused(400, "too_long");
    let text = json!({"description": "x".repeat(4 << 20)});
    lab.ask("POST", "/api/v1/tasks", Some(&text)).refused(413, "body_too_large");
}

/// The fields that the interface names.
const RESULT_FIELDS: [&str; 14] = [
    "task_id",
    "status",
    "batch_id",
    "batch_position",
    "started_at",
    "ended_at",
    "execution_time_seconds",
    "tokens",
    "cost_usd",
    "sessions",
    "actions_taken",
    "output",
    "errors",
    "verify",
];

#[test]
fn a_result_has_its_fields_before_and_after() {
    let lab = lab();
    lab.assign(json!({"task_id": "a", "description": "x", "batch_id": "b"}));
    let ask = || lab.act("get_task_result", json!({"task_id": "a"})).done(200);
    let waiting = ask();
    assert_eq!(waiting["task_id"], "a");
    let result = waiting["result"].as_object().unwrap();
    assert_eq!(result["status"], "queued");
    for name in RESULT_FIELDS {
        assert!(result.contains_key(name), "{name}");
    }
    assert_eq!((&result["cost_usd"], &result["ended_at"]), (&Value::Null, &Value::Null));
    lab.work_off(now_unix_ms(), SpellEnd::Done);
    let result = ask()["result"].clone();
    for (name, value) in [
        ("task_id", json!("a")),
        ("status", json!("done")),
        ("batch_id", json!("b")),
        ("batch_position", json!(1)),
        ("execution_time_seconds", json!(1.5)),
        ("tokens", json!({"input": 1, "output": 2, "cache_write": 3, "cache_read": 4})),
        ("cost_usd", json!(0.25)),
        ("sessions", json!(2)),
        ("actions_taken", json!(["Bash: make"])),
        ("output", json!("All \u{1b}[1mdone")),
        ("errors", json!([])),
        ("verify", json!({"command": "make test", "passed": true})),
    ] {
        assert_eq!(result[name], value, "{name}");
    }
    assert!(result["started_at"].is_string() && result["ended_at"].is_string(), "{result}");
    assert_eq!(lab.get("/api/v1/tasks/a/result").done(200)["result"], result);
    let unknown = lab.act("get_task_result", json!({"task_id": "b"})).refused(404, "unknown_task");
    assert_eq!(unknown["task_id"], "b");
}

#[test]
fn a_task_that_was_queued_again_shows_no_old_result() {
    let lab = lab();
    lab.assign(json!({"task_id": "a", "description": "x"}));
    lab.work_off(now_unix_ms(), SpellEnd::Error { why: "no".into() });
    let result = || lab.get("/api/v1/tasks/a/result").done(200)["result"].clone();
    assert_eq!((&result()["status"], &result()["attempt"]), (&json!("error"), &json!(1)));
    let again = lab.ask("POST", "/api/v1/tasks/a/retry", None).done(200);
    assert_eq!(
        (&again["task"]["status"], &again["task"]["attempt"]),
        (&json!("queued"), &json!(2))
    );
    assert_eq!((&result()["status"], &result()["cost_usd"]), (&json!("queued"), &Value::Null));
    lab.ask("POST", "/api/v1/tasks/a/retry", None).refused(409, "wrong_state");
}

#[test]
fn results_are_told_in_parts_with_their_number() {
    let lab = lab();
    for id in ["a", "b", "c"] {
        lab.assign(json!({"task_id": id, "description": "x"}));
        lab.work_off(now_unix_ms(), SpellEnd::Done);
    }
    let all = lab.act("get_all_results", Value::Null).done(200);
    let ids: Vec<&str> = all["results"].as_object().unwrap().keys().map(|k| &**k).collect();
    assert_eq!((ids, &all["total"], &all["limit"]), (vec!["a", "b", "c"], &json!(3), &json!(1000)));
    assert_eq!(all["results"]["b"]["status"], "done");
    let some = lab.act("get_all_results", json!({"limit": 1, "offset": 1})).done(200);
    let ids: Vec<&str> = some["results"].as_object().unwrap().keys().map(|k| &**k).collect();
    assert_eq!((ids, &some["total"]), (vec!["b"], &json!(3)));
    let list = lab.get("/api/v1/results?limit=2").done(200);
    let list_of = list["results"].as_array().unwrap();
    let ids: Vec<&str> = list_of.iter().map(|r| r["task_id"].as_str().unwrap()).collect();
    assert_eq!((ids, &list["total"]), (vec!["b", "c"], &json!(3)));
    assert_eq!(lab.get("/api/v1/results?batch_id=b").done(200)["total"], 0);
    lab.act("get_all_results", json!({"limit": 1001})).refused(400, "invalid_parameter");
}

#[test]
fn old_results_move_to_the_archive_and_can_be_had_from_there() {
    let lab = lab_with(|settings| settings.keep_recent = 1);
    let state = lab.root.path().join("state");
    lab.hub.set_mirror(Box::new(Noting { noted: Arc::default(), state }));
    let day_ms = 24 * 60 * 60 * 1_000;
    for (id, days) in [("a", 30), ("b", 8), ("c", 3)] {
        lab.assign(json!({"task_id": id, "description": "x"}));
        lab.work_off(now_unix_ms() - days * day_ms, SpellEnd::Done);
    }
    lab.act("archive", json!({"older_than": "a week"})).refused(400, "invalid_parameter");
    let answer = lab.act("archive", json!({"older_than": "20d"})).done(200);
    assert_eq!((&answer["archived"], &answer["keep_recent"]), (&json!(1), &json!(1)));
    let tokens = |when: &str| answer[when]["estimated_tokens"].as_u64().unwrap();
    assert!(tokens("before") > tokens("after"), "{answer}");
    assert!(answer["message"].as_str().unwrap().contains(" tokens (estimated"), "{answer}");
    // As configured: seven days.
    assert_eq!(lab.act("archive_tasks", Value::Null).done(200)["archived"], 1);
    let total = |of: &str| lab.get(&format!("/api/v1/results{of}")).done(200)["total"].clone();
    assert_eq!(
        (total(""), total("?archived=false"), total("?archived=true")),
        (json!(1), json!(1), json!(2))
    );
    assert_eq!(lab.get("/api/v1/tasks/a/result").done(200)["result"]["status"], "done");
    let all = json!({"older_than": "1d", "keep_recent": 0});
    assert_eq!(lab.ask("POST", "/api/v1/archive", Some(&all)).done(200)["archived"], 1);
    assert_eq!(lab.ask("POST", "/api/v1/archive", None).done(200)["archived"], 0);
}

#[test]
fn the_newest_tasks_come_first() {
    let lab = lab_with(|settings| settings.keep_recent = 2);
    for (id, priority) in [("a", "urgent"), ("b", "low"), ("c", "high")] {
        lab.assign(json!({"task_id": id, "description": "x", "priority": priority}));
    }
    lab.work_off(now_unix_ms(), SpellEnd::Done);
    let recent = |params: Value| -> Vec<(String, String)> {
        let answer = lab.act("get_recent_tasks", params).done(200);
        let tasks = answer["tasks"].as_array().unwrap();
        assert_eq!(answer["task_count"], tasks.len());
        let text = |v: &Value| v.as_str().unwrap().to_owned();
        tasks.iter().map(|task| (text(&task["task_id"]), text(&task["status"]))).collect()
    };
    let pair = |id: &str, status: &str| (id.to_owned(), status.to_owned());
    assert_eq!(recent(Value::Null), [pair("c", "queued"), pair("b", "queued")]);
    assert_eq!(recent(json!({"limit": 9}))[2], pair("a", "done"));
    assert_eq!(recent(json!({"limit": 0})), []);
}

#[test]
fn a_task_is_cancelled_at_once_or_marked() {
    let lab = lab();
    for id in ["a", "b", "c"] {
        lab.assign(json!({"task_id": id, "description": "x"}));
    }
    lab.with_store(|store| store.claim(now_unix_ms(), Uuid::new_v4(), &[], None));
    let answer = lab.act("cancel_task", json!({"task_id": "a"})).done(200);
    assert_eq!(
        (&answer["task_status"], &answer["is_cancelling"]),
        (&json!("in_progress"), &json!(true))
    );
    let answer = lab.act("cancel_task", json!({"task_id": "b"})).done(200);
    assert_eq!((&answer["task_id"], &answer["task_status"]), (&json!("b"), &json!("cancelled")));
    let answer = lab.ask("DELETE", "/api/v1/tasks/c", None).done(200);
    assert_eq!(answer["task"]["status"], "cancelled");
    lab.ask("POST", "/api/v1/tasks/c/cancel", None).done(200);
    lab.act("cancel_task", json!({"task_id": "d"})).refused(404, "unknown_task");
    lab.act("cancel_task", json!({})).refused(400, "missing_parameter");
    assert_eq!(lab.get("/api/v1/tasks/c/result").done(200)["result"]["status"], "cancelled");
}

#[test]
fn a_task_is_changed_field_by_field() {
    let lab = lab();
    lab.assign(json!({"task_id": "a", "description": "x", "context": "y", "verify": "make",
        "model": "opus", "budget_usd": 3}));
    let answer = lab.act("update_task", json!({"task_id": "a", "description": "z", "priority": 7}));
    assert_eq!(answer.done(200)["task_status"], "queued");
    let task = || lab.get("/api/v1/tasks/a").done(200)["task"].clone();
    assert_eq!((&task()["description"], &task()["priority"]), (&json!("z"), &json!(7)));
    assert_eq!((&task()["context"], &task()["verify"]), (&json!("y"), &json!("make")));
    let change = json!({"context": null, "verify": null, "model": null, "budget_usd": null,
        "batch_id": "b", "after": []});
    let answer = lab.ask("PATCH", "/api/v1/tasks/a", Some(&change)).done(200);
    for name in ["context", "verify", "model", "budget_usd"] {
        assert_eq!(answer["task"][name], Value::Null, "{name}");
    }
    assert_eq!(answer["task"]["batch_id"], "b");
    let before = task();
    for (change, code) in [
        (json!({}), "missing_parameter"),
        (json!({"description": null}), "invalid_parameter"),
        (json!({"description": " "}), "invalid_parameter"),
        (json!({"context": "a\u{0}b"}), "control_characters"),
        (json!({"priority": "now"}), "invalid_parameter"),
        (json!({"budget_usd": -1}), "invalid_parameter"),
        (json!({"after": ["a b"]}), "invalid_id"),
        (json!({"project": "/tmp"}), "invalid_parameter"),
        (json!({"status": "done"}), "invalid_parameter"),
        (json!({"wish": 1}), "unknown_parameter"),
        (json!([]), "invalid_parameter"),
    ] {
        lab.ask("PATCH", "/api/v1/tasks/a", Some(&change)).refused(400, code);
    }
    let itself = json!({"after": "a"});
    lab.ask("PATCH", "/api/v1/tasks/a", Some(&itself)).refused(409, "dependency_cycle");
    assert_eq!(task(), before);
    lab.work_off(now_unix_ms(), SpellEnd::Done);
    let late = lab.act("update_task", json!({"task_id": "a", "description": "w"}));
    assert_eq!(late.refused(409, "wrong_state")["task_id"], "a");
}

#[test]
fn what_makes_no_sense_is_refused_and_changes_nothing() {
    let lab = lab_with(|settings| settings.max_body_bytes = 100_000);
    lab.assign(json!({"task_id": "a", "description": "x", "batch_id": "b"}));
    let other = lab.root.path().join("other");
    std::fs::create_dir(&other).unwrap();
    let version = lab.with_store(|store| store.version());
    for (params, status, code) in [
        (json!({}), 400, "missing_parameter"),
        (json!({"task_id": "n"}), 400, "missing_parameter"),
        (json!({"description": 5}), 400, "invalid_parameter"),
        (json!({"description": ""}), 400, "invalid_parameter"),
        (json!({"description": "a\u{1b}[2J"}), 400, "control_characters"),
        (json!({"description": "x".repeat(70_000)}), 400, "too_long"),
        (json!({"description": "x".repeat(1 << 20)}), 413, "body_too_large"),
        (json!({"description": "x", "task_id": "a"}), 409, "task_exists"),
        (json!({"description": "x", "task_id": "../a"}), 400, "invalid_id"),
        (json!({"description": "x", "batch_id": "a b"}), 400, "invalid_id"),
        (json!({"description": "x", "batch_id": "b", "project": other}), 409, "batch_project"),
        (json!({"description": "x", "after": "nope"}), 409, "unknown_dependency"),
        (json!({"description": "x", "task_id": "n", "after": "n"}), 409, "dependency_cycle"),
        (json!({"description": "x", "project": "/no/such/folder"}), 409, "invalid_project"),
        (json!({"description": "x", "auto_execute": "yes"}), 400, "invalid_parameter"),
        (json!({"description": "x", "prio": 1}), 400, "unknown_parameter"),
        (json!("text"), 400, "invalid_parameter"),
    ] {
        lab.act("assign_task", params).refused(status, code);
    }
    let exists = lab.act("assign_task", json!({"description": "x", "task_id": "a"}));
    assert_eq!(exists.refused(409, "task_exists")["task_id"], "a");
    for (call, code) in [
        (json!({"tool_name": "claude_assistant", "action": "explode"}), "unknown_action"),
        (json!({"tool_name": "outline_editor", "action": "assign_task"}), "unknown_tool"),
        (json!({"tool_name": "claude_assistant"}), "missing_parameter"),
        (json!({"action": "assign_task"}), "missing_parameter"),
        (json!({"tool_name": 1, "action": "x"}), "invalid_parameter"),
        (
            json!({"tool_name": "claude_assistant", "action": "archive", "x": 1}),
            "unknown_parameter",
        ),
        (json!([1]), "invalid_parameter"),
        (json!(null), "missing_parameter"),
    ] {
        lab.ask("POST", "/execute_task", Some(&call)).refused(400, code);
    }
    for (list, status, code) in [
        (json!([]), 400, "missing_parameter"),
        (json!([{"description": "x"}, {"description": "y", "task_id": "a"}]), 409, "task_exists"),
        (json!([{"description": "x"}, {"description": "y", "when": 1}]), 400, "unknown_parameter"),
        (
            json!([{"description": "x", "task_id": "p", "after": "q"},
                {"description": "y", "task_id": "q", "after": "p"}]),
            409,
            "dependency_cycle",
        ),
        (json!([{"description": "x"}, 5]), 400, "invalid_parameter"),
        (json!(vec![json!({"description": "x"}); 1001]), 400, "too_long"),
        (json!(5), 400, "invalid_parameter"),
    ] {
        let said = lab.ask("POST", "/api/v1/tasks", Some(&list)).refused(status, code);
        let message = said["error"]["message"].as_str().unwrap();
        let names_second =
            list.as_array().is_none_or(|l| l.len() != 2 || code == "dependency_cycle");
        assert!(names_second || message.contains("task 2 of the list"), "{message}");
    }
    assert_eq!(lab.with_store(|store| store.version()), version);
}

#[test]
fn bodies_that_are_no_json_are_refused() {
    let lab = lab();
    let deep = "[".repeat(100_000);
    for (kind, body, status, code) in [
        (Some("application/json"), "{", 400, "malformed_json"),
        (Some("application/json"), "", 400, "malformed_json"),
        (Some("application/json"), "{\"a\": \"\\ud800\"}", 400, "malformed_json"),
        (Some("application/json"), "{} {}", 400, "malformed_json"),
        (Some("application/json"), &*deep, 400, "malformed_json"),
        (Some("text/plain"), "{}", 415, "unsupported_media_type"),
        (None, "{}", 415, "unsupported_media_type"),
    ] {
        for path in ["/execute_task", "/api/v1/tasks"] {
            let mut request = lab.request("POST", path).header("authorization", lab.bearer());
            if let Some(kind) = kind {
                request = request.header("content-type", kind);
            }
            let request = request.body(Body::from(body.to_owned())).unwrap();
            lab.send("127.0.0.1:9", request).refused(status, code);
        }
    }
    let request = lab.request("POST", "/api/v1/tasks").header("authorization", lab.bearer());
    let request = request.header("content-type", "application/json; charset=iso-8859-1");
    let request = request.body(Body::from(r#"{"description": "ä"}"#)).unwrap();
    assert_eq!(lab.send("127.0.0.1:9", request).done(201)["tasks"][0]["description"], "ä");
    let request = lab.request("POST", "/api/v1/tasks").header("authorization", lab.bearer());
    let request = request.header("content-type", "application/json");
    let request = request.body(Body::from(&b"{\"description\": \"\xe4\"}"[..])).unwrap();
    lab.send("127.0.0.1:9", request).refused(400, "malformed_json");
}

/// A body of which nothing ever comes.
struct Silent;

impl futures_core::Stream for Silent {
    type Item = std::io::Result<axum::body::Bytes>;

    fn poll_next(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Self::Item>> {
        std::task::Poll::Pending
    }
}

#[test]
fn a_body_that_does_not_come_is_not_waited_for() {
    let lab = lab_with(|settings| settings.body_timeout_ms = 20);
    let request = lab.request("POST", "/api/v1/tasks").body(Body::from_stream(Silent)).unwrap();
    let said = lab.send("127.0.0.1:9", request);
    assert_eq!(said.headers["connection"], "close");
    said.refused(408, "request_timeout");
}

#[test]
fn paths_and_methods_that_are_none_are_said_in_json() {
    let lab = lab();
    lab.get("/").refused(404, "unknown_path");
    lab.get("/api/v1/tasks/").refused(404, "unknown_path");
    lab.get("/api/v1/tasks/%ff").refused(400, "malformed_path");
    lab.get("/api/v1/tasks/a%20b").refused(400, "invalid_id");
    lab.get("/api/v1/tasks?limit=-1").refused(400, "invalid_parameter");
    lab.get("/api/v1/tasks?limit=1&limit=2").refused(400, "invalid_parameter");
    lab.get("/api/v1/tasks?state=asleep").refused(400, "invalid_parameter");
    lab.get("/api/v1/tasks?batch_id=a%20b").refused(400, "invalid_id");
    lab.get("/api/v1/tasks?page=1").refused(400, "unknown_parameter");
    let said = lab.ask("PUT", "/api/v1/tasks/a", None);
    let allowed = said.headers["allow"].to_str().unwrap().to_owned();
    said.refused(405, "method_not_allowed");
    for method in ["GET", "PATCH", "DELETE"] {
        assert!(allowed.contains(method), "{allowed}");
    }
    lab.ask("OPTIONS", "/execute_task", None).refused(405, "method_not_allowed");
}

#[test]
fn tasks_are_listed_by_what_is_asked_for() {
    let lab = lab();
    for (id, batch) in [("a", Some("b")), ("c", Some("b")), ("d", None)] {
        lab.assign(json!({"task_id": id, "description": "x", "batch_id": batch}));
    }
    lab.work_off(now_unix_ms(), SpellEnd::Done);
    let list = |query: &str| {
        let said = lab.get(&format!("/api/v1/tasks{query}")).done(200);
        let ids: Vec<String> = said["tasks"]
            .as_array()
            .unwrap()
            .iter()
            .map(|task| task["task_id"].as_str().unwrap().to_owned())
            .collect();
        (ids.join(" "), said["total"].as_u64().unwrap())
    };
    assert_eq!(list(""), ("c d a".into(), 3));
    assert_eq!(list("?limit=1&offset=1"), ("d".into(), 3));
    assert_eq!(list("?state=done,queued&limit=2"), ("c d".into(), 3));
    assert_eq!(list("?state=queued"), ("c d".into(), 2));
    assert_eq!(list("?batch_id=b"), ("c a".into(), 2));
    assert_eq!(list("?batch_id=b&state=done&limit=0"), (String::new(), 1));
    assert_eq!(list("?batch_id=none"), (String::new(), 0));
    assert_eq!(list("?project=/nowhere"), (String::new(), 0));
    let project = lab.root.path().join("project");
    assert_eq!(list(&format!("?project={}/../project", project.display())).1, 3);
    assert_eq!(lab.counts()["queued"], 2);
}

#[test]
fn an_answer_is_no_larger_than_memory_allows() {
    let lab = lab();
    let text = "x".repeat(60_000);
    let draft = json!({"description": text, "context": text});
    for _ in 0..3 {
        lab.ask("POST", "/api/v1/tasks", Some(&json!(vec![draft.clone(); 15]))).done(201);
    }
    let mut seen = std::collections::BTreeSet::new();
    while seen.len() < 45 {
        let path = format!("/api/v1/tasks?limit=1000&offset={}", seen.len());
        let page = lab.get(&path).done(200);
        assert!(page.to_string().len() < 5 << 20);
        let tasks = page["tasks"].as_array().unwrap();
        assert_eq!((&page["count"], &page["total"]), (&json!(tasks.len()), &json!(45)));
        assert!(!tasks.is_empty());
        seen.extend(tasks.iter().map(|task| task["task_id"].as_str().unwrap().to_owned()));
    }
    let recent = lab.act("get_recent_tasks", json!({"limit": 1000})).done(200);
    assert!((20..45).contains(&recent["task_count"].as_u64().unwrap()));
    // None is left out where they are small.
    let small = json!(vec![json!({"description": "x", "batch_id": "small"}); 250]);
    lab.ask("POST", "/api/v1/tasks", Some(&small)).done(201);
    let page = lab.get("/api/v1/tasks?batch_id=small&limit=230").done(200);
    assert_eq!((&page["count"], &page["total"]), (&json!(230), &json!(250)));
    assert_eq!(page["tasks"][229]["batch_position"], 230);
}

#[test]
fn changes_need_the_token_and_reading_does_not() {
    let lab = lab();
    lab.assign(json!({"task_id": "a", "description": "x"}));
    let version = lab.with_store(|store| store.version());
    let changes = [
        ("POST", "/api/v1/tasks", "{\"description\": \"x\"}".into()),
        ("PATCH", "/api/v1/tasks/a", "{\"description\": \"y\"}".into()),
        ("DELETE", "/api/v1/tasks/a", String::new()),
        ("POST", "/api/v1/tasks/a/cancel", String::new()),
        ("POST", "/api/v1/tasks/a/retry", String::new()),
        ("POST", "/api/v1/queue/run", String::new()),
        ("POST", "/api/v1/archive", String::new()),
        ("POST", "/api/v1/track", "{\"task_id\": \"a\"}".into()),
    ];
    let calls = [
        "assign_task",
        "execute_queue",
        "cancel_task",
        "update_task",
        "archive",
        "archive_tasks",
        "track_usage",
    ]
    .map(|action| {
        let params = json!({"task_id": "a", "description": "y"});
        let call = json!({"tool_name": "claude_assistant", "action": action, "params": params});
        ("POST", "/execute_task", call.to_string())
    });
    for (method, path, body) in changes.into_iter().chain(calls) {
        let wrong = format!("Bearer {}", "0".repeat(64));
        for token in [None, Some("Bearer"), Some("Basic x"), Some(&*lab.token), Some(&*wrong)] {
            let mut request = lab.request(method, path).header("content-type", "application/json");
            if let Some(token) = token {
                request = request.header("authorization", token);
            }
            let said = lab.send("127.0.0.1:9", request.body(Body::from(body.clone())).unwrap());
            assert_eq!(said.headers["www-authenticate"], "Bearer", "{path} {body}");
            said.refused(401, "unauthorized");
        }
    }
    assert_eq!(lab.with_store(|store| store.version()), version);
    assert!(!lab.runner.is_running());
    let reads = [
        "/api/v1/tasks",
        "/api/v1/tasks/a",
        "/api/v1/tasks/a/result",
        "/api/v1/results",
        "/api/v1/queue",
        "/api/v1/openapi.json",
        "/healthz",
        "/get_supported_actions",
    ];
    for path in reads {
        let request = lab.request("GET", path).body(Body::empty()).unwrap();
        assert_eq!(lab.send("127.0.0.1:9", request).status, 200, "{path}");
    }
    for action in ["get_task_result", "get_all_results", "get_recent_tasks"] {
        let params =
            if action == "get_task_result" { json!({"task_id": "a"}) } else { Value::Null };
        let call = json!({"tool_name": "claude_assistant", "action": action, "params": params});
        let request =
            lab.request("POST", "/execute_task").header("content-type", "application/json");
        let said = lab.send("127.0.0.1:9", request.body(Body::from(call.to_string())).unwrap());
        assert_eq!(said.status, 200, "{action}");
    }
}

#[test]
fn whatever_is_wrong_the_task_that_is_meant_is_named() {
    let lab = lab();
    let call = |tool: &str, action: &str, more: Value| {
        let mut call = json!({ "tool_name": tool, "action": action, "params": {"task_id": "a"} });
        call.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        ("POST", "/execute_task", call.to_string())
    };
    let requests = [
        call("claude_assistant", "assign_task", json!({})),
        call("claude_assistant", "cancel_task", json!({})),
        call("claude_assistant", "track_usage", json!({})),
        call("claude_assistant", "get_task_result", json!({"wish": 1})),
        call("claude_assistant", "get_task_result", json!({})),
        call("claude_assistant", "dance", json!({})),
        call("nobody", "cancel_task", json!({})),
        ("PATCH", "/api/v1/tasks/a", r#"{"priority": "now"}"#.into()),
        ("PATCH", "/api/v1/tasks/a", "[]".into()),
        ("PATCH", "/api/v1/tasks/a", "{".into()),
        ("DELETE", "/api/v1/tasks/a", String::new()),
        ("POST", "/api/v1/tasks/a/cancel", String::new()),
        ("POST", "/api/v1/tasks/a/retry", String::new()),
        ("GET", "/api/v1/tasks/a", String::new()),
        ("GET", "/api/v1/tasks/a/result", String::new()),
    ];
    for (method, path, body) in requests {
        for token in [None, Some(lab.bearer())] {
            let mut request = lab.request(method, path).header("content-type", "application/json");
            if let Some(token) = token {
                request = request.header("authorization", token);
            }
            let said = lab.send("127.0.0.1:9", request.body(Body::from(body.clone())).unwrap());
            assert_eq!(said.body["status"], "error", "{method} {path} {body}");
            assert_eq!(said.body["task_id"], "a", "{method} {path} {body}: {said:?}");
        }
    }
}

#[test]
fn the_token_can_be_waived_for_this_machine_alone() {
    let lab = lab_with(|settings| {
        settings.allow_unauthenticated_loopback = true;
        settings.address = "192.0.2.1:5001".parse().unwrap();
    });
    let request = |path: &str| {
        let request = Request::builder().method(if path.ends_with("run") { "POST" } else { "GET" });
        request.uri(path).header("host", "192.0.2.1:5001").body(Body::empty()).unwrap()
    };
    for near in ["127.0.0.1:9", "127.8.8.8:9", "[::1]:9", "[::ffff:127.0.0.1]:9"] {
        lab.send(near, request("/api/v1/queue/run")).done(200);
    }
    for far in ["192.0.2.1:9", "10.0.0.1:9", "[2001:db8::1]:9"] {
        lab.send(far, request("/api/v1/queue/run")).refused(401, "unauthorized");
        // Where others can listen, what was done is not told without the token either.
        lab.send(far, request("/api/v1/results")).refused(401, "unauthorized");
        lab.send(far, request("/healthz")).done(200);
    }
}

#[test]
fn pages_of_others_are_kept_out_whatever_they_have() {
    for waived in [false, true] {
        let lab = lab_with(|settings| settings.allow_unauthenticated_loopback = waived);
        let send = |path: &str, headers: &[(&str, &str)]| {
            let mut request = Request::builder().uri(path).header("authorization", lab.bearer());
            for (name, value) in headers {
                request = request.header(*name, *value);
            }
            lab.send("127.0.0.1:9", request.body(Body::empty()).unwrap())
        };
        for path in ["/healthz", "/api/v1/results", "/nothing"] {
            send(path, &[]).refused(403, "host_not_allowed");
            send(path, &[("host", "evil.example:5001")]).refused(403, "host_not_allowed");
            send(path, &[("host", "localhost:80")]).refused(403, "host_not_allowed");
            send(path, &[("host", LOCAL), ("host", LOCAL)]).refused(403, "host_not_allowed");
            for origin in [
                "http://evil.example",
                "null",
                "https://localhost:5001",
                "http://localhost",
                "http://localhost:5001.evil.example",
                "",
            ] {
                let headers = [("host", LOCAL), ("origin", origin)];
                send(path, &headers).refused(403, "origin_not_allowed");
            }
        }
        for origin in ["http://localhost:5001", "http://127.0.0.1:5001", "http://[::1]:5001"] {
            send("/healthz", &[("host", "localhost:5001"), ("origin", origin)]).done(200);
        }
        send("http://evil.example:5001/healthz", &[("host", LOCAL)])
            .refused(403, "host_not_allowed");
        send("http://localhost:5001/healthz", &[("host", LOCAL)]).done(200);
    }
}

#[test]
fn a_connection_is_being_answered_until_the_answer_is_sent() {
    let lab = lab();
    for (host, status) in [(LOCAL, 200), ("evil.example", 403)] {
        let peer = Peer::new("127.0.0.1:9".parse().unwrap(), lab.hub.settings().address);
        let since = peer.waited_for_since().expect("nothing was asked yet");
        let request = Request::builder().uri("/api/v1/tasks").header("host", host);
        let request = request.extension(peer.clone()).body(Body::empty()).unwrap();
        let mut app = lab.app.clone();
        let asked = tower_service::Service::call(&mut app, request);
        let response = lab.runtime.block_on(asked).unwrap();
        assert_eq!(response.status(), status);
        // What was sent until now was something else.
        peer.was_sent();
        assert_eq!(peer.waited_for_since(), None);
        drop(response);
        assert_eq!(peer.waited_for_since(), None);
        peer.was_sent();
        assert!(peer.waited_for_since().is_some_and(|now| now > since));
    }
}

#[test]
fn a_store_that_fails_is_said() {
    let lab = lab();
    std::fs::write(lab.root.path().join("state/queue.db"), "no database at all".repeat(1000))
        .unwrap();
    lab.get("/healthz").refused(503, "store_failed");
    lab.get("/api/v1/tasks").refused(500, "store_failed");
}

/// Notes how many tasks were queued whenever it is called.
struct Noting {
    noted: Arc<Mutex<Vec<u64>>>,
    state: std::path::PathBuf,
}

impl Mirror for Noting {
    fn reflect(&mut self, store: &mut dyn Store) {
        self.noted.lock().unwrap().push(store.counts(None).unwrap().queued);
    }

    fn archive(
        &mut self,
        store: &mut dyn Store,
        project: &Path,
        cutoff: Cutoff,
    ) -> Result<Reduction, QueueError> {
        let folder = Some(Path::new("data"));
        files::archive(store, project, folder, &self.state, now_unix_ms(), cutoff)
    }
}

#[test]
fn what_was_changed_is_shown_before_it_is_answered() {
    let lab = lab();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let noted = Arc::clone(&seen);
    lab.hub.set_mirror(Box::new(Noting { noted, state: lab.root.path().join("state") }));
    let seen = || std::mem::take(&mut *seen.lock().unwrap());
    lab.assign(json!({"task_id": "a", "description": "x"}));
    assert_eq!(seen(), [1]);
    lab.act("assign_task", json!({"task_id": "a", "description": "x"})).refused(409, "task_exists");
    lab.get("/api/v1/tasks").done(200);
    assert_eq!(seen(), [0; 0], "nothing was changed");
    lab.act("cancel_task", json!({"task_id": "a"})).done(200);
    lab.act("archive", Value::Null).done(200);
    lab.runtime.block_on(lab.hub.reflect());
    assert_eq!(seen(), [0, 0, 0]);
}

#[test]
fn what_can_be_done_is_told() {
    let lab = lab();
    let said = lab.get("/get_supported_actions").done(200);
    let actions = said["tools"][0]["actions"].as_array().unwrap();
    assert_eq!((&said["tools"][0]["name"], actions.len()), (&json!("claude_assistant"), 9));
    for action in actions {
        // Each is one, with these parameters: none of them is unknown.
        let mut params = serde_json::Map::new();
        for name in
            ["required_params", "optional_params"].map(|key| action[key].as_array().unwrap())
        {
            params.extend(name.iter().map(|n| (n.as_str().unwrap().to_owned(), Value::Null)));
        }
        let said = lab.act(action["name"].as_str().unwrap(), Value::Object(params));
        let code = said.body["error"]["code"].as_str().unwrap_or_default();
        assert!(!["unknown_action", "unknown_parameter"].contains(&code), "{action}: {said:?}");
    }
    assert_eq!(lab.get("/healthz").done(200)["version"], env!("CARGO_PKG_VERSION"));
}

/// The types of the document and what is really read are written down in two places.
#[test]
fn the_document_names_what_is_read() {
    let lab = lab();
    let document = lab.get("/api/v1/openapi.json").body;
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1"), "{}", document["openapi"]);
    let schemas = &document["components"]["schemas"];
    let names = |schema: &str| -> Vec<String> {
        schemas[schema]["properties"].as_object().unwrap().keys().cloned().collect()
    };
    let nulls = |names: &[String]| -> Value {
        names
            .iter()
            .map(|name| (name.clone(), Value::Null))
            .collect::<serde_json::Map<_, _>>()
            .into()
    };
    let (draft, assign) = (names("TaskDraft"), names("AssignParams"));
    assert_eq!(assign.len(), draft.len() + 1);
    lab.ask("POST", "/api/v1/tasks", Some(&nulls(&draft))).refused(400, "missing_parameter");
    lab.act("assign_task", nulls(&assign)).refused(400, "missing_parameter");
    let said = lab.ask("PATCH", "/api/v1/tasks/a", Some(&nulls(&names("TaskChange"))));
    said.refused(400, "invalid_parameter");
    for (word, state) in schemas["StateWord"]["enum"].as_array().unwrap().iter().zip(TaskState::ALL)
    {
        assert_eq!(word, state.as_str());
    }
    // Every path says which errors can come.
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let responses = operation["responses"].as_object().unwrap();
            for status in ["400", "403", "408", "413", "500"] {
                assert!(responses.contains_key(status), "{method} {path} {status}");
            }
            let is_secured = operation["security"].as_array().is_some_and(|s| !s.is_empty());
            assert_eq!(is_secured, responses.contains_key("401"), "{method} {path}");
        }
    }
}

/// Keeps what is told to it.
#[derive(Default)]
struct Books {
    told: std::sync::Mutex<Vec<(std::path::PathBuf, Option<String>)>>,
    refused: AtomicU32,
}

impl super::Bookkeeper for Books {
    fn take(
        &self,
        project: &std::path::Path,
        input: &crate::track::Input,
    ) -> crate::Result<crate::track::Answer> {
        let state = project.with_file_name("books");
        let folder = std::path::Path::new("token-usage");
        self.told.lock().unwrap().push((project.to_owned(), input.task_id.clone()));
        crate::track::Tracker::open(&state, project, folder)?
            .take(input, |_, _| crate::advice::Advised::default())
    }

    fn note_refused(&self, _: &std::path::Path, _: &str) {
        self.refused.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn usage_is_told_in_both_ways_and_answered_in_the_trackers_words() {
    let lab = lab();
    let telemetry = json!({"mode": "log_only", "task_id": "t", "colour": "blue", "entries": [
        {"agent": "build-lead", "model": "opus", "input_tokens": 1, "output_tokens": 2,
         "total_tokens": 3, "estimated_cost": 0.5}]});
    lab.act("track_usage", telemetry.clone()).refused(503, "not_recorded");
    let books = Arc::new(Books::default());
    lab.hub.set_bookkeeper(Arc::clone(&books) as _);
    let recorded = json!({"status": "recorded", "task_id": "t"});
    let said = lab.act("track_usage", telemetry.clone());
    assert_eq!((said.status, &said.body), (200, &recorded));
    let said = lab.ask("POST", "/api/v1/track", Some(&telemetry));
    assert_eq!((said.status, &said.body), (200, &recorded));
    let review = json!({"mode": "review_period", "days": 3, "project": "."});
    let said = lab.act("track_usage", review);
    assert_eq!((said.status, &said.body["status"]), (200, &json!("report_generated")));
    assert!(said.body["report_path"].as_str().unwrap().starts_with("/token-usage/reports/"));
    let own = lab.root.path().canonicalize().unwrap().join("project");
    assert!(books.told.lock().unwrap().iter().all(|(project, _)| *project == own));

    let wrong = json!({"mode": "dance", "task_id": "t"});
    let said = lab.act("track_usage", wrong.clone()).refused(400, "invalid_parameter");
    assert_eq!(said["task_id"], "t");
    lab.ask("POST", "/api/v1/track", Some(&wrong)).refused(400, "invalid_parameter");
    lab.ask("POST", "/api/v1/track", Some(&json!([]))).refused(400, "invalid_parameter");
    lab.act("track_usage", Value::Null).refused(400, "missing_parameter");
    assert_eq!(books.refused.load(Ordering::Relaxed), 4);
    let request = lab.request("POST", "/api/v1/track").header("authorization", lab.bearer());
    let request = request.header("content-type", "application/json");
    let request = request.body(Body::from("{\"task_id\": ")).unwrap();
    lab.send("127.0.0.1:9", request).refused(400, "malformed_json");
    assert_eq!(books.refused.load(Ordering::Relaxed), 5);
    let elsewhere = json!({"task_id": "t", "entries": [], "project": "none"});
    lab.act("track_usage", elsewhere).refused(409, "invalid_project");
    lab.act("track_usage", json!({"task_id": "t", "project": 1})).refused(400, "invalid_parameter");
    std::fs::remove_dir_all(own.join("token-usage")).unwrap();
    std::fs::write(own.join("token-usage"), "in the way").unwrap();
    lab.act("track_usage", telemetry).refused(503, "not_written");
}

#[test]
fn the_tracker_takes_what_the_document_says() {
    let lab = lab();
    lab.hub.set_bookkeeper(Arc::new(Books::default()));
    let document = lab.get("/api/v1/openapi.json").body;
    let schemas = &document["components"]["schemas"];
    let kinds: Vec<&Value> = schemas["TrackParams"]["oneOf"]
        .as_array()
        .unwrap()
        .iter()
        .map(|kind| &schemas[kind["$ref"].as_str().unwrap().rsplit('/').next().unwrap()])
        .collect();
    let (entries, days) = (&schemas["EntriesUsage"], &schemas["UsageReview"]["properties"]["days"]);
    let most_entries = entries["properties"]["entries"]["maxItems"].as_u64().unwrap() as usize;
    let most_days = days["maximum"].as_u64().unwrap();
    let listed = |count: usize| json!(vec![json!(0); count]);
    let all = [json!(null), json!(true), json!(-1.5), json!(""), json!("x"), json!([1]), json!({})];

    let both = |request: &Value| {
        let said = lab.ask("POST", "/api/v1/track", Some(request));
        let acted = lab.act("track_usage", request.clone());
        let brief = |text: String| text.chars().take(200).collect::<String>();
        assert_eq!(said.status, acted.status, "{}", brief(request.to_string()));
        (said.status, brief(format!("{request} {said:?}")))
    };
    let is_taken = |request: Value| {
        let (status, shown) = both(&request);
        assert_eq!(status, 200, "{shown}");
    };
    let is_refused = |request: Value| {
        let (status, shown) = both(&request);
        assert_eq!(status, 400, "{shown}");
    };

    for mode in schemas["TaskUsage"]["properties"]["mode"]["enum"].as_array().unwrap() {
        is_taken(json!({"mode": mode, "task_id": "t"}));
        is_taken(json!({"mode": mode, "entries": []}));
        // A log is the one or the other.
        for blank in [json!(null), json!(""), json!(" \u{85}\u{3000}"), json!(true)] {
            is_refused(json!({"mode": mode, "task_id": blank, "entries": {}}));
        }
        is_taken(json!({"mode": mode, "task_id": 5, "entries": {}}));
    }
    is_taken(json!({"task_id": "\u{feff}"}));
    for kind in ["TaskUsage", "EntriesUsage"] {
        let most = schemas[kind]["properties"]["task_id"]["maxLength"].as_u64().unwrap() as usize;
        is_taken(json!({"task_id": "ä".repeat(most), "entries": []}));
        is_refused(json!({"task_id": "ä".repeat(most + 1), "entries": []}));
    }
    is_refused(json!({"mode": "dance", "task_id": "t"}));
    for taken in [json!(null), json!(1), json!(7.0), json!(most_days)] {
        is_taken(json!({"mode": "review_period", "days": taken, "entries": listed(5_001)}));
    }
    for refused in [json!(0), json!(most_days + 1), json!(1.5), json!("7"), json!([])] {
        is_refused(json!({"mode": "review_period", "days": refused, "task_id": "t"}));
    }
    // What has no type there takes all of them.
    let mut untyped = 0;
    for kind in &kinds {
        for (name, schema) in kind["properties"].as_object().unwrap() {
            if ["type", "$ref"].iter().any(|key| schema.get(*key).is_some()) {
                continue;
            }
            untyped += 1;
            for value in &all {
                let mut request = json!({"task_id": "t", "entries": []});
                request[name] = value.clone();
                is_taken(request);
            }
        }
    }
    assert_eq!(untyped, 6);
    let entry = &schemas["TrackEntry"];
    assert_eq!(
        (&entry["type"], &entry["properties"]["agent"]["type"]),
        (&json!(null), &json!(null))
    );
    for name in entry["properties"].as_object().unwrap().keys() {
        is_taken(json!({"entries": all.iter().map(|v| json!({name: v})).collect::<Vec<_>>()}));
    }
    is_taken(json!({"entries": all}));

    // The parameters that are told are those of the kinds together.
    let mut told: Vec<&str> = kinds
        .iter()
        .flat_map(|kind| kind["properties"].as_object().unwrap().keys().map(String::as_str))
        .collect();
    told.sort_unstable();
    told.dedup();
    let actions = lab.get("/get_supported_actions").body;
    let actions = actions["tools"][0]["actions"].as_array().unwrap();
    let action = actions.iter().find(|action| action["name"] == "track_usage").unwrap();
    let mut params: Vec<&str> = action["optional_params"]
        .as_array()
        .unwrap()
        .iter()
        .map(|name| name.as_str().unwrap())
        .collect();
    params.sort_unstable();
    assert_eq!(told, params);

    // Last: each request reads the logs of its day again.
    is_refused(json!({"task_id": "t", "entries": listed(most_entries + 1)}));
    is_taken(json!({"task_id": "t", "entries": listed(most_entries)}));
}

/// A bookkeeper whose reviews take as long as it is told.
struct SlowReviews {
    begun: std::sync::mpsc::Sender<()>,
    go_on: std::sync::Mutex<std::sync::mpsc::Receiver<()>>,
    books: Books,
}

impl super::Bookkeeper for SlowReviews {
    fn take(
        &self,
        project: &std::path::Path,
        input: &crate::track::Input,
    ) -> crate::Result<crate::track::Answer> {
        if matches!(input.mode, crate::track::Mode::ReviewPeriod { .. }) {
            self.begun.send(()).unwrap();
            self.go_on.lock().unwrap().recv().unwrap();
        }
        self.books.take(project, input)
    }

    fn note_refused(&self, _: &std::path::Path, _: &str) {}
}

#[test]
fn one_review_at_a_time_holds_up_neither_logs_nor_the_queue() {
    let lab = lab();
    let (begun, has_begun) = std::sync::mpsc::channel();
    let (tell, go_on) = std::sync::mpsc::channel();
    let go_on = std::sync::Mutex::new(go_on);
    lab.hub.set_bookkeeper(Arc::new(SlowReviews { begun, go_on, books: Books::default() }));
    let review = json!({"mode": "review_period", "days": 3650});
    std::thread::scope(|scope| {
        let first = scope.spawn(|| lab.act("track_usage", review.clone()));
        has_begun.recv().unwrap();
        lab.act("track_usage", review.clone()).refused(503, "busy");
        lab.ask("POST", "/api/v1/track", Some(&review)).refused(503, "busy");
        let said = lab.act("track_usage", json!({"mode": "log_only", "task_id": "t"}));
        assert_eq!((said.status, &said.body["status"]), (200, &json!("recorded")), "{said:?}");
        assert_eq!(lab.get("/api/v1/queue").status, 200);
        tell.send(()).unwrap();
        assert_eq!(first.join().unwrap().status, 200);
    });
    tell.send(()).unwrap();
    assert_eq!(lab.act("track_usage", review).status, 200, "the next one may");
}
