//! sdk_rust
