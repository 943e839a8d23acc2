//! Faults of the emulated cloud.
//!
//! | text | what happens |
//! |---|---|
//! | `cfn:Cache=CREATE_FAILED:no capacity` | the resource fails with the reason, whenever it is created |
//! | `cfn:Cache=UPDATE_FAILED:no capacity@once` | the same, the first time only |
//! | `cfn:throttle@20%` | this share of calls is answered by `Throttling` |
//! | `cfn:token-expired@10s` | an access key expires this long after its first use |
//! | `s3:slow@500ms` | each response is delayed by this time; 500 ms without a number |
//!
//! A resource that fails without `@once` also fails on the way back: an update ends in
//! `UPDATE_ROLLBACK_FAILED` then, and with `@once` in `UPDATE_ROLLBACK_COMPLETE`.
//!
//! Which calls are throttled follows from a fixed seed, so that a run can be repeated.

use std::str::FromStr;
use std::time::Duration;

use super::{ParseError, duration, share};

/// Names of services on the command line and in credential scopes.
pub const SERVICES: &[(&str, &str)] = &[
    ("beanstalk", "elasticbeanstalk"),
    ("cfn", "cloudformation"),
    ("ec2", "ec2"),
    ("iot", "iot"),
    ("iotdata", "iotdata"),
    ("lambda", "lambda"),
    ("logs", "logs"),
    ("quotas", "servicequotas"),
    ("s3", "s3"),
    ("sts", "sts"),
];

/// Delay of a slow service when the fault names none.
const SLOW: Duration = Duration::from_millis(500);

/// Accepted forms, shown in the parse error.
pub const FORMS: &str = "cfn:LOGICALID=CREATE_FAILED:REASON (or UPDATE_FAILED, DELETE_FAILED; with @once at the end the first time only), SERVICE:throttle@20%, SERVICE:token-expired@10s, SERVICE:slow@500ms";

/// One fault.
#[derive(Clone, Debug, PartialEq)]
pub enum Fault {
    /// A resource fails.
    Resource {
        /// Logical ID.
        logical_id: String,
        /// The action that fails.
        status: FailedStatus,
        /// The reason that AWS would give.
        reason: String,
        /// Whether the next try succeeds.
        once: bool,
    },
    /// Calls fail or are slow.
    Calls {
        /// Service, as in credential scopes.
        service: String,
        /// What happens to them.
        fault: CallFault,
    },
}

/// The action in which a resource fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailedStatus {
    /// `CREATE_FAILED`
    Create,
    /// `UPDATE_FAILED`
    Update,
    /// `DELETE_FAILED`
    Delete,
}

/// What happens to calls.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum CallFault {
    /// A share from 0 to 1 is refused.
    Throttle(f64),
    /// Access keys expire this long after their first use.
    TokenExpired(Duration),
    /// Each is delayed by this time.
    Slow(Duration),
}

impl FromStr for Fault {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Fault, ParseError> {
        let no = |reason: String| ParseError {
            reason,
            forms: FORMS,
        };
        let Some((name, what)) = text.split_once(':') else {
            return Err(no("there is no service before a colon".to_owned()));
        };
        let service = SERVICES
            .iter()
            .find(|(short, long)| *short == name || *long == name)
            .map(|(_, long)| (*long).to_owned())
            .ok_or_else(|| {
                let known: Vec<&str> = SERVICES.iter().map(|(short, _)| *short).collect();
                no(format!(
                    "`{name}` is not one of the services {}",
                    known.join(", ")
                ))
            })?;
        if let Some((logical_id, outcome)) = what.split_once('=') {
            if service != "cloudformation" {
                return Err(no(
                    "only CloudFormation (`cfn`) has resources that fail".to_owned()
                ));
            }
            return resource(logical_id, outcome).map_err(no);
        }
        let (kind, amount) = match what.split_once('@') {
            Some((kind, amount)) => (kind, Some(amount)),
            None => (what, None),
        };
        let fault = match (kind, amount) {
            ("throttle", Some(amount)) => CallFault::Throttle(share(amount).map_err(no)?),
            ("token-expired", Some(amount)) => {
                CallFault::TokenExpired(duration(amount).map_err(no)?)
            }
            ("slow", None) => CallFault::Slow(SLOW),
            ("slow", Some(amount)) => CallFault::Slow(duration(amount).map_err(no)?),
            ("throttle", None) => return Err(no("`throttle` needs a share".to_owned())),
            ("token-expired", None) => return Err(no("`token-expired` needs a time".to_owned())),
            _ => return Err(no(format!("there is no fault `{kind}`"))),
        };
        Ok(Fault::Calls { service, fault })
    }
}

