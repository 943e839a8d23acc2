//! AWS IoT SQL: parse once, evaluate per message.

mod error;
mod message;
mod output;
mod rule;
mod template;
mod topic;
mod version;

pub use error::{Error, EvaluationError};
pub use message::{Context, Message, MqttProperties};
pub use output::{Outcome, Output};
pub use rule::Rule;
pub use template::Template;
pub use topic::{BasicIngest, FilterError, TopicFilter};
pub use version::{SqlVersion, UnknownVersion};
