//! Operations on stacks: each phase to its end, and what follows it.
//!
//! Everything that a phase needs to know stands in the stack, so that a cloud that was killed goes on
//! where it was.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::engine::Engine;
use super::stack::{Deed, Leftover, OnFailure, Phase, Progress, Resource, Stack};
use super::store::StackCell;
use local::graph::{Nodes, Walked, reversed, walk};

impl Engine {
    /// Brings the operation of a stack to its end.
    pub(super) async fn operate(self: &Arc<Self>, cell: &Arc<StackCell>) {
        loop {
            let phase = cell.read().operation.as_ref().map(|it| it.phase);
            match phase {
                None | Some(Phase::Over) => return,
                Some(Phase::Create | Phase::Update | Phase::Import) => self.forward(cell).await,
                Some(Phase::Rollback) => self.roll_creation_back(cell).await,
                Some(Phase::ImportRollback) => self.roll_import_back(cell).await,
                Some(Phase::UpdateRollback) => self.roll_update_back(cell).await,
                Some(Phase::UpdateCleanUp | Phase::UpdateRollbackCleanUp) => {
                    self.clean_up(cell).await;
                }
                Some(Phase::Delete) => self.delete(cell).await,
            }
        }
    }

    /// Creates and changes what is to be.
    async fn forward(self: &Arc<Self>, cell: &Arc<StackCell>) {
        let (nodes, stops) = {
            let stack = cell.read();
            let Some(operation) = &stack.operation else {
                return;
            };
            let open = operation.steps.iter();
            let open = open.filter(|(_, step)| step.progress != Progress::Done);
            let nodes: Nodes = open
                .map(|(id, step)| (id.clone(), step.target.depends_on.iter().cloned().collect()))
                .collect();
            (nodes, operation.on_failure != OnFailure::DoNothing)
        };
        let work = |id: String| -> futures_util::future::BoxFuture<'_, Result<(), String>> {
            Box::pin(self.step(cell, id))
        };
        let mut walked = walk(nodes, stops, cancelled(cell), work).await;
        if walked == Walked::default()
            && let Err((id, reason)) = self.runner.finish(self, cell).await
        {
            // A part that no step stands for could not be started again.
            let id = id.unwrap_or_else(|| cell.read().name.clone());
            tracing::error!("{id}: {reason}");
            cell.step(|stack| {
                let steps = stack.operation.as_ref().map(|it| &it.steps);
                if steps.is_some_and(|it| it.contains_key(&id)) {
                    fail_step(stack, &id, &reason, true);
                } else {
                    stack.set_resource(&id, "UPDATE_FAILED", Some(&reason));
                }
            });
            walked.failed.push(id);
        }
        let is_cancelled = cell
            .read()
            .operation
            .as_ref()
            .is_some_and(|it| it.is_cancelled);
        if walked == Walked::default() && !is_cancelled {
            self.forward_is_through(cell).await;
        } else {
            self.forward_has_failed(cell, &walked).await;
        }
    }

    async fn forward_is_through(self: &Arc<Self>, cell: &Arc<StackCell>) {
        let addresses = self.runner.addresses(&cell.id).await;
        let snapshot = cell.read().clone();
        let outputs = snapshot.version.as_ref().and_then(|version| {
            let target = self.target(&snapshot, version, &BTreeMap::new());
            target.and_then(|target| target.outputs(&addresses)).ok()
        });
        cell.change(|stack| {
            stack.outputs = outputs.unwrap_or_default();
            for it in &mut stack.change_sets {
                if it.execution_status == "EXECUTE_IN_PROGRESS" {
                    "EXECUTE_COMPLETE".clone_into(&mut it.execution_status);
                }
            }
            let (status, next) = match phase(stack) {
                Phase::Update => ("UPDATE_COMPLETE_CLEANUP_IN_PROGRESS", Phase::UpdateCleanUp),
                Phase::Import => ("IMPORT_COMPLETE", Phase::Over),
                _ => ("CREATE_COMPLETE", Phase::Over),
            };
            stack.set_status(status, None);
            set_phase(stack, next);
            if next == Phase::UpdateCleanUp {
                set_removed_aside(stack);
            }
        });
    }

    async fn forward_has_failed(self: &Arc<Self>, cell: &Arc<StackCell>, walked: &Walked) {
        cell.change(|stack| {
            for id in &walked.interrupted {
                let is_new = stack
                    .operation
                    .as_ref()
                    .and_then(|it| it.steps.get(id))
                    .is_some_and(|step| step.deed == Deed::Add);
                let reason = if is_new {
                    "Resource creation cancelled"
                } else {
                    "Resource update cancelled"
                };
                fail_step(stack, id, reason, true);
            }
            for it in &mut stack.change_sets {
                if it.execution_status == "EXECUTE_IN_PROGRESS" {
                    "EXECUTE_FAILED".clone_into(&mut it.execution_status);
                }
            }
            let Some(operation) = &stack.operation else {
                return;
            };
            let on_failure = operation.on_failure;
            let mut reason = failures(stack, walked);
            if operation.is_cancelled {
                reason = "User Initiated".to_owned();
            }
            match (operation.phase, on_failure) {
                (Phase::Import, _) => {
                    set_phase(stack, Phase::ImportRollback);
                    stack.set_status("IMPORT_ROLLBACK_IN_PROGRESS", Some(&reason));
                }
                (Phase::Update, OnFailure::DoNothing) => {
                    mark_stale(stack);
                    set_phase(stack, Phase::Over);
                    stack.set_status("UPDATE_FAILED", Some(&reason));
                }
                (Phase::Update, _) => {
                    set_phase(stack, Phase::UpdateRollback);
                    stack.set_status("UPDATE_ROLLBACK_IN_PROGRESS", Some(&reason));
                }
                (_, OnFailure::DoNothing) => {
                    set_phase(stack, Phase::Over);
                    stack.set_status("CREATE_FAILED", Some(&reason));
                }
                (_, OnFailure::Delete) => {
                    set_phase(stack, Phase::Delete);
                    reason.push_str("Delete requested by user.");
                    stack.set_status("DELETE_IN_PROGRESS", Some(&reason));
                }
                (_, OnFailure::Rollback) => {
                    set_phase(stack, Phase::Rollback);
                    reason.push_str("Rollback requested by user.");
                    stack.set_status("ROLLBACK_IN_PROGRESS", Some(&reason));
                }
            }
        });
    }

    /// Removes what a failed creation has made.
    async fn roll_creation_back(self: &Arc<Self>, cell: &Arc<StackCell>) {
        let failed = self.remove_all(cell, true).await;
        self.runner.end(&cell.id).await;
        cell.change(|stack| {
            set_phase(stack, Phase::Over);
            match failed.as_slice() {
                [] => stack.set_status("ROLLBACK_COMPLETE", None),
                _ => stack.set_status("ROLLBACK_FAILED", Some(&not_deleted(&failed))),
            }
        });
    }

    /// Deletes the stack.
    async fn delete(self: &Arc<Self>, cell: &Arc<StackCell>) {
        let failed = self.remove_all(cell, false).await;
        if failed.is_empty() {
            self.runner.end(&cell.id).await;
        }
        cell.change(|stack| {
            set_phase(stack, Phase::Over);
            if failed.is_empty() {
                stack.outputs.clear();
                stack.change_sets.clear();
                stack.deleted_at = Some(jiff::Timestamp::now());
                stack.set_status("DELETE_COMPLETE", None);
            } else {
                stack.set_status("DELETE_FAILED", Some(&not_deleted(&failed)));
            }
        });
    }

    /// Removes every resource, the dependent ones first; returns those that could not be.
    async fn remove_all(self: &Arc<Self>, cell: &Arc<StackCell>, is_rollback: bool) -> Vec<String> {
        let nodes: Nodes = {
            let stack = cell.read();
            let there = stack.resources.iter().filter(|(_, it)| it.exists());
            there
                .map(|(id, it)| (id.clone(), dependencies(it)))
                .collect()
        };
        let work = |id: String| -> futures_util::future::BoxFuture<'_, Result<(), String>> {
            Box::pin(self.remove(cell, id, is_rollback))
        };
        walk(reversed(&nodes), false, std::future::pending(), work)
            .await
            .failed
    }

    /// Lets go of what a failed import has taken.
    async fn roll_import_back(self: &Arc<Self>, cell: &Arc<StackCell>) {
        let ids: Vec<String> = {
            let stack = cell.read();
            let operation = stack.operation.as_ref();
            let steps = operation.into_iter().flat_map(|it| &it.steps);
            steps
                .filter(|(id, step)| step.deed == Deed::Import && stack.resources.contains_key(*id))
                .map(|(id, _)| id.clone())
                .collect()
        };
        let mut failed = Vec::new();
        for id in ids {
            let fault = self.fault(&id, crate::fault::FailedStatus::Delete);
            cell.step(|stack| {
                stack.set_resource(&id, "IMPORT_ROLLBACK_IN_PROGRESS", None);
                match &fault {
                    Some(reason) => stack.set_resource(&id, "IMPORT_ROLLBACK_FAILED", Some(reason)),
                    None => {
                        stack.set_resource(&id, "IMPORT_ROLLBACK_COMPLETE", None);
                        stack.resources.shift_remove(&id);
                    }
                }
            });
            failed.extend(fault.map(|_| id));
        }
        cell.change(|stack| {
            restore_version(stack);
            set_phase(stack, Phase::Over);
            if failed.is_empty() {
                stack.set_status("IMPORT_ROLLBACK_COMPLETE", None);
            } else {
                let reason = format!(
                    "The following resource(s) failed to roll back: [{}]. ",
                    failed.join(", ")
                );
                stack.set_status("IMPORT_ROLLBACK_FAILED", Some(&reason));
            }
        });
    }

    /// Takes a failed update back.
    async fn roll_update_back(self: &Arc<Self>, cell: &Arc<StackCell>) {
        let nodes: Nodes = cell.change(|stack| {
            restore_version(stack);
            let Some(operation) = &stack.operation else {
                return Nodes::new();
            };
            let begun = operation.steps.iter().filter(|(_, step)| {
                !matches!(step.progress, Progress::Waiting | Progress::Restored)
            });
            begun
                .map(|(id, step)| (id.clone(), step.target.depends_on.iter().cloned().collect()))
                .collect()
        });
        let work = |id: String| -> futures_util::future::BoxFuture<'_, Result<(), String>> {
            Box::pin(self.restore(cell, id))
        };
        let mut walked = walk(nodes, false, std::future::pending(), work).await;
        if walked.failed.is_empty()
            && let Err((id, reason)) = self.runner.finish(self, cell).await
        {
            let id = id.unwrap_or_else(|| cell.read().name.clone());
            tracing::error!("{id}: {reason}");
            cell.step(|stack| stack.set_resource(&id, "UPDATE_FAILED", Some(&reason)));
            walked.failed.push(id);
        }
        cell.change(|stack| {
            if walked.failed.is_empty() {
                if let Some(before) = stack.operation.as_ref().and_then(|it| it.before.as_ref()) {
                    stack.outputs = before.outputs.clone();
                }
                let is_back = |resource: &&mut Resource| resource.status != "CREATE_FAILED";
                for resource in stack.resources.values_mut().filter(is_back) {
                    resource.is_stale = false;
                    if resource.status == "UPDATE_FAILED" {
                        "UPDATE_COMPLETE".clone_into(&mut resource.status);
                    }
                }
                set_phase(stack, Phase::UpdateRollbackCleanUp);
                stack.set_status("UPDATE_ROLLBACK_COMPLETE_CLEANUP_IN_PROGRESS", None);
            } else {
                set_phase(stack, Phase::Over);
                let failed = walked.failed.join(", ");
                let reason = format!("The following resource(s) failed to update: [{failed}]. ");
                stack.set_status("UPDATE_ROLLBACK_FAILED", Some(&reason));
            }
        });
    }

    /// Deletes what an update has left over. What cannot be deleted stays, and CloudFormation says so
    /// in an event; the stack is updated all the same.
    async fn clean_up(self: &Arc<Self>, cell: &Arc<StackCell>) {
        let nodes: Nodes = {
            let stack = cell.read();
            let leftovers = stack.leftovers.iter();
            leftovers
                .map(|it| {
                    let depends_on = it.settled.depends_on.iter().cloned().collect();
                    (it.logical_id.clone(), depends_on)
                })
                .collect()
        };
        let work = |id: String| -> futures_util::future::BoxFuture<'_, Result<(), String>> {
            Box::pin(self.remove_leftovers(cell, id))
        };
        walk(reversed(&nodes), false, std::future::pending(), work).await;
        cell.change(|stack| {
            stack.leftovers.clear();
            let status = match phase(stack) {
                Phase::UpdateRollbackCleanUp => "UPDATE_ROLLBACK_COMPLETE",
                _ => "UPDATE_COMPLETE",
            };
            set_phase(stack, Phase::Over);
            stack.operation = None;
            stack.set_status(status, None);
        });
    }
}

