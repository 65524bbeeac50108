//! What no honest upstream sends.
