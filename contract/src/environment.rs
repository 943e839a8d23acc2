//! Environment variables that the programs read.
//!
//! A test in `snapshots` checks that the templates set exactly these, except for those that the platform
//! sets.

/// URL of the cache for both programs: `rediss://<host>:<port>` on AWS, where TLS is required.
pub const REDIS_URL: &str = "REDIS_URL";

/// TCP port that the web UI listens on; Beanstalk's nginx proxies to it.
pub const PORT: &str = "PORT";

/// Default of [`PORT`]: Beanstalk's own.
pub const DEFAULT_PORT: u16 = 5000;

/// IP address that the web UI listens on.
pub const INTERFACE: &str = "INTERFACE";

/// Default of [`INTERFACE`].
pub const DEFAULT_INTERFACE: &str = "0.0.0.0";

/// Most frames that a browser gets a second, 1–100; changes in between are merged. A value is therefore
/// shown up to `1 s / FRAMES_PER_SECOND` late, and later if there are more browsers than the machine can
/// serve at that rate.
pub const FRAMES_PER_SECOND: &str = "FRAMES_PER_SECOND";

/// Default of [`FRAMES_PER_SECOND`]: faster than a person can read a table, and cheap for ten thousand
/// browsers.
pub const DEFAULT_FRAMES_PER_SECOND: u32 = 20;

/// Maximum of [`FRAMES_PER_SECOND`]: few screens show more.
pub const MAX_FRAMES_PER_SECOND: u32 = 100;

/// ID of the cache user that the program signs in as, with the credentials of its role. Set together with
/// [`CACHE_NAME`]; if neither is set, the program connects without signing in, as to a local server.
pub const CACHE_USER: &str = "CACHE_USER";

/// ID of the replication group that the program signs in to; not its address.
pub const CACHE_NAME: &str = "CACHE_NAME";

/// Variables that the function reads and the template sets.
pub const FUNCTION: &[&str] = &[REDIS_URL, CACHE_USER, CACHE_NAME];

/// Variables that the web UI reads and the template sets.
pub const WEBUI: &[&str] = &[
    REDIS_URL,
    CACHE_USER,
    CACHE_NAME,
    PORT,
    INTERFACE,
    FRAMES_PER_SECOND,
];

/// Variables that the function reads and Lambda sets:
/// <https://docs.aws.amazon.com/lambda/latest/dg/configuration-envvars.html#configuration-envvars-runtime>.
pub const FUNCTION_PLATFORM: &[&str] = &[
    "AWS_LAMBDA_RUNTIME_API",
    "AWS_LAMBDA_FUNCTION_NAME",
    "AWS_LAMBDA_FUNCTION_MEMORY_SIZE",
    "AWS_LAMBDA_FUNCTION_VERSION",
];

/// Log level of the function, set by Lambda if its `LoggingConfig` has one.
pub const AWS_LAMBDA_LOG_LEVEL: &str = "AWS_LAMBDA_LOG_LEVEL";

/// Region of the function, set by Lambda like the names of [`FUNCTION_CREDENTIALS`].
pub const AWS_REGION: &str = "AWS_REGION";

/// Access key ID of the function's role.
pub const AWS_ACCESS_KEY_ID: &str = "AWS_ACCESS_KEY_ID";

/// Secret access key of the function's role.
pub const AWS_SECRET_ACCESS_KEY: &str = "AWS_SECRET_ACCESS_KEY";

/// Session token of the function's role.
pub const AWS_SESSION_TOKEN: &str = "AWS_SESSION_TOKEN";

/// Variables that the function reads to sign in to the cache and Lambda sets; source as for
/// [`FUNCTION_PLATFORM`].
pub const FUNCTION_CREDENTIALS: &[&str] = &[
    AWS_REGION,
    AWS_ACCESS_KEY_ID,
    AWS_SECRET_ACCESS_KEY,
    AWS_SESSION_TOKEN,
];

/// Endpoint from which the web UI reads the credentials of its instance's role, the variable of AWS's SDKs.
/// Not set on AWS, where the endpoint is always the same:
/// <https://docs.aws.amazon.com/sdkref/latest/guide/feature-imds-credentials.html>.
pub const AWS_EC2_METADATA_SERVICE_ENDPOINT: &str = "AWS_EC2_METADATA_SERVICE_ENDPOINT";
