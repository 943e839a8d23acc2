//! The AWS clients, and what a failed call means to a person.
//!
//! Retries are the SDK's own: throttling and passing faults are ridden out with growing, randomised
//! pauses. What is left is explained here.

pub(crate) mod beanstalk;
pub(crate) mod ec2;
pub(crate) mod elasticache;
pub(crate) mod iot;
pub(crate) mod s3;
pub(crate) mod signed;

use std::error::Error;
use std::fmt;
use std::time::Duration;

use anyhow::Context;
use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, SdkConfig};
use aws_sdk_cloudformation::error::{DisplayErrorContext, ProvideErrorMetadata, SdkError};

/// Attempts of a call, the first included. With pauses up to [`LONGEST_PAUSE`] that is about two
/// minutes, longer than CloudFormation throttles a caller that has slowed down.
const ATTEMPTS: u32 = 10;
const LONGEST_PAUSE: Duration = Duration::from_secs(20);

/// The first call tells whether there is anybody at all: it does not try for long.
const FIRST_ATTEMPTS: u32 = 2;

/// The clients that deploying needs.
#[derive(Clone, Debug)]
pub(crate) struct Cloud {
    pub(crate) cfn: aws_sdk_cloudformation::Client,
    pub(crate) s3: aws_sdk_s3::Client,
    pub(crate) beanstalk: aws_sdk_elasticbeanstalk::Client,
    pub(crate) lambda: aws_sdk_lambda::Client,
    pub(crate) logs: aws_sdk_cloudwatchlogs::Client,
    pub(crate) quotas: aws_sdk_servicequotas::Client,
    /// How everything is called: for clients that are made when they are needed.
    pub(crate) config: SdkConfig,
    sts: aws_sdk_sts::Client,
    pub(crate) region: String,
    /// Where S3 is, when that is not Amazon's own address.
    s3_endpoint: Option<String>,
    /// Pause between two questions while something is waited for.
    pub(crate) poll: Duration,
}

/// Whose credentials these are.
#[derive(Clone, Debug)]
pub(crate) struct Identity {
    pub(crate) account: String,
    pub(crate) arn: String,
}

impl Cloud {
    /// Reads region, endpoints and credentials as every AWS program does.
    pub(crate) async fn connect(poll: Duration) -> anyhow::Result<Cloud> {
        let retries = RetryConfig::standard()
            .with_max_attempts(ATTEMPTS)
            .with_initial_backoff(Duration::from_millis(500))
            .with_max_backoff(LONGEST_PAUSE);
        let timeouts = TimeoutConfig::builder()
            .connect_timeout(Duration::from_secs(5))
            .build();
        let config = aws_config::defaults(BehaviorVersion::latest())
            .retry_config(retries)
            .timeout_config(timeouts)
            .load()
            .await;
        let region = config.region().map(ToString::to_string);
        let region = region.filter(|it| !it.trim().is_empty()).context(
            "no region is chosen: set AWS_REGION, or `region` of the profile that AWS_PROFILE names",
        )?;
        let s3_endpoint = std::env::var("AWS_ENDPOINT_URL_S3")
            .ok()
            .or_else(|| config.endpoint_url().map(str::to_owned))
            .map(|endpoint| endpoint.trim_end_matches('/').to_owned());
        let s3 = aws_sdk_s3::config::Builder::from(&config)
            // An endpoint of one's own has no name for each bucket.
            .force_path_style(s3_endpoint.is_some())
            .build();
        Ok(Cloud {
            cfn: aws_sdk_cloudformation::Client::new(&config),
            s3: aws_sdk_s3::Client::from_conf(s3),
            beanstalk: aws_sdk_elasticbeanstalk::Client::new(&config),
            lambda: aws_sdk_lambda::Client::new(&config),
            logs: aws_sdk_cloudwatchlogs::Client::new(&config),
            quotas: aws_sdk_servicequotas::Client::new(&config),
            sts: first_client(&config),
            config,
            region,
            s3_endpoint,
            poll,
        })
    }

    /// Whose credentials these are. The first call of every command, so that it explains what is
    /// wrong with them.
    pub(crate) async fn identity(&self) -> anyhow::Result<Identity> {
        let identity = self.sts.get_caller_identity().send().await;
        let identity =
            identity.map_err(|error| failed("find out whose credentials these are", error))?;
        Ok(Identity {
            account: identity.account.unwrap_or_default(),
            arn: identity.arn.unwrap_or_default(),
        })
    }

