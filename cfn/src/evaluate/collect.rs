//! Collection of all policies of a resolved template.

use std::collections::BTreeMap;

use indexmap::IndexMap;
use serde_json::{Value as Json, json};

use super::policy::{Policy, PolicyKind};
use super::{Decision, Keys, Principal, Request, evaluate, evaluate_within};
use crate::resolve::{Problem, Resolved, ResolvedResource};

/// Path of a topic's default policy, which is not in the template.
pub(crate) const DEFAULT_POLICY: &str = "default policy";

/// Documents of AWS-managed policies, by ARN.
pub type ManagedPolicies = BTreeMap<String, Json>;

/// All policies of a template, by principal and resource.
#[derive(Clone, Debug, Default)]
pub struct Policies {
    /// The template's roles by logical ID.
    pub roles: IndexMap<String, RolePolicies>,
    /// Resource-based policies by the ARN of the resource (a log group's without `:*`).
    pub resources: BTreeMap<String, Vec<Policy>>,
    /// The template's IoT policies by logical ID.
    pub iot: IndexMap<String, Policy>,
}

/// Policies of a role.
#[derive(Clone, Debug)]
pub struct RolePolicies {
    /// Logical ID
    pub logical_id: String,
    /// ARN
    pub arn: String,
    /// `AssumeRolePolicyDocument`
    pub trust: Policy,
    /// Inline and attached policies
    pub identity: Vec<Policy>,
    /// `PermissionsBoundary`: what its policies can allow at most
    pub boundary: Option<Policy>,
}

impl Policies {
    /// Collects and parses all policies.
    ///
    /// # Errors
    /// All unsupported policies together, and managed policies whose document is neither in the template nor in
    /// `managed`.
    pub fn collect(
        resolved: &Resolved,
        managed: &ManagedPolicies,
    ) -> Result<Policies, Vec<Problem>> {
        let mut collector = Collector {
            resolved,
            managed,
            policies: Policies::default(),
            problems: Vec::new(),
        };
        for role in resolved.of_type("AWS::IAM::Role") {
            collector.role(role);
        }
        for resource in resolved.resources.values() {
            collector.attached(resource);
        }
        collector.topics_without_policy();
        if collector.problems.is_empty() {
            Ok(collector.policies)
        } else {
            Err(collector.problems)
        }
    }

    /// Finds a role by its logical ID, ARN or name.
    pub fn role(&self, reference: &str) -> Option<&RolePolicies> {
        self.roles.get(reference).or_else(|| {
            self.roles.values().find(|role| {
                role.arn == reference || role.arn.rsplit('/').next() == Some(reference)
            })
        })
    }

    /// The policies of a resource, by the ARN in a request.
    pub fn of_resource(&self, arn: &str) -> &[Policy] {
        let found = self.resources.get(arn).or_else(|| {
            // An object has the policy of its bucket.
            let bucket = arn.split_once(":s3:::").and_then(|_| arn.split_once('/'));
            bucket.and_then(|(bucket, _)| self.resources.get(bucket))
        });
        found.map_or(&[], Vec::as_slice)
    }

    /// Evaluates a request of a role; `reference` is its logical ID, ARN or name.
    /// A role that is not in this template is allowed nothing.
    pub fn role_may(
        &self,
        reference: &str,
        session: &str,
        action: &str,
        resource: &str,
        context: Keys,
    ) -> (Request, Decision) {
        let role = self.role(reference);
        let arn = role.map_or(reference, |role| &role.arn).to_owned();
        let request = Request {
            principal: Principal::Role {
                arn,
                session: session.to_owned(),
            },
            action: action.to_owned(),
            resource: resource.to_owned(),
            context,
        };
        let identity = role.map_or(&[][..], |role| &role.identity);
        let resource = self.of_resource(resource);
        let decision = match role.and_then(|role| role.boundary.as_ref()) {
            Some(boundary) => evaluate_within(boundary, identity, resource, &request),
            None => evaluate(identity, resource, &request),
        };
        (request, decision)
    }

