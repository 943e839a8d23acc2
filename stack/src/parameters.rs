//! What the deployment fills in: nothing of it is text in the template, so that snapshots change
//! only when infrastructure changes.

use cfn::resources::{elasticbeanstalk, iam, s3};
use cfn::{Condition, ConditionExpression, Parameter, ParameterProps, Template};

use crate::cache;
use crate::config::Transport;

/// Bucket of the artifacts stack.
pub const ARTIFACTS_BUCKET: &str = "ArtifactsBucket";
/// Key of the function's zip: its content's hash is in it.
pub const FUNCTION_KEY: &str = "FunctionKey";
/// Key of the web UI's bundle: its content's hash is in it.
pub const BUNDLE_KEY: &str = "BundleKey";
/// ARN of the Beanstalk platform version.
pub const PLATFORM_ARN: &str = "PlatformArn";
/// Version of the cache's engine, major and minor. The template's default is what the stage was tested
/// with; `deploy` gives the one that runs where ElastiCache has upgraded it.
pub const CACHE_ENGINE_VERSION: &str = "CacheEngineVersion";
/// Address that alarms are mailed to; empty for none.
pub const ALARM_EMAIL: &str = "AlarmEmail";
/// ARN of the balancer's certificate; empty for plain HTTP, where the stage allows that.
pub const CERTIFICATE_ARN: &str = "CertificateArn";
/// ARN of the bootstrap's permissions boundary for every role; empty where the account is not bootstrapped.
pub const PERMISSIONS_BOUNDARY: &str = "PermissionsBoundary";

/// Parameters that have no default in any stage: whoever deploys must give them. A stage that takes
/// HTTPS alone has no default for [`CERTIFICATE_ARN`] either.
pub const REQUIRED: &[&str] = &[ARTIFACTS_BUCKET, FUNCTION_KEY, BUNDLE_KEY, PLATFORM_ARN];

/// The declared parameters.
pub struct Parameters {
    /// [`ARTIFACTS_BUCKET`]
    pub artifacts_bucket: Parameter<s3::BucketName>,
    /// [`FUNCTION_KEY`]
    pub function_key: Parameter<String>,
    /// [`BUNDLE_KEY`]
    pub bundle_key: Parameter<String>,
    /// [`PLATFORM_ARN`]
    pub platform_arn: Parameter<elasticbeanstalk::PlatformArn>,
    /// [`CACHE_ENGINE_VERSION`]
    pub cache_engine_version: Parameter<String>,
    /// [`ALARM_EMAIL`]
    pub alarm_email: Parameter<String>,
    /// Whether an address is given.
    pub has_alarm_email: Condition,
    /// [`CERTIFICATE_ARN`]
    pub certificate_arn: Parameter<String>,
    /// Whether a certificate is given.
    pub has_certificate: Condition,
    /// [`PERMISSIONS_BOUNDARY`]
    pub permissions_boundary: Parameter<iam::ManagedPolicyPolicyArn>,
    /// Whether a boundary is given.
    pub has_permissions_boundary: Condition,
}

/// Declares the parameters.
pub fn define(template: &mut Template, transport: Transport) -> Parameters {
    let required = |description: &str| ParameterProps {
        description: Some(description.to_owned()),
        ..ParameterProps::default()
    };
    let optional = |description: &str, pattern: &'static str, hint: &'static str| ParameterProps {
        description: Some(description.to_owned()),
        default: Some(String::new()),
        allowed_pattern: Some(pattern),
        constraint_description: Some(hint),
        ..ParameterProps::default()
    };
    let artifacts_bucket = template.parameter(
        ARTIFACTS_BUCKET,
        required("Bucket that holds the artifacts"),
    );
    let function_key = template.parameter(FUNCTION_KEY, required("Key of the function's zip"));
    let bundle_key = template.parameter(BUNDLE_KEY, required("Key of the web UI's bundle"));
    let platform_arn = template.parameter(
        PLATFORM_ARN,
        required("ARN of the Elastic Beanstalk platform version: Go 1 on Amazon Linux 2023"),
    );
    let cache_engine_version = template.parameter(
        CACHE_ENGINE_VERSION,
        ParameterProps {
            default: Some(cache::ENGINE_VERSION.to_owned()),
            allowed_pattern: Some("^[0-9]+\\.[0-9]+$"),
            constraint_description: Some("major and minor version of Valkey, such as 8.0"),
            ..required("Version of the cache's engine: never lower than the one that runs")
        },
    );
    let alarm_email = template.parameter::<String>(
        ALARM_EMAIL,
        optional(
            "Address that alarms are mailed to, empty for none",
            "^$|^[^@\\s]+@[^@\\s]+$",
            "an e-mail address, or empty",
        ),
    );
    let has_alarm_email = template.condition("HasAlarmEmail", given(alarm_email));
    let certificate = match transport {
        Transport::Https => ParameterProps {
            allowed_pattern: Some("^arn:[a-z-]+:acm:[a-z0-9-]+:[0-9]{12}:certificate/.+$"),
            constraint_description: Some("the ARN of a certificate in AWS Certificate Manager"),
            ..required("ARN of the certificate for HTTPS")
        },
        Transport::HttpsOrPlainHttp | Transport::PublicPlainHttpIsAccepted => optional(
            "ARN of the certificate for HTTPS, empty for plain HTTP",
            "^$|^arn:[a-z-]+:acm:[a-z0-9-]+:[0-9]{12}:certificate/.+$",
            "the ARN of a certificate in AWS Certificate Manager, or empty",
        ),
    };
    let certificate_arn = template.parameter::<String>(CERTIFICATE_ARN, certificate);
    let has_certificate = template.condition("HasCertificate", given(certificate_arn));
    let permissions_boundary = template.parameter::<iam::ManagedPolicyPolicyArn>(
        PERMISSIONS_BOUNDARY,
        optional(
            "ARN of the permissions boundary of every role, empty for none",
            "^$|^arn:[a-z-]+:iam::[0-9]{12}:policy/.+$",
            "the ARN of a policy of this account, or empty",
        ),
    );
    let has_permissions_boundary = template.condition(
        "HasPermissionsBoundary",
        ConditionExpression::negate(ConditionExpression::equals(
            permissions_boundary.reference(),
            "",
        )),
    );
    Parameters {
        artifacts_bucket,
        function_key,
        bundle_key,
        platform_arn,
        cache_engine_version,
        alarm_email,
        has_alarm_email,
        certificate_arn,
        has_certificate,
        permissions_boundary,
        has_permissions_boundary,
    }
}

fn given(parameter: Parameter<String>) -> ConditionExpression {
    ConditionExpression::negate(ConditionExpression::equals(parameter.reference(), ""))
}
