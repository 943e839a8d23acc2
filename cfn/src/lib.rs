//! CloudFormation as typed Rust: templates, resources, intrinsics, policies, checks.

pub mod document;
pub mod arn;
pub mod resolve;
