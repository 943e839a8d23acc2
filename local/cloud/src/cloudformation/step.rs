//! What is done to one resource, with its events.

use std::sync::Arc;

use serde_json::Value as Json;
use uuid::Uuid;

use super::engine::Engine;
use super::operation::fail_step;
use super::stack::{Deed, Leftover, Phase, Progress, Resource, Settled};
use super::store::StackCell;
use crate::account;
use crate::call::Failure;
use crate::fault::FailedStatus;
use crate::pace;

/// Why a resource could not be made.
struct NotMade {
    reason: String,
    /// Whether something of it is there all the same.
    is_made: bool,
}

impl NotMade {
    fn made(reason: String) -> NotMade {
        NotMade {
            reason,
            is_made: true,
        }
    }
}

/// What becomes of a physical resource that is to go.
#[derive(PartialEq, Eq)]
enum Fate {
    Delete,
    Keep,
}

impl Engine {
    /// Why a resource shall fail now.
    pub(super) fn fault(&self, logical_id: &str, deed: FailedStatus) -> Option<String> {
        self.account.settings.faults.of_resource(logical_id, deed)
    }

    async fn take_time(&self, r#type: &str, deed: pace::Deed) {
        tokio::time::sleep(self.account.settings.pace.of(r#type, deed)).await;
    }

    /// Creates, changes, replaces or imports one resource.
    pub(super) async fn step(
        self: &Arc<Self>,
        cell: &Arc<StackCell>,
        id: String,
    ) -> Result<(), String> {
        let Some(step) = cell.step(|stack| {
            let operation = stack.operation.as_mut()?;
            let step = operation.steps.get_mut(&id)?;
            let was_running = step.progress == Progress::Running;
            step.progress = Progress::Running;
            let step = step.clone();
            let resource = stack
                .resources
                .entry(id.clone())
                .or_insert_with(|| Resource::new(&step.r#type));
            resource.is_stale = false;
            if was_running {
                return Some((step, true));
            }
            let (status, reason) = match step.deed {
                Deed::Add => {
                    *resource = Resource::new(&step.r#type);
                    ("CREATE_IN_PROGRESS", None)
                }
                Deed::Modify => ("UPDATE_IN_PROGRESS", None),
                Deed::Replace => (
                    "UPDATE_IN_PROGRESS",
                    Some("Requested update requires the creation of a new physical resource; hence creating one."),
                ),
                Deed::Import => {
                    resource.physical_id.clone_from(&step.physical_id);
                    ("IMPORT_IN_PROGRESS", Some("Resource import started."))
                }
            };
            stack.set_resource(&id, status, reason);
            Some((step, false))
        }) else {
            return Ok(());
        };
        let (step, is_resumed) = step;
        let made = match step.deed {
            Deed::Add => {
                self.begin_creation(cell, &id, "CREATE_IN_PROGRESS");
                self.make(cell, &id, &step, is_resumed).await
            }
            Deed::Replace => self.replace(cell, &id, &step, is_resumed).await,
            Deed::Modify => self.modify(cell, &id, &step).await.map_err(NotMade::made),
            Deed::Import => self.import(&id, &step).await,
        };
        match made {
            Ok(()) => {
                cell.step(|stack| {
                    let old = stack.resources.get(&id).cloned();
                    let before = stack.operation.as_ref().and_then(|it| it.before.as_ref());
                    let before = before.and_then(|it| it.resources.get(&id)).cloned();
                    if let Some(operation) = &mut stack.operation
                        && let Some(step) = operation.steps.get_mut(&id)
                    {
                        step.progress = Progress::Done;
                    }
                    if let Some(resource) = stack.resources.get_mut(&id) {
                        resource.physical_id.clone_from(&step.physical_id);
                        resource.generation = step.generation;
                        resource.settled = Some(step.target.clone());
                        resource.r#type.clone_from(&step.r#type);
                    }
                    let status = match step.deed {
                        Deed::Add => "CREATE_COMPLETE",
                        Deed::Import => "IMPORT_COMPLETE",
                        Deed::Modify | Deed::Replace => "UPDATE_COMPLETE",
                    };
                    stack.set_resource(&id, status, None);
                    if step.deed == Deed::Replace
                        && let (Some(_), Some(before)) = (old, before)
                        && let Some(settled) = before.settled
                    {
                        stack.leftovers.push(Leftover {
                            logical_id: id.clone(),
                            r#type: before.r#type,
                            physical_id: before.physical_id,
                            settled,
                            is_replaced: true,
                        });
                    }
                    self.put(stack, &id);
                });
                Ok(())
            }
            Err(NotMade { reason, is_made }) => {
                cell.step(|stack| fail_step(stack, &id, &reason, is_made));
                Err(reason)
            }
        }
    }

    /// The physical ID is known as soon as the service has answered.
    fn begin_creation(&self, cell: &StackCell, id: &str, status: &str) {
        cell.step(|stack| {
            let step = stack.operation.as_ref().and_then(|it| it.steps.get(id));
            let Some(step) = step.cloned() else {
                return;
            };
            if let Some(resource) = stack.resources.get_mut(id)
                && resource.physical_id != step.physical_id
            {
                resource.physical_id = step.physical_id;
                stack.set_resource(id, status, Some("Resource creation Initiated"));
            }
        });
    }

    async fn make(
        self: &Arc<Self>,
        cell: &Arc<StackCell>,
        id: &str,
        step: &super::stack::Step,
        is_resumed: bool,
    ) -> Result<(), NotMade> {
        self.take_time(&step.r#type, pace::Deed::Create).await;
        if let Some(reason) = self.fault(id, FailedStatus::Create) {
            self.runner
                .explain(&step.r#type, &step.physical_id, &reason);
            return Err(NotMade::made(reason));
        }
        if step.r#type == "AWS::S3::Bucket"
            && let Some(buckets) = self.account.buckets()
        {
            let (bucket, properties) = (&step.physical_id, &step.target.properties);
            // A bucket outlives a kill: whoever goes on must know that it is this stack's.
            cell.change(|_| ());
            return match buckets.create(&cell.region, bucket, properties).await {
                Err(failure) if failure.code == "BucketAlreadyOwnedByYou" && is_resumed => Ok(()),
                made => made.map_err(|failure| NotMade {
                    reason: handler(&failure),
                    is_made: false,
                }),
            };
        }
        self.runner
            .part(self, cell, id, &step.r#type)
            .await
            .map_err(NotMade::made)
    }

    async fn replace(
        self: &Arc<Self>,
        cell: &Arc<StackCell>,
        id: &str,
        step: &super::stack::Step,
        is_resumed: bool,
    ) -> Result<(), NotMade> {
        let old = cell.read().operation.as_ref().and_then(|operation| {
            let before = operation.before.as_ref()?.resources.get(id)?;
            Some(before.physical_id.clone())
        });
        if old.as_ref() == Some(&step.physical_id) {
            return Err(NotMade {
                reason: format!(
                    "CloudFormation cannot update a stack when a custom-named resource requires replacing. Rename {} and update the stack again.",
                    step.physical_id
                ),
                is_made: false,
            });
        }
        if let Some(reason) = self.fault(id, FailedStatus::Update) {
            return Err(NotMade {
                reason,
                is_made: false,
            });
        }
        self.begin_creation(cell, id, "UPDATE_IN_PROGRESS");
        self.make(cell, id, step, is_resumed).await
    }

    async fn modify(
        self: &Arc<Self>,
        cell: &Arc<StackCell>,
        id: &str,
        step: &super::stack::Step,
    ) -> Result<(), String> {
        self.take_time(&step.r#type, pace::Deed::Update).await;
        if let Some(reason) = self.fault(id, FailedStatus::Update) {
            self.runner
                .explain(&step.r#type, &step.physical_id, &reason);
            return Err(reason);
        }
        self.configure(cell, id, &step.r#type, &step.physical_id, &step.target)
            .await
    }

    async fn configure(
        self: &Arc<Self>,
        cell: &Arc<StackCell>,
        id: &str,
        r#type: &str,
        physical_id: &str,
        target: &Settled,
    ) -> Result<(), String> {
        if r#type == "AWS::S3::Bucket"
            && let Some(buckets) = self.account.buckets()
        {
            let configured = buckets.configure(physical_id, &target.properties).await;
            return configured.map_err(|failure| handler(&failure));
        }
        self.runner.part(self, cell, id, r#type).await
    }

    async fn import(&self, id: &str, step: &super::stack::Step) -> Result<(), NotMade> {
        let not_made = |reason: String| NotMade {
            reason,
            is_made: false,
        };
        if let Some(reason) = self.fault(id, FailedStatus::Create) {
            return Err(not_made(reason));
        }
        if step.r#type == "AWS::S3::Bucket"
            && let Some(buckets) = self.account.buckets()
            && !buckets.exists(&step.physical_id).await
        {
            return Err(not_made(format!(
                "Resource of type 'AWS::S3::Bucket' with identifier '{}' was not found.",
                step.physical_id
            )));
        }
        Ok(())
    }

    /// Makes one resource again what it was before an update.
    pub(super) async fn restore(
        self: &Arc<Self>,
        cell: &Arc<StackCell>,
        id: String,
    ) -> Result<(), String> {
        let restored = cell.step(|stack| {
            let operation = stack.operation.as_ref()?;
            let step = operation.steps.get(&id)?.clone();
            let before = operation.before.as_ref()?.resources.get(&id).cloned();
            let is_skipped = operation.left_alone.contains(&id);
            if step.deed == Deed::Replace && step.progress == Progress::Done {
                // The new one goes in the old one's stead.
                stack.leftovers.retain(|it| it.logical_id != id);
                stack.leftovers.push(Leftover {
                    logical_id: id.clone(),
                    r#type: step.r#type.clone(),
                    physical_id: step.physical_id.clone(),
                    settled: step.target.clone(),
                    is_replaced: false,
                });
            }
            if matches!(step.deed, Deed::Add | Deed::Import) {
                let resource = stack.resources.get(&id).cloned()?;
                if let Some(settled) = resource.settled.filter(|_| step.deed == Deed::Add) {
                    stack.leftovers.retain(|it| it.logical_id != id);
                    stack.leftovers.push(Leftover {
                        logical_id: id.clone(),
                        r#type: resource.r#type,
                        physical_id: resource.physical_id,
                        settled,
                        is_replaced: false,
                    });
                } else {
                    stack.resources.shift_remove(&id);
                }
                set_progress(stack, &id, Progress::Restored);
                return None;
            }
            let before = before?;
            if let Some(resource) = stack.resources.get_mut(&id) {
                resource.physical_id.clone_from(&before.physical_id);
                resource.generation = before.generation;
                resource.settled.clone_from(&before.settled);
                resource.r#type.clone_from(&before.r#type);
            }
            if step.deed == Deed::Replace {
                // A failed attempt at restoring finds the new one set aside already.
                set_progress(stack, &id, Progress::Failed);
            }
            stack.set_resource(&id, "UPDATE_IN_PROGRESS", None);
            Some((before, is_skipped))
        });
        let Some((before, is_skipped)) = restored else {
            return Ok(());
        };
        let result = if is_skipped {
            Ok(())
        } else {
            self.take_time(&before.r#type, pace::Deed::Update).await;
            match (self.fault(&id, FailedStatus::Update), &before.settled) {
                (Some(reason), _) => Err(reason),
                (None, Some(target)) => {
                    self.configure(cell, &id, &before.r#type, &before.physical_id, target)
                        .await
                }
                (None, None) => Ok(()),
            }
        };
        cell.step(|stack| match &result {
            Ok(()) => {
                set_progress(stack, &id, Progress::Restored);
                stack.set_resource(&id, "UPDATE_COMPLETE", None);
                self.put(stack, &id);
            }
            Err(reason) => stack.set_resource(&id, "UPDATE_FAILED", Some(reason)),
        });
        result
    }

    /// Removes one resource of a stack that goes.
    pub(super) async fn remove(
        self: &Arc<Self>,
        cell: &Arc<StackCell>,
        id: String,
        is_rollback: bool,
    ) -> Result<(), String> {
        let Some((resource, is_left_alone, is_forced, also_retained)) = ({
            let stack = cell.read();
            let operation = stack.operation.as_ref();
            stack.resources.get(&id).cloned().map(|resource| {
                (
                    resource,
                    operation.is_some_and(|it| it.left_alone.contains(&id)),
                    operation.is_some_and(|it| it.force),
                    operation.is_some_and(|it| it.retain_except_on_create && is_rollback),
                )
            })
        }) else {
            return Ok(());
        };
        let settled = resource.settled.clone().unwrap_or_default();
        let mut fate = match settled.deletion_policy.as_deref() {
            Some("Retain") if !also_retained => Fate::Keep,
            Some("RetainExceptOnCreate") if !is_rollback => Fate::Keep,
            _ => Fate::Delete,
        };
        if is_left_alone {
            fate = Fate::Keep;
        }
        let physical = self.physical(cell, &id, &resource.r#type, &resource.physical_id, &settled);
        if fate == Fate::Keep {
            cell.step(|stack| {
                stack.set_resource(&id, "DELETE_SKIPPED", None);
                if let Some(resource) = stack.resources.get_mut(&id) {
                    resource.settled = None;
                }
            });
            self.account.remove(&physical);
            return Ok(());
        }
        cell.step(|stack| stack.set_resource(&id, "DELETE_IN_PROGRESS", None));
        let policy = settled.deletion_policy.as_deref();
        match self.destroy(&physical, policy).await {
            Ok(()) => {
                self.runner.remove(&cell.id, &id).await;
                cell.step(|stack| {
                    stack.set_resource(&id, "DELETE_COMPLETE", None);
                    if let Some(resource) = stack.resources.get_mut(&id) {
                        resource.settled = None;
                    }
                });
                Ok(())
            }
            Err(reason) => {
                cell.step(|stack| {
                    stack.set_resource(&id, "DELETE_FAILED", Some(&reason));
                    if is_forced {
                        stack.set_resource(&id, "DELETE_SKIPPED", None);
                        if let Some(resource) = stack.resources.get_mut(&id) {
                            resource.settled = None;
                        }
                    }
                });
                if is_forced { Ok(()) } else { Err(reason) }
            }
        }
    }

    /// Removes what an update has left over of a logical ID.
    pub(super) async fn remove_leftovers(
        self: &Arc<Self>,
        cell: &Arc<StackCell>,
        id: String,
    ) -> Result<(), String> {
        let (leftovers, is_rollback) = {
            let stack = cell.read();
            let of_id = stack.leftovers.iter().filter(|it| it.logical_id == id);
            let phase = stack.operation.as_ref().map(|it| it.phase);
            (
                of_id.cloned().collect::<Vec<_>>(),
                phase == Some(Phase::UpdateRollbackCleanUp),
            )
        };
        let mut result = Ok(());
        for leftover in leftovers {
            let Leftover {
                r#type,
                physical_id,
                settled,
                is_replaced,
                ..
            } = &leftover;
            let policy = if *is_replaced {
                settled.update_replace_policy.as_deref()
            } else {
                settled.deletion_policy.as_deref()
            };
            let is_kept = match policy {
                Some("Retain") => true,
                Some("RetainExceptOnCreate") => !is_rollback,
                _ => false,
            };
            let tell = |status: &str, reason: Option<&str>| {
                cell.step(|stack| {
                    stack.tell(&id, r#type, physical_id, status, reason, None);
                    // A resource whose logical ID is gone, too, is listed until it is deleted.
                    let is_same = stack
                        .resources
                        .get(&id)
                        .is_some_and(|it| it.physical_id == *physical_id);
                    if is_same && matches!(status, "DELETE_COMPLETE" | "DELETE_SKIPPED") {
                        stack.resources.shift_remove(&id);
                    } else if is_same && let Some(resource) = stack.resources.get_mut(&id) {
                        status.clone_into(&mut resource.status);
                    }
                });
            };
            let physical = self.physical(cell, &id, r#type, physical_id, settled);
            if is_kept {
                tell("DELETE_SKIPPED", None);
                self.account.remove(&physical);
                continue;
            }
            tell("DELETE_IN_PROGRESS", None);
            match self.destroy(&physical, policy).await {
                Ok(()) => tell("DELETE_COMPLETE", None),
                Err(reason) => {
                    tell("DELETE_FAILED", Some(&reason));
                    result = Err(reason);
                }
            }
        }
        result
    }

    fn physical(
        &self,
        cell: &StackCell,
        id: &str,
        r#type: &str,
        physical_id: &str,
        settled: &Settled,
    ) -> account::Resource {
        account::Resource {
            region: cell.region.clone(),
            stack_id: cell.id.clone(),
            stack_name: cell.read().name.clone(),
            logical_id: id.to_owned(),
            r#type: r#type.to_owned(),
            physical_id: physical_id.to_owned(),
            properties: settled.properties.clone(),
            attributes: settled.attributes.clone(),
        }
    }

    /// Deletes a physical resource, after a snapshot of it where the policy wants one.
    async fn destroy(
        &self,
        resource: &account::Resource,
        policy: Option<&str>,
    ) -> Result<(), String> {
        self.take_time(&resource.r#type, pace::Deed::Delete).await;
        if let Some(reason) = self.fault(&resource.logical_id, FailedStatus::Delete) {
            return Err(reason);
        }
        if let Some(reason) = self.account.refuses_deletion(resource) {
            return Err(reason);
        }
        if resource.r#type == "AWS::S3::Bucket"
            && let Some(buckets) = self.account.buckets()
        {
            match buckets.delete(&resource.physical_id).await {
                // Somebody has deleted it by hand.
                Err(failure) if failure.code == "NoSuchBucket" => {}
                deleted => deleted.map_err(|failure| handler(&failure))?,
            }
        }
        if policy == Some("Snapshot") {
            self.account.snapshot(resource);
        }
        self.account.remove(resource);
        Ok(())
    }
}

fn set_progress(stack: &mut super::stack::Stack, id: &str, progress: Progress) {
    if let Some(operation) = &mut stack.operation
        && let Some(step) = operation.steps.get_mut(id)
    {
        step.progress = progress;
    }
}

/// How CloudFormation says what a service's resource handler met.
fn handler(failure: &Failure) -> String {
    let Failure {
        status,
        code,
        message,
    } = failure;
    let message = match code.as_str() {
        "BucketNotEmpty" => "The bucket you tried to delete is not empty",
        _ => message,
    };
    let handler_code = match code.as_str() {
        "BucketAlreadyOwnedByYou" | "BucketAlreadyExists" => "AlreadyExists",
        "NoSuchBucket" | "NoSuchKey" => "NotFound",
        _ => "GeneralServiceException",
    };
    let id = Uuid::new_v4();
    format!(
        "Resource handler returned message: \"{message} (Service: S3, Status Code: {}, Request ID: {})\" (RequestToken: {}, HandlerErrorCode: {handler_code})",
        status.as_u16(),
        id.simple(),
        Uuid::new_v4()
    )
}

/// A text property by JSON pointer.
pub(super) fn text<'a>(properties: &'a Json, pointer: &str) -> Option<&'a str> {
    properties.pointer(pointer)?.as_str()
}