/// Returns when somebody has cancelled the operation.
async fn cancelled(cell: &StackCell) {
    loop {
        let nudged = cell.nudged.notified();
        if cell
            .read()
            .operation
            .as_ref()
            .is_some_and(|it| it.is_cancelled)
        {
            return;
        }
        nudged.await;
    }
}

fn phase(stack: &Stack) -> Phase {
    stack.operation.as_ref().map_or(Phase::Over, |it| it.phase)
}

fn set_phase(stack: &mut Stack, phase: Phase) {
    if let Some(operation) = &mut stack.operation {
        operation.phase = phase;
    }
}

fn restore_version(stack: &mut Stack) {
    let before = stack.operation.as_ref().and_then(|it| it.before.as_ref());
    if let Some(version) = before.and_then(|it| it.version.clone()) {
        stack.version = Some(version);
    }
}

fn dependencies(resource: &Resource) -> BTreeSet<String> {
    let settled = resource.settled.iter();
    settled
        .flat_map(|it| it.depends_on.iter().cloned())
        .collect()
}

/// Resources that the new template has no more wait for their removal.
fn set_removed_aside(stack: &mut Stack) {
    let Some(version) = &stack.version else {
        return;
    };
    let Ok(document) = super::version::parse(&version.template) else {
        return;
    };
    let names = super::version::conditional(&document, version, &stack.region);
    let removed: Vec<String> = stack
        .resources
        .keys()
        .filter(|id| !names.contains(*id))
        .cloned()
        .collect();
    for id in removed {
        if let Some(resource) = stack.resources.get(&id)
            && let Some(settled) = resource.settled.clone()
        {
            stack.leftovers.push(Leftover {
                logical_id: id.clone(),
                r#type: resource.r#type.clone(),
                physical_id: resource.physical_id.clone(),
                settled,
                is_replaced: false,
            });
        } else {
            stack.resources.shift_remove(&id);
        }
    }
}

