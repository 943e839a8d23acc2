//! The Lambda function that keeps the sensors' live state.
fn main() {}
