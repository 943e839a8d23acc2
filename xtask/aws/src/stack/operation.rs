//! One operation on one stack, followed to its end; and bringing a stack from whatever state it is in
//! to one that can be worked on.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use anyhow::{Context, bail};
use aws_sdk_cloudformation::types::Change;
use serde::Deserialize;
use stack::Stage;

use crate::aws::beanstalk;
use crate::aws::{Cloud, failed};
use crate::bootstrap::Bootstrap;
use crate::screen::forecast::Forecast;
use crate::screen::progress::{Output, Progress};
use crate::stack::call::{self, Stack};
use crate::stack::event::{Event, Events, causes};
use crate::stack::state::{self, State};

/// Where a resource is defined.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Source {
    file: String,
    line: u32,
}

/// What a stack belongs to: which commands change it.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Owner {
    /// A stage.
    Stage(Stage),
    /// The account's bootstrap.
    Bootstrap,
}

impl From<Stage> for Owner {
    fn from(stage: Stage) -> Owner {
        Owner::Stage(stage)
    }
}

impl fmt::Display for Owner {
    /// As the tag of its resources says.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Owner::Stage(stage) => stage.fmt(formatter),
            Owner::Bootstrap => formatter.write_str("bootstrap"),
        }
    }
}

impl Owner {
    /// The command that creates and updates it.
    fn deploy(self) -> String {
        match self {
            Owner::Stage(stage) => format!("cargo xtask deploy --stage {stage}"),
            Owner::Bootstrap => "cargo xtask bootstrap".to_owned(),
        }
    }

    /// The command that deletes it.
    fn destroy(self) -> String {
        match self {
            Owner::Stage(stage) => format!("cargo xtask destroy --stage {stage}"),
            Owner::Bootstrap => "cargo xtask bootstrap --remove".to_owned(),
        }
    }
}

/// One stack, and how to talk about it.
#[derive(Clone, Debug)]
pub(crate) struct Operator {
    pub(crate) cloud: Cloud,
    pub(crate) output: Output,
    pub(crate) owner: Owner,
    /// The role that CloudFormation acts with; `None`: the stack's own, or the caller's rights.
    pub(crate) role_arn: Option<String>,
    /// The stack's name.
    pub(crate) stack: String,
    /// Its template, as it should become.
    pub(crate) template: String,
    /// Logical ID → where the source defines it.
    pub(crate) sources: BTreeMap<String, Source>,
}

/// How an operation ended.
#[derive(Debug)]
pub(crate) struct Ended {
    /// The stack's status; `None` when it vanished meanwhile.
    status: Option<String>,
    events: Vec<Event>,
    /// What Beanstalk said of a failed environment while it was still there.
    notes: Vec<String>,
}

impl Ended {
    /// Whether a deletion stopped half way.
    pub(crate) fn is_stuck(&self) -> bool {
        let state = self.status.as_deref().map(State::of);
        state == Some(State::DeletionStuck)
    }

    /// What the deletion left behind, because of its policy or because it was told to.
    pub(crate) fn kept(&self) -> impl Iterator<Item = &Event> {
        let events = self.events.iter();
        events.filter(|event| event.status == "DELETE_SKIPPED" && !event.is_stack)
    }

    /// This end, with what happened in attempts before it.
    pub(crate) fn after(mut self, earlier: &[Event]) -> Ended {
        self.events.splice(0..0, earlier.iter().cloned());
        self
    }

    pub(crate) fn into_events(self) -> Vec<Event> {
        self.events
    }

    /// The failures that say something, the first one first; none when it ended as it was meant to.
    pub(crate) fn failures(&self) -> Vec<&Event> {
        match &self.status {
            Some(status) if state::is_success(status) => Vec::new(),
            _ => causes(&self.events),
        }
    }
}

/// What a deployment starts from.
#[derive(Debug)]
pub(crate) enum StartingState {
    /// There is no stack, or only the shell that a change set made.
    New,
    /// A stack that can be updated.
    Existing(Stack),
}

/// How often a stack is looked at that does not show yet what was begun: CloudFormation answers from
/// several places, and one of them may be behind.
const MOST_STALE_ANSWERS: u32 = 15;

/// How often the times on a terminal go on.
const TICK: Duration = Duration::from_secs(1);

/// Events shown of failures beside the first.
const MOST_CAUSES: usize = 5;

impl Operator {
    /// Follows what goes on in a stack until it ends.
    pub(crate) async fn follow(&self, events: Events) -> anyhow::Result<Ended> {
        self.follow_by(events, None).await
    }

    /// Follows the execution of a change set until it ends.
    pub(crate) async fn follow_changes(
        &self,
        events: Events,
        changes: &[Change],
    ) -> anyhow::Result<Ended> {
        let forecast = Forecast::new(&self.template, changes);
        self.follow_by(events, Some(forecast)).await
    }

