//! Estimates, times, and what counts for nothing.