/// A step has failed, or was interrupted. `is_made` says whether there is something to remove.
pub(super) fn fail_step(stack: &mut Stack, id: &str, reason: &str, is_made: bool) {
    let Some(operation) = &mut stack.operation else {
        return;
    };
    let before = operation
        .before
        .as_ref()
        .and_then(|it| it.resources.get(id))
        .cloned();
    let Some(step) = operation.steps.get_mut(id) else {
        return;
    };
    step.progress = Progress::Failed;
    let step = step.clone();
    let status = match step.deed {
        Deed::Add => "CREATE_FAILED",
        Deed::Import => "IMPORT_FAILED",
        Deed::Modify | Deed::Replace => "UPDATE_FAILED",
    };
    stack.set_resource(id, status, Some(reason));
    let Some(resource) = stack.resources.get_mut(id) else {
        return;
    };
    match (step.deed, before) {
        (Deed::Add, _) if is_made => resource.settled = Some(step.target),
        (Deed::Add | Deed::Import, _) => resource.settled = None,
        (Deed::Replace, Some(before)) => {
            let made = resource.physical_id.clone();
            resource.physical_id = before.physical_id.clone();
            if is_made && made == step.physical_id && made != before.physical_id {
                stack.leftovers.push(Leftover {
                    logical_id: id.to_owned(),
                    r#type: step.r#type,
                    physical_id: made,
                    settled: step.target,
                    is_replaced: false,
                });
            }
        }
        _ => {}
    }
}

