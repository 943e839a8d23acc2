//! AWS IoT SQL: parse once, evaluate per message.

mod conversion;
mod error;
mod evaluation;
mod expression;
mod fold;
mod function;
mod json;
mod lexer;
mod message;
mod number;
mod operator;
mod output;
mod parser;
mod rule;
mod template;
mod time;
mod topic;
mod value;
mod version;

pub use error::{Error, EvaluationError};
pub use message::{Context, Message, MqttProperties};
pub use output::{Outcome, Output, Variables};
pub use rule::Rule;
pub use template::Template;
pub use topic::{BasicIngest, FilterError, TopicFilter};
pub use version::{SqlVersion, UnknownVersion};
