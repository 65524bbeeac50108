//! The table of failover.
