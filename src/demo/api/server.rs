//! The HTTP side: routes, the log of what came, and a server on a thread of
//! its own for callers that have no runtime.

use std::collections::BTreeMap;
use std::future::pending;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::thread::JoinHandle;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};

use super::reply::Reply;
use super::request::Request;
use super::{Script, wire};
use crate::error::{Error, ErrorKind, Result};

/// Everything that came, in order; shared by the server and those who wait.
#[derive(Debug, Default)]
pub struct Log {
    inner: Mutex<Entries>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Entries {
    requests: Vec<Arc<Request>>,
    /// Session id -> order of appearance, main and side requests so far.
    sessions: BTreeMap<String, (u32, u32, u32)>,
    probes: Vec<String>,
}

impl Log {
    fn lock(&self) -> MutexGuard<'_, Entries> {
        // A panic while the lock was held leaves a readable log behind.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All requests so far.
    pub fn requests(&self) -> Vec<Arc<Request>> {
        self.lock().requests.clone()
    }

    /// Method and path of everything else that was asked.
    pub fn probes(&self) -> Vec<String> {
        self.lock().probes.clone()
    }

    /// Waits for a request that satisfies `wanted`, among those that came and
    /// those that will; `None` once `within` has passed.
    pub fn wait_for(
        &self,
        within: Duration,
        wanted: impl Fn(&Request) -> bool,
    ) -> Option<Arc<Request>> {
        let mut found = None;
        let mut seen = 0;
        let _ = self.changed.wait_timeout_while(self.lock(), within, |entries| {
            found = entries.requests[seen..].iter().find(|r| wanted(r)).cloned();
            seen = entries.requests.len();
            found.is_none()
        });
        found
    }

