//! Runs an emitted template on one machine.
fn main() {}
