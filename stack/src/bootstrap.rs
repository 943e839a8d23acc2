//! The bootstrap stack: one per account and region, deployed once by an administrator.
//!
//! It holds a permissions boundary, which limits every role that a stage makes; the service role by which
//! CloudFormation deploys the stages; the policy of those who may deploy; and, where a subject is given, a
//! role for one GitHub repository and environment.
//! The policies are computed from the stages' templates and the handlers' published permissions, and from the
//! committed blocks in `beanstalk` and `deployer`.
//!
//! Layout: `used` reads the templates, `scope` limits actions to resources, `rule` is a statement, and here
//! they are put together.

mod beanstalk;
pub mod deployer;
mod rule;
mod scope;
#[cfg(test)]
mod tests;
mod used;

use std::collections::BTreeMap;

use cfn::policy::{Condition, Document, Principal, Statement};
use cfn::resources::iam;
use cfn::{
    ConditionExpression, Handle, List, ParameterProps, Problem, Problems, ResourceAttributes,
    Template,
};
use serde_json::{Value as Json, json};

use crate::parameters::Parameters;
use crate::{Stage, Synthesized, accepted, config};
use rule::Handles;
pub use rule::{Names, Rule};
use used::Used;

/// Every stack's name begins with it.
const PREFIX: &str = "sensors";

/// Name of the stack in every account and region.
pub const STACK_NAME: &str = "sensors-bootstrap";

/// Output: ARN of the role that `deploy` hands to CloudFormation.
pub const SERVICE_ROLE_OUTPUT: &str = "ServiceRoleArn";
/// Output: ARN of the boundary, for the main stack's [`crate::parameters::PERMISSIONS_BOUNDARY`].
pub const BOUNDARY_OUTPUT: &str = "PermissionsBoundaryArn";
/// Output: ARN of the policy for people and roles that may deploy.
pub const DEPLOYER_POLICY_OUTPUT: &str = "DeployerPolicyArn";
/// Output: ARN of the role that a GitHub workflow assumes; absent without a subject.
pub const GITHUB_ROLE_OUTPUT: &str = "GitHubRoleArn";

/// Parameter: the `sub` of the tokens of one GitHub repository and environment; empty for none.
pub const GITHUB_SUBJECT: &str = "GitHubSubject";
/// Parameter: whether the stack makes GitHub's identity provider, of which an account has one at most.
pub const GITHUB_PROVIDER: &str = "GitHubProvider";
/// Value of [`GITHUB_PROVIDER`]: the stack makes it.
pub const NEW_PROVIDER: &str = "new";
/// Value of [`GITHUB_PROVIDER`]: the account has it, for instance from the bootstrap of another region.
pub const EXISTING_PROVIDER: &str = "existing";

/// What a [`GITHUB_SUBJECT`] looks like: `repo:OWNER/REPOSITORY:environment:NAME`, where owner and repository
/// carry their IDs (`OWNER@1/REPOSITORY@2`) if GitHub made or renamed the repository since 2026-07-15.
/// Nothing in it may be a wildcard.
const SUBJECT_PATTERN: &str = "^$|^repo:[^/:*?]+/[^/:*?]+:environment:[^*?]+$";

/// Host of GitHub's identity provider.
const GITHUB: &str = "token.actions.githubusercontent.com";

/// Seconds that a session of the GitHub role may last: the first deployment of a stage takes about 20 minutes,
/// and Elastic Beanstalk may take two hours.
const GITHUB_SESSION: i64 = 2 * 60 * 60;

/// Characters of a managed policy without white space, see "IAM and AWS STS quotas".
const LONGEST_POLICY: usize = 6_144;

/// Characters of a stack's name that CloudFormation keeps in the longest names of roles that it generates; the
/// policies limit roles by that prefix.
///
/// Observed, not documented: a name longer than 64 characters is cut to 25 of the stack's name, 25 of the
/// logical ID and 12 random ones.
const LONGEST_STACK_NAME: usize = 25;

