//! Answers about stacks: what they are, what has happened to them, what is in them.

use std::collections::BTreeMap;

use super::engine::Engine;
use super::request::invalid;
use super::stack::{Event, Stack, Version};
use super::version::{self, HIDDEN};
use crate::call::Failure;
use crate::form::Form;
use crate::xml::Xml;

/// Events and resources on a page.
const PAGE: usize = 100;

/// Parameters, hidden ones without their values.
pub(super) fn parameters(xml: &mut Xml, version: &Version) {
    let document = version::parse(&version.template).unwrap_or_default();
    let hidden = version::hidden(&document);
    xml.members("Parameters", &version.parameters, |xml, (name, value)| {
        let is_hidden = hidden.contains(&name.as_str());
        xml.text("ParameterKey", name)
            .text("ParameterValue", if is_hidden { HIDDEN } else { value });
    });
}

/// Tags.
pub(super) fn tags(xml: &mut Xml, tags: &BTreeMap<String, String>) {
    xml.members("Tags", tags, |xml, (key, value)| {
        xml.text("Key", key).text("Value", value);
    });
}

impl Engine {
    /// `DescribeStacks`
    pub(super) fn describe_stacks(
        &self,
        region: &str,
        form: &Form,
        xml: &mut Xml,
    ) -> Result<(), Failure> {
        let cells = match form.get("StackName") {
            Some(_) => vec![self.named(region, form)?],
            None => {
                let all = self.stacks.all().into_iter();
                all.filter(|it| it.region == region && !it.read().is_deleted())
                    .collect()
            }
        };
        xml.members("Stacks", cells, |xml, cell| stack(xml, &cell.read()));
        Ok(())
    }

    /// `ListStacks`
    pub(super) fn list_stacks(
        &self,
        region: &str,
        form: &Form,
        xml: &mut Xml,
    ) -> Result<(), Failure> {
        let wanted = form.texts("StackStatusFilter");
        let cells = self.stacks.all().into_iter().rev();
        let cells = cells.filter(|it| {
            let is_wanted = wanted.is_empty() || wanted.contains(&it.read().status.as_str());
            it.region == region && is_wanted
        });
        let cells: Vec<_> = cells.collect();
        page(xml, form, &cells, PAGE, "StackSummaries", |xml, cell| {
            let stack = cell.read();
            let deleted = stack.deleted_at.map(|it| it.to_string());
            let updated = stack.updated_at.map(|it| it.to_string());
            xml.text("StackId", &stack.id)
                .text("StackName", &stack.name)
                .text("CreationTime", &stack.created_at.to_string())
                .maybe("LastUpdatedTime", updated.as_deref())
                .maybe("DeletionTime", deleted.as_deref())
                .text("StackStatus", &stack.status)
                .maybe("StackStatusReason", stack.reason.as_deref());
        })
    }

