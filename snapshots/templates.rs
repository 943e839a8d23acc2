//! Snapshots of everything emitted.
