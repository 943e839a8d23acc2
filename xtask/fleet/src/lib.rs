//! A fleet of simulated sensors, without a client.