    /// The address by which CloudFormation reads an object as a template.
    pub(crate) fn object_url(&self, bucket: &str, key: &str) -> String {
        match &self.s3_endpoint {
            Some(endpoint) => format!("{endpoint}/{bucket}/{key}"),
            None => {
                let suffix = if self.region.starts_with("cn-") {
                    "amazonaws.com.cn"
                } else {
                    "amazonaws.com"
                };
                format!("https://{bucket}.s3.{}.{suffix}/{key}", self.region)
            }
        }
    }
}

fn first_client(config: &SdkConfig) -> aws_sdk_sts::Client {
    let retries = RetryConfig::standard().with_max_attempts(FIRST_ATTEMPTS);
    let config = aws_sdk_sts::config::Builder::from(config)
        .retry_config(retries)
        .build();
    aws_sdk_sts::Client::from_conf(config)
}

/// A call that failed for good.
#[derive(Debug)]
pub(crate) struct CallFailed {
    /// What was to be done, such as "list the stack's events".
    what: &'static str,
    /// AWS's code, when AWS answered.
    pub(crate) code: Option<String>,
    /// AWS's words, or the transport's.
    pub(crate) message: String,
}

impl CallFailed {
    /// Whether CloudFormation says that there is no such stack.
    pub(crate) fn is_missing_stack(&self) -> bool {
        self.code.as_deref() == Some("ValidationError") && self.message.contains("does not exist")
    }

    /// Whether the credentials have run out, so that renewed ones would do.
    pub(crate) fn is_expired(&self) -> bool {
        matches!(
            self.code.as_deref(),
            Some("ExpiredToken" | "ExpiredTokenException" | "RequestExpired")
        )
    }

    /// What to do about it, as far as the code tells.
    fn advice(&self) -> Option<&'static str> {
        Some(match self.code.as_deref()? {
            _ if self.is_expired() => {
                "the credentials have expired: renew them (`aws sso login`, or whatever gave them) and run the same command again; what CloudFormation has begun goes on meanwhile"
            }
            "InvalidClientTokenId" | "UnrecognizedClientException" | "InvalidAccessKeyId" => {
                "AWS does not know these credentials: look at AWS_ACCESS_KEY_ID or at the profile that AWS_PROFILE names"
            }
            "SignatureDoesNotMatch" => {
                "the secret key does not belong to the access key, or this machine's clock is wrong"
            }
            "Throttling" | "ThrottlingException" | "RequestLimitExceeded" | "SlowDown" => {
                "AWS still throttles after two minutes: something else in the account asks too often; run the same command again later"
            }
            "AccessDenied" | "AccessDeniedException" | "UnauthorizedOperation" => {
                "the credentials lack a permission: `cargo xtask deploy --role-policy` prints all that are needed"
            }
            _ => return None,
        })
    }
}

impl fmt::Display for CallFailed {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "cannot {}: ", self.what)?;
        if let Some(advice) = self.advice() {
            write!(formatter, "{advice} (")?;
        }
        match &self.code {
            Some(code) => write!(formatter, "{code}: {}", self.message)?,
            None => formatter.write_str(&self.message)?,
        }
        if self.advice().is_some() {
            formatter.write_str(")")?;
        }
        Ok(())
    }
}

impl Error for CallFailed {}

/// Says what a failed call means.
pub(crate) fn failed<E, R>(what: &'static str, error: SdkError<E, R>) -> CallFailed
where
    E: ProvideErrorMetadata + Error + Send + Sync + 'static,
    R: fmt::Debug + Send + Sync + 'static,
{
    let code = error.code().map(str::to_owned);
    let message = match (&error, error.message()) {
        (SdkError::ServiceError(_), Some(message)) => message.to_owned(),
        // Not an answer of the service as it is documented: a proxy's, or an emulator's.
        (SdkError::ServiceError(failure), None) => format!("answered by {:?}", failure.raw()),
        (SdkError::DispatchFailure(failure), _) if failure.is_timeout() || failure.is_io() => {
            format!(
                "AWS cannot be reached: look at the network and at AWS_ENDPOINT_URL ({})",
                innermost(&error)
            )
        }
        _ => {
            let text = DisplayErrorContext(&error).to_string();
            if text.contains("CredentialsNotLoaded") || text.contains("credential provider") {
                format!(
                    "no AWS credentials were found: set AWS_PROFILE, log in by `aws sso login`, or set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY ({})",
                    innermost(&error)
                )
            } else {
                innermost(&error)
            }
        }
    };
    CallFailed {
        what,
        code,
        message,
    }
}

/// The last cause of an error, which says most in the SDK's chains.
fn innermost(error: &(dyn Error + 'static)) -> String {
    let mut cause = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause.to_string()
}
