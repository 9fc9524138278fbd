//! Integration tests: the real binary, real processes, one behaviour a file.
#![allow(clippy::unwrap_used, missing_docs)]

mod keeper;
mod sink;