/// Whether a text is a subject for [`GITHUB_SUBJECT`].
pub fn is_subject(text: &str) -> bool {
    let Some((repository, environment)) = text
        .strip_prefix("repo:")
        .and_then(|rest| rest.split_once(":environment:"))
    else {
        return false;
    };
    let is_plain = |text: &str| !text.is_empty() && !text.contains(['*', '?']);
    let is_name = |text: &str| is_plain(text) && !text.contains(['/', ':']);
    repository
        .split_once('/')
        .is_some_and(|(owner, name)| is_name(owner) && is_name(name))
        && is_plain(environment)
}

/// What is wrong with a stack's name.
pub(crate) fn name_problem(name: &str) -> Option<Problem> {
    (name.len() > LONGEST_STACK_NAME).then(|| {
        Problem::new(
            "stack",
            format!(
                "`{name}` has {} characters: CloudFormation keeps {LONGEST_STACK_NAME} of them in the names of roles that it generates, and the bootstrap's policies limit roles by the whole name; choose a shorter name for the stage",
                name.len()
            ),
        )
    })
}

/// Limits every role of a template by the boundary where one is given. Called when all roles are defined.
pub(crate) fn bind_roles(template: &mut Template, parameters: &Parameters) {
    for role in template.all_mut::<iam::Role>() {
        role.permissions_boundary = Some(cfn::intrinsic::only_if(
            parameters.has_permissions_boundary,
            parameters.permissions_boundary.reference(),
        ));
    }
}

/// Emits the bootstrap stack.
///
/// # Errors
/// Everything that is wrong with it: a value, or a policy that IAM would refuse for its length.
pub fn synth() -> Result<Synthesized, Problems> {
    let permissions = Permissions::of(&Stage::ALL);
    let problems = permissions.length_problems();
    if !problems.is_empty() {
        return Err(Problems(problems));
    }
    let cfn::Synthesized { template, sources } = template(&permissions).synth()?;
    Ok(Synthesized {
        name: STACK_NAME.to_owned(),
        template,
        sources,
    })
}

/// The template of the bootstrap stack.
fn template(permissions: &Permissions) -> Template {
    let mut template = Template::new(
        "Sensors: who may deploy the stages in this account and region, and what their roles can do at most",
    );
    let boundary = template.define(
        "PermissionsBoundary",
        iam::ManagedPolicy {
            description: Some("What a role of a sensors stage can do at most".into()),
            // It names neither of the handles.
            ..iam::ManagedPolicy::new(plain_document(&permissions.boundary()))
        },
    );
    let service_role = template.define(
        "ServiceRole",
        iam::Role {
            description: Some("CloudFormation, when it deploys a sensors stage".into()),
            ..iam::Role::new(Document::trust("cloudformation.amazonaws.com", &[]))
        },
    );
    let handles = Handles {
        boundary,
        service_role,
    };
    for (id, rules) in permissions.service_policies() {
        template.define(
            id,
            iam::ManagedPolicy {
                roles: Some([service_role.reference()].into()),
                ..iam::ManagedPolicy::new(written(&rules, &handles))
            },
        );
    }
    let deployer = template.define(
        "DeployerPolicy",
        iam::ManagedPolicy {
            description: Some("Deploy sensors stages by the service role, and look at them".into()),
            ..iam::ManagedPolicy::new(written(&permissions.deployer(), &handles))
        },
    );
    let output = |template: &mut Template, name, description, value: cfn::Value<String>| {
        template.output(name, description, value);
    };
    output(
        &mut template,
        SERVICE_ROLE_OUTPUT,
        "Role that CloudFormation deploys the stages with",
        service_role.arn().into(),
    );
    output(
        &mut template,
        BOUNDARY_OUTPUT,
        "What a stage's roles can do at most",
        boundary.reference().into(),
    );
    output(
        &mut template,
        DEPLOYER_POLICY_OUTPUT,
        "Policy for those who may deploy",
        deployer.reference().into(),
    );
    github(&mut template, deployer);
    accepted::annotate(&mut template, config::Encryption::AwsManaged);
    template
}

