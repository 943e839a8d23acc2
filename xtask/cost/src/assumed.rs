//! Figures that no template says, and that an estimate needs.

/// Seconds that an invocation of the function takes beside its records.
pub const INVOCATION_SECONDS: f64 = 0.020;

/// Seconds that the function takes for each record.
pub const RECORD_SECONDS: f64 = 0.000_05;

/// Bytes that the function logs in an invocation: its metrics.
pub const LOG_BYTES_PER_INVOCATION: f64 = 600.0;

/// Bytes that Lambda itself logs about an invocation, unless `SystemLogLevel` is `WARN`.
pub const PLATFORM_LOG_BYTES_PER_INVOCATION: f64 = 900.0;

/// GB that the root volume of an instance has where the environment names no size.
pub const VOLUME_GB: f64 = 8.0;

/// Load balancer capacity units: one is enough for 3,000 open browsers.
pub const BALANCER_UNITS: f64 = 1.0;

/// GB of flow logs a month for each instance: most are the balancer's health checks, each a connection.
pub const FLOW_LOG_GB_PER_INSTANCE: f64 = 0.2;

/// GB of flow logs a month for everything else in the VPC.
pub const FLOW_LOG_GB: f64 = 0.2;

/// How many times smaller a compressed object of the archive is.
pub const COMPRESSION: f64 = 4.0;

/// Months for which an archive without expiry is counted; it grows by one each month.
pub const MONTHS_OF_ARCHIVE: f64 = 1.0;

/// Shards of an on-demand stream while it takes no more than 4 MB a second.
pub const ON_DEMAND_SHARDS: f64 = 4.0;
