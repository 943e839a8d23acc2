//! CloudFormation in the query protocol: change sets, operations on stacks, and what is said of them.
//!
//! <https://docs.aws.amazon.com/AWSCloudFormation/latest/APIReference/>
//!
//! Layout: `stack` is what is known, `store` keeps it; `version` and `naming` say what a template
//! means, `changes` what a new one does; `request`, `change_set` and `describe` are the calls;
//! `operation` and `step` do what was asked for; `runner` and `artifact` run it.
//!
//! # Differs from AWS
//! - Templates are JSON, without `Transform`, `Rules`, nested stacks, macros and YAML.
//! - Stacks are made and changed by change sets only: `CreateStack` and `UpdateStack` are not here.
//! - Only buckets and the parts of a pipeline do anything; other resources are kept on paper.
//! - An operation that is cancelled, or whose neighbour fails, ends at once; AWS waits for what a
//!   service has begun.
//! - A cleanup deletes once; AWS tries three times.
//! - Stack policies, drift, rollback triggers, notifications and service roles do nothing.
//! - A removed resource that another stack imports is not held back.
//! - Deleted stacks are kept for ever, not for 90 days.

mod artifact;
mod change_set;
mod changes;
mod describe;
mod engine;
mod naming;
mod operation;
mod request;
mod runner;
mod stack;
mod step;
mod store;
mod version;

use std::sync::Arc;
use std::time::Duration;

use axum::response::Response;
use futures_util::future::BoxFuture;

use self::change_set::{is_repeated, remember};
use self::engine::Engine;
use self::request::invalid;
use self::stack::{Operation, Phase, Stack};
use self::store::Stacks;
use super::account::Account;
use super::call::{Call, Failure, Protocol, Service, query_response};
use super::form::Form;
use super::xml::Xml;

const NAMESPACE: &str = "http://cloudformation.amazonaws.com/doc/2010-05-15/";

/// How often what operations have changed is written.
const WRITTEN_EVERY: Duration = Duration::from_millis(50);

/// The service.
#[derive(Debug)]
pub struct CloudFormation {
    engine: Arc<Engine>,
}

impl CloudFormation {
    /// Reads what an earlier run has left.
    ///
    /// # Errors
    /// The data folder cannot be used, or was not written by us.
    pub fn open(account: &Arc<Account>) -> anyhow::Result<CloudFormation> {
        let stacks = Stacks::open(account.settings.data.join("stacks"))?;
        let engine = Engine::new(Arc::clone(account), stacks);
        for cell in engine.stacks.all() {
            let stack = cell.read();
            stack.resources.keys().for_each(|id| engine.put(&stack, id));
        }
        Ok(CloudFormation { engine })
    }
}

impl Drop for CloudFormation {
    fn drop(&mut self) {
        self.engine.halt();
    }
}

impl Service for CloudFormation {
    fn names(&self) -> &'static [&'static str] {
        &["cloudformation"]
    }

    fn protocol(&self) -> Protocol {
        Protocol::Query
    }

    fn answer(&self, call: Call) -> BoxFuture<'_, Response> {
        Box::pin(async move {
            let form = call.form();
            let action = form.get("Action").unwrap_or_default().to_owned();
            match self.perform(&action, &call.region, &form).await {
                Ok(xml) => query_response(NAMESPACE, &action, |result| result.append(xml)),
                Err(failure) => failure.response(Protocol::Query),
            }
        })
    }

    /// Goes on with what was under way when an earlier run ended.
    fn resume(&self) {
        let engine = Arc::clone(&self.engine);
        self.engine.spawn(async move {
            loop {
                tokio::time::sleep(WRITTEN_EVERY).await;
                engine.stacks.write();
            }
        });
        for cell in self.engine.stacks.all() {
            let (is_busy, is_there, open) = {
                let stack = cell.read();
                let open = stack.change_sets.iter();
                let open = open.filter(|it| it.status == "CREATE_IN_PROGRESS");
                (
                    stack.is_busy(),
                    stack.version.is_some() && is_standing(&stack.status),
                    open.map(|it| it.id.clone()).collect::<Vec<_>>(),
                )
            };
            for id in open {
                self.engine.evaluate_later(Arc::clone(&cell), id);
            }
            if is_busy {
                self.engine.run(cell);
            } else if is_there {
                let engine = Arc::clone(&self.engine);
                self.engine.spawn(async move {
                    engine.runner.resume(&engine, &cell).await;
                });
            }
        }
    }

    fn halt(&self) {
        self.engine.halt();
    }

    fn stop(&self) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            self.engine.halt();
            self.engine.halted().await;
            self.engine.runner.stop().await;
        })
    }
}

