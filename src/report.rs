//! stub
use crate::clock::Timestamp; use crate::cycle::Snapshot;
/// stub
#[derive(serde::Serialize)]
pub struct StatusView { state: &'static str }
impl StatusView { /// x
 pub fn of(s: &Snapshot<'_>, _: Timestamp) -> Self { Self { state: s.state() } } }
