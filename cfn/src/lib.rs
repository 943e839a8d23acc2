//! CloudFormation as typed Rust: templates, resources, intrinsics, policies, checks.

pub mod document;
