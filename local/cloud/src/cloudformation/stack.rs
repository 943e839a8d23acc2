//! What CloudFormation knows of a stack; all of it is written to the data folder.

use std::collections::{BTreeMap, BTreeSet};

use indexmap::IndexMap;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;
use uuid::Uuid;

use super::change_set::ChangeSet;

/// A stack, also one that is deleted: CloudFormation keeps it for 90 days, by its ID.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Stack {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) region: String,
    pub(super) created_at: Timestamp,
    pub(super) updated_at: Option<Timestamp>,
    pub(super) deleted_at: Option<Timestamp>,
    pub(super) status: String,
    pub(super) reason: Option<String>,
    pub(super) is_protected: bool,
    /// The service role that every operation uses; once given, it stays.
    #[serde(default)]
    pub(super) role_arn: Option<String>,
    pub(super) disable_rollback: bool,
    /// What it is made from, also while it is being made; `None` while it waits for a change set.
    pub(super) version: Option<Version>,
    pub(super) outputs: Vec<Output>,
    pub(super) resources: IndexMap<String, Resource>,
    /// Physical resources that are to be deleted once an update is through.
    pub(super) leftovers: Vec<Leftover>,
    pub(super) change_sets: Vec<ChangeSet>,
    /// What is under way, or what an update that failed without rollback could be taken back to.
    pub(super) operation: Option<Operation>,
    /// Tokens of callers and what they asked for.
    pub(super) tokens: BTreeMap<String, String>,
    /// Number of events that belong to this state; what the events' file has beyond was written by
    /// a run that ended in between.
    pub(super) event_count: usize,
    #[serde(skip)]
    pub(super) events: Vec<Event>,
}

/// A template and what it was deployed with.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Version {
    /// The text as it was given.
    pub(super) template: String,
    pub(super) parameters: BTreeMap<String, String>,
    pub(super) tags: BTreeMap<String, String>,
    pub(super) capabilities: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Output {
    pub(super) name: String,
    pub(super) value: String,
    pub(super) description: Option<String>,
    pub(super) export: Option<String>,
}

/// A resource of a stack.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Resource {
    pub(super) r#type: String,
    /// Empty until it has one.
    pub(super) physical_id: String,
    pub(super) status: String,
    pub(super) reason: Option<String>,
    pub(super) updated_at: Timestamp,
    /// How often it was replaced; its physical ID depends on it.
    pub(super) generation: u32,
    /// As it is; `None` before it is created.
    pub(super) settled: Option<Settled>,
    /// Whether an update that failed has not reached it.
    pub(super) is_stale: bool,
}

/// A resource as the template wants it, without intrinsics.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Settled {
    pub(super) properties: Json,
    pub(super) attributes: BTreeMap<String, Json>,
    pub(super) depends_on: Vec<String>,
    pub(super) deletion_policy: Option<String>,
    pub(super) update_replace_policy: Option<String>,
}

/// A physical resource that no logical ID stands for any more.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Leftover {
    pub(super) logical_id: String,
    pub(super) r#type: String,
    pub(super) physical_id: String,
    pub(super) settled: Settled,
    /// Whether it was replaced, which another policy decides about than a removal.
    pub(super) is_replaced: bool,
}

/// Something that is done to a stack.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Operation {
    pub(super) id: String,
    /// Such as `CREATE_STACK`.
    pub(super) r#type: String,
    pub(super) token: Option<String>,
    pub(super) phase: Phase,
    pub(super) on_failure: OnFailure,
    /// Whether a failed creation also takes what would be retained.
    pub(super) retain_except_on_create: bool,
    pub(super) steps: IndexMap<String, Step>,
    /// What there was before an update.
    pub(super) before: Option<Box<Before>>,
    /// Resources that a deletion leaves alone, or a rollback skips.
    pub(super) left_alone: BTreeSet<String>,
    /// `FORCE_DELETE_STACK`
    pub(super) force: bool,
    /// Whether somebody asked to cancel the update.
    pub(super) is_cancelled: bool,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Before {
    pub(super) version: Option<Version>,
    pub(super) outputs: Vec<Output>,
    pub(super) resources: IndexMap<String, Resource>,
}

/// How far an operation is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Phase {
    Create,
    Import,
    ImportRollback,
    /// A failed creation is taken back.
    Rollback,
    Update,
    UpdateCleanUp,
    UpdateRollback,
    UpdateRollbackCleanUp,
    Delete,
    /// Nothing is under way.
    Over,
}

/// What follows a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum OnFailure {
    Rollback,
    DoNothing,
    Delete,
}

