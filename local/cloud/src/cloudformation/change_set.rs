//! Change sets: made, looked at, executed, deleted.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::changes::{self, Change, Detail};
use super::engine::Engine;
use super::request::{invalid, parameters, tags};
use super::stack::{Event, OnFailure, Operation, Phase, Stack, Validation, Version};
use super::store::StackCell;
use super::version::{self, Target};
use crate::call::Failure;
use crate::form::Form;
use crate::pace::Pace;
use crate::xml::Xml;

/// Changes on a page.
const PAGE: usize = 100;

/// What CloudFormation says when nothing differs.
const NOTHING: &str = "The submitted information didn't contain changes. Submit different information to create a change set.";

/// What it says when something differs that no resource and no output depends on.
const NO_UPDATES: &str = "No updates are to be performed.";

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct ChangeSet {
    pub(super) id: String,
    pub(super) name: String,
    /// `CREATE`, `UPDATE` or `IMPORT`
    pub(super) r#type: String,
    pub(super) description: Option<String>,
    pub(super) status: String,
    pub(super) reason: Option<String>,
    pub(super) execution_status: String,
    pub(super) created_at: Timestamp,
    pub(super) version: Version,
    pub(super) changes: Vec<Change>,
    pub(super) on_failure: Option<OnFailure>,
    /// Logical ID → physical ID of what is to be imported.
    pub(super) imported: BTreeMap<String, String>,
    pub(super) token: Option<String>,
    #[serde(default)]
    pub(super) role_arn: Option<String>,
}

