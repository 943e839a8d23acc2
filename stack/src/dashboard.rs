//! From the cache to the browser: the web UI on Elastic Beanstalk.

use cfn::intrinsic::{Sub, either, only_if, pseudo};
use cfn::policy::{Document, Statement};
use cfn::resources::elasticbeanstalk::{self, application, application_version, environment};
use cfn::resources::iam;
use cfn::{Attribute, Handle, ResourceAttributes, Template, Value};
use contract::oidc::Secret;
use contract::{environment as variable, http, timing};

use crate::cache::Cache;
use crate::config::{self, Arch, LogRetention};
use crate::health_rules;
use crate::network::Network;
use crate::parameters::Parameters;

/// Output: URL of the dashboard.
pub const URL_OUTPUT: &str = "DashboardUrl";

/// What the dashboard depends on.
pub struct Props<'a> {
    /// The stage's choices.
    pub config: &'a config::Dashboard,
    /// What the web UI was built for.
    pub arch: Arch,
    /// Where it stands.
    pub network: &'a Network,
    /// What it reads.
    pub cache: &'a Cache,
    /// Bundle, platform and certificate.
    pub parameters: &'a Parameters,
    /// How long its logs are kept.
    pub log_retention: LogRetention,
}

/// What others may need.
pub struct Dashboard {
    /// The environment.
    pub environment: Handle<elasticbeanstalk::Environment>,
}

/// Defines application, version and environment with their roles.
///
/// The environment has no name of its own: a named one could not be replaced.
pub fn define(template: &mut Template, props: &Props<'_>) -> Dashboard {
    let service_role = service_role(template);
    if let Some(oidc) = &props.config.sign_in {
        grant_client_secret(template, service_role, &oidc.client_secret);
    }
    let instance_role = instance_role(template);
    let cache = props.cache;
    cache.grant(template, cache.webui_user, instance_role);
    let instance_profile = template.define(
        "WebInstanceProfile",
        iam::InstanceProfile::new([instance_role.reference()]),
    );
    let application = template.define(
        "Dashboard",
        elasticbeanstalk::Application {
            description: Some("The sensors' dashboard".into()),
            resource_lifecycle_config: Some(
                application::ApplicationResourceLifecycleConfig {
                    service_role: Some(service_role.arn().into()),
                    version_lifecycle_config: Some(
                        application::ApplicationVersionLifecycleConfig {
                            max_count_rule: Some(
                                application::MaxCountRule {
                                    delete_source_from_s3: Some(false.into()),
                                    enabled: Some(true.into()),
                                    max_count: Some(20.into()),
                                }
                                .into(),
                            ),
                            ..Default::default()
                        }
                        .into(),
                    ),
                }
                .into(),
            ),
            ..Default::default()
        },
    );
    let version = template.define(
        "DashboardVersion",
        elasticbeanstalk::ApplicationVersion {
            source_bundle: Some(
                application_version::SourceBundle::new(
                    props.parameters.artifacts_bucket.reference(),
                    props.parameters.bundle_key.reference(),
                )
                .into(),
            ),
            ..elasticbeanstalk::ApplicationVersion::new(application.reference())
        },
    );
    let environment = template.define_with(
        "DashboardEnvironment",
        elasticbeanstalk::Environment {
            option_settings: Some(option_settings(props, service_role, instance_profile).into()),
            platform_arn: Some(props.parameters.platform_arn.reference().into()),
            tier: Some(
                environment::Tier {
                    name: Some("WebServer".into()),
                    r#type: Some("Standard".into()),
                    ..Default::default()
                }
                .into(),
            ),
            version_label: Some(version.reference().into()),
            ..elasticbeanstalk::Environment::new(application.reference())
        },
        // Instances need the internet from their first second to their last. Beanstalk validates the groups
        // that it is given: without its own group, instances must admit the balancer already. And the
        // programs on the instances reach the cache from their first second.
        ResourceAttributes {
            depends_on: [&props.network.internet[..], &props.network.web_rules].concat(),
            ..ResourceAttributes::default()
        },
    );
    let url = |scheme: &str| {
        Sub::new()
            .text(scheme)
            .value(environment.endpoint_url())
            .text("/")
            .build()
    };
    template.output(
        URL_OUTPUT,
        "Address of the dashboard",
        either(
            props.parameters.has_certificate,
            url("https://"),
            url("http://"),
        ),
    );
    Dashboard { environment }
}