/// An update that failed for good has not reached these.
fn mark_stale(stack: &mut Stack) {
    let Some(operation) = &stack.operation else {
        return;
    };
    let open: Vec<String> = operation
        .steps
        .iter()
        .filter(|(_, step)| step.progress != Progress::Done)
        .map(|(id, _)| id.clone())
        .collect();
    for id in open {
        if let Some(resource) = stack.resources.get_mut(&id) {
            resource.is_stale = true;
        }
    }
}

/// CloudFormation's sentence about what failed.
fn failures(stack: &Stack, walked: &Walked) -> String {
    let mut by_verb: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for id in walked.failed.iter().chain(&walked.interrupted) {
        let step = stack.operation.as_ref().and_then(|it| it.steps.get(id));
        let verb = match step.map(|it| it.deed) {
            Some(Deed::Add) => "create",
            Some(Deed::Import) => "import",
            _ => "update",
        };
        by_verb.entry(verb).or_default().push(id);
    }
    let sentences = by_verb.iter().map(|(verb, ids)| {
        format!(
            "The following resource(s) failed to {verb}: [{}]. ",
            ids.join(", ")
        )
    });
    sentences.collect()
}

fn not_deleted(failed: &[String]) -> String {
    format!(
        "The following resource(s) failed to delete: [{}]. ",
        failed.join(", ")
    )
}