/// What an operation does to one resource.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Step {
    pub(super) deed: Deed,
    pub(super) progress: Progress,
    /// As it shall become; for a step back, as it was.
    pub(super) target: Settled,
    pub(super) r#type: String,
    pub(super) physical_id: String,
    pub(super) generation: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Deed {
    Add,
    Modify,
    Replace,
    Import,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Progress {
    Waiting,
    Running,
    Done,
    Failed,
    /// Taken back after a failure.
    Restored,
}

/// Something that happened to a stack or to one of its resources.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Event {
    pub(super) id: String,
    pub(super) at: Timestamp,
    pub(super) logical_id: String,
    pub(super) physical_id: String,
    pub(super) r#type: String,
    pub(super) status: String,
    pub(super) reason: Option<String>,
    pub(super) properties: Option<String>,
    pub(super) token: Option<String>,
    pub(super) operation_id: String,
    pub(super) operation_type: String,
    /// Of a change set's validation; such an event is no stack event.
    pub(super) validation: Option<Validation>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Validation {
    pub(super) change_set_id: String,
    pub(super) name: String,
    /// `FAIL` or `WARN`
    pub(super) mode: String,
    pub(super) path: String,
}

impl Stack {
    /// A stack in which nothing has happened yet.
    pub(super) fn new(account: &str, region: &str, name: &str) -> Stack {
        let id = Uuid::new_v4();
        Stack {
            id: format!("arn:aws:cloudformation:{region}:{account}:stack/{name}/{id}"),
            name: name.to_owned(),
            region: region.to_owned(),
            created_at: Timestamp::now(),
            updated_at: None,
            deleted_at: None,
            status: String::new(),
            reason: None,
            is_protected: false,
            role_arn: None,
            disable_rollback: false,
            version: None,
            outputs: Vec::new(),
            resources: IndexMap::new(),
            leftovers: Vec::new(),
            change_sets: Vec::new(),
            operation: None,
            tokens: BTreeMap::new(),
            event_count: 0,
            events: Vec::new(),
        }
    }

    /// The last part of the ID, which names the stack's folder.
    pub(super) fn uuid(&self) -> &str {
        self.id.rsplit('/').next().unwrap_or(&self.id)
    }

    pub(super) fn is_deleted(&self) -> bool {
        self.status == "DELETE_COMPLETE"
    }

    /// Whether an operation is under way; a stack under review waits for its user.
    pub(super) fn is_busy(&self) -> bool {
        self.status.ends_with("_IN_PROGRESS") && self.status != "REVIEW_IN_PROGRESS"
    }

    /// Gives the stack a status, with its event.
    pub(super) fn set_status(&mut self, status: &str, reason: Option<&str>) {
        status.clone_into(&mut self.status);
        self.reason = reason.map(str::to_owned);
        let (name, id) = (self.name.clone(), self.id.clone());
        self.tell(
            &name,
            "AWS::CloudFormation::Stack",
            &id,
            status,
            reason,
            None,
        );
    }

    /// Gives a resource a status, with its event.
    pub(super) fn set_resource(&mut self, logical_id: &str, status: &str, reason: Option<&str>) {
        let Some(resource) = self.resources.get_mut(logical_id) else {
            return;
        };
        status.clone_into(&mut resource.status);
        resource.reason = reason.map(str::to_owned);
        resource.updated_at = Timestamp::now();
        let (r#type, physical_id) = (resource.r#type.clone(), resource.physical_id.clone());
        let properties = resource
            .settled
            .as_ref()
            .map(|it| it.properties.to_string());
        self.tell(
            logical_id,
            &r#type,
            &physical_id,
            status,
            reason,
            properties,
        );
    }

    /// Adds an event of the operation that is under way.
    pub(super) fn tell(
        &mut self,
        logical_id: &str,
        r#type: &str,
        physical_id: &str,
        status: &str,
        reason: Option<&str>,
        properties: Option<String>,
    ) {
        let operation = self.operation.as_ref();
        let is_stack = physical_id == self.id;
        let id = Uuid::new_v4();
        self.events.push(Event {
            id: if is_stack {
                id.to_string()
            } else {
                format!("{logical_id}-{status}-{id}")
            },
            at: Timestamp::now(),
            logical_id: logical_id.to_owned(),
            physical_id: physical_id.to_owned(),
            r#type: r#type.to_owned(),
            status: status.to_owned(),
            reason: reason.map(str::to_owned),
            properties,
            token: operation.and_then(|it| it.token.clone()),
            operation_id: operation.map_or_else(String::new, |it| it.id.clone()),
            operation_type: operation.map_or_else(String::new, |it| it.r#type.clone()),
            validation: None,
        });
    }
}

impl Operation {
    pub(super) fn new(r#type: &str, phase: Phase, token: Option<&str>) -> Operation {
        Operation {
            id: Uuid::new_v4().to_string(),
            r#type: r#type.to_owned(),
            token: token.map(str::to_owned),
            phase,
            on_failure: OnFailure::Rollback,
            retain_except_on_create: false,
            steps: IndexMap::new(),
            before: None,
            left_alone: BTreeSet::new(),
            force: false,
            is_cancelled: false,
        }
    }
}

impl Resource {
    pub(super) fn new(r#type: &str) -> Resource {
        Resource {
            r#type: r#type.to_owned(),
            physical_id: String::new(),
            status: String::new(),
            reason: None,
            updated_at: Timestamp::now(),
            generation: 0,
            settled: None,
            is_stale: false,
        }
    }

    /// Whether there is a physical resource.
    pub(super) fn exists(&self) -> bool {
        self.settled.is_some() && !self.physical_id.is_empty() && self.status != "DELETE_COMPLETE"
    }
}
