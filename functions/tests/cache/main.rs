//! The function against a real Redis server.
//!
//! Layout: [`server`] the server, [`tls`] TLS in front of one, [`events`] what Lambda sends, [`counting`] what the script does,
//! [`delivery`] how often Lambda delivers, [`outage`] what the connection survives, [`program`] the binary,
//! [`access`] what it may do.

mod access;
mod counting;
mod delivery;
mod events;
mod outage;
mod program;
mod server;
mod tls;
