//! What a request's body asks for, as a caller may write it. `cargo test` replays its corpus.

#![no_main]

#[path = "../judges/weigh.rs"]
mod weigh;

libfuzzer_sys::fuzz_target!(|data: &[u8]| weigh::judge(data));
