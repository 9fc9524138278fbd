//! Connections: how many at once, and how long each may take to say something or
//! to take its answer. A slow client costs a place, not the hub; when all places are
//! taken, the one that has been waited for the longest is shown out.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::Request;
use hyper::body::Incoming;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::Sleep;

use super::Peer;

/// What connections may take.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// At most so many at once.
    pub connections: usize,
    /// A request's head must have come within this time; as long is one waited for.
    pub head: Duration,
    /// A client that takes nothing of its answer for so long is gone.
    pub stall: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { connections: 64, head: Duration::from_secs(15), stall: Duration::from_secs(20) }
    }
}

/// Largest head of a request, bytes.
const MAX_HEAD_BYTES: usize = 64 << 10;
/// After a failed accept (no descriptors left, say) some time must pass.
const AFTER_FAILURE: Duration = Duration::from_millis(100);

/// A connection as the door sees it.
struct Guest {
    peer: Peer,
    task: AbortHandle,
}

/// Serves `app` to whoever comes, without end.
pub async fn serve(listener: TcpListener, app: Router, limits: Limits) -> Infallible {
    let mut tasks = JoinSet::new();
    let mut guests: Vec<Guest> = Vec::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_) = tasks.join_next() => {
                guests.retain(|guest| !guest.task.is_finished());
                continue;
            }
        };
        let (stream, remote) = match accepted {
            Ok(accepted) => accepted,
            Err(err) => {
                tracing::warn!(%err, "cannot accept a connection");
                tokio::time::sleep(AFTER_FAILURE).await;
                continue;
            }
        };
        guests.retain(|guest| !guest.task.is_finished());
        if guests.len() >= limits.connections && !make_room(&mut guests) {
            // Each of them is being answered: this one is turned away.
            continue;
        }
        let Ok(local) = stream.local_addr() else { continue };
        let peer = Peer::new(remote, local);
        let task = tasks.spawn(converse(stream, peer.clone(), app.clone(), limits));
        guests.push(Guest { peer, task });
    }
}

/// Ends the connection that has been waited for the longest; is there one?
fn make_room(guests: &mut Vec<Guest>) -> bool {
    let waits = guests.iter().enumerate();
    let waits = waits.filter_map(|(at, guest)| Some((guest.peer.waited_for_since()?, at)));
    match waits.min() {
        Some((_, at)) => {
            guests.swap_remove(at).task.abort();
            true
        }
        None => false,
    }
}

async fn converse(stream: TcpStream, peer: Peer, app: Router, limits: Limits) {
    let _ = stream.set_nodelay(true);
    let remote: SocketAddr = peer.remote;
    let stream = TokioIo::new(Patient::new(stream, peer.clone(), limits.stall));
    let service = hyper::service::service_fn(move |request: Request<Incoming>| {
        let (app, peer) = (app.clone(), peer.clone());
        async move {
            let (mut parts, body) = request.into_parts();
            parts.extensions.insert(peer);
            let request = Request::from_parts(parts, Body::new(body));
            tower_service::Service::call(&mut { app }, request).await
        }
    });
    let served = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head)
        .max_buf_size(MAX_HEAD_BYTES)
        .serve_connection(stream, service)
        .await;
    if let Err(err) = served {
        tracing::debug!(%err, %remote, "a connection broke");
    }
}

/// A stream whose writes fail once nothing was taken for some time.
struct Patient {
    stream: TcpStream,
    peer: Peer,
    stall: Duration,
    /// Runs while a write waits.
    waiting: Option<Pin<Box<Sleep>>>,
}

impl Patient {
    fn new(stream: TcpStream, peer: Peer, stall: Duration) -> Self {
        Self { stream, peer, stall, waiting: None }
    }

