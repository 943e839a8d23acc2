//! Publishes messages over MQTT: one, or a simulated fleet's.
fn main() {}
