//! The sensor backend's infrastructure as constructs.
