//! `upstreams.*.health`.

use serde_yaml::Value;

use super::super::upstreams::{Health, HealthRule};
use super::{Section, Shown};

impl Shown for Health {
    fn shown(&self) -> Value {
        let Self::On(HealthRule { failures, error_rate, first_byte, slow_rate, window, min_requests, eject, max_eject }) = self else {
            return "off".into();
        };
        let or_off = |value: Option<Value>| value.unwrap_or_else(|| "off".into());
        let share = |percent: u8| Value::from(format!("{percent}%"));
        let section = Section::default()
            .with("failures", &or_off(failures.map(Value::from)))
            .with("error_rate", &or_off(error_rate.map(share)))
            .with("first_byte", &or_off(first_byte.map(|bound| bound.shown())));
        // Without a bound it says nothing, and is refused.
        let slow = first_byte.map(|_| share(*slow_rate));
        section
            .some("slow_rate", slow.as_ref())
            .with("window", window)
            .with("min_requests", &u64::from(*min_requests))
            .with("eject", eject)
            .with("max_eject", max_eject)
            .done()
    }
}