/// Whether a stack in this status has something that runs.
fn is_standing(status: &str) -> bool {
    matches!(
        status,
        "CREATE_COMPLETE"
            | "UPDATE_COMPLETE"
            | "UPDATE_ROLLBACK_COMPLETE"
            | "IMPORT_COMPLETE"
            | "IMPORT_ROLLBACK_COMPLETE"
    )
}

impl CloudFormation {
    async fn perform(&self, action: &str, region: &str, form: &Form) -> Result<Xml, Failure> {
        let engine = &self.engine;
        let mut xml = Xml::fragment();
        let out = &mut xml;
        match action {
            "CancelUpdateStack" => self.cancel_update_stack(region, form),
            "ContinueUpdateRollback" => self.continue_update_rollback(region, form),
            "CreateChangeSet" => engine.create_change_set(region, form, out).await,
            "DeleteChangeSet" => engine.delete_change_set(region, form),
            "DeleteStack" => self.delete_stack(region, form),
            "DescribeChangeSet" => engine.describe_change_set(region, form, out),
            "DescribeEvents" => engine.describe_events(region, form, out),
            "DescribeStackEvents" => engine.describe_stack_events(region, form, out),
            "DescribeStackResource" => engine.describe_stack_resource(region, form, out),
            "DescribeStackResources" => engine.describe_stack_resources(region, form, out),
            "DescribeStacks" => engine.describe_stacks(region, form, out),
            "ExecuteChangeSet" => engine.execute_change_set(region, form),
            "GetTemplate" => engine.get_template(region, form, out),
            "ListChangeSets" => engine.list_change_sets(region, form, out),
            "ListExports" => engine.list_exports(region, form, out),
            "ListStackResources" => engine.list_stack_resources(region, form, out),
            "ListStacks" => engine.list_stacks(region, form, out),
            "RollbackStack" => self.rollback_stack(region, form, out),
            "UpdateTerminationProtection" => self.protect(region, form, out),
            "ValidateTemplate" => engine.validate_template(form, out).await,
            "" => Err(Failure::new("MissingAction", "the request names no Action")),
            _ => Err(Failure::not_here("cloudformation", action)),
        }?;
        Ok(xml)
    }

    /// `DeleteStack`; a stack that is not there is deleted.
    fn delete_stack(&self, region: &str, form: &Form) -> Result<(), Failure> {
        let cell = match self.engine.named(region, form) {
            Err(_) if form.get("StackName").is_some() => return Ok(()),
            cell => cell?,
        };
        let token = form.get("ClientRequestToken");
        let retained: Vec<&str> = form.texts("RetainResources");
        let force = form.get("DeletionMode") == Some("FORCE_DELETE_STACK");
        let associated = cell.read().role_arn.clone();
        let role_arn = self.engine.role(form, associated)?;
        let begun = cell.change(|stack| -> Result<bool, Failure> {
            if stack.is_deleted() || stack.status == "DELETE_IN_PROGRESS" {
                return Ok(false);
            }
            if is_repeated(stack, token, "DeleteStack")? {
                return Ok(false);
            }
            check_deletable(stack, &retained, force)?;
            let mut operation = Operation::new("DELETE_STACK", Phase::Delete, token);
            operation.left_alone = retained.iter().map(|it| (*it).to_owned()).collect();
            operation.force = force;
            stack.role_arn.clone_from(&role_arn);
            stack.operation = Some(operation);
            remember(stack, token, "DeleteStack".to_owned());
            stack.set_status("DELETE_IN_PROGRESS", Some("User Initiated"));
            Ok(true)
        })?;
        if begun {
            self.engine.run(cell);
        }
        Ok(())
    }

    /// `UpdateTerminationProtection`
    fn protect(&self, region: &str, form: &Form, xml: &mut Xml) -> Result<(), Failure> {
        let cell = self.engine.named(region, form)?;
        let is_protected = form.is_true("EnableTerminationProtection");
        cell.change(|stack| {
            if stack.is_deleted() {
                return Err(invalid(format!("Stack [{}] does not exist", stack.name)));
            }
            stack.is_protected = is_protected;
            Ok(())
        })?;
        xml.text("StackId", &cell.id);
        Ok(())
    }