/// The identity provider and the role of a workflow, where a subject is given.
fn github(template: &mut Template, deployer: Handle<iam::ManagedPolicy>) {
    let subject = template.parameter::<String>(
        GITHUB_SUBJECT,
        ParameterProps {
            description: Some(
                "Subject of the GitHub repository and environment that may deploy, empty for none"
                    .to_owned(),
            ),
            default: Some(String::new()),
            allowed_pattern: Some(SUBJECT_PATTERN),
            constraint_description: Some(
                "repo:OWNER@ID/REPOSITORY@ID:environment:NAME, without wildcards, or empty",
            ),
            ..ParameterProps::default()
        },
    );
    let provider = template.parameter::<String>(
        GITHUB_PROVIDER,
        ParameterProps {
            description: Some(
                "Whether this stack makes GitHub's identity provider, of which an account has one"
                    .to_owned(),
            ),
            default: Some(NEW_PROVIDER.to_owned()),
            allowed_values: vec![NEW_PROVIDER.to_owned(), EXISTING_PROVIDER.to_owned()],
            ..ParameterProps::default()
        },
    );
    let has_github = template.condition(
        "HasGitHub",
        ConditionExpression::negate(ConditionExpression::equals(subject.reference(), "")),
    );
    let makes_provider = template.condition(
        "MakesGitHubProvider",
        ConditionExpression::all(vec![
            has_github.into(),
            ConditionExpression::equals(provider.reference(), NEW_PROVIDER),
        ]),
    );
    // IAM knows GitHub's certificate authorities by itself and ignores thumbprints.
    template.define_with(
        "GitHubIdentityProvider",
        iam::OidcProvider {
            url: Some(format!("https://{GITHUB}").into()),
            client_id_list: Some(["sts.amazonaws.com"].into()),
            ..iam::OidcProvider::default()
        },
        ResourceAttributes {
            condition: Some(makes_provider),
            ..ResourceAttributes::default()
        },
    );
    let federated = cfn::intrinsic::Sub::new()
        .text("arn:")
        .value(cfn::intrinsic::pseudo::partition())
        .text(":iam::")
        .value(cfn::intrinsic::pseudo::account_id())
        .text(&format!(":oidc-provider/{GITHUB}"))
        .build();
    let trust = Statement::allow(["sts:AssumeRoleWithWebIdentity"], List::default())
        .by(Principal::Federated(federated))
        .when(Condition::string_equals(
            "token.actions.githubusercontent.com:aud",
            "sts.amazonaws.com",
        ))
        .when(Condition::string_equals(
            "token.actions.githubusercontent.com:sub",
            subject.reference(),
        ));
    let role = template.define_with(
        "GitHubRole",
        iam::Role {
            description: Some("A GitHub workflow that deploys sensors stages".into()),
            managed_policy_arns: Some([deployer.reference()].into()),
            max_session_duration: Some(GITHUB_SESSION.into()),
            ..iam::Role::new(Document::new([trust]))
        },
        ResourceAttributes {
            condition: Some(has_github),
            ..ResourceAttributes::default()
        },
    );
    template.output_if(
        GITHUB_ROLE_OUTPUT,
        "Role that the workflow assumes",
        role.arn(),
        Some(has_github),
    );
}

fn written(rules: &[Rule], handles: &Handles) -> Document {
    let statements: Vec<Statement> = rules.iter().map(|rule| rule.statement(handles)).collect();
    Document::new(statements)
}

/// A document of rules that refer to nothing in the template.
fn plain_document(rules: &[Rule]) -> Document {
    let statements: Vec<Statement> = rules.iter().map(Rule::plain_statement).collect();
    Document::new(statements)
}

/// A policy as JSON.
pub fn document(rules: &[Rule], names: &Names) -> Json {
    let statements: Vec<Json> = rules.iter().map(|rule| rule.json(names)).collect();
    json!({ "Version": "2012-10-17", "Statement": statements })
}

/// The policies for some stages.
#[derive(Clone, Debug)]
pub struct Permissions {
    stages: Vec<Stage>,
    /// Names of their main stacks, which begin all names that CloudFormation generates for them.
    stacks: Vec<String>,
    used: Used,
}

impl Permissions {
    /// Reads what the stages' templates use, and those of every choice that no stage takes.
    pub fn of(stages: &[Stage]) -> Permissions {
        Permissions {
            stages: stages.to_vec(),
            stacks: stages.iter().map(|it| crate::stack_name(*it)).collect(),
            used: Used::of(stages),
        }
    }

