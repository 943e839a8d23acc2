//! CloudWatch metrics that the function writes and the alarms watch.
//!
//! They travel in log lines of the embedded metric format, so that the function calls no AWS API:
//! <https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html>.
//! All have the one dimension [`FUNCTION_NAME`].

/// Namespace of all metrics.
pub const NAMESPACE: &str = "Sensors";

/// The dimension: name of the function, so that stages in one account stay apart.
pub const FUNCTION_NAME: &str = "FunctionName";

/// Count: records of a batch.
pub const RECORDS: &str = "Records";

/// Count: records of a batch that were counted.
pub const NEW: &str = "NewRecords";

/// Count: records of a batch that had been counted before.
pub const DUPLICATES: &str = "DuplicateRecords";

/// Count: records of a batch that cannot be taken, which end in the failure bucket.
pub const REJECTED: &str = "RejectedRecords";

/// Count: devices that a batch changed.
pub const DEVICES: &str = "ChangedDevices";

/// Count: devices forgotten to stay below the caps.
pub const EVICTED: &str = "EvictedDevices";

/// Count: 1 for a batch that was given back because the cache did not answer in time, else 0.
pub const CACHE_UNAVAILABLE: &str = "CacheUnavailable";

/// Milliseconds from the start of a batch to its answer.
pub const DURATION: &str = "BatchDuration";