    /// `ContinueUpdateRollback`
    fn continue_update_rollback(&self, region: &str, form: &Form) -> Result<(), Failure> {
        let cell = self.engine.named(region, form)?;
        let token = form.get("ClientRequestToken");
        let skipped = form.texts("ResourcesToSkip");
        let associated = cell.read().role_arn.clone();
        let role_arn = self.engine.role(form, associated)?;
        let begun = cell.change(|stack| {
            if is_repeated(stack, token, "ContinueUpdateRollback")? {
                return Ok(false);
            }
            if stack.status != "UPDATE_ROLLBACK_FAILED" {
                return Err(invalid(format!(
                    "Stack:{} is in {} state and can not continue rollback.",
                    stack.id, stack.status
                )));
            }
            for id in &skipped {
                let failed = stack.resources.get(*id).is_some_and(|it| it.status == "UPDATE_FAILED");
                if !failed {
                    return Err(invalid(format!(
                        "Invalid request: The following resource(s) [{id}] cannot be skipped: only resources in UPDATE_FAILED state can be skipped"
                    )));
                }
            }
            let Some(operation) = &mut stack.operation else {
                return Err(invalid(format!("Stack:{} has nothing to roll back to.", stack.id)));
            };
            operation.phase = Phase::UpdateRollback;
            operation.id = uuid::Uuid::new_v4().to_string();
            "CONTINUE_ROLLBACK".clone_into(&mut operation.r#type);
            operation.token = token.map(str::to_owned);
            operation.left_alone = skipped.iter().map(|it| (*it).to_owned()).collect();
            stack.role_arn.clone_from(&role_arn);
            remember(stack, token, "ContinueUpdateRollback".to_owned());
            stack.set_status("UPDATE_ROLLBACK_IN_PROGRESS", Some("User Initiated"));
            Ok(true)
        })?;
        if begun {
            self.engine.run(cell);
        }
        Ok(())
    }

    /// `RollbackStack`: of a creation or an update that failed with rollback switched off.
    fn rollback_stack(&self, region: &str, form: &Form, xml: &mut Xml) -> Result<(), Failure> {
        let cell = self.engine.named(region, form)?;
        let token = form.get("ClientRequestToken");
        let associated = cell.read().role_arn.clone();
        let role_arn = self.engine.role(form, associated)?;
        let begun = cell.change(|stack| {
            if is_repeated(stack, token, "RollbackStack")? {
                return Ok(false);
            }
            let (phase, status) = match stack.status.as_str() {
                "CREATE_FAILED" => (Phase::Rollback, "ROLLBACK_IN_PROGRESS"),
                "UPDATE_FAILED" => (Phase::UpdateRollback, "UPDATE_ROLLBACK_IN_PROGRESS"),
                other => {
                    return Err(invalid(format!(
                        "Stack:{} is in {other} state and can not be rolled back.",
                        stack.id
                    )));
                }
            };
            let operation = stack
                .operation
                .get_or_insert_with(|| Operation::new("ROLLBACK", phase, None));
            operation.phase = phase;
            operation.id = uuid::Uuid::new_v4().to_string();
            "ROLLBACK".clone_into(&mut operation.r#type);
            operation.token = token.map(str::to_owned);
            operation.retain_except_on_create = form.is_true("RetainExceptOnCreate");
            operation.is_cancelled = false;
            stack.role_arn.clone_from(&role_arn);
            remember(stack, token, "RollbackStack".to_owned());
            stack.set_status(status, Some("User Initiated"));
            Ok(true)
        })?;
        xml.text("StackId", &cell.id);
        if begun {
            self.engine.run(cell);
        }
        Ok(())
    }

    /// `CancelUpdateStack`
    fn cancel_update_stack(&self, region: &str, form: &Form) -> Result<(), Failure> {
        let cell = self.engine.named(region, form)?;
        cell.change(|stack| {
            if stack.status != "UPDATE_IN_PROGRESS" {
                return Err(invalid(
                    "CancelUpdateStack cannot be called from current stack status",
                ));
            }
            if let Some(operation) = &mut stack.operation {
                operation.is_cancelled = true;
                // Whoever cancels wants to go back.
                operation.on_failure = stack::OnFailure::Rollback;
            }
            Ok(())
        })?;
        cell.nudged.notify_waiters();
        Ok(())
    }
}

fn check_deletable(stack: &Stack, retained: &[&str], force: bool) -> Result<(), Failure> {
    if stack.is_protected {
        return Err(invalid(format!(
            "Stack [{}] cannot be deleted while TerminationProtection is enabled",
            stack.name
        )));
    }
    let may_interrupt = stack.status == "CREATE_IN_PROGRESS";
    if stack.is_busy() && !may_interrupt {
        return Err(invalid(format!(
            "Stack [{}] cannot be deleted while in status {}",
            stack.id, stack.status
        )));
    }
    if stack.status != "DELETE_FAILED" && (force || !retained.is_empty()) {
        return Err(invalid(format!(
            "Invalid operation on stack [{}]: resources can be retained, and the deletion forced, only while the stack is DELETE_FAILED",
            stack.id
        )));
    }
    if let Some(unknown) = retained
        .iter()
        .find(|it| !stack.resources.contains_key(**it))
    {
        return Err(invalid(format!(
            "The specified resources to retain must be in a DELETE_FAILED state: [{unknown}]"
        )));
    }
    Ok(())
}
