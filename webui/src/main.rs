//! The dashboard server and its page.
fn main() {}
