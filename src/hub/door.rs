//! Connections: how many at once, and how long each may take to say something or
//! to take its answer. A slow client costs a place, not the hub; when all places are
//! taken, the one that has been waited for the longest is shown out.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::Ordering;
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
        Self { connections: 128, head: Duration::from_secs(15), stall: Duration::from_secs(20) }
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
    // In the order in which they came.
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

/// Ends the oldest connection that is only waited for; is there one?
fn make_room(guests: &mut Vec<Guest>) -> bool {
    let idle = guests.iter().position(|guest| !guest.peer.is_served.load(Ordering::Relaxed));
    match idle {
        Some(oldest) => {
            guests.remove(oldest).task.abort();
            true
        }
        None => false,
    }
}

async fn converse(stream: TcpStream, peer: Peer, app: Router, limits: Limits) {
    let _ = stream.set_nodelay(true);
    let remote: SocketAddr = peer.remote;
    let service = hyper::service::service_fn(move |request: Request<Incoming>| {
        let (app, peer) = (app.clone(), peer.clone());
        async move {
            let (mut parts, body) = request.into_parts();
            parts.extensions.insert(peer);
            let request = Request::from_parts(parts, Body::new(body));
            tower_service::Service::call(&mut { app }, request).await
        }
    });
    let stream = TokioIo::new(Patient::new(stream, limits.stall));
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
    stall: Duration,
    /// Runs while a write waits.
    waiting: Option<Pin<Box<Sleep>>>,
}

impl Patient {
    fn new(stream: TcpStream, stall: Duration) -> Self {
        Self { stream, stall, waiting: None }
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
        self.watch(cx, poll)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
