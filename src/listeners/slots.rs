//! How many connections there are: of a listener, and of one address on it.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

/// The connections of one listener.
#[derive(Debug)]
pub struct Slots {
    max: AtomicU64,
    /// 0 where there is no bound.
    per_address: AtomicU64,
    open: AtomicU64,
    /// Who has how many: only addresses that have one, so never more than `max` of them.
    by_address: Mutex<HashMap<IpAddr, u64>>,
}

impl Slots {
    pub(super) fn new(max: u64, per_address: Option<u64>) -> Arc<Self> {
        let slots =
            Self { max: AtomicU64::new(max), per_address: AtomicU64::new(0), open: AtomicU64::new(0), by_address: Mutex::default() };
        slots.set_bounds(max, per_address);
        Arc::new(slots)
    }

    /// Changes the bounds, on a reload. Connections stay, above a bound too; those that were taken while addresses had no bound are not counted for theirs.
    pub(super) fn set_bounds(&self, max: u64, per_address: Option<u64>) {
        self.max.store(max, Ordering::Relaxed);
        self.per_address.store(per_address.unwrap_or(0), Ordering::Relaxed);
    }

    /// The connections there are.
    #[must_use]
    pub fn open(&self) -> u64 {
        self.open.load(Ordering::Relaxed)
    }

    /// A place for one more connection until it is dropped; none where all are taken.
    pub(super) fn take(self: &Arc<Self>) -> Option<Slot> {
        // One task accepts, and others only give back: what is read here can but have become less.
        if self.open() >= self.max.load(Ordering::Relaxed) {
            return None;
        }
        self.open.fetch_add(1, Ordering::Relaxed);
        Some(Slot(Arc::clone(self)))
    }

    /// The same for one more connection of `address`: none where it has all that it may have.
    pub(super) fn take_of(self: &Arc<Self>, address: IpAddr) -> Option<AddressSlot> {
        let max = match self.per_address.load(Ordering::Relaxed) {
            0 => return Some(AddressSlot::uncounted()),
            max => max,
        };
        let source = source(address);
        let mut by_address = self.by_address.lock();
        let count = by_address.entry(source).or_insert(0);
        if *count >= max {
            return None;
        }
        *count += 1;
        Some(AddressSlot(Some((Arc::clone(self), source))))
    }
}

/// One connection of a listener.
#[derive(Debug)]
pub(super) struct Slot(Arc<Slots>);

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// One connection of an address, where they are counted.
#[derive(Debug)]
pub(super) struct AddressSlot(Option<(Arc<Slots>, IpAddr)>);

impl AddressSlot {
    /// Of an address that has no bound.
    pub(super) const fn uncounted() -> Self {
        Self(None)
    }
}

impl Drop for AddressSlot {
    fn drop(&mut self) {
        let Some((slots, source)) = &self.0 else { return };
        if let Entry::Occupied(mut entry) = slots.by_address.lock().entry(*source) {
            *entry.get_mut() -= 1;
            if *entry.get() == 0 {
                entry.remove();
            }
        }
    }
}

/// Who an address stands for: an IPv6 client is known by its /64, since it can choose any address within it.
fn source(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => {
            let [a, b, c, d, ..] = v6.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
        v4 @ IpAddr::V4(_) => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn the_bound_is_taken_and_one_more_is_not_until_one_is_given_back() {
        let slots = Slots::new(2, None);
        let (one, _two) = (slots.take().unwrap(), slots.take().unwrap());
        assert!(slots.take().is_none());
        assert_eq!(slots.open(), 2);
        drop(one);
        assert_eq!(slots.open(), 1);
        assert!(slots.take().is_some());
    }

    #[test]
    fn an_address_has_a_bound_of_its_own_and_ipv6_counts_by_64() {
        let slots = Slots::new(100, Some(2));
        let held: Vec<_> =
            ["192.0.2.1", "192.0.2.1", "192.0.2.2", "2001:db8::1", "2001:db8::2"].map(|a| slots.take_of(ip(a)).unwrap()).into();
        for (address, admitted) in
            [("192.0.2.1", false), ("::ffff:192.0.2.1", false), ("2001:db8::ffff", false), ("192.0.2.2", true), ("2001:db8:0:1::1", true)]
        {
            assert_eq!(slots.take_of(ip(address)).is_some(), admitted, "{address}");
        }
        drop(held);
        assert!(slots.by_address.lock().is_empty(), "an address without a connection is forgotten");
        assert!(slots.take_of(ip("192.0.2.1")).is_some());
    }
}
