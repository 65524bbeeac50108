//! Health as it is told and asked.

mod budget;
mod histories;
mod stories;
mod threads;
mod throttled;

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Health, Healths, Outcome};
use crate::config::upstreams::{Health as Config, HealthRule};

#[expect(clippy::disallowed_methods, reason = "an Instant can be had in no other way; which one does not matter")]
fn start() -> Instant {
    Instant::now()
}

fn health(rule: HealthRule) -> Arc<Health> {
    Healths::new().of(&"use1".into(), &Config::On(rule))
}

const fn well() -> Outcome {
    Outcome::Answered { status: 200, first_byte: Duration::ZERO }
}

const fn answered(status: u16) -> Outcome {
    Outcome::Answered { status, first_byte: Duration::ZERO }
}

const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}