    fn watch<T>(&mut self, cx: &mut Context<'_>, poll: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if poll.is_ready() {
            self.waiting = None;
            return poll;
        }
        let stall = self.stall;
        let waiting = self.waiting.get_or_insert_with(|| Box::pin(tokio::time::sleep(stall)));
        ready!(waiting.as_mut().poll(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncRead for Patient {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Patient {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let poll = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.watch(cx, poll)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let poll = Pin::new(&mut self.stream).poll_write_vectored(cx, bytes);
        self.watch(cx, poll)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let poll = Pin::new(&mut self.stream).poll_flush(cx);
        if let Poll::Ready(Ok(())) = poll {
            // The server flushes the stream when it holds nothing back itself.
            self.peer.was_sent();
        }
        self.watch(cx, poll)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::response::IntoResponse;
    use axum::routing::get;
    use std::sync::Arc;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::sync::Semaphore;

    const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n";
    const SHORT: Duration = Duration::from_millis(50);
    /// No test comes near it.
    const LONG: Duration = Duration::from_secs(100);

    fn run<T>(work: impl Future<Output = T>) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async { tokio::time::timeout(LONG, work).await.unwrap() })
    }

    async fn open(app: Router, limits: Limits) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(serve(listener, app, limits));
        address
    }

    fn hello() -> Router {
        Router::new().route("/", get(|| async { "hello" }))
    }

    async fn said(stream: &mut TcpStream) -> String {
        let mut text = String::new();
        let _ = stream.read_to_string(&mut text).await;
        text
    }

    async fn answers(address: SocketAddr) -> bool {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
        stream.write_all(request).await.unwrap();
        said(&mut stream).await.ends_with("hello")
    }

    #[test]
    fn a_head_that_does_not_come_is_not_waited_for() {
        run(async {
            let address = open(hello(), Limits { head: SHORT, ..Limits::default() }).await;
            for begun in [&b""[..], b"GET / HTTP/1.1\r\nhost: "] {
                let mut stream = TcpStream::connect(address).await.unwrap();
                stream.write_all(begun).await.unwrap();
                let told = said(&mut stream).await;
                assert!(told.is_empty() || told.starts_with("HTTP/1.1 408"), "{told}");
            }
            // Nor is a second request on a line that had one.
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(REQUEST).await.unwrap();
            assert!(said(&mut stream).await.ends_with("hello"));
        });
    }

    #[test]
    fn those_who_say_nothing_do_not_keep_others_out() {
        run(async {
            let limits = Limits { connections: 8, head: LONG, stall: LONG };
            let address = open(hello(), limits).await;
            let mut silent = Vec::new();
            for _ in 0..50 {
                silent.push(TcpStream::connect(address).await.unwrap());
            }
            assert!(answers(address).await);
            // The oldest made room.
            assert_eq!(said(&mut silent[0]).await, "");
        });
    }

    #[test]
    fn the_one_waited_for_longest_makes_room_and_not_the_oldest() {
        run(async {
            let work = |axum::Extension(peer): axum::Extension<Peer>| async move {
                peer.answer().with("hello".into_response())
            };
            let app = Router::new().route("/", get(work));
            let address = open(app, Limits { connections: 2, head: LONG, stall: LONG }).await;
            let mut oldest = TcpStream::connect(address).await.unwrap();
            let mut silent = TcpStream::connect(address).await.unwrap();
            oldest.write_all(REQUEST).await.unwrap();
            let mut answer = Vec::new();
            while !answer.ends_with(b"hello") {
                assert_ne!(oldest.read_buf(&mut answer).await.unwrap(), 0);
            }
            let _late = TcpStream::connect(address).await.unwrap();
            assert_eq!(said(&mut silent).await, "");
            let request = b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
            oldest.write_all(request).await.unwrap();
            assert!(said(&mut oldest).await.ends_with("hello"));
        });
    }

    #[test]
    fn an_answer_is_sent_whole_whoever_comes_meanwhile() {
        const BYTES: usize = 64 << 20;
        run(async {
            let work = |axum::Extension(peer): axum::Extension<Peer>| async move {
                // Taken by the server in one piece, long before it can be sent.
                peer.answer().with(Body::from(vec![b'x'; BYTES]).into_response())
            };
            let app = Router::new().route("/", get(work));
            let address = open(app, Limits { connections: 1, head: LONG, stall: LONG }).await;
            let mut taker = TcpStream::connect(address).await.unwrap();
            let request = b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
            taker.write_all(request).await.unwrap();
            let mut answer = Vec::new();
            taker.read_buf(&mut answer).await.unwrap();
            let mut late = TcpStream::connect(address).await.unwrap();
            let all = taker.read_to_end(&mut answer).await;
            assert!(all.is_ok() && answer.len() > BYTES, "{all:?} {}", answer.len());
            assert_eq!(said(&mut late).await, "", "it was turned away");
        });
    }

    #[test]
    fn one_that_is_being_answered_is_not_shown_out() {
        run(async {
            let gate = Arc::new(Semaphore::new(0));
            let (inside, held) = (Arc::new(Semaphore::new(0)), Arc::clone(&gate));
            let entered = Arc::clone(&inside);
            let work = move |axum::Extension(peer): axum::Extension<Peer>| async move {
                let answering = peer.answer();
                entered.add_permits(1);
                let _ = held.acquire().await;
                answering.with("hello".into_response())
            };
            let app = Router::new().route("/", get(work));
            let limits = Limits { connections: 1, head: LONG, stall: LONG };
            let address = open(app, limits).await;
            let mut busy = TcpStream::connect(address).await.unwrap();
            let request = b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
            busy.write_all(request).await.unwrap();
            let _ = inside.acquire().await.unwrap();
            let mut late = TcpStream::connect(address).await.unwrap();
            assert_eq!(said(&mut late).await, "", "there is no room");
            gate.add_permits(1);
            assert!(said(&mut busy).await.ends_with("hello"));
        });
    }

    #[test]
    fn an_answer_nobody_takes_is_given_up() {
        run(async {
            let work = || async { Body::from(vec![b'x'; 64 << 20]) };
            let app = Router::new().route("/", get(work));
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            let limits = Limits { stall: SHORT, ..Limits::default() };
            let taker = async {
                let mut stream = TcpStream::connect(address).await.unwrap();
                stream.write_all(REQUEST).await.unwrap();
                stream
            };
            let server = async {
                let (stream, remote) = listener.accept().await.unwrap();
                let peer = Peer::new(remote, address);
                converse(stream, peer, app, limits).await;
            };
            // It ends although the line is open.
            let (mut stream, ()) = tokio::join!(taker, server);
            let mut head = [0; 15];
            stream.read_exact(&mut head).await.unwrap();
            assert_eq!(&head, b"HTTP/1.1 200 OK");
        });
    }
}