    /// What a role of a stage can do at most: what the roles' own policies allow, on the stages' resources,
    /// and what Beanstalk does at managed updates. It grants nothing by itself.
    pub fn boundary(&self) -> Vec<Rule> {
        // One prefix for all stages: a policy that names each of them would be too long.
        let stacks = [PREFIX.to_owned()];
        let mut by_resources = BTreeMap::new();
        for action in &self.used.allowed {
            let mut resources = scope::of(&stacks, action);
            // Lambda refuses a function whose role may call these on less than everything.
            if action.starts_with("ec2:") {
                resources = vec!["*".to_owned()];
            }
            // Instances write to what is Beanstalk's own.
            let beanstalks = match action.split(':').next() {
                Some("logs") => {
                    "arn:${Partition}:logs:${Region}:${Account}:log-group:/aws/elasticbeanstalk*"
                }
                Some("s3") => "arn:${Partition}:s3:::elasticbeanstalk-*",
                _ => "",
            };
            if resources != ["*"] && !beanstalks.is_empty() {
                resources.push(beanstalks.to_owned());
            }
            let actions: &mut Vec<&str> = by_resources.entry(resources).or_default();
            actions.push(action);
        }
        let mut rules = numbered("Role", by_resources);
        rules.extend(beanstalk::rules(&stacks));
        // With the block's own, what enhanced health calls.
        rules.push(Rule::allow(
            "EnhancedHealth",
            ["ec2:GetConsoleOutput"],
            ["*"],
        ));
        rules.push(
            Rule::allow("PassRoles", ["iam:PassRole"], self.scope("iam:PassRole")).when(
                "StringEquals",
                "iam:PassedToService",
                beanstalk::PASSED_TO,
            ),
        );
        for resource in rules.iter_mut().flat_map(|rule| &mut rule.resources) {
            // Roles are the account's, whatever their region.
            *resource = resource.replace("${Region}", "*");
        }
        merged(rules)
    }

    /// The policies of the service role, each short enough for IAM, by logical ID.
    pub fn service_policies(&self) -> Vec<(&'static str, Vec<Rule>)> {
        let data = ["firehose", "iot", "kinesis", "lambda"];
        let storage = ["elasticache", "s3"];
        // Beanstalk's handlers call nothing that the block does not allow; a test says so.
        let apart = ["ec2", "elasticbeanstalk", "iam"];
        let mut others = self.services();
        others.retain(|service| ![&data[..], &storage, &apart].concat().contains(service));
        let mut beanstalk = beanstalk::rules(&self.stacks);
        beanstalk.extend(self.sign_in());
        let mut roles = self.roles(true);
        roles.extend(denials());
        vec![
            ("ServiceNetworkPolicy", self.handlers(&["ec2"])),
            ("ServiceDataPolicy", self.handlers(&data)),
            ("ServiceStoragePolicy", self.handlers(&storage)),
            ("ServiceOtherPolicy", self.handlers(&others)),
            ("ServiceBeanstalkPolicy", beanstalk),
            ("ServiceRolesPolicy", roles),
        ]
    }

    /// The policy of those who deploy by the service role.
    pub fn deployer(&self) -> Vec<Rule> {
        let mut rules = deployer::rules(&self.stacks);
        rules.push(deployer::pass_service_role());
        rules
    }

    /// The policy of those who deploy by their own rights, without bootstrap. It equals administration: who
    /// has it makes roles with any permission and hands them to services.
    pub fn unbound(&self) -> Vec<Rule> {
        let mut services = self.services();
        services.retain(|service| !["elasticbeanstalk", "iam"].contains(service));
        let mut rules = deployer::rules(&self.stacks);
        rules.extend(self.handlers(&services));
        rules.extend(beanstalk::rules(&self.stacks));
        rules.extend(self.roles(false));
        rules.extend(self.sign_in());
        rules
    }

    fn scope(&self, action: &str) -> Vec<String> {
        scope::of(&self.stacks, action)
    }

