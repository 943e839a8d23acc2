//! The function against a real Redis server.
//!
//! Layout: [`server`], [`tls`] and [`events`] are support; [`counting`] tests the script, [`delivery`]
//! exactly-once under retries, [`outage`] the connection, [`program`] the binary, [`access`] its rights in the
//! cache.

mod access;
mod counting;
mod delivery;
mod events;
mod outage;
mod program;
mod server;
mod tls;
