//! The workshop: what is run beside the service, on the same code.

pub mod bench;
pub mod traces;