    fn services(&self) -> Vec<&'static str> {
        let actions = self.used.handlers.keys();
        let mut services: Vec<&str> = actions
            .filter_map(|action| action.split(':').next())
            .collect();
        services.dedup();
        services
    }

    /// The secret of the sign-in's client, where a stage or a choice for it has the balancer sign visitors in.
    fn sign_in(&self) -> Option<Rule> {
        let choices = used::choices_of(&self.stages);
        let mut configs = choices
            .into_iter()
            .chain(self.stages.iter().map(|stage| stage.config()));
        let action = "secretsmanager:GetSecretValue";
        configs
            .any(|config| config.dashboard.sign_in.is_some())
            .then(|| Rule::allow("SignInSecret", [action], self.scope(action)))
    }

    /// What the handlers of the templates' types call on some services.
    fn handlers(&self, services: &[&str]) -> Vec<Rule> {
        let mut rules = Vec::new();
        for service in services {
            let actions = self.used.handlers.keys().copied();
            let actions = actions.filter(|action| action.split(':').next() == Some(service));
            rules.extend(numbered(&pascal(service), self.by_resources(actions)));
        }
        rules
    }

    fn by_resources<'a>(
        &self,
        actions: impl Iterator<Item = &'a str>,
    ) -> BTreeMap<Vec<String>, Vec<&'a str>> {
        let mut by_resources: BTreeMap<Vec<String>, Vec<&str>> = BTreeMap::new();
        for action in actions {
            let of_same = by_resources.entry(self.scope(action)).or_default();
            of_same.push(action);
        }
        by_resources
    }

    /// What CloudFormation may do with roles: those of the stages, for the services that the templates use.
    ///
    /// `is_bound`: only with the bootstrap's boundary.
    fn roles(&self, is_bound: bool) -> Vec<Rule> {
        let within = |rule: Rule| match is_bound {
            true => rule.when("StringEquals", "iam:PermissionsBoundary", ["${Boundary}"]),
            false => rule,
        };
        let roles = self.scope("iam:CreateRole");
        let plain = self.used.handlers.keys().copied().filter(|action| {
            action.starts_with("iam:")
                && !BY_BOUNDARY.contains(action)
                && !BY_THEMSELVES.contains(action)
        });
        let mut rules = numbered("Iam", self.by_resources(plain));
        rules.push(within(Rule::allow("Roles", BY_BOUNDARY, roles.clone())));
        let managed = self.used.managed.iter();
        let managed = managed.map(|name| format!("arn:${{Partition}}:iam::aws:policy/{name}"));
        rules.push(
            within(Rule::allow(
                "ManagedPolicies",
                ["iam:AttachRolePolicy"],
                roles.clone(),
            ))
            .when("ArnEquals", "iam:PolicyARN", managed),
        );
        let mut passed: Vec<&str> = self.used.trusted.iter().map(String::as_str).collect();
        passed.extend(beanstalk::PASSED_TO);
        passed.sort_unstable();
        passed.dedup();
        rules.push(Rule::allow("PassRoles", ["iam:PassRole"], roles).when(
            "StringEquals",
            "iam:PassedToService",
            passed,
        ));
        // ElastiCache makes its own with the first cache of an account.
        let linked = beanstalk::SERVICE_LINKED
            .into_iter()
            .chain(["elasticache.amazonaws.com"]);
        rules.push(
            Rule::allow(
                "ServiceLinkedRoles",
                ["iam:CreateServiceLinkedRole"],
                ["arn:${Partition}:iam::${Account}:role/aws-service-role/*"],
            )
            .when("StringEquals", "iam:AWSServiceName", linked),
        );
        rules
    }

    fn length_problems(&self) -> Vec<Problem> {
        // The longest names that a partition and a region have.
        let names = Names {
            partition: "aws-us-gov".to_owned(),
            region: "ap-northeast-1".to_owned(),
            account: "123456789012".to_owned(),
            boundary: format!(
                "arn:aws-us-gov:iam::123456789012:policy/{STACK_NAME}-PermissionsBoundary-123456789012"
            ),
            service_role: format!(
                "arn:aws-us-gov:iam::123456789012:role/{STACK_NAME}-ServiceRole-123456789012"
            ),
        };
        let mut policies = vec![
            ("PermissionsBoundary", self.boundary()),
            ("DeployerPolicy", self.deployer()),
        ];
        policies.extend(self.service_policies());
        let problem = |(id, rules): &(&'static str, Vec<Rule>)| {
            let length = document(rules, &names).to_string().len();
            (length > LONGEST_POLICY).then(|| {
                Problem::new(
                    *id,
                    format!(
                        "has {length} characters, and IAM takes {LONGEST_POLICY}: move statements to another policy in stack/src/bootstrap.rs"
                    ),
                )
            })
        };
        policies.iter().filter_map(problem).collect()
    }
}

