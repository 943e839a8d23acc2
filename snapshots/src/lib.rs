//! Test-only package: see `templates.rs`.