    /// Evaluates a request of a service by the resource's policy.
    pub fn service_may(
        &self,
        service: &str,
        action: &str,
        resource: &str,
        context: Keys,
    ) -> (Request, Decision) {
        let request = Request {
            principal: Principal::Service(service.to_owned()),
            action: action.to_owned(),
            resource: resource.to_owned(),
            context,
        };
        let decision = evaluate(&[], self.of_resource(resource), &request);
        (request, decision)
    }

    /// Evaluates whether a service may assume a role; `reference` is its logical ID, ARN or name, `context` the
    /// condition keys of the request (`aws:SourceArn`, `aws:SourceAccount`, `sts:ExternalId`).
    pub fn may_assume(&self, reference: &str, service: &str, context: Keys) -> (Request, Decision) {
        let role = self.role(reference);
        let request = Request {
            principal: Principal::Service(service.to_owned()),
            action: "sts:AssumeRole".to_owned(),
            resource: role.map_or(reference, |role| &role.arn).to_owned(),
            context,
        };
        let trust = role.map_or(&[][..], |role| std::slice::from_ref(&role.trust));
        let decision = evaluate(&[], trust, &request);
        (request, decision)
    }

    /// Evaluates a request of a device by IoT policies of the template (logical IDs).
    pub fn certificate_may(
        &self,
        policies: &[&str],
        certificate: &str,
        action: &str,
        resource: &str,
        context: Keys,
    ) -> (Request, Decision) {
        let request = Request {
            principal: Principal::Certificate(certificate.to_owned()),
            action: action.to_owned(),
            resource: resource.to_owned(),
            context,
        };
        let attached: Vec<Policy> = policies
            .iter()
            .filter_map(|it| self.iot.get(*it))
            .cloned()
            .collect();
        let decision = evaluate(&attached, &[], &request);
        (request, decision)
    }
}

struct Collector<'a> {
    resolved: &'a Resolved,
    managed: &'a ManagedPolicies,
    policies: Policies,
    problems: Vec<Problem>,
}

