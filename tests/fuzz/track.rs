//! Any bytes as what the tracker of tasks is given: it is taken or refused, and never panics.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _ = longhaul::track::parse(bytes);
});