    async fn follow_by(
        &self,
        mut events: Events,
        forecast: Option<Forecast>,
    ) -> anyhow::Result<Ended> {
        let mut progress = Progress::new(self.output, &self.stack, forecast);
        let mut all = Vec::new();
        let mut notes = Vec::new();
        // What somebody else began is under way already.
        let mut has_begun = !events.have_token();
        let mut stale = 0;
        let status = loop {
            // The status first: what happened before the end is then among the events.
            let found = call::find(&self.cloud, &events.stack_id).await;
            let found = found.inspect_err(|_| progress.end())?;
            let new = match events.read(&self.cloud).await {
                Ok(new) => new,
                // A deleted stack's events may go with it.
                Err(error) if error.is_missing_stack() => Vec::new(),
                Err(error) => {
                    progress.end();
                    return Err(error.into());
                }
            };
            progress.events(&new);
            let own: Vec<Event> = new.into_iter().filter(|it| events.are_of(it)).collect();
            for event in own.iter().filter(|event| event.is_failure()) {
                notes.extend(beanstalk::explain(&self.cloud, event).await);
            }
            has_begun |= own.iter().any(|event| event.is_stack);
            all.extend(own);
            match found {
                None => break None,
                Some(stack) if stack.state() == State::Busy => has_begun = true,
                Some(stack) if has_begun || stack.state() == State::Absent => {
                    break Some(stack.status);
                }
                Some(stack) => {
                    stale += 1;
                    if stale > MOST_STALE_ANSWERS {
                        break Some(stack.status);
                    }
                }
            }
            let mut left = self.cloud.poll;
            while !left.is_zero() {
                let step = left.min(TICK);
                tokio::time::sleep(step).await;
                progress.tick();
                left -= step;
            }
        };
        progress.end();
        Ok(Ended {
            status,
            events: all,
            notes,
        })
    }

    /// The role for what takes a stack back or down: only where the stack was made with one. Roles of a stage
    /// from before the bootstrap have no boundary, and the service role may not touch them.
    fn role_for(&self, stack: &Stack) -> Option<String> {
        stack.role_arn.as_ref().and(self.role_arn.clone())
    }

    /// Deletes the stack and waits for it.
    pub(crate) async fn delete(&self, stack: &Stack, retain: &[String]) -> anyhow::Result<Ended> {
        let events = Events::from_now(&self.cloud, &stack.id).await?;
        let token = call::delete(
            &self.cloud,
            &stack.id,
            retain,
            self.role_for(stack).as_deref(),
        )
        .await?;
        self.follow(events.begun_by(token)).await
    }

    /// Brings the stack to where a deployment can start, saying what is done for that.
    pub(crate) async fn settle(&self, skip: &[String]) -> anyhow::Result<StartingState> {
        let name = &self.stack;
        let mut has_continued = false;
        let mut has_rolled_back = false;
        loop {
            let Some(stack) = call::find(&self.cloud, name).await? else {
                return Ok(StartingState::New);
            };
            match stack.state() {
                State::Absent | State::Review => return Ok(StartingState::New),
                State::Ready => return Ok(StartingState::Existing(stack)),
                State::Busy => self.wait_for_other(&stack).await?,
                State::NeverCreated => self.clear(&stack).await?,
                State::HalfUpdated if !has_rolled_back => {
                    has_rolled_back = true;
                    self.output.say(format!(
                        "`{name}` is half updated: taking it back to what it was before"
                    ));
                    let events = Events::from_now(&self.cloud, &stack.id).await?;
                    let call = self.cloud.cfn.rollback_stack().stack_name(&stack.id);
                    let call = call.set_role_arn(self.role_for(&stack));
                    let token = call::token("rollback");
                    let call = call.client_request_token(&token);
                    call.send()
                        .await
                        .map_err(|error| failed("roll the stack back", error))?;
                    self.follow(events.begun_by(token)).await?;
                }
                State::RollbackStuck if !has_continued => {
                    has_continued = true;
                    self.output.say(format!(
                        "`{name}` is stuck half way back to what it was before: going on with that first"
                    ));
                    self.continue_rollback(&stack, skip).await?;
                }
                State::HalfUpdated => bail!(
                    "`{name}` is still {} after it was taken back; look at its events in the CloudFormation console",
                    stack.status
                ),
                State::RollbackStuck => bail!(
                    "`{name}` is {}: {}",
                    stack.status,
                    state::in_words(&stack.status)
                ),
                State::DeletionStuck => bail!(
                    "`{name}` is DELETE_FAILED: a deletion stopped half way, and CloudFormation admits nothing but another; finish it by `{}`, then deploy again",
                    self.owner.destroy()
                ),
                State::Unknown => bail!(
                    "`{name}` is {}, which this tool cannot mend: look at the stack in the CloudFormation console",
                    stack.status
                ),
            }
        }
    }

    /// Waits until an operation that somebody else began has ended.
    pub(crate) async fn wait_for_other(&self, stack: &Stack) -> anyhow::Result<()> {
        self.output.say(format!(
            "`{}` is {}: another operation is under way, waiting for its end",
            self.stack, stack.status
        ));
        let events = Events::of_running_operation(&self.cloud, &stack.id).await?;
        self.follow(events).await?;
        Ok(())
    }

