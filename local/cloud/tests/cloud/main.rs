//! The cloud by its public interface: signed HTTP requests in the query protocol.

mod rig;

mod change_set;
mod creation;
mod deletion;
mod door;
mod persistence;
mod running;
mod service_role;
mod update;
