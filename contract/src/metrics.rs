//! CloudWatch metrics that the function writes and the alarms use.
//!
//! The function writes them as log lines in the embedded metric format, without calling an AWS API:
//! <https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html>.
//! Each has one dimension, [`FUNCTION_NAME`].

/// Namespace of all metrics.
pub const NAMESPACE: &str = "Sensors";

/// The dimension: the function's name, which separates the stages of an account.
pub const FUNCTION_NAME: &str = "FunctionName";

/// Count: records of a batch.
pub const RECORDS: &str = "Records";

/// Count: records of a batch that were counted.
pub const NEW: &str = "NewRecords";

/// Count: records of a batch that had been counted before.
pub const DUPLICATES: &str = "DuplicateRecords";

/// Count: rejected records of a batch; they end in the failure bucket.
pub const REJECTED: &str = "RejectedRecords";

/// Count: devices that a batch changed.
pub const DEVICES: &str = "ChangedDevices";

/// Count: devices evicted to stay within the limits.
pub const EVICTED: &str = "EvictedDevices";

/// Count: 1 if the batch is returned for a retry because the cache did not answer in time, else 0.
pub const CACHE_UNAVAILABLE: &str = "CacheUnavailable";

/// Milliseconds from the start of a batch to its response.
pub const DURATION: &str = "BatchDuration";