impl Collector<'_> {
    fn parse(&mut self, kind: PolicyKind, id: &str, path: &str, document: &Json) -> Option<Policy> {
        match Policy::parse(kind, id, path, document) {
            Ok(policy) => Some(policy),
            Err(problems) => {
                self.problems.extend(problems);
                None
            }
        }
    }

    fn role(&mut self, role: &ResolvedResource) {
        let id = &role.logical_id;
        let boundary = role
            .text("/PermissionsBoundary")
            .and_then(|arn| self.boundary(id, &arn));
        let Some(document) = role.property("/AssumeRolePolicyDocument") else {
            self.problems
                .push(Problem::of(id, "a role needs AssumeRolePolicyDocument"));
            return;
        };
        let trust = self.parse(
            PolicyKind::Trust,
            id,
            "Properties.AssumeRolePolicyDocument",
            document,
        );
        let mut identity = Vec::new();
        for (index, policy) in role.items("/Policies").iter().enumerate() {
            let path = format!("Properties.Policies.{index}.PolicyDocument");
            match policy.get("PolicyDocument") {
                Some(document) => {
                    identity.extend(self.parse(PolicyKind::Identity, id, &path, document));
                }
                None => self.problems.push(Problem::at(id, path, "is missing")),
            }
        }
        for (index, arn) in role.texts("/ManagedPolicyArns").iter().enumerate() {
            if self
                .resolved
                .find("AWS::IAM::ManagedPolicy", arn)
                .is_some_and(|it| it.physical_id == *arn)
            {
                // Parsed below.
                continue;
            }
            let path = format!("Properties.ManagedPolicyArns.{index}");
            match self.managed.get(arn) {
                Some(document) => {
                    identity.extend(self.parse(PolicyKind::Identity, id, &path, document));
                }
                None => self.problems.push(Problem::at(
                    id,
                    path,
                    format!("the document of `{arn}` is not known: write its statements into the role instead"),
                )),
            }
        }
        if let (Some(trust), Some(arn)) = (trust, role.arn()) {
            let role = RolePolicies {
                logical_id: id.clone(),
                arn: arn.to_owned(),
                trust,
                identity,
                boundary,
            };
            self.policies.roles.insert(id.clone(), role);
        }
    }

    /// The policy of the template or of [`ManagedPolicies`] that is a role's permissions boundary.
    fn boundary(&mut self, role: &str, arn: &str) -> Option<Policy> {
        let path = "Properties.PermissionsBoundary";
        let own = self
            .resolved
            .find("AWS::IAM::ManagedPolicy", arn)
            .and_then(|policy| policy.property("/PolicyDocument"));
        match own.or_else(|| self.managed.get(arn)).cloned() {
            Some(document) => self.parse(PolicyKind::Boundary, role, path, &document),
            None => {
                self.problems.push(Problem::at(
                    role,
                    path,
                    format!("the document of the permissions boundary `{arn}` is not known"),
                ));
                None
            }
        }
    }

    fn attached(&mut self, resource: &ResolvedResource) {
        let id = &resource.logical_id;
        let document = resource.property("/PolicyDocument").cloned();
        let path = "Properties.PolicyDocument";
        match resource.r#type.as_str() {
            "AWS::IAM::Policy" | "AWS::IAM::RolePolicy" | "AWS::IAM::ManagedPolicy" => {
                let document = document.unwrap_or_default();
                let Some(policy) = self.parse(PolicyKind::Identity, id, path, &document) else {
                    return;
                };
                for role in self.holders(resource) {
                    match self.policies.roles.get_mut(&role) {
                        Some(role) => role.identity.push(policy.clone()),
                        None if self.resolved.resources.contains_key(&role) => {}
                        None => self.problems.push(Problem::of(
                            id,
                            format!("is attached to role `{role}`, which is not in this template"),
                        )),
                    }
                }
            }
            "AWS::IoT::Policy" => {
                let document = document.unwrap_or_default();
                if let Some(policy) = self.parse(PolicyKind::Iot, id, path, &document) {
                    self.policies.iot.insert(id.clone(), policy);
                }
            }
            "AWS::S3::BucketPolicy" => {
                let bucket = resource.text("/Bucket").unwrap_or_default();
                let arn = format!("arn:{}:s3:::{bucket}", self.resolved.context.partition);
                self.on(id, path, [arn], document);
            }
            "AWS::SNS::TopicPolicy" => self.on(id, path, resource.texts("/Topics"), document),
            "AWS::SQS::QueuePolicy" => {
                let arns = resource.texts("/Queues").into_iter().map(|url| {
                    let queue = self.resolved.find("AWS::SQS::Queue", &url);
                    queue
                        .and_then(ResolvedResource::arn)
                        .unwrap_or(&url)
                        .to_owned()
                });
                let arns: Vec<String> = arns.collect();
                self.on(id, path, arns, document);
            }
            "AWS::Kinesis::ResourcePolicy" => {
                let document = resource.property("/ResourcePolicy").cloned();
                self.on(
                    id,
                    "Properties.ResourcePolicy",
                    resource.texts("/ResourceArn"),
                    document,
                );
            }
            "AWS::KMS::Key" => {
                let account = &self.resolved.context.account_id;
                let partition = &self.resolved.context.partition;
                // KMS Developer Guide, "Default key policy"
                let default = json!({"Version": "2012-10-17", "Statement": [{
                    "Effect": "Allow", "Action": "kms:*", "Resource": "*",
                    "Principal": {"AWS": format!("arn:{partition}:iam::{account}:root")},
                }]});
                let document = resource.property("/KeyPolicy").cloned().unwrap_or(default);
                let arn = resource.arn().unwrap_or_default().to_owned();
                self.on(id, "Properties.KeyPolicy", [arn], Some(document));
            }
            "AWS::Lambda::Permission" => {
                let function = resource.text("/FunctionName").unwrap_or_default();
                let arn = self.resolved.find("AWS::Lambda::Function", &function);
                let arn = arn
                    .and_then(ResolvedResource::arn)
                    .unwrap_or(&function)
                    .to_owned();
                let document = permission(resource, &arn);
                self.on(id, "Properties", [arn], Some(document));
            }
            // An unsupported type of resource policy is refused, not skipped.
            "AWS::Logs::ResourcePolicy" | "AWS::Lambda::LayerVersionPermission" => {
                self.problems.push(Problem::of(
                    id,
                    format!(
                        "resource policies of type {} are not evaluated here",
                        resource.r#type
                    ),
                ));
            }
            _ => {}
        }
    }

    /// The policy that SNS gives a topic without one: it allows its own account, with services that act for the
    /// account (`AWS:SourceOwner` is `aws:SourceAccount` here).
    fn topics_without_policy(&mut self) {
        let account = &self.resolved.context.account_id;
        for topic in self.resolved.of_type("AWS::SNS::Topic") {
            if self.policies.resources.contains_key(&topic.physical_id) {
                continue;
            }
            let allow = |key: &str| {
                json!({
                    "Effect": "Allow", "Principal": "*", "Action": "sns:*",
                    "Resource": topic.physical_id, "Condition": { "StringEquals": { key: account } },
                })
            };
            let document = json!({
                "Version": "2012-10-17",
                "Statement": [allow("aws:SourceAccount"), allow("aws:PrincipalAccount")],
            });
            let arn = topic.physical_id.clone();
            self.on(&topic.logical_id, DEFAULT_POLICY, [arn], Some(document));
        }
    }

    /// Logical IDs of the roles to which a policy resource is attached; the name of a role that is not in the
    /// template.
    fn holders(&self, resource: &ResolvedResource) -> Vec<String> {
        let mut names = resource.texts("/Roles");
        names.extend(resource.text("/RoleName"));
        let mut holders: Vec<String> = names
            .into_iter()
            .map(|name| match self.resolved.find("AWS::IAM::Role", &name) {
                Some(role) => role.logical_id.clone(),
                None => name,
            })
            .collect();
        for role in self.resolved.of_type("AWS::IAM::Role") {
            if role
                .texts("/ManagedPolicyArns")
                .contains(&resource.physical_id)
            {
                holders.push(role.logical_id.clone());
            }
        }
        holders
    }

    fn on(
        &mut self,
        id: &str,
        path: &str,
        arns: impl IntoIterator<Item = String>,
        document: Option<Json>,
    ) {
        let document = document.unwrap_or_default();
        let Some(policy) = self.parse(PolicyKind::Resource, id, path, &document) else {
            return;
        };
        for arn in arns {
            self.policies
                .resources
                .entry(arn)
                .or_default()
                .push(policy.clone());
        }
    }
}

/// The statement that `AddPermission` adds to a function's policy.
fn permission(resource: &ResolvedResource, function: &str) -> Json {
    let principal = resource.text("/Principal").unwrap_or_default();
    let principal = match principal.as_str() {
        "*" => json!("*"),
        service if service.ends_with(".amazonaws.com") => json!({ "Service": service }),
        other => json!({ "AWS": other }),
    };
    let mut statement = json!({
        "Effect": "Allow",
        "Principal": principal,
        "Action": resource.text("/Action").unwrap_or_default(),
        "Resource": function,
    });
    let mut condition = serde_json::Map::new();
    if let Some(arn) = resource.text("/SourceArn") {
        condition.insert("ArnLike".to_owned(), json!({ "aws:SourceArn": arn }));
    }
    if let Some(account) = resource.text("/SourceAccount") {
        condition.insert(
            "StringEquals".to_owned(),
            json!({ "aws:SourceAccount": account }),
        );
    }
    if !condition.is_empty() {
        statement["Condition"] = Json::Object(condition);
    }
    json!({ "Version": "2012-10-17", "Statement": [statement] })
}
