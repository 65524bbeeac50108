//! Server-sent events, as an upstream may send them. `cargo test` replays its corpus.

#![no_main]

#[path = "../judges/reply.rs"]
mod reply;

libfuzzer_sys::fuzz_target!(|data: &[u8]| reply::server_sent_events(data));
