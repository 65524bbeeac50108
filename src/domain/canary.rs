//! How far a canary has come.

use std::time::SystemTime;

/// What of a canary outlives the process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptCanary {
    /// Its route. No two are of the same route.
    pub route: Box<str>,
    /// The hash of all that is configured of it: another rule, or another model, begins anew.
    pub rule: Box<str>,
    /// The step that it is at, from 0; none where it was stepped back to nothing.
    pub step: Option<u32>,
    /// Since when, in whole milliseconds.
    pub since: SystemTime,
}
