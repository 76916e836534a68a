//! The service over its wire: a real server on port 0, a real SQLite file, a real gRPC client.
//!
//! Where quality matters the bundled model runs; elsewhere an arithmetic one.

#![allow(clippy::unwrap_used)] // a helper that fails is a test that fails

mod errors;
mod index;
mod lifecycle;
mod search;
mod support;
mod telemetry;
