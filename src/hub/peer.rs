//! Who is at the other end of a connection, and whose turn it is: is it being
//! answered, or waited for, and since when?

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use axum::body::{Body, Bytes, HttpBody};
use axum::response::Response;
use hyper::body::{Frame, SizeHint};

/// Who is at the other end of a connection; an extension of each request.
#[derive(Debug, Clone)]
pub struct Peer {
    /// Where it is.
    pub remote: SocketAddr,
    /// Where it found us.
    pub local: SocketAddr,
    turn: Arc<Turn>,
}

/// Numbers of waits, in the order in which they begin.
static NEXT_WAIT: AtomicU64 = AtomicU64::new(0);

fn next_wait() -> u64 {
    NEXT_WAIT.fetch_add(1, Ordering::Relaxed)
}

/// The number of a wait, or one of the words below.
#[derive(Debug)]
struct Turn(AtomicU64);

/// An answer is being found, or told.
const ANSWERING: u64 = u64::MAX;
/// Its last bytes are given away, but may not have gone out yet.
const ENDING: u64 = u64::MAX - 1;

impl Peer {
    /// A connection from `remote` to `local`, which is waited for from now on.
    pub fn new(remote: SocketAddr, local: SocketAddr) -> Self {
        Self { remote, local, turn: Arc::new(Turn(next_wait().into())) }
    }

    /// It is answered until what is given here ends.
    pub(super) fn answer(&self) -> Answering {
        self.turn.0.store(ANSWERING, Ordering::Relaxed);
        Answering(Arc::clone(&self.turn))
    }

    /// Nothing is left to go out: an answer that has ended was sent.
    pub(super) fn was_sent(&self) {
        let turn = &self.turn.0;
        if turn.load(Ordering::Relaxed) == ENDING {
            turn.store(next_wait(), Ordering::Relaxed);
        }
    }

    /// Since when it is waited for: the smaller, the longer. `None` if it is being
    /// answered.
    pub(super) fn waited_for_since(&self) -> Option<u64> {
        Some(self.turn.0.load(Ordering::Relaxed)).filter(|wait| *wait < ENDING)
    }
}

/// An answer, from the beginning of the search for it.
pub(super) struct Answering(Arc<Turn>);

impl Answering {
    /// It lasts until the body of this response has been taken.
    pub fn with(self, response: Response) -> Response {
        response.map(|body| Body::new(Told { body, _answering: self }))
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        self.0.0.store(ENDING, Ordering::Relaxed);
    }
}

/// The body of an answer.
struct Told {
    body: Body,
    _answering: Answering,
}

impl HttpBody for Told {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
