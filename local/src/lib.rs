//! Runs an emitted CloudFormation template on one machine.
//!
//! Reads template JSON, resolves it, and brings up what it describes: the IoT broker and rule
//! engine, Kinesis streams, event source mappings with the function's real binary, Firehose,
//! the cache, and the real web UI. It never looks at the Rust code that wrote the template.
//!
//! It emulates, it does not pretend: what a template asks for and nothing here does is listed by
//! logical ID at start, and a permission or a network path that the template lacks is missing here too.
//!
//! Layout: [`service`] says what is done with each resource type, [`run`] brings the parts up in the order of
//! the [`graph`]; a part is a [`part::Part`], in its service's folder. Along a message's way: [`mqtt`] → [`iot`] → [`kinesis`] → the function and the web UI;
//! [`permission`] decides about every hop; [`status`] counts.

pub mod beanstalk;
pub mod cli;
pub mod control;
pub mod elasticache;
pub mod event_source_mapping;
pub mod events;
pub mod fault;
pub mod firehose;
pub mod graph;
pub mod iot;
pub mod kinesis;
pub mod lambda;
pub mod logs;
pub mod mqtt;
pub mod overview;
pub mod part;
pub mod paths;
pub mod permission;
pub mod plan;
pub mod process;
pub mod program;
pub mod random;
pub mod run;
pub mod s3;
pub mod service;
pub mod sessions;
pub mod sqs;
pub mod status;
pub mod template;
pub mod terminal;
pub mod tls;
pub mod watch;
