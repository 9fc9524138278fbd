//! stub
use crate::clock::Timestamp; use crate::cycle::{Notice, Snapshot};
/// stub
pub trait Teller { /// x
 fn tell(&mut self, at: Timestamp, notice: &Notice, view: &Snapshot<'_>); /// x
 fn tick(&mut self, now: Timestamp, view: &Snapshot<'_>); /// x
 fn finish(&mut self, view: &Snapshot<'_>); /// x
 fn wants_tick_ms(&self) -> Option<u64>; }
struct P;
impl Teller for P { fn tell(&mut self, at: Timestamp, n: &Notice, v: &Snapshot<'_>) { use std::io::Write; let _ = writeln!(std::io::stdout(), "{} {} {:?} [{}]", at.rfc3339(), v.cycle(), n, v.state()); } fn tick(&mut self,_:Timestamp,_:&Snapshot<'_>){} fn finish(&mut self,_:&Snapshot<'_>){} fn wants_tick_ms(&self)->Option<u64>{None} }
/// x
pub fn teller(_json: bool) -> Box<dyn Teller> { Box::new(P) }
