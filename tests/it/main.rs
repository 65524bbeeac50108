//! One binary for all integration tests, since each links everything: real sockets on loopback, port 0, no sleeps.

#![cfg(test)]
#![expect(
    clippy::disallowed_methods,
    reason = "a test's runtime owns its tasks, and ends them with it; tokens expire by the system's clock"
)]
#![expect(clippy::float_cmp, reason = "counters are whole numbers far below 2^53")]

mod abuse;
mod addresses;
mod admin;
mod authorizer;
mod bill;
mod binary;
mod bodies;
mod canary;
mod certificates;
mod client;
mod connections;
mod credentials;
mod cut;
mod deploy;
mod downstream;
mod draining;
mod exposition;
mod failover;
mod fairness;
mod faults;
mod fuzz;
mod handover;
mod headers;
mod inbound;
mod leaving;
mod ledger;
mod mirror;
mod mtls;
mod observability;
mod oidc;
mod overload;
mod policy;
mod proxy_protocol;
mod quotas;
mod ratelimits;
mod record;
mod refusals;
mod reload;
mod reload_process;
mod restarts;
mod scripted;
mod sdk;
mod sdk_rust;
mod settled;
mod steering;
mod stops;
mod streams;
mod systemd;
mod throttled;
mod traces;
mod upstream;
mod wire;
mod world;