    /// `DescribeStackEvents`: the newest first.
    pub(super) fn describe_stack_events(
        &self,
        region: &str,
        form: &Form,
        xml: &mut Xml,
    ) -> Result<(), Failure> {
        let cell = self.named(region, form)?;
        let stack = cell.read();
        let events: Vec<&Event> = stack
            .events
            .iter()
            .rev()
            .filter(|it| it.validation.is_none())
            .collect();
        // A page begins after an event, not after a number of them: new ones come at the front.
        let (events, next) = after(&events, form, |it| &it.id)?;
        xml.members("StackEvents", events, |xml, event| {
            xml.text("StackId", &stack.id)
                .text("EventId", &event.id)
                .text("StackName", &stack.name)
                .text("OperationId", &event.operation_id)
                .text("LogicalResourceId", &event.logical_id)
                .text("PhysicalResourceId", &event.physical_id)
                .text("ResourceType", &event.r#type)
                .text("Timestamp", &event.at.to_string())
                .text("ResourceStatus", &event.status)
                .maybe("ResourceStatusReason", event.reason.as_deref())
                .maybe("ResourceProperties", event.properties.as_deref())
                .maybe("ClientRequestToken", event.token.as_deref());
        })
        .maybe("NextToken", next);
        Ok(())
    }

    /// `DescribeEvents`: those of a stack, of a change set or of one operation, the newest first; with
    /// what validation found.
    pub(super) fn describe_events(
        &self,
        region: &str,
        form: &Form,
        xml: &mut Xml,
    ) -> Result<(), Failure> {
        let change_set = form.get("ChangeSetName");
        let operation = form.get("OperationId");
        let cell = match (form.get("StackName"), change_set, operation) {
            (Some(_), ..) => self.named(region, form)?,
            (None, None, None) => {
                return Err(invalid(
                    "One of StackName, ChangeSetName or OperationId must be specified",
                ));
            }
            (None, change_set, operation) => {
                let found = self.stacks.all().into_iter().find(|cell| {
                    let stack = cell.read();
                    let of_set = |event: &Event| {
                        let id = event
                            .validation
                            .as_ref()
                            .map(|it| it.change_set_id.as_str());
                        change_set.is_some() && id == change_set
                    };
                    let of_operation =
                        |event: &Event| Some(event.operation_id.as_str()) == operation;
                    let has = stack
                        .change_sets
                        .iter()
                        .any(|it| Some(it.id.as_str()) == change_set);
                    has || stack.events.iter().any(|it| of_set(it) || of_operation(it))
                });
                let name = change_set.or(operation).unwrap_or_default();
                found.ok_or_else(|| match change_set {
                    Some(_) => Failure::new(
                        "ChangeSetNotFound",
                        format!("ChangeSet [{name}] does not exist"),
                    ),
                    None => invalid(format!("Operation [{name}] does not exist")),
                })?
            }
        };
        let stack = cell.read();
        let only_failed = form.is_true("Filters.FailedEvents");
        let events: Vec<&Event> = stack
            .events
            .iter()
            .rev()
            .filter(|event| match change_set {
                None => true,
                Some(wanted) => event.validation.as_ref().is_some_and(|it| {
                    it.change_set_id == wanted
                        || it.change_set_id.contains(&format!(":changeSet/{wanted}/"))
                }),
            })
            .filter(|event| operation.is_none_or(|it| event.operation_id == it))
            .filter(|event| !only_failed || event.status.ends_with("FAILED"))
            .collect();
        let (events, next) = after(&events, form, |it| &it.id)?;
        xml.members("OperationEvents", events, |xml, event| {
            operation_event(xml, &stack, event);
        })
        .maybe("NextToken", next);
        Ok(())
    }

    /// `DescribeStackResources` and `DescribeStackResource`
    pub(super) fn describe_stack_resources(
        &self,
        region: &str,
        form: &Form,
        xml: &mut Xml,
    ) -> Result<(), Failure> {
        let cell = self.named(region, form)?;
        let stack = cell.read();
        let wanted = form.get("LogicalResourceId");
        let resources = stack
            .resources
            .iter()
            .filter(|(id, _)| wanted.is_none_or(|it| it == id.as_str()));
        xml.members("StackResources", resources, |xml, (id, _)| {
            xml.text("StackName", &stack.name)
                .text("StackId", &stack.id);
            resource(xml, &stack, id, "Timestamp");
        });
        Ok(())
    }

    /// `DescribeStackResource`
    pub(super) fn describe_stack_resource(
        &self,
        region: &str,
        form: &Form,
        xml: &mut Xml,
    ) -> Result<(), Failure> {
        let cell = self.named(region, form)?;
        let stack = cell.read();
        let id = form.get("LogicalResourceId").unwrap_or_default();
        if !stack.resources.contains_key(id) {
            return Err(invalid(format!(
                "Resource {id} does not exist for stack {}",
                stack.name
            )));
        }
        xml.within("StackResourceDetail", |xml| {
            xml.text("StackName", &stack.name)
                .text("StackId", &stack.id);
            resource(xml, &stack, id, "LastUpdatedTimestamp");
        });
        Ok(())
    }

    /// `ListStackResources`
    pub(super) fn list_stack_resources(
        &self,
        region: &str,
        form: &Form,
        xml: &mut Xml,
    ) -> Result<(), Failure> {
        let cell = self.named(region, form)?;
        let stack = cell.read();
        let ids: Vec<&String> = stack.resources.keys().collect();
        page(
            xml,
            form,
            &ids,
            PAGE,
            "StackResourceSummaries",
            |xml, id| {
                resource(xml, &stack, id, "LastUpdatedTimestamp");
            },
        )
    }

    /// `GetTemplate`: the text as it was given.
    pub(super) fn get_template(
        &self,
        region: &str,
        form: &Form,
        xml: &mut Xml,
    ) -> Result<(), Failure> {
        let cell = self.named(region, form)?;
        let stack = cell.read();
        let wanted = form.get("ChangeSetName");
        let version = match wanted {
            Some(name) => stack
                .change_sets
                .iter()
                .find(|it| it.name == name || it.id == name)
                .map(|it| &it.version),
            None => stack.version.as_ref(),
        };
        let text = version.map_or("", |it| it.template.as_str());
        xml.text("TemplateBody", text)
            .texts("StagesAvailable", ["Original", "Processed"]);
        Ok(())
    }

    /// `ListExports`
    pub(super) fn list_exports(
        &self,
        region: &str,
        form: &Form,
        xml: &mut Xml,
    ) -> Result<(), Failure> {
        let mut exports = Vec::new();
        for cell in self.stacks.all() {
            let stack = cell.read();
            if cell.region == region && !stack.is_deleted() {
                let named = stack.outputs.iter();
                exports.extend(named.filter_map(|it| {
                    Some((cell.id.clone(), it.export.clone()?, it.value.clone()))
                }));
            }
        }
        page(
            xml,
            form,
            &exports,
            PAGE,
            "Exports",
            |xml, (id, name, value)| {
                xml.text("ExportingStackId", id)
                    .text("Name", name)
                    .text("Value", value);
            },
        )
    }

    /// `ValidateTemplate`
    pub(super) async fn validate_template(
        &self,
        form: &Form,
        xml: &mut Xml,
    ) -> Result<(), Failure> {
        let template = self.template(form, None).await?;
        let document = version::parse(&template)?;
        xml.members(
            "Parameters",
            &document.parameters,
            |xml, (name, parameter)| {
                let default = parameter.default.as_ref().map(|it| match it.as_str() {
                    Some(text) => text.to_owned(),
                    None => it.to_string(),
                });
                xml.text("ParameterKey", name)
                    .maybe("DefaultValue", default.as_deref())
                    .text("NoEcho", if parameter.no_echo { "true" } else { "false" })
                    .maybe("Description", parameter.description.as_deref());
            },
        )
        .maybe("Description", document.description.as_deref());
        if let Err(failure) = version::check_capabilities(&document, &[]) {
            let capability = failure
                .message
                .rsplit(['[', ']'])
                .nth(1)
                .unwrap_or_default();
            xml.texts("Capabilities", [capability]).text(
                "CapabilitiesReason",
                "The following resource(s) require capabilities: [AWS::IAM]",
            );
        }
        Ok(())
    }
}

fn stack(xml: &mut Xml, stack: &Stack) {
    let updated = stack.updated_at.map(|it| it.to_string());
    let deleted = stack.deleted_at.map(|it| it.to_string());
    let flag = |value: bool| if value { "true" } else { "false" };
    let nothing = Version::default();
    let version = stack.version.as_ref().unwrap_or(&nothing);
    let description = version::parse(&version.template)
        .ok()
        .and_then(|it| it.description);
    xml.text("StackId", &stack.id)
        .text("StackName", &stack.name)
        .maybe("Description", description.as_deref());
    parameters(xml, version);
    xml.text("CreationTime", &stack.created_at.to_string())
        .maybe("LastUpdatedTime", updated.as_deref())
        .maybe("DeletionTime", deleted.as_deref())
        .text("StackStatus", &stack.status)
        .maybe("StackStatusReason", stack.reason.as_deref())
        .text("DisableRollback", flag(stack.disable_rollback))
        .text("EnableTerminationProtection", flag(stack.is_protected))
        .maybe("RoleARN", stack.role_arn.as_deref())
        .texts("Capabilities", &version.capabilities)
        .members("Outputs", &stack.outputs, |xml, output| {
            xml.text("OutputKey", &output.name)
                .text("OutputValue", &output.value)
                .maybe("Description", output.description.as_deref())
                .maybe("ExportName", output.export.as_deref());
        });
    tags(xml, &version.tags);
    xml.within("DriftInformation", |xml| {
        xml.text("StackDriftStatus", "NOT_CHECKED");
    });
}

fn resource(xml: &mut Xml, stack: &Stack, id: &str, timestamp: &str) {
    let Some(resource) = stack.resources.get(id) else {
        return;
    };
    let physical_id = Some(resource.physical_id.as_str()).filter(|it| !it.is_empty());
    xml.text("LogicalResourceId", id)
        .maybe("PhysicalResourceId", physical_id)
        .text("ResourceType", &resource.r#type)
        .text(timestamp, &resource.updated_at.to_string())
        .text("ResourceStatus", &resource.status)
        .maybe("ResourceStatusReason", resource.reason.as_deref());
}

fn operation_event(xml: &mut Xml, stack: &Stack, event: &Event) {
    let kind = match (&event.validation, event.status.ends_with("_FAILED")) {
        (Some(_), _) => "VALIDATION_ERROR",
        (None, true) if event.physical_id != stack.id => "PROVISIONING_ERROR",
        _ => "STACK_EVENT",
    };
    xml.text("EventId", &event.id)
        .text("StackId", &stack.id)
        .text("OperationId", &event.operation_id)
        .text("OperationType", &event.operation_type)
        .text("EventType", kind)
        .text("LogicalResourceId", &event.logical_id)
        .text("PhysicalResourceId", &event.physical_id)
        .text("ResourceType", &event.r#type)
        .text("Timestamp", &event.at.to_string())
        .maybe("ClientRequestToken", event.token.as_deref());
    match &event.validation {
        Some(validation) => {
            xml.text("ValidationName", &validation.name)
                .text("ValidationStatus", "FAILED")
                .maybe("ValidationStatusReason", event.reason.as_deref())
                .text("ValidationFailureMode", &validation.mode)
                .text("ValidationPath", &validation.path);
        }
        None => {
            xml.text("ResourceStatus", &event.status)
                .maybe("ResourceStatusReason", event.reason.as_deref())
                .maybe("ResourceProperties", event.properties.as_deref());
        }
    }
}

/// A page of a list, by position.
fn page<T>(
    xml: &mut Xml,
    form: &Form,
    items: &[T],
    size: usize,
    name: &str,
    inside: impl FnMut(&mut Xml, &T),
) -> Result<(), Failure> {
    let begin = match form.get("NextToken") {
        None => 0,
        Some(token) => token
            .parse()
            .map_err(|_| invalid(format!("The NextToken {token} is invalid")))?,
    };
    let end = items.len().min(begin + size);
    let next = (end < items.len()).then(|| end.to_string());
    xml.members(name, items.get(begin..end).unwrap_or_default(), inside)
        .maybe("NextToken", next.as_deref());
    Ok(())
}

/// A page of events, which begins after the event that the token names; and the next token.
fn after<'a, 'e>(
    events: &'a [&'e Event],
    form: &Form,
    id: impl Fn(&'e Event) -> &'e str,
) -> Result<(Vec<&'a Event>, Option<&'e str>), Failure> {
    let begin = match form.get("NextToken") {
        None => 0,
        Some(token) => {
            let known = events.iter().position(|it| id(it) == token);
            known.ok_or_else(|| invalid(format!("The NextToken {token} is invalid")))? + 1
        }
    };
    let end = events.len().min(begin + PAGE);
    let page: Vec<&Event> = events[begin..end].to_vec();
    let next = (end < events.len()).then(|| id(events[end - 1]));
    Ok((page, next))
}