    fn add(&self, mut request: Request) -> Arc<Request> {
        let mut entries = self.lock();
        let next = entries.sessions.len() as u32;
        let session = entries.sessions.entry(request.session_id.clone()).or_insert((next, 0, 0));
        let count = if request.side { &mut session.2 } else { &mut session.1 };
        request.index_in_session = *count;
        *count += 1;
        request.session_index = session.0;
        let request = Arc::new(request);
        entries.requests.push(Arc::clone(&request));
        self.changed.notify_all();
        request
    }
}

#[derive(Clone)]
struct Shared {
    script: Arc<dyn Script>,
    log: Arc<Log>,
}

/// Serves `script` on `listener` until dropped. Needs a tokio runtime with
/// time and net; a current-thread one will do.
pub async fn serve(listener: TcpListener, script: Arc<dyn Script>, log: Arc<Log>) -> Result<()> {
    let app = Router::new()
        .route("/v1/messages", post(messages))
        .route("/v1/messages/count_tokens", post(count_tokens))
        .fallback(probe)
        .layer(DefaultBodyLimit::disable())
        .with_state(Shared { script, log });
    axum::serve(listener, app)
        .await
        .map_err(|err| Error::io(ErrorKind::Internal, "the scripted API stopped serving", err))
}

/// A server on a thread of its own, stopped when dropped.
#[derive(Debug)]
pub struct Api {
    addr: SocketAddr,
    log: Arc<Log>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Api {
    /// Binds a free port on loopback and starts serving `script`.
    pub fn start(script: Arc<dyn Script>) -> Result<Self> {
        let failed =
            |err| Error::io(ErrorKind::Internal, "cannot start the scripted API on loopback", err);
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(failed)?;
        listener.set_nonblocking(true).map_err(failed)?;
        let addr = listener.local_addr().map_err(failed)?;
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
        let log = Arc::new(Log::default());
        let (stop, stopped) = oneshot::channel();
        let serving = Arc::clone(&log);
        let run = move || {
            runtime.block_on(async move {
                let Ok(listener) = TcpListener::from_std(listener) else { return };
                tokio::select! {
                    _ = serve(listener, script, serving) => {}
                    _ = stopped => {}
                }
            });
        };
        let thread =
            std::thread::Builder::new().name("scripted-api".into()).spawn(run).map_err(failed)?;
        Ok(Self { addr, log, stop: Some(stop), thread: Some(thread) })
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The value for `ANTHROPIC_BASE_URL`.
    pub fn base_url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// What came.
    pub fn log(&self) -> &Arc<Log> {
        &self.log
    }

    /// All requests so far.
    pub fn requests(&self) -> Vec<Arc<Request>> {
        self.log.requests()
    }

    /// See [`Log::wait_for`].
    pub fn wait_for(
        &self,
        within: Duration,
        wanted: impl Fn(&Request) -> bool,
    ) -> Option<Arc<Request>> {
        self.log.wait_for(within, wanted)
    }
}

impl Drop for Api {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

async fn messages(State(shared): State<Shared>, headers: HeaderMap, body: Bytes) -> Response {
    let Ok(body) = serde_json::from_slice::<Value>(&body) else {
        let failure = json!({ "type": "error", "error": { "type": "invalid_request_error", "message": "not JSON" } });
        return json_response(StatusCode::BAD_REQUEST, &failure);
    };
    let session = headers.get("x-claude-code-session-id").and_then(|value| value.to_str().ok());
    let request = shared.log.add(Request::parse(session, body));
    let reply = shared.script.reply(&request);
    answer(reply, &request).await
}

async fn answer(reply: Reply, request: &Request) -> Response {
    if reply.hang {
        pending::<()>().await;
    }
    tokio::time::sleep(reply.before).await;
    if let Some(gate) = &reply.gate {
        gate.passed().await;
    }
    let id = uuid::Uuid::new_v4().simple().to_string();
    let mut response = match &reply.failure {
        Some(failure) => {
            let status =
                StatusCode::from_u16(failure.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
            json_response(status, &failure.body)
        }
        None if request.body["stream"].as_bool().unwrap_or(false) => {
            stream_response(wire::pieces(&reply, &request.model, &id), &reply)
        }
        None => json_response(StatusCode::OK, &wire::message(&reply, &request.model, &id)),
    };
    let headers = reply.failure.as_ref().map_or(&reply.headers, |failure| &failure.headers);
    for (name, value) in headers {
        if let (Ok(name), Ok(value)) = (header::HeaderName::try_from(name.as_str()), value.parse())
        {
            response.headers_mut().insert(name, value);
        }
    }
    if let Ok(value) = format!("req_{id}").parse() {
        response.headers_mut().insert("request-id", value);
    }
    response
}

fn json_response(status: StatusCode, body: &Value) -> Response {
    (status, [(header::CONTENT_TYPE, "application/json")], body.to_string()).into_response()
}

fn stream_response(pieces: Vec<String>, reply: &Reply) -> Response {
    let head = [(header::CONTENT_TYPE, "text/event-stream"), (header::CACHE_CONTROL, "no-cache")];
    if reply.chunk_delay.is_zero() && reply.cut_after.is_none() {
        return (StatusCode::OK, head, pieces.concat()).into_response();
    }
    let (sender, receiver) = mpsc::channel(1);
    let (delay, cut_after) = (reply.chunk_delay, reply.cut_after);
    tokio::spawn(async move {
        for (index, piece) in pieces.into_iter().enumerate() {
            if cut_after.is_some_and(|limit| index >= limit) {
                let _ = sender.send(Err(std::io::ErrorKind::ConnectionReset.into())).await;
                return;
            }
            if sender.send(Ok(Bytes::from(piece))).await.is_err() {
                return;
            }
            tokio::time::sleep(delay).await;
        }
    });
    (StatusCode::OK, head, Body::from_stream(Pieces(receiver))).into_response()
}

/// The receiving end of a channel as a response body.
struct Pieces(mpsc::Receiver<std::io::Result<Bytes>>);

impl futures_core::Stream for Pieces {
    type Item = std::io::Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.poll_recv(context)
    }
}

async fn count_tokens(body: Bytes) -> Response {
    // Four bytes a token is near enough: nothing is decided on this figure.
    json_response(StatusCode::OK, &json!({ "input_tokens": body.len() / 4 }))
}

async fn probe(State(shared): State<Shared>, method: axum::http::Method, uri: Uri) -> Response {
    shared.log.lock().probes.push(format!("{method} {}", uri.path()));
    json_response(StatusCode::OK, &json!({}))
}

#[cfg(test)]
mod tests {
    use super::super::reply::{Gate, Usage};
    use super::*;
    use std::io::{Read, Write};
    use std::net::TcpStream;

    const SOON: Duration = Duration::from_secs(10);

    fn send(api: &Api, session: &str, text: &str) -> TcpStream {
        let body = json!({ "model": "m", "stream": true, "tools": [{ "name": "Bash" }],
            "messages": [{ "role": "user", "content": text }] })
        .to_string();
        let mut stream = TcpStream::connect(api.addr()).unwrap();
        write!(
            stream,
            "POST /v1/messages?beta=true HTTP/1.1\r\nhost: x\r\nconnection: close\r\nx-claude-code-session-id: {session}\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        )
        .unwrap();
        stream
    }

    fn whole(mut stream: TcpStream) -> String {
        let mut text = String::new();
        let _ = stream.read_to_string(&mut text);
        text
    }

    #[test]
    fn answers_come_from_the_script_and_sessions_are_told_apart() {
        let api =
            Api::start(Arc::new(|r: &Request| Reply::text(&r.new_user_text, Usage::default())))
                .unwrap();
        assert!(whole(send(&api, "a", "first words")).contains("first words"));
        assert!(whole(send(&api, "b", "other words")).contains("request-id: req_"));
        whole(send(&api, "a", "third"));
        let got: Vec<_> =
            api.requests().iter().map(|r| (r.session_index, r.index_in_session)).collect();
        assert_eq!(got, [(0, 0), (1, 0), (0, 1)]);
    }

    #[test]
    fn a_gate_holds_the_answer_until_it_opens() {
        let gate = Gate::new();
        let held = gate.clone();
        let script = move |_: &Request| Reply::text("at last", Usage::default()).behind(&held);
        let api = Api::start(Arc::new(script)).unwrap();
        let mut stream = send(&api, "a", "wait");
        assert!(api.wait_for(SOON, |r| r.new_user_text == "wait").is_some());
        stream.set_nonblocking(true).unwrap();
        assert!(stream.read(&mut [0; 1]).is_err(), "nothing may come before the gate opens");
        stream.set_nonblocking(false).unwrap();
        gate.open();
        assert!(whole(stream).contains("at last"));
    }

    #[test]
    fn a_failure_carries_its_status_and_headers() {
        let script = |_: &Request| Reply::usage_limit("five_hour", 1_800_000_000);
        let api = Api::start(Arc::new(script)).unwrap();
        let text = whole(send(&api, "a", "x"));
        assert!(text.starts_with("HTTP/1.1 429"), "{text}");
        assert!(text.contains("anthropic-ratelimit-unified-reset: 1800000000"));
    }

    #[test]
    fn a_cut_stream_ends_without_its_last_pieces() {
        let script = |_: &Request| {
            let mut reply = Reply::text("x", Usage::default());
            reply.cut_after = Some(2);
            reply
        };
        let api = Api::start(Arc::new(script)).unwrap();
        let text = whole(send(&api, "a", "x"));
        assert!(text.contains("message_start") && !text.contains("message_stop"), "{text}");
    }

    #[test]
    fn waiting_ends_at_the_deadline() {
        let api = Api::start(Arc::new(|_: &Request| Reply::hang())).unwrap();
        assert!(api.wait_for(Duration::from_millis(1), |_| true).is_none());
    }
}
