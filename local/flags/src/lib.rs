//! Values of the local run's flags.
//!
//! `cargo xtask` parses them before it builds anything, `local` parses them again when it starts; both
//! use these types, so neither accepts what the other refuses. No dependencies: everything here is in
//! the way of the first `cargo xtask`.
//!
//! Layout: [`fault`] (`--fault`), [`address`] (`publish --local`), [`redis`] (`--redis`), [`path`]
//! (`--function`, `--bundle`), [`thing`] (`device add`).

pub mod address;
pub mod fault;
pub mod path;
pub mod redis;
pub mod thing;
