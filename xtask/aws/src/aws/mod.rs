//! The AWS clients, and explanations of failed calls.
//!
//! Retries are the SDK's own: throttling and transient faults are retried with growing, randomised pauses.
//! What is left is explained here.

pub(crate) mod beanstalk;
pub(crate) mod ec2;
pub(crate) mod elasticache;
pub(crate) mod iot;
pub(crate) mod s3;
pub(crate) mod signed;

use std::error::Error;
use std::fmt;
use std::time::Duration;

use anyhow::{Context, bail};
use aws_config::meta::region::RegionProviderChain;
use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_environment::Environment;
use aws_environment::endpoint::Endpoints;
use aws_runtime::env_config::file::{EnvConfigFileKind, EnvConfigFiles};
use aws_sdk_cloudformation::error::{DisplayErrorContext, ProvideErrorMetadata, SdkError};
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;

/// Attempts of a call, the first included. With pauses up to [`LONGEST_PAUSE`] that is about two
/// minutes, longer than CloudFormation throttles a caller that has slowed down.
const ATTEMPTS: u32 = 10;
const LONGEST_PAUSE: Duration = Duration::from_secs(20);

/// Attempts of the first call, which tells whether AWS can be reached at all.
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
    /// Endpoints that are not Amazon's own.
    pub(crate) endpoints: Endpoints,
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
    /// Reads region, endpoints and credentials from the environment, and makes the clients.
    ///
    /// # Errors
    /// The environment names no region or no credentials, or has a malformed value.
    pub(crate) async fn connect(poll: Duration) -> anyhow::Result<Cloud> {
        let retries = RetryConfig::standard()
            .with_max_attempts(ATTEMPTS)
            .with_initial_backoff(Duration::from_millis(500))
            .with_max_backoff(LONGEST_PAUSE);
        let timeouts = TimeoutConfig::builder()
            .connect_timeout(Duration::from_secs(5))
            .build();
        let environment = Environment::of_process();
        let problems = environment.problems();
        if !problems.is_empty() {
            let problems: Vec<String> = problems.iter().map(ToString::to_string).collect();
            bail!("{}", problems.join("\n"));
        }
        let profiles = environment.profiles?;
        let files = EnvConfigFiles::builder()
            .with_contents(EnvConfigFileKind::Config, profiles.config())
            .with_contents(EnvConfigFileKind::Credentials, profiles.credentials())
            .build();
        let region = environment.region?.map(|it| Region::new(it.name));
        let config = aws_config::defaults(BehaviorVersion::latest())
            .profile_files(files)
            .region(RegionProviderChain::first_try(region).or_default_provider())
            .retry_config(retries)
            .timeout_config(timeouts)
            .load()
            .await;
        // Without one in the environment, the instance metadata service names it.
        let region = config.region().map(ToString::to_string);
        let region = region.context("no region is set; fix: `export AWS_REGION=eu-central-1`")?;
        let endpoints = environment.endpoints?;
        let s3 = aws_sdk_s3::config::Builder::from(&config)
            // An endpoint of one's own has no name for each bucket.
            .force_path_style(endpoints.of("s3").is_some())
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
            endpoints,
            poll,
        })
    }

    /// The account and principal of the credentials. The first call of every command, so that it explains
    /// what is wrong with them.
    pub(crate) async fn identity(&self) -> anyhow::Result<Identity> {
        let identity = self.sts.get_caller_identity().send().await;
        let identity = identity.map_err(|error| failed("get the caller identity", error))?;
        Ok(Identity {
            account: identity.account.unwrap_or_default(),
            arn: identity.arn.unwrap_or_default(),
        })
    }

    /// The address by which CloudFormation reads an object as a template.
    pub(crate) fn object_url(&self, bucket: &str, key: &str) -> String {
        match self.endpoints.of("s3") {
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
    /// The intended action, for example "list the stack's events".
    what: &'static str,
    /// AWS's error code; `None`: AWS did not answer, or not as documented.
    pub(crate) code: Option<String>,
    /// AWS's error message, or the transport's.
    pub(crate) message: String,
}

impl CallFailed {
    /// Whether CloudFormation says that there is no such stack.
    pub(crate) fn is_missing_stack(&self) -> bool {
        self.code.as_deref() == Some("ValidationError") && self.message.contains("does not exist")
    }

    /// Whether a permission is missing.
    pub(crate) fn is_denied(&self) -> bool {
        matches!(
            self.code.as_deref(),
            Some("AccessDenied" | "AccessDeniedException" | "UnauthorizedOperation")
        )
    }

    /// Whether the credentials have expired.
    pub(crate) fn is_expired(&self) -> bool {
        matches!(
            self.code.as_deref(),
            Some("ExpiredToken" | "ExpiredTokenException" | "RequestExpired")
        )
    }

    /// Explanation and fix for the error codes that are known.
    fn advice(&self) -> Option<&'static str> {
        Some(match self.code.as_deref()? {
            _ if self.is_expired() => {
                "the credentials have expired; fix: renew them (`aws sso login`, or the command that gave them) and run the same command again; what CloudFormation has begun goes on"
            }
            "InvalidClientTokenId" | "UnrecognizedClientException" | "InvalidAccessKeyId" => {
                "AWS does not know these credentials; fix: check AWS_ACCESS_KEY_ID, or the profile that AWS_PROFILE names"
            }
            "SignatureDoesNotMatch" => {
                "the secret key does not belong to the access key, or this machine's clock is wrong; fix: check both"
            }
            "Throttling" | "ThrottlingException" | "RequestLimitExceeded" | "SlowDown" => {
                "AWS still throttles after two minutes, because something else in the account calls too often; fix: run the same command again later"
            }
            "AccessDenied" | "AccessDeniedException" | "UnauthorizedOperation" => {
                "the credentials lack a permission; fix: grant it (`cargo xtask deploy --role-policy` prints all that are needed)"
            }
            "ValidationError" if self.message.contains("is invalid or cannot be assumed") => {
                "the service role is gone, or younger than a minute: `cargo xtask bootstrap` creates it if it is missing; then run the same command again"
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

/// Explains a failed call.
pub(crate) fn failed<E>(what: &'static str, error: SdkError<E, HttpResponse>) -> CallFailed
where
    E: ProvideErrorMetadata + Error + Send + Sync + 'static,
{
    let code = error.code().map(str::to_owned);
    let message = match (&error, error.message()) {
        (SdkError::ServiceError(_), Some(message)) => message.to_owned(),
        // Not the service's documented answer: a proxy's, or an emulator's.
        (SdkError::ServiceError(failure), None) => answered::<E>(failure.raw()),
        (SdkError::ResponseError(failure), _) => answered::<E>(failure.raw()),
        (SdkError::DispatchFailure(failure), _) if failure.is_timeout() || failure.is_io() => {
            format!(
                "AWS cannot be reached; fix: check the network and AWS_ENDPOINT_URL ({})",
                innermost(&error)
            )
        }
        _ => {
            let text = DisplayErrorContext(&error).to_string();
            if text.contains("no credentials found in chain") {
                // The chain's own text lists every provider, and why each has none.
                "no AWS credentials were found; fix: `aws configure sso` and `export AWS_PROFILE=NAME`, or export AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY".to_owned()
            } else if text.contains("CredentialsNotLoaded") || text.contains("credential provider")
            {
                format!("cannot get AWS credentials: {}", innermost(&error))
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

/// An answer that is not understood: service, action, status, and the first line of its text.
fn answered<E>(response: &HttpResponse) -> String {
    let text = response.body().bytes().unwrap_or_default();
    let text = String::from_utf8_lossy(text);
    let line = text.lines().find(|line| !line.trim().is_empty());
    let line: String = line
        .unwrap_or("(no text)")
        .trim()
        .chars()
        .take(200)
        .collect();
    format!(
        "{} answered {}: {}",
        action::<E>(),
        response.status(),
        line.escape_debug()
    )
}

/// Service and action of an SDK error, for example `servicequotas GetServiceQuota`.
///
/// The SDK's errors do not hold them; their types are named after them.
fn action<E>() -> String {
    let name = std::any::type_name::<E>();
    let service = name.split("::").find_map(|it| it.strip_prefix("aws_sdk_"));
    let action = name.rsplit("::").next();
    let action = action.and_then(|it| it.strip_suffix("Error"));
    match (service, action) {
        (Some(service), Some(action)) => format!("{service} {action}"),
        _ => "the service".to_owned(),
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
