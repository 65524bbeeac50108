//! Whether clients are to take their next requests elsewhere.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// Whether answers tell clients to end their connections. New requests are answered all the same.
#[derive(Debug, Default)]
pub struct Leaving {
    /// An operator took the instance out of service, and may put it back.
    set_aside: AtomicBool,
    /// The process ends.
    for_good: AtomicBool,
}

impl Leaving {
    /// Whether they do.
    #[must_use]
    pub fn is_so(&self) -> bool {
        self.set_aside.load(Relaxed) || self.for_good.load(Relaxed)
    }

    /// Whether an operator took the instance out of service.
    #[must_use]
    pub fn is_set_aside(&self) -> bool {
        self.set_aside.load(Relaxed)
    }

    /// An operator takes the instance out of service, or puts it back.
    pub fn set_aside(&self, aside: bool) {
        self.set_aside.store(aside, Relaxed);
    }

    /// The process ends: nobody can put it back.
    pub fn for_good(&self) {
        self.for_good.store(true, Relaxed);
    }
}