/// Beanstalk itself: watches health and applies managed updates.
///
/// The two policies are AWS's own: what Beanstalk needs for managed updates changes with Beanstalk.
fn service_role(template: &mut Template) -> Handle<iam::Role> {
    let managed = |name: &str| {
        let arn = Sub::new()
            .text("arn:")
            .value(pseudo::partition())
            .text(":iam::aws:policy/")
            .text(name);
        arn.build_as::<iam::ManagedPolicyPolicyArn, iam::ManagedPolicyPolicyArn>()
    };
    template.define(
        "BeanstalkRole",
        iam::Role {
            description: Some("Elastic Beanstalk watches and updates the dashboard".into()),
            managed_policy_arns: Some(
                [
                    managed("service-role/AWSElasticBeanstalkEnhancedHealth"),
                    managed("AWSElasticBeanstalkManagedUpdatesCustomerRolePolicy"),
                ]
                .into(),
            ),
            // See "Managing Elastic Beanstalk service roles": the external ID is Beanstalk's name.
            ..iam::Role::new(Document::trust(
                "elasticbeanstalk.amazonaws.com",
                &[cfn::policy::Condition::string_equals(
                    "sts:ExternalId",
                    "elasticbeanstalk",
                )],
            ))
        },
    )
}

/// The client secret of the sign-in, as Beanstalk updates the environment by itself: CloudFormation then
/// reads it anew with this role. The rules that hold the reference to it are in the bundle.
///
/// A secret's ARN ends in six characters that Secrets Manager makes up.
fn grant_client_secret(template: &mut Template, role: Handle<iam::Role>, secret: &Secret) {
    let arn = Sub::new()
        .text("arn:")
        .value(pseudo::partition())
        .text(":secretsmanager:")
        .value(pseudo::region())
        .text(":")
        .value(pseudo::account_id())
        .text(":secret:")
        .text(secret.name)
        .text("-??????")
        .build();
    template.grant(
        role,
        "ClientSecretRead",
        Statement::allow(["secretsmanager:GetSecretValue"], [arn]),
    );
}

/// The instances: fetch and rotate files in Beanstalk's own buckets, report health, stream logs.
///
/// What AWSElasticBeanstalkWebTier allows, less X-Ray and narrowed to this account and region.
fn instance_role(template: &mut Template) -> Handle<iam::Role> {
    let role = template.define(
        "WebInstanceRole",
        iam::Role {
            description: Some("The web UI's instances".into()),
            ..iam::Role::new(Document::trust("ec2.amazonaws.com", &[]))
        },
    );
    let arn = |service: &str, resource: &str| {
        let arn = Sub::new()
            .text("arn:")
            .value(pseudo::partition())
            .text(":")
            .text(service)
            .text(":")
            .value(pseudo::region());
        arn.text(":")
            .value(pseudo::account_id())
            .text(":")
            .text(resource)
            .build()
    };
    let beanstalk_buckets = |resource: &str| {
        let arn = Sub::new()
            .text("arn:")
            .value(pseudo::partition())
            .text(":s3:::elasticbeanstalk-")
            .value(pseudo::region());
        arn.text("-")
            .value(pseudo::account_id())
            .text(resource)
            .build()
    };
    let read = ["s3:GetBucketLocation", "s3:ListBucket"];
    template.grant(
        role,
        "BeanstalkBucketList",
        Statement::allow(read, [beanstalk_buckets("")]),
    );
    let objects = ["s3:GetObject", "s3:GetObjectVersion", "s3:PutObject"];
    template.grant(
        role,
        "BeanstalkBucketObjects",
        Statement::allow(objects, [beanstalk_buckets("/*")]),
    );
    let health = Statement::allow(
        ["elasticbeanstalk:PutInstanceStatistics"],
        [
            arn("elasticbeanstalk", "application/*"),
            arn("elasticbeanstalk", "environment/*"),
        ],
    );
    template.grant(role, "BeanstalkHealth", health);
    let logs = Statement::allow(
        [
            "logs:CreateLogStream",
            "logs:DescribeLogGroups",
            "logs:DescribeLogStreams",
            "logs:PutLogEvents",
        ],
        [arn("logs", "log-group:/aws/elasticbeanstalk*")],
    );
    template.grant(role, "BeanstalkLogs", logs);
    role
}