fn resource(logical_id: &str, outcome: &str) -> Result<Fault, String> {
    let is_id = !logical_id.is_empty() && logical_id.bytes().all(|it| it.is_ascii_alphanumeric());
    if !is_id {
        return Err(format!("`{logical_id}` is not a logical ID"));
    }
    let Some((status, reason)) = outcome.split_once(':') else {
        return Err(format!("`{outcome}` has no reason after a colon"));
    };
    let status = match status {
        "CREATE_FAILED" => FailedStatus::Create,
        "UPDATE_FAILED" => FailedStatus::Update,
        "DELETE_FAILED" => FailedStatus::Delete,
        other => {
            return Err(format!(
                "`{other}` is not one of CREATE_FAILED, UPDATE_FAILED, DELETE_FAILED"
            ));
        }
    };
    let (reason, once) = match reason.strip_suffix("@once") {
        Some(reason) => (reason, true),
        None => (reason, false),
    };
    Ok(Fault::Resource {
        logical_id: logical_id.to_owned(),
        status,
        reason: reason.to_owned(),
        once,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> String {
        text.parse::<Fault>().unwrap_err().reason
    }

    #[test]
    fn faults_are_parsed() {
        assert_eq!(
            "cfn:Cache=CREATE_FAILED:no: capacity@once".parse(),
            Ok(Fault::Resource {
                logical_id: "Cache".to_owned(),
                status: FailedStatus::Create,
                reason: "no: capacity".to_owned(),
                once: true,
            })
        );
        let calls = |service: &str, fault| {
            let service = service.to_owned();
            Ok(Fault::Calls { service, fault })
        };
        assert_eq!(
            "cfn:throttle@20%".parse(),
            calls("cloudformation", CallFault::Throttle(0.2))
        );
        assert_eq!(
            "sts:token-expired@10s".parse(),
            calls("sts", CallFault::TokenExpired(Duration::from_secs(10)))
        );
        assert_eq!("s3:slow".parse(), calls("s3", CallFault::Slow(SLOW)));
        assert_eq!(
            "s3:slow@20ms".parse(),
            calls("s3", CallFault::Slow(Duration::from_millis(20)))
        );
    }

    #[test]
    fn anything_else_is_refused_with_its_reason() {
        assert_eq!(refused("slow"), "there is no service before a colon");
        assert!(refused("rds:slow").contains("beanstalk, cfn, ec2"));
        assert_eq!(
            refused("cfn:throttle@120%"),
            "`120%` is not a share from 0% to 100%"
        );
        assert_eq!(
            refused("cfn:token-expired@ten"),
            "`ten` is not a time such as 500ms or 30s"
        );
        assert_eq!(
            refused("cfn:Cache=BROKEN:x"),
            "`BROKEN` is not one of CREATE_FAILED, UPDATE_FAILED, DELETE_FAILED"
        );
        assert_eq!(
            refused("cfn:Cache=CREATE_FAILED"),
            "`CREATE_FAILED` has no reason after a colon"
        );
        assert_eq!(
            refused("s3:A=CREATE_FAILED:x"),
            "only CloudFormation (`cfn`) has resources that fail"
        );
        assert_eq!(refused("s3:teapot"), "there is no fault `teapot`");
        let error = "x".parse::<Fault>().unwrap_err().to_string();
        assert!(error.contains("SERVICE:throttle@20%"), "{error}");
    }
}
