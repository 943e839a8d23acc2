//! Permissions beside the things that they open.
