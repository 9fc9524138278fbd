//! A scripted Messages API: it answers the real `claude` CLI from a [`Script`]
//! instead of a model.
//!
//! ```text
//! CLI ── POST /v1/messages ──> request::parse ──> Script::reply ──> wire (SSE) ──> CLI
//!                                    └──> Log (what came, when; waited on by tests)
//! ```
//!
//! It listens on loopback only, keeps no state between sessions except its
//! log, and gives each answer its own message id and `request-id`.

mod reply;
mod request;
mod server;
mod wire;

pub use reply::{Block, Failure, Gate, Reply, Usage};
pub use request::{Request, Role, ToolResult, ToolUse, Turn};
pub use server::{Api, Log, serve};

/// Decides every answer. Called on the server's thread: it must not block.
/// To hold an answer back, give the reply a [`Gate`] or a latency.
pub trait Script: Send + Sync {
    /// The answer to one `POST /v1/messages`.
    fn reply(&self, request: &Request) -> Reply;
}

impl<F> Script for F
where
    F: Fn(&Request) -> Reply + Send + Sync,
{
    fn reply(&self, request: &Request) -> Reply {
        self(request)
    }
}
