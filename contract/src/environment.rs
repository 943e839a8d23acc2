//! Environment variables that the programs read.
//!
//! A test in `snapshots` proves that the templates set exactly these, except for those that the
//! platform sets.

/// URL of the cache for both programs: `rediss://<host>:<port>` on AWS, where TLS is required.
pub const REDIS_URL: &str = "REDIS_URL";

/// TCP port that the web UI listens on; Beanstalk's nginx proxies to it.
pub const PORT: &str = "PORT";

/// Default of [`PORT`]: Beanstalk's own.
pub const DEFAULT_PORT: u16 = 5000;

/// Address that the web UI listens on.
pub const INTERFACE: &str = "INTERFACE";

/// Default of [`INTERFACE`].
pub const DEFAULT_INTERFACE: &str = "0.0.0.0";

/// What the function reads and the template must set.
pub const FUNCTION: &[&str] = &[REDIS_URL];

/// What the web UI reads and the template must set.
pub const WEBUI: &[&str] = &[REDIS_URL, PORT, INTERFACE];

/// What the function reads and Lambda sets:
/// <https://docs.aws.amazon.com/lambda/latest/dg/configuration-envvars.html#configuration-envvars-runtime>.
pub const FUNCTION_PLATFORM: &[&str] = &[
    "AWS_LAMBDA_RUNTIME_API",
    "AWS_LAMBDA_FUNCTION_NAME",
    "AWS_LAMBDA_FUNCTION_MEMORY_SIZE",
    "AWS_LAMBDA_FUNCTION_VERSION",
];

/// Level of the function's logs, set by Lambda when its `LoggingConfig` names one.
pub const AWS_LAMBDA_LOG_LEVEL: &str = "AWS_LAMBDA_LOG_LEVEL";
