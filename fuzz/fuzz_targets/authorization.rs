#![no_main]

#[path = "../judges/authorization.rs"]
mod authorization;

libfuzzer_sys::fuzz_target!(|data: &[u8]| authorization::judge(data));
