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

/// How many frames a second a browser gets at most, 1–100: what changes in between is merged. A new
/// value is therefore shown about a second divided by it later than it could be at most; later still
/// where there are so many browsers that serving them fills the machine.
pub const FRAMES_PER_SECOND: &str = "FRAMES_PER_SECOND";

/// Default of [`FRAMES_PER_SECOND`]: more than eyes follow in a table, and cheap for ten thousand browsers.
pub const DEFAULT_FRAMES_PER_SECOND: u32 = 20;

/// The most that [`FRAMES_PER_SECOND`] takes; screens show no more.
pub const MAX_FRAMES_PER_SECOND: u32 = 100;

/// ID of the cache's user that the program signs in as, by the credentials of its role. Together with
/// [`CACHE_NAME`], or neither: then the cache is a server that asks nobody, as on a desk.
pub const CACHE_USER: &str = "CACHE_USER";

/// ID of the replication group that the program signs in to, which is not its address.
pub const CACHE_NAME: &str = "CACHE_NAME";

/// What the function reads and the template must set.
pub const FUNCTION: &[&str] = &[REDIS_URL, CACHE_USER, CACHE_NAME];

/// What the web UI reads and the template must set.
pub const WEBUI: &[&str] = &[
    REDIS_URL,
    CACHE_USER,
    CACHE_NAME,
    PORT,
    INTERFACE,
    FRAMES_PER_SECOND,
];

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

/// Region of the function, set by Lambda like the names of [`FUNCTION_CREDENTIALS`].
pub const AWS_REGION: &str = "AWS_REGION";

/// Public part of the credentials of the function's role.
pub const AWS_ACCESS_KEY_ID: &str = "AWS_ACCESS_KEY_ID";

/// What signs.
pub const AWS_SECRET_ACCESS_KEY: &str = "AWS_SECRET_ACCESS_KEY";

/// Token of the role's session.
pub const AWS_SESSION_TOKEN: &str = "AWS_SESSION_TOKEN";

/// What the function reads to sign in to the cache and Lambda sets, at the same place as
/// [`FUNCTION_PLATFORM`].
pub const FUNCTION_CREDENTIALS: &[&str] = &[
    AWS_REGION,
    AWS_ACCESS_KEY_ID,
    AWS_SECRET_ACCESS_KEY,
    AWS_SESSION_TOKEN,
];

/// Where the web UI asks for the credentials of its instance's role, read as AWS's SDKs do; nobody sets
/// it on AWS, where the address is always the same:
/// <https://docs.aws.amazon.com/sdkref/latest/guide/feature-imds-credentials.html>.
pub const AWS_EC2_METADATA_SERVICE_ENDPOINT: &str = "AWS_EC2_METADATA_SERVICE_ENDPOINT";
