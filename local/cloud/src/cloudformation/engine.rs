//! What all of CloudFormation's parts work on, and the tasks that they run in.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::task::AbortHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::changes::Change;
use super::runner::Runner;
use super::stack::{Before, Operation, Phase, Progress, Resource, Stack, Step, Version};
use super::store::{StackCell, Stacks};
use super::version::{self, Target};
use crate::account::Account;
use crate::call::Failure;

#[derive(Debug)]
pub(super) struct Engine {
    pub(super) account: Arc<Account>,
    pub(super) stacks: Stacks,
    pub(super) runner: Runner,
    tasks: TaskTracker,
    stop: CancellationToken,
    /// Operations under way, by the stack's ID.
    operations: Mutex<HashMap<String, AbortHandle>>,
}

impl Engine {
    pub(super) fn new(account: Arc<Account>, stacks: Stacks) -> Arc<Engine> {
        Arc::new(Engine {
            runner: Runner::new(Arc::clone(&account)),
            account,
            stacks,
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
            operations: Mutex::default(),
        })
    }

    /// Runs a task until it ends or the cloud does.
    pub(super) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) -> AbortHandle {
        let stop = self.stop.clone();
        let task = self.tasks.spawn(async move {
            tokio::select! {
                // A cloud that has ended does not take one more step.
                biased;
                () = stop.cancelled() => {}
                () = task => {}
            }
        });
        task.abort_handle()
    }

    /// Lets every task end where it is.
    pub(super) fn halt(&self) {
        self.stop.cancel();
        self.tasks.close();
    }

    /// Waits until no task runs any more.
    pub(super) async fn halted(&self) {
        self.tasks.wait().await;
        self.stacks.write();
    }

    /// Runs the operation of a stack; one that ran before on the same stack is ended.
    pub(super) fn run(self: &Arc<Self>, cell: Arc<StackCell>) {
        let id = cell.id.clone();
        let engine = Arc::clone(self);
        let mut operations = self
            .operations
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(old) = operations.remove(&id) {
            old.abort();
        }
        let task = self.spawn(async move {
            engine.operate(&cell).await;
        });
        operations.insert(id, task);
    }

    /// Resolves a version for a stack.
    ///
    /// # Errors
    /// `ValidationError`
    pub(super) fn target(
        &self,
        stack: &Stack,
        version: &Version,
        known: &BTreeMap<String, String>,
    ) -> Result<Target, Failure> {
        self.target_with(stack, version, &BTreeSet::new(), known)
    }

    fn target_with(
        &self,
        stack: &Stack,
        version: &Version,
        replaced: &BTreeSet<&str>,
        known: &BTreeMap<String, String>,
    ) -> Result<Target, Failure> {
        let exports = self.exports(&stack.region, &stack.id);
        version::target(&self.account.id, stack, version, replaced, known, &exports)
    }

    /// What the other stacks of a region export.
    fn exports(&self, region: &str, but: &str) -> BTreeMap<String, String> {
        let others = self.stacks.all().into_iter();
        let others = others.filter(|it| it.region == region && it.id != but);
        others
            .flat_map(|cell| {
                let stack = cell.read();
                let outputs = stack.outputs.clone();
                if stack.is_deleted() {
                    Vec::new()
                } else {
                    outputs
                }
            })
            .filter_map(|output| Some((output.export?, output.value)))
            .collect()
    }

    /// Turns changes into the steps of an operation, and makes it the stack's.
    ///
    /// # Errors
    /// `ValidationError`
    pub(super) fn plan(
        &self,
        stack: &mut Stack,
        mut operation: Operation,
        version: &Version,
        changes: &[Change],
        imported: &BTreeMap<String, String>,
    ) -> Result<(), Failure> {
        use super::stack::Deed;
        let replaced: BTreeSet<&str> = changes
            .iter()
            .filter(|change| change.deed() == Some(Deed::Replace))
            .map(|change| change.logical_id.as_str())
            .collect();
        let target = self.target_with(stack, version, &replaced, imported)?;
        let mut settled = target.settled(&version.tags);
        for change in changes {
            let id = &change.logical_id;
            let (Some(deed), Some(resolved)) = (change.deed(), target.resolved.resource(id)) else {
                continue;
            };
            let generation = stack.resources.get(id).map_or(0, |it| it.generation);
            let step = Step {
                deed,
                progress: Progress::Waiting,
                target: settled.shift_remove(id).unwrap_or_default(),
                r#type: change.r#type.clone(),
                physical_id: resolved.physical_id.clone(),
                generation: generation + u32::from(deed == Deed::Replace),
            };
            operation.steps.insert(id.clone(), step);
        }
        operation.before = Some(Box::new(Before {
            version: stack.version.take(),
            outputs: stack.outputs.clone(),
            resources: stack.resources.clone(),
        }));
        // What does not change may still have other neighbours.
        for (id, settled) in settled {
            let resource = stack.resources.get_mut(&id);
            if let Some(known) = resource.and_then(|it| it.settled.as_mut()) {
                known.depends_on = settled.depends_on;
                known.attributes = settled.attributes;
            }
        }
        stack.version = Some(version.clone());
        let status = match operation.phase {
            Phase::Create => "CREATE_IN_PROGRESS",
            Phase::Import => "IMPORT_IN_PROGRESS",
            _ => {
                stack.updated_at = Some(jiff::Timestamp::now());
                "UPDATE_IN_PROGRESS"
            }
        };
        stack.operation = Some(operation);
        stack.set_status(status, Some("User Initiated"));
        Ok(())
    }

    /// Tells the account of a resource.
    pub(super) fn put(&self, stack: &Stack, logical_id: &str) {
        if let Some(resource) = stack.resources.get(logical_id)
            && let Some(resource) = known(stack, logical_id, resource)
        {
            self.account.put(resource);
        }
    }
}

/// A resource as the account knows it.
fn known(stack: &Stack, logical_id: &str, resource: &Resource) -> Option<crate::account::Resource> {
    let settled = resource.settled.as_ref().filter(|_| resource.exists())?;
    Some(crate::account::Resource {
        region: stack.region.clone(),
        stack_id: stack.id.clone(),
        stack_name: stack.name.clone(),
        logical_id: logical_id.to_owned(),
        r#type: resource.r#type.clone(),
        physical_id: resource.physical_id.clone(),
        properties: settled.properties.clone(),
        attributes: settled.attributes.clone(),
    })
}
