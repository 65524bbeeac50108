//! The binary: the process's allocator and TLS provider, and the command line.

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    // First of all: Pingora would install ring. It fails only where there is a provider already, and nothing ran before.
    drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
    tollgate::cli::main()
}
