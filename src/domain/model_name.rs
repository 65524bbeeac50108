//! What a model is called, whatever way a call spells it.

use std::borrow::Cow;

/// The one spelling by which calls of a model are counted together.
#[must_use]
pub fn model_name(sent: &str) -> Cow<'_, str> {
    sent.into()
}
