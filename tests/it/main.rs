//! One binary for all integration tests, since each links everything: real sockets on loopback, port 0, no sleeps.

#![cfg(test)]

mod binary;
mod bodies;
mod client;
mod connections;
mod downstream;
mod refusals;
mod scripted;
mod sdk;
mod sdk_rust;
mod streams;
mod upstream;
mod wire;
mod world;
