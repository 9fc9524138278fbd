//! The main job with no account and no network: a scripted Messages API on
//! loopback, a private home for the real CLI, and a small worker's script.
//! The integration tests drive the CLI through the same API.

pub mod api;
pub mod home;
pub mod install;
pub mod project;
pub mod scenario;
