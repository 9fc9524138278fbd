//! Any bytes as a transcript: nothing panics, and the two readers agree.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| longhaul::usage::fuzz::row(bytes));