impl Engine {
    /// `CreateChangeSet`
    pub(super) async fn create_change_set(
        self: &Arc<Self>,
        region: &str,
        form: &Form,
        xml: &mut Xml,
    ) -> Result<(), Failure> {
        let name = form
            .get("ChangeSetName")
            .ok_or_else(|| missing("changeSetName"))?;
        let stack_name = form.get("StackName").ok_or_else(|| missing("stackName"))?;
        check_name(name, "changeSetName")?;
        let r#type = form.get("ChangeSetType").unwrap_or("UPDATE");
        let token = form.get("ClientToken");
        let found = self.stacks.find(region, stack_name);
        if let Some(cell) = &found {
            let stack = cell.read();
            if let Some(known) = stack.change_sets.iter().find(|it| it.name == name) {
                if known.token.is_some() && known.token.as_deref() == token {
                    xml.text("Id", &known.id).text("StackId", &stack.id);
                    return Ok(());
                }
                return Err(Failure::new(
                    "AlreadyExistsException",
                    format!("ChangeSet {name} already exists for stack {}", stack.name),
                ));
            }
        }
        let previous = previous(found.as_deref(), stack_name, r#type, name)?;
        let template = self.template(form, previous.as_ref()).await?;
        let document = version::parse(&template)?;
        let previous_parameters = previous.as_ref().map(|it| &it.parameters);
        let version = Version {
            parameters: version::parameters(&document, &parameters(form), previous_parameters)?,
            tags: match form.structures("Tags").as_slice() {
                [] => previous.map(|it| it.tags).unwrap_or_default(),
                _ => tags(form),
            },
            capabilities: form
                .texts("Capabilities")
                .into_iter()
                .map(str::to_owned)
                .collect(),
            template,
        };
        version::check_capabilities(&document, &version.capabilities)?;
        let imported = imported(form);
        let role_arn = self.role(form, None)?;
        let cell = match found {
            Some(cell) => cell,
            None => {
                check_stack_name(stack_name)?;
                let stack = Stack::new(&self.account.id, region, stack_name);
                // What is wrong with the template shall leave no empty stack behind.
                self.target(&stack, &version, &imported)?;
                self.stacks.add(stack)
            }
        };
        let snapshot = cell.read().clone();
        self.target(&snapshot, &version, &imported)?;
        let id = cell.change(|stack| {
            if stack.status.is_empty() {
                stack.operation = None;
                stack.set_status("REVIEW_IN_PROGRESS", Some("User Initiated"));
            }
            let change_set = ChangeSet {
                id: format!(
                    "arn:aws:cloudformation:{region}:{}:changeSet/{name}/{}",
                    self.account.id,
                    Uuid::new_v4()
                ),
                name: name.to_owned(),
                r#type: r#type.to_owned(),
                description: form.get("Description").map(str::to_owned),
                status: "CREATE_IN_PROGRESS".to_owned(),
                reason: None,
                execution_status: "UNAVAILABLE".to_owned(),
                created_at: Timestamp::now(),
                version,
                changes: Vec::new(),
                on_failure: match form.get("OnStackFailure") {
                    Some("DO_NOTHING") => Some(OnFailure::DoNothing),
                    Some("DELETE") => Some(OnFailure::Delete),
                    Some("ROLLBACK") => Some(OnFailure::Rollback),
                    _ => None,
                },
                imported,
                token: token.map(str::to_owned),
                role_arn,
            };
            let id = change_set.id.clone();
            stack.change_sets.push(change_set);
            id
        });
        xml.text("Id", &id).text("StackId", &cell.id);
        self.evaluate_later(cell, id);
        Ok(())
    }

    /// Compares, out of the caller's way.
    pub(super) fn evaluate_later(self: &Arc<Self>, cell: Arc<StackCell>, id: String) {
        let engine = Arc::clone(self);
        self.spawn(async move {
            if engine.account.settings.pace == Pace::Real {
                tokio::time::sleep(Duration::from_secs(5)).await;
            }
            let snapshot = cell.read().clone();
            let Some(change_set) = snapshot.change_sets.iter().find(|it| it.id == id) else {
                return;
            };
            let evaluated = engine.evaluate(&snapshot, change_set).await;
            cell.change(|stack| {
                let (changes, failure, events) = evaluated;
                stack.events.extend(events);
                let change_set = stack.change_sets.iter_mut().find(|it| it.id == id);
                let Some(change_set) = change_set else {
                    return;
                };
                change_set.changes = changes;
                let (status, execution) = match failure {
                    None => ("CREATE_COMPLETE", "AVAILABLE"),
                    Some(_) => ("FAILED", "UNAVAILABLE"),
                };
                status.clone_into(&mut change_set.status);
                execution.clone_into(&mut change_set.execution_status);
                change_set.reason = failure;
            });
        });
    }

    /// The changes, why there is nothing to execute, and what validation found.
    async fn evaluate(
        &self,
        stack: &Stack,
        change_set: &ChangeSet,
    ) -> (Vec<Change>, Option<String>, Vec<Event>) {
        let version = &change_set.version;
        let target = match self.target(stack, version, &change_set.imported) {
            Ok(target) => target,
            Err(failure) => return (Vec::new(), Some(failure.message), Vec::new()),
        };
        let events = self.validate(stack, change_set, &target).await;
        let mut failed: BTreeSet<&str> = BTreeSet::new();
        for event in &events {
            if let Some(validation) = &event.validation
                && validation.mode == "FAIL"
            {
                failed.insert(match validation.name.as_str() {
                    "PROPERTY_VALIDATION" => "AWS::EarlyValidation::PropertyValidation",
                    _ => "AWS::EarlyValidation::ResourceExistenceCheck",
                });
            }
        }
        if !failed.is_empty() {
            let failed: Vec<&str> = failed.into_iter().collect();
            let reason = format!(
                "The following hook(s)/validation failed: [{}]. To troubleshoot Early Validation errors, use the DescribeEvents API for detailed failure information.",
                failed.join(", ")
            );
            return (Vec::new(), Some(reason), events);
        }
        if stack
            .version
            .as_ref()
            .is_some_and(|old| is_same(old, version))
            && stack
                .resources
                .values()
                .all(|it| !it.is_stale && !it.status.ends_with("_FAILED"))
        {
            return (Vec::new(), Some(NOTHING.to_owned()), events);
        }
        let existing = target.resolved.resources.keys().cloned().collect();
        match changes::compare(stack, version, &change_set.imported, &existing) {
            Err(failure) => (Vec::new(), Some(failure.message), events),
            Ok((changes, outputs_differ)) => {
                let is_nothing = changes.is_empty() && !outputs_differ;
                let reason = is_nothing.then(|| NO_UPDATES.to_owned());
                (changes, reason, events)
            }
        }
    }

    /// What CloudFormation looks at before anything is done.
    ///
    /// <https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/validate-stack-deployments.html>
    async fn validate(&self, stack: &Stack, change_set: &ChangeSet, target: &Target) -> Vec<Event> {
        let mut events = Vec::new();
        let mut found = |id: &str, name: &str, path: String, reason: String| {
            let resource = target.resolved.resource(id);
            events.push(Event {
                id: Uuid::new_v4().to_string(),
                at: Timestamp::now(),
                logical_id: id.to_owned(),
                physical_id: String::new(),
                r#type: resource.map_or_else(String::new, |it| it.r#type.clone()),
                status: "FAILED".to_owned(),
                reason: Some(reason),
                properties: None,
                token: None,
                operation_id: change_set
                    .id
                    .rsplit('/')
                    .next()
                    .unwrap_or_default()
                    .to_owned(),
                operation_type: "CREATE_CHANGESET".to_owned(),
                validation: Some(Validation {
                    change_set_id: change_set.id.clone(),
                    name: name.to_owned(),
                    mode: "FAIL".to_owned(),
                    path,
                }),
            });
        };
        let bytes = change_set.version.template.len();
        for problem in cfn::check::document(&target.document, bytes) {
            if target.document.resources.contains_key(&problem.logical_id) {
                let place = problem.path.replace('.', "/");
                let place = place.strip_prefix("Properties/").unwrap_or(&place);
                let path = format!("/Resources/{}/Properties/{place}", problem.logical_id);
                found(
                    &problem.logical_id,
                    "PROPERTY_VALIDATION",
                    path,
                    problem.message,
                );
            }
        }
        let Some(buckets) = self.account.buckets() else {
            return events;
        };
        let places = [
            ("AWS::Lambda::Function", "/Code/S3Bucket"),
            (
                "AWS::ElasticBeanstalk::ApplicationVersion",
                "/SourceBundle/S3Bucket",
            ),
        ];
        for (r#type, pointer) in places {
            for resource in target.resolved.of_type(r#type) {
                let Some(bucket) = resource.text(pointer) else {
                    continue;
                };
                let is_own = target.resolved.find("AWS::S3::Bucket", &bucket).is_some();
                if !is_own && !buckets.exists(&bucket).await {
                    let id = &resource.logical_id;
                    found(
                        id,
                        "RESOURCE_EXISTENCE",
                        format!("/Resources/{id}/Properties{pointer}"),
                        format!("Bucket '{bucket}' does not exist"),
                    );
                }
            }
        }
        // Names that somebody else has.
        for (id, resource) in &target.resolved.resources {
            let is_new = stack.resources.get(id).is_none_or(|it| !it.exists());
            let is_imported = change_set.imported.contains_key(id);
            let declared = target.document.resources.get(id);
            let is_custom = declared.is_some_and(super::naming::is_custom);
            if resource.r#type == "AWS::S3::Bucket"
                && is_new
                && is_custom
                && !is_imported
                && buckets.exists(&resource.physical_id).await
            {
                found(
                    id,
                    "RESOURCE_NAME_CONFLICT",
                    format!("/Resources/{id}/Properties/BucketName"),
                    format!(
                        "Resource of type 'AWS::S3::Bucket' with identifier '{}' already exists.",
                        resource.physical_id
                    ),
                );
            }
        }
        events
    }

    /// `DescribeChangeSet`
    pub(super) fn describe_change_set(
        &self,
        region: &str,
        form: &Form,
        xml: &mut Xml,
    ) -> Result<(), Failure> {
        let (cell, id) = self.change_set(region, form)?;
        let stack = cell.read();
        let change_set = stack.change_sets.iter().find(|it| it.id == id);
        let change_set = change_set.ok_or_else(|| not_found(&id))?;
        let begin = form
            .get("NextToken")
            .and_then(|it| it.parse().ok())
            .unwrap_or(0usize);
        let end = (begin + PAGE).min(change_set.changes.len());
        let with_values = form.is_true("IncludePropertyValues");
        xml.text("ChangeSetName", &change_set.name)
            .text("ChangeSetId", &change_set.id)
            .text("StackId", &stack.id)
            .text("StackName", &stack.name)
            .maybe("Description", change_set.description.as_deref())
            .text("CreationTime", &change_set.created_at.to_string())
            .text("ExecutionStatus", &change_set.execution_status)
            .text("Status", &change_set.status)
            .maybe("StatusReason", change_set.reason.as_deref())
            .text("IncludeNestedStacks", "false");
        super::describe::parameters(xml, &change_set.version);
        super::describe::tags(xml, &change_set.version.tags);
        xml.texts("Capabilities", &change_set.version.capabilities)
            .members(
                "Changes",
                change_set.changes.get(begin..end).unwrap_or_default(),
                |xml, change| {
                    xml.text("Type", "Resource")
                        .within("ResourceChange", |xml| write(xml, change, with_values));
                },
            );
        if end < change_set.changes.len() {
            xml.text("NextToken", &end.to_string());
        }
        Ok(())
    }

    /// `ListChangeSets`
    pub(super) fn list_change_sets(
        &self,
        region: &str,
        form: &Form,
        xml: &mut Xml,
    ) -> Result<(), Failure> {
        let cell = self.named(region, form)?;
        let stack = cell.read();
        xml.members("Summaries", &stack.change_sets, |xml, change_set| {
            xml.text("ChangeSetName", &change_set.name)
                .text("ChangeSetId", &change_set.id)
                .text("StackId", &stack.id)
                .text("StackName", &stack.name)
                .text("Status", &change_set.status)
                .maybe("StatusReason", change_set.reason.as_deref())
                .text("ExecutionStatus", &change_set.execution_status)
                .text("CreationTime", &change_set.created_at.to_string());
        });
        Ok(())
    }

    /// `ExecuteChangeSet`
    pub(super) fn execute_change_set(
        self: &Arc<Self>,
        region: &str,
        form: &Form,
    ) -> Result<(), Failure> {
        let (cell, id) = self.change_set(region, form)?;
        let role_arn = {
            let stack = cell.read();
            let change_set = stack.change_sets.iter().find(|it| it.id == id);
            let own = change_set.and_then(|it| it.role_arn.clone());
            own.or_else(|| stack.role_arn.clone())
        };
        self.check_role(role_arn.as_deref())?;
        let token = form.get("ClientRequestToken");
        let begun = cell.change(|stack| -> Result<bool, Failure> {
            if is_repeated(stack, token, &format!("ExecuteChangeSet {id}"))? {
                return Ok(false);
            }
            let change_set = stack.change_sets.iter().find(|it| it.id == id);
            let change_set = change_set.ok_or_else(|| not_found(&id))?.clone();
            if change_set.status != "CREATE_COMPLETE" || change_set.execution_status != "AVAILABLE"
            {
                let status = if change_set.status == "CREATE_COMPLETE" {
                    &change_set.execution_status
                } else {
                    &change_set.status
                };
                return Err(Failure::new(
                    "InvalidChangeSetStatus",
                    format!(
                        "ChangeSet [{id}] cannot be executed in its current status of [{status}]"
                    ),
                ));
            }
            super::request::check_updatable(stack, &change_set.r#type)?;
            if let Some(role_arn) = &change_set.role_arn {
                stack.role_arn = Some(role_arn.clone());
            }
            self.begin(stack, &change_set, form, token)?;
            remember(stack, token, format!("ExecuteChangeSet {id}"));
            // The others compare with what the stack is no longer.
            stack.change_sets.retain(|it| it.id == id);
            for it in &mut stack.change_sets {
                "EXECUTE_IN_PROGRESS".clone_into(&mut it.execution_status);
            }
            Ok(true)
        })?;
        if begun {
            self.run(cell);
        }
        Ok(())
    }

    /// Makes the change set's operation that of the stack.
    fn begin(
        &self,
        stack: &mut Stack,
        change_set: &ChangeSet,
        form: &Form,
        token: Option<&str>,
    ) -> Result<(), Failure> {
        let (r#type, phase) = match change_set.r#type.as_str() {
            "CREATE" => ("CREATE_STACK", Phase::Create),
            "IMPORT" => ("IMPORT", Phase::Import),
            _ => ("UPDATE_STACK", Phase::Update),
        };
        let mut operation = Operation::new(r#type, phase, token);
        let disable = form.get("DisableRollback").map(|it| it == "true");
        if disable.is_some() && change_set.on_failure.is_some() {
            return Err(invalid(
                "DisableRollback and OnStackFailure cannot be specified together",
            ));
        }
        operation.on_failure = match disable {
            Some(true) => OnFailure::DoNothing,
            _ => change_set.on_failure.unwrap_or(OnFailure::Rollback),
        };
        operation.retain_except_on_create = form.is_true("RetainExceptOnCreate");
        stack.disable_rollback = operation.on_failure == OnFailure::DoNothing;
        let changes = &change_set.changes;
        self.plan(
            stack,
            operation,
            &change_set.version,
            changes,
            &change_set.imported,
        )
    }

    /// `DeleteChangeSet`
    pub(super) fn delete_change_set(&self, region: &str, form: &Form) -> Result<(), Failure> {
        // One that is not there is deleted already.
        let (cell, id) = match self.change_set(region, form) {
            Err(failure) if failure.code == "ChangeSetNotFound" => return Ok(()),
            found => found?,
        };
        cell.change(|stack| {
            let is_executing = stack
                .change_sets
                .iter()
                .any(|it| it.id == id && it.execution_status == "EXECUTE_IN_PROGRESS");
            if is_executing {
                return Err(Failure::new(
                    "InvalidChangeSetStatus",
                    format!("ChangeSet [{id}] cannot be deleted in its current status of [EXECUTE_IN_PROGRESS]"),
                ));
            }
            stack.change_sets.retain(|it| it.id != id);
            Ok(())
        })
    }

    /// The change set that a request names, by its ARN or by name and stack.
    fn change_set(&self, region: &str, form: &Form) -> Result<(Arc<StackCell>, String), Failure> {
        let name = form
            .get("ChangeSetName")
            .ok_or_else(|| missing("changeSetName"))?;
        if name.starts_with("arn:") {
            let found = self.stacks.all().into_iter().find(|cell| {
                cell.region == region && cell.read().change_sets.iter().any(|it| it.id == name)
            });
            let cell = found.ok_or_else(|| not_found(name))?;
            return Ok((cell, name.to_owned()));
        }
        if form.get("StackName").is_none() {
            return Err(invalid(
                "StackName must be specified if ChangeSetName is not specified as an ARN.",
            ));
        }
        let cell = self.named(region, form)?;
        let stack = cell.read();
        let id = stack.change_sets.iter().find(|it| it.name == name);
        let id = id.ok_or_else(|| not_found(name))?.id.clone();
        drop(stack);
        Ok((cell, id))
    }
}

/// Whether a call was made before with the same token; then it is answered as then.
///
/// # Errors
/// `TokenAlreadyExistsException`: the token was used for something else.
pub(super) fn is_repeated(stack: &Stack, token: Option<&str>, what: &str) -> Result<bool, Failure> {
    match token.and_then(|token| stack.tokens.get(token)) {
        None => Ok(false),
        Some(known) if known == what => Ok(true),
        Some(_) => Err(Failure::new(
            "TokenAlreadyExistsException",
            format!(
                "Token {} already exists for another operation of stack {}",
                token.unwrap_or_default(),
                stack.name
            ),
        )),
    }
}

/// Remembers what a token was used for.
pub(super) fn remember(stack: &mut Stack, token: Option<&str>, what: String) {
    if let Some(token) = token {
        stack.tokens.insert(token.to_owned(), what);
    }
}

/// What a change set starts from: the version of the stack.
fn previous(
    cell: Option<&StackCell>,
    name: &str,
    r#type: &str,
    change_set: &str,
) -> Result<Option<Version>, Failure> {
    match (r#type, cell) {
        ("CREATE" | "IMPORT", None) => Ok(None),
        ("CREATE", Some(cell)) => {
            let stack = cell.read();
            if stack.status == "REVIEW_IN_PROGRESS" {
                return Ok(None);
            }
            Err(invalid(format!(
                "Stack [{}] already exists and cannot be created again with the changeSet [{change_set}].",
                stack.name
            )))
        }
        (_, None) => Err(invalid(format!("Stack [{name}] does not exist"))),
        ("UPDATE" | "IMPORT", Some(cell)) => {
            let stack = cell.read();
            super::request::check_updatable(&stack, r#type)?;
            Ok(stack.version.clone())
        }
        (other, _) => Err(invalid(format!(
            "1 validation error detected: Value '{other}' at 'changeSetType' failed to satisfy constraint: Member must satisfy enum value set: [IMPORT, UPDATE, CREATE]"
        ))),
    }
}

fn imported(form: &Form) -> BTreeMap<String, String> {
    let resources = form.structures("ResourcesToImport");
    let pairs = resources.iter().filter_map(|resource| {
        let id = resource.get("LogicalResourceId")?;
        let identifier = resource.structures("ResourceIdentifier.entry");
        let value = identifier.first()?.get("value")?.to_owned();
        Some((id.to_owned(), value))
    });
    pairs.collect()
}

fn is_same(left: &Version, right: &Version) -> bool {
    let json = |text: &str| serde_json::from_str::<serde_json::Value>(text).ok();
    left.parameters == right.parameters
        && left.tags == right.tags
        && (left.template == right.template || json(&left.template) == json(&right.template))
}

fn write(xml: &mut Xml, change: &Change, with_values: bool) {
    let physical_id = Some(change.physical_id.as_str()).filter(|it| !it.is_empty());
    xml.maybe("PolicyAction", change.policy_action.as_deref())
        .text("Action", &change.action)
        .text("LogicalResourceId", &change.logical_id)
        .maybe("PhysicalResourceId", physical_id)
        .text("ResourceType", &change.r#type)
        .maybe("Replacement", change.replacement.as_deref())
        .texts("Scope", &change.scope)
        .members("Details", &change.details, |xml, detail| {
            write_detail(xml, detail, with_values);
        });
}

fn write_detail(xml: &mut Xml, detail: &Detail, with_values: bool) {
    xml.within("Target", |xml| {
        xml.text("Attribute", &detail.attribute)
            .maybe("Name", detail.name.as_deref())
            .text("RequiresRecreation", &detail.requires_recreation);
        if with_values {
            let kind = match (&detail.before, &detail.after) {
                (None, Some(_)) => "Add",
                (Some(_), None) => "Remove",
                _ => "Modify",
            };
            xml.text("Path", &detail.path)
                .maybe("BeforeValue", detail.before.as_deref())
                .maybe("AfterValue", detail.after.as_deref())
                .text("AttributeChangeType", kind);
        }
    })
    .text(
        "Evaluation",
        if detail.is_dynamic {
            "Dynamic"
        } else {
            "Static"
        },
    )
    .text("ChangeSource", &detail.change_source)
    .maybe("CausingEntity", detail.causing_entity.as_deref());
}

fn not_found(name: &str) -> Failure {
    Failure::with(
        axum::http::StatusCode::NOT_FOUND,
        "ChangeSetNotFound",
        format!("ChangeSet [{name}] does not exist"),
    )
}

fn missing(what: &str) -> Failure {
    invalid(format!(
        "1 validation error detected: Value null at '{what}' failed to satisfy constraint: Member must not be null"
    ))
}

fn check_name(name: &str, what: &str) -> Result<(), Failure> {
    let is_good = name.starts_with("arn:")
        || (name.len() <= 128
            && name.starts_with(|it: char| it.is_ascii_alphabetic())
            && name
                .bytes()
                .all(|it| it.is_ascii_alphanumeric() || it == b'-'));
    if is_good {
        return Ok(());
    }
    Err(invalid(format!(
        "1 validation error detected: Value '{name}' at '{what}' failed to satisfy constraint: Member must satisfy regular expression pattern: [a-zA-Z][-a-zA-Z0-9]*"
    )))
}

fn check_stack_name(name: &str) -> Result<(), Failure> {
    if name.starts_with("arn:") {
        return Err(invalid(format!("Stack [{name}] does not exist")));
    }
    check_name(name, "stackName")
}
