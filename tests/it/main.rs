//! One binary for all integration tests, since each links everything: real sockets on loopback, port 0, no sleeps.

#![cfg(test)]
#![expect(clippy::float_cmp, reason = "metrics that count are whole numbers, which are exact")]
#![expect(clippy::disallowed_methods, reason = "a test's tasks end with its runtime, and it measures real time")]

mod binary;
mod bodies;
mod client;
mod connections;
mod downstream;
mod headers;
mod refusals;
mod scripted;
mod sdk;
mod sdk_rust;
mod streams;
mod upstream;
mod wire;
mod world;