/// Namespaces, options and their meaning are those of "General options for all environments" of the
/// Elastic Beanstalk developer guide. Every value is text there.
fn option_settings(
    props: &Props<'_>,
    service_role: Handle<iam::Role>,
    instance_profile: Handle<iam::InstanceProfile>,
) -> Vec<Value<environment::OptionSetting>> {
    let config = props.config;
    let network = props.network;
    let instance_subnets = if config.public_instances {
        network.public_subnets
    } else {
        network.private_subnets
    };
    let seconds = |duration: std::time::Duration| duration.as_secs().to_string();
    let with_certificate = |setting: Value<environment::OptionSetting>| {
        only_if(props.parameters.has_certificate, setting)
    };
    let several = config.min_instances > 1;
    let mut settings = vec![
        // Kind of environment
        option(
            "aws:elasticbeanstalk:environment",
            "EnvironmentType",
            "LoadBalanced",
        ),
        option(
            "aws:elasticbeanstalk:environment",
            "LoadBalancerType",
            "application",
        ),
        option(
            "aws:elasticbeanstalk:environment",
            "ServiceRole",
            service_role.arn(),
        ),
        // Where it stands
        option("aws:ec2:vpc", "VPCId", network.vpc.reference()),
        option(
            "aws:ec2:vpc",
            "Subnets",
            comma(instance_subnets.map(|subnet| subnet.reference())),
        ),
        option(
            "aws:ec2:vpc",
            "ELBSubnets",
            comma(network.public_subnets.map(|subnet| subnet.reference())),
        ),
        option("aws:ec2:vpc", "ELBScheme", "public"),
        option(
            "aws:ec2:vpc",
            "AssociatePublicIpAddress",
            config.public_instances.to_string(),
        ),
        // Instances
        option(
            "aws:autoscaling:launchconfiguration",
            "IamInstanceProfile",
            instance_profile.reference(),
        ),
        option(
            "aws:autoscaling:launchconfiguration",
            "SecurityGroups",
            network.web.group_id(),
        ),
        // Beanstalk's own group would hold up the deletion and open what we do not.
        option(
            "aws:autoscaling:launchconfiguration",
            "DisableDefaultEC2SecurityGroup",
            "true",
        ),
        option(
            "aws:autoscaling:launchconfiguration",
            "DisableIMDSv1",
            "true",
        ),
        option(
            "aws:autoscaling:launchconfiguration",
            "RootVolumeType",
            "gp3",
        ),
        option(
            "aws:ec2:instances",
            "InstanceTypes",
            config.instance_size.instance_type(props.arch),
        ),
        option(
            "aws:ec2:instances",
            "SupportedArchitectures",
            props.arch.beanstalk(),
        ),
        option(
            "aws:autoscaling:asg",
            "MinSize",
            config.min_instances.to_string(),
        ),
        option(
            "aws:autoscaling:asg",
            "MaxSize",
            config.max_instances.to_string(),
        ),
        option("aws:autoscaling:trigger", "MeasureName", "CPUUtilization"),
        option("aws:autoscaling:trigger", "Unit", "Percent"),
        option("aws:autoscaling:trigger", "UpperThreshold", "60"),
        option("aws:autoscaling:trigger", "LowerThreshold", "20"),
        // Deployments
        option(
            "aws:elasticbeanstalk:command",
            "DeploymentPolicy",
            if several {
                "RollingWithAdditionalBatch"
            } else {
                "AllAtOnce"
            },
        ),
        option(
            "aws:autoscaling:updatepolicy:rollingupdate",
            "RollingUpdateEnabled",
            several.to_string(),
        ),
        option(
            "aws:autoscaling:updatepolicy:rollingupdate",
            "RollingUpdateType",
            "Health",
        ),
        // Balancer
        option(
            "aws:elbv2:loadbalancer",
            "SecurityGroups",
            network.balancer.group_id(),
        ),
        option(
            "aws:elbv2:loadbalancer",
            "ManagedSecurityGroup",
            network.balancer.group_id(),
        ),
        option(
            "aws:elbv2:loadbalancer",
            "IdleTimeout",
            seconds(timing::BALANCER_IDLE_TIMEOUT),
        ),
        option("aws:elbv2:listener:default", "ListenerEnabled", "true"),
        with_certificate(option("aws:elbv2:listener:443", "ListenerEnabled", "true")),
        with_certificate(option("aws:elbv2:listener:443", "Protocol", "HTTPS")),
        with_certificate(option(
            "aws:elbv2:listener:443",
            "SSLCertificateArns",
            props.parameters.certificate_arn.reference(),
        )),
        with_certificate(option(
            "aws:elbv2:listener:443",
            "SSLPolicy",
            "ELBSecurityPolicy-TLS13-1-2-2021-06",
        )),
        option(
            "aws:elasticbeanstalk:environment:process:default",
            "HealthCheckPath",
            http::HEALTH,
        ),
        option(
            "aws:elasticbeanstalk:environment:process:default",
            "MatcherHTTPCode",
            "200",
        ),
        option(
            "aws:elasticbeanstalk:environment:process:default",
            "DeregistrationDelay",
            "20",
        ),
        // Health, updates, logs
        option(
            "aws:elasticbeanstalk:healthreporting:system",
            "SystemType",
            "enhanced",
        ),
        option(
            "aws:elasticbeanstalk:healthreporting:system",
            "ConfigDocument",
            health_rules::without_4xx(),
        ),
        option(
            "aws:elasticbeanstalk:managedactions",
            "ManagedActionsEnabled",
            "true",
        ),
        option(
            "aws:elasticbeanstalk:managedactions",
            "PreferredStartTime",
            "Tue:09:00",
        ),
        option(
            "aws:elasticbeanstalk:managedactions",
            "ServiceRoleForManagedUpdates",
            service_role.arn(),
        ),
        option(
            "aws:elasticbeanstalk:managedactions:platformupdate",
            "UpdateLevel",
            "minor",
        ),
        option("aws:elasticbeanstalk:cloudwatch:logs", "StreamLogs", "true"),
        option(
            "aws:elasticbeanstalk:cloudwatch:logs",
            "DeleteOnTerminate",
            (!config.keep_logs).to_string(),
        ),
        option(
            "aws:elasticbeanstalk:cloudwatch:logs",
            "RetentionInDays",
            props.log_retention.days().to_string(),
        ),
        // The web UI's environment; nginx alone talks to it, on the same machine.
        option(
            "aws:elasticbeanstalk:application:environment",
            variable::REDIS_URL,
            props.cache.url(),
        ),
        option(
            "aws:elasticbeanstalk:application:environment",
            variable::CACHE_USER,
            props.cache.webui_user.reference(),
        ),
        option(
            "aws:elasticbeanstalk:application:environment",
            variable::CACHE_NAME,
            props.cache.replication_group.reference(),
        ),
        option(
            "aws:elasticbeanstalk:application:environment",
            variable::PORT,
            variable::DEFAULT_PORT.to_string(),
        ),
        option(
            "aws:elasticbeanstalk:application:environment",
            variable::INTERFACE,
            "127.0.0.1",
        ),
        option(
            "aws:elasticbeanstalk:application:environment",
            variable::FRAMES_PER_SECOND,
            config.frames_per_second.to_string(),
        ),
    ];
    if several {
        // One instance at a time: the default batch is all of them.
        settings.extend([
            option("aws:elasticbeanstalk:command", "BatchSizeType", "Fixed"),
            option("aws:elasticbeanstalk:command", "BatchSize", "1"),
        ]);
    }
    settings
}

fn option(
    namespace: &str,
    name: &str,
    value: impl Into<Value<String>>,
) -> Value<environment::OptionSetting> {
    environment::OptionSetting {
        value: Some(value.into()),
        ..environment::OptionSetting::new(namespace, name)
    }
    .into()
}

fn comma<K: cfn::reference::Kind>(items: [Attribute<K>; 2]) -> Value<String> {
    cfn::intrinsic::join::<String>(",", items)
}
