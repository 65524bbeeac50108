//! The primitives that buckets are shared by: here the real ones. `tests/interleavings.rs` compiles the same buckets on primitives that try every order.

pub(super) use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};

pub(super) use parking_lot::{Mutex, MutexGuard};
