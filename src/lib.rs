//! Tollgate: an edge proxy for Amazon Bedrock. ARCHITECTURE.md is the map.

pub mod admin;
pub mod call;
pub mod cli;
pub mod config;
pub mod demo;
pub mod domain;
pub mod emulator;
pub mod firewall;
pub mod identity;
pub mod limits;
pub mod listeners;
pub mod policy;
pub mod prices;
pub mod proxy;
pub mod record;
pub mod reply;
pub mod routes;
pub mod server;
pub mod state;
pub mod upstreams;
