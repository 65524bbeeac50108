//! One copy of each tenant's name, however many tokens carry it.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use parking_lot::Mutex;

/// How many names are held at most. Beyond that, names push each other out and are merely copied more often.
const PLACES: u16 = 1024;

/// Names by the hash of their text, each in the one place where it may stand: bounded, and no order to keep.
pub(super) struct Tenants {
    places: Mutex<Vec<Option<Arc<str>>>>,
    hasher: RandomState,
}

impl Tenants {
    pub(super) fn new() -> Self {
        Self { places: Mutex::new(vec![None; usize::from(PLACES)]), hasher: RandomState::new() }
    }

    /// The shared copy of `name`.
    pub(super) fn shared(&self, name: &str) -> Arc<str> {
        let hash = usize::try_from(self.hasher.hash_one(name) % u64::from(PLACES)).unwrap_or(0);
        let mut places = self.places.lock();
        let Some(place) = places.get_mut(hash) else { return name.into() };
        match place {
            Some(held) if **held == *name => Arc::clone(held),
            _ => Arc::clone(place.insert(name.into())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_held_once_and_the_number_of_names_is_bounded() {
        let tenants = Tenants::new();
        assert!(Arc::ptr_eq(&tenants.shared("acme"), &tenants.shared("acme")));
        for n in 0..10_000 {
            let name = format!("tenant-{n}");
            assert_eq!(&*tenants.shared(&name), name);
        }
        assert_eq!(tenants.places.lock().len(), usize::from(PLACES));
    }
}
