//! CloudFormation as typed Rust: templates, resources, intrinsics, policies, checks.
//!
//! This crate knows AWS's formats but not the application, and does no IO. It computes what follows from a
//! template's text; `local` emulates what happens at run time.
//!
//! Layout, in reading order:
//! - writing: [`template`], [`resource`], [`value`], [`reference`](mod@reference), [`intrinsic`], [`policy`], [`grant`],
//!   and [`resources`], which is generated from the registry schemas in `schemas/` and `overlays/`;
//! - checking: [`check`] with [`shape`] and [`problem`];
//! - reading: [`document`], [`resolve`], [`arn`];
//! - analysing: [`evaluate`], [`actions`], [`integration`], [`network`], [`access`], [`diff`](mod@diff);
//! - estimating: [`typical`].

pub mod grant;
pub mod intrinsic;
pub mod policy;
pub mod reference;
pub mod resource;
pub mod template;
pub mod value;
#[rustfmt::skip]
pub mod resources;

pub mod check;
pub mod problem;
pub mod shape;

pub mod access;
pub mod actions;
pub mod arn;
pub mod diff;
pub mod document;
pub mod evaluate;
pub mod integration;
pub mod network;
pub mod resolve;

pub mod typical;

pub use policy::Statement;
pub use problem::{Problem, Problems};
pub use reference::Attribute;
pub use resource::{DeletionPolicy, Handle, Resource, Tag, UpdateReplacePolicy};
pub use template::{
    Condition, ConditionExpression, Parameter, ParameterProps, ResourceAttributes, Synthesized,
    Template,
};
pub use value::{List, Map, Value};