/// Writes on roles that IAM decides by their boundary, too.
const BY_BOUNDARY: [&str; 5] = [
    "iam:CreateRole",
    "iam:DeleteRolePolicy",
    "iam:DetachRolePolicy",
    "iam:PutRolePermissionsBoundary",
    "iam:PutRolePolicy",
];

/// Actions with a statement of their own, or with none: nothing may take a boundary away.
const BY_THEMSELVES: [&str; 4] = [
    "iam:AttachRolePolicy",
    "iam:CreateServiceLinkedRole",
    "iam:DeleteRolePermissionsBoundary",
    "iam:PassRole",
];

/// The same with one statement for each list of resources without conditions, and without actions that a
/// pattern beside them covers.
fn merged(rules: Vec<Rule>) -> Vec<Rule> {
    let mut merged: Vec<Rule> = Vec::new();
    for rule in rules {
        let same = merged.iter_mut().find(|it| {
            it.conditions.is_empty()
                && rule.conditions.is_empty()
                && it.effect == rule.effect
                && it.resources == rule.resources
        });
        match same {
            Some(known) => known.actions.extend(rule.actions),
            None => merged.push(rule),
        }
    }
    for rule in &mut merged {
        let patterns: Vec<String> = rule
            .actions
            .iter()
            .filter(|it| it.ends_with('*'))
            .cloned()
            .collect();
        rule.actions.retain(|action| {
            !patterns.iter().any(|pattern| {
                pattern != action && action.starts_with(pattern.trim_end_matches('*'))
            })
        });
        rule.actions.sort();
        rule.actions.dedup();
    }
    merged
}

/// A statement for each list of resources; numbers keep the IDs apart.
fn numbered(name: &str, by_resources: BTreeMap<Vec<String>, Vec<&str>>) -> Vec<Rule> {
    let rules = by_resources.into_iter().enumerate();
    rules
        .map(|(number, (resources, actions))| {
            Rule::allow(&format!("{name}{}", number + 1), actions, resources)
        })
        .collect()
}

/// What the service role never does, whatever else allows it: loosen the boundary, or change what this stack
/// made.
fn denials() -> [Rule; 2] {
    let own = |kind: &str| format!("arn:${{Partition}}:iam::${{Account}}:{kind}/{STACK_NAME}-*");
    let writes = [
        "Add", "Attach", "Create", "Delete", "Detach", "Pass", "Put", "Remove", "Set", "Tag",
        "Untag", "Update",
    ];
    [
        Rule::deny(
            "KeepBoundaries",
            ["iam:DeleteRolePermissionsBoundary"],
            ["*"],
        ),
        Rule::deny(
            "KeepBootstrap",
            writes.map(|verb| format!("iam:{verb}*")),
            [
                own("role"),
                own("policy"),
                format!("arn:${{Partition}}:iam::${{Account}}:oidc-provider/{GITHUB}"),
            ],
        ),
    ]
}

/// As few documents as the order of the rules allows, each short enough for a managed policy.
pub fn documents(rules: &[Rule], names: &Names) -> Vec<Json> {
    let mut packed = Vec::new();
    let mut first = 0;
    for end in 1..=rules.len() {
        let length = document(&rules[first..end], names).to_string().len();
        if length > LONGEST_POLICY && end - 1 > first {
            packed.push(document(&rules[first..end - 1], names));
            first = end - 1;
        }
    }
    packed.push(document(&rules[first..], names));
    packed
}

/// `elasticache` → `Elasticache`, for statement IDs, which take letters and digits only.
fn pascal(service: &str) -> String {
    let mut letters = service.chars().filter(char::is_ascii_alphanumeric);
    let first = letters.next().map(|it| it.to_ascii_uppercase());
    first.into_iter().chain(letters).collect()
}