    /// Removes a stack whose creation failed, after saying why it failed.
    async fn clear(&self, stack: &Stack) -> anyhow::Result<()> {
        let name = &self.stack;
        self.output.say(format!(
            "`{name}` is {}: an earlier creation failed, so it is removed and created anew",
            stack.status
        ));
        let mut history = Events::from_the_beginning(&stack.id);
        let events = history.read(&self.cloud).await?;
        for cause in causes(&events).into_iter().take(1) {
            self.output
                .say(format!("  the first cause was {}", self.cause(cause)));
        }
        let ended = self.delete(stack, &[]).await?;
        self.check(ended, "removed")
    }

    async fn continue_rollback(&self, stack: &Stack, skip: &[String]) -> anyhow::Result<()> {
        let events = Events::from_now(&self.cloud, &stack.id).await?;
        let call = self.cloud.cfn.continue_update_rollback();
        let call = call.stack_name(&stack.id);
        let token = call::token("continue");
        call.set_resources_to_skip((!skip.is_empty()).then(|| skip.to_vec()))
            .set_role_arn(self.role_for(stack))
            .client_request_token(&token)
            .send()
            .await
            .map_err(|error| failed("continue the rollback", error))?;
        let ended = self.follow(events.begun_by(token)).await?;
        if ended.status.as_deref() == Some("UPDATE_ROLLBACK_COMPLETE") {
            return Ok(());
        }
        self.check(ended, "taken back")
    }

    /// Says what an operation came to when it failed: the first real cause on top, then what state
    /// the stack is in, then the one command to go on.
    pub(crate) fn check(&self, ended: Ended, wanted: &str) -> anyhow::Result<()> {
        let name = &self.stack;
        let is_deletion = wanted == "deleted" || wanted == "removed";
        // By its ID a deleted stack is still found for a while.
        let status = ended.status.as_deref();
        let status = status.filter(|it| State::of(it) != State::Absent);
        let Some(status) = status else {
            if is_deletion {
                return Ok(());
            }
            bail!(
                "`{name}` was deleted by somebody else meanwhile; `{}` creates it anew",
                self.owner.deploy()
            );
        };
        if !is_deletion && state::is_success(status) {
            return Ok(());
        }
        let mut text = format!("`{name}` could not be {wanted}");
        let causes = causes(&ended.events);
        for cause in causes.iter().take(1) {
            text.push_str(&format!("\n  {}", self.cause(cause)));
        }
        for note in &ended.notes {
            text.push_str(&format!("\n    {note}"));
        }
        for cause in causes.iter().skip(1).take(MOST_CAUSES) {
            text.push_str(&format!("\n  also {}", self.cause(cause)));
        }
        if causes.len() > MOST_CAUSES + 1 {
            text.push_str(&format!(
                "\n  and {} more failures",
                causes.len() - MOST_CAUSES - 1
            ));
        }
        text.push_str(&format!(
            "\n  the stack is {status}: {}",
            state::in_words(status)
        ));
        let failed: Vec<&str> = causes
            .iter()
            .filter(|cause| !cause.is_stack)
            .map(|cause| cause.logical_id.as_str())
            .collect();
        let (deploy, destroy) = (self.owner.deploy(), self.owner.destroy());
        let first = failed.first().copied().unwrap_or("LOGICAL_ID");
        text.push_str(&match State::of(status) {
            State::DeletionStuck => format!(
                "\n  go on by `{destroy}`; to leave it behind, add `--retain {first}`"
            ),
            State::RollbackStuck => format!(
                "\n  mend the cause, then go on by `{deploy}`; to leave it as it is, add `--skip {first}`"
            ),
            _ => format!("\n  mend the cause, then go on by `{deploy}`"),
        });
        bail!(text)
    }

    /// A failed resource: what it is, what AWS says, and where it is defined.
    fn cause(&self, event: &Event) -> String {
        let reason = event.reason.as_deref().unwrap_or("no reason given");
        let mut text = if event.is_stack {
            format!("the stack itself: {reason}")
        } else {
            format!("{} ({}): {reason}", event.logical_id, event.r#type)
        };
        if let Some(Source { file, line }) = self.sources.get(&event.logical_id) {
            text.push_str(&format!("\n    defined at {file}:{line}"));
        }
        text
    }
}

impl Operator {
    /// The operator of a synthesised stack, with the caller's rights.
    pub(crate) fn new(
        cloud: &Cloud,
        output: Output,
        owner: impl Into<Owner>,
        stack: &stack::Synthesized,
    ) -> anyhow::Result<Operator> {
        Ok(Operator {
            cloud: cloud.clone(),
            output,
            owner: owner.into(),
            role_arn: None,
            stack: stack.name.clone(),
            template: stack.template.clone(),
            sources: serde_json::from_str(&stack.sources).with_context(|| {
                format!("read where the resources of {} are defined", stack.name)
            })?,
        })
    }

    /// The same operator, with the bootstrap's service role where there is one.
    pub(crate) fn by(mut self, bootstrap: Option<&Bootstrap>) -> Operator {
        self.role_arn = bootstrap.map(|it| it.service_role.clone());
        self
    }
}
