//! States of a stack, as `deploy` and `destroy` distinguish them.
//!
//! "Stack status codes" in the CloudFormation user guide; every code of the API has a row here, and a code
//! that AWS adds later is `Unknown`.

/// State of a stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// There is no such stack.
    Absent,
    /// A change set was made for a stack that does not exist yet.
    Review,
    /// The stack can be updated.
    Ready,
    /// An operation is under way; nothing else can begin.
    Busy,
    /// The creation failed; the stack can only be deleted.
    NeverCreated,
    /// An update failed with rollback switched off.
    HalfUpdated,
    /// A rollback could not be finished.
    RollbackStuck,
    /// A deletion could not be finished.
    DeletionStuck,
    /// A state that the operator must resolve.
    Unknown,
}

/// State of every status.
const STATES: &[(&str, State)] = &[
    ("CREATE_IN_PROGRESS", State::Busy),
    ("CREATE_FAILED", State::NeverCreated),
    ("CREATE_COMPLETE", State::Ready),
    ("ROLLBACK_IN_PROGRESS", State::Busy),
    ("ROLLBACK_FAILED", State::NeverCreated),
    ("ROLLBACK_COMPLETE", State::NeverCreated),
    ("DELETE_IN_PROGRESS", State::Busy),
    ("DELETE_FAILED", State::DeletionStuck),
    ("DELETE_COMPLETE", State::Absent),
    ("UPDATE_IN_PROGRESS", State::Busy),
    ("UPDATE_COMPLETE_CLEANUP_IN_PROGRESS", State::Busy),
    ("UPDATE_COMPLETE", State::Ready),
    ("UPDATE_FAILED", State::HalfUpdated),
    ("UPDATE_ROLLBACK_IN_PROGRESS", State::Busy),
    ("UPDATE_ROLLBACK_FAILED", State::RollbackStuck),
    ("UPDATE_ROLLBACK_COMPLETE_CLEANUP_IN_PROGRESS", State::Busy),
    ("UPDATE_ROLLBACK_COMPLETE", State::Ready),
    ("REVIEW_IN_PROGRESS", State::Review),
    ("IMPORT_IN_PROGRESS", State::Busy),
    ("IMPORT_COMPLETE", State::Ready),
    ("IMPORT_ROLLBACK_IN_PROGRESS", State::Busy),
    ("IMPORT_ROLLBACK_FAILED", State::Unknown),
    ("IMPORT_ROLLBACK_COMPLETE", State::Ready),
];

impl State {
    /// The state of a status.
    pub(crate) fn of(status: &str) -> State {
        STATES
            .iter()
            .find(|(known, _)| *known == status)
            .map_or(State::Unknown, |(_, state)| *state)
    }
}

/// Whether this status is the success of an operation.
pub(crate) fn is_success(status: &str) -> bool {
    matches!(
        status,
        "CREATE_COMPLETE" | "UPDATE_COMPLETE" | "DELETE_COMPLETE" | "IMPORT_COMPLETE"
    )
}

/// Words for a status.
pub(crate) fn in_words(status: &str) -> &'static str {
    match status {
        "CREATE_COMPLETE" => "created",
        "UPDATE_COMPLETE" => "updated",
        "DELETE_COMPLETE" => "deleted",
        "IMPORT_COMPLETE" => "imported",
        "ROLLBACK_COMPLETE" => "not created, and what was begun is removed again",
        "ROLLBACK_FAILED" => "not created, and what was begun could not all be removed",
        "CREATE_FAILED" => "not created; what was begun is still there",
        "UPDATE_ROLLBACK_COMPLETE" => "as it was before",
        "UPDATE_FAILED" => "half updated",
        "UPDATE_ROLLBACK_FAILED" => "stuck half way back to what it was before",
        "DELETE_FAILED" => "half deleted",
        "REVIEW_IN_PROGRESS" => "not created yet: a change set waits to be executed",
        "IMPORT_ROLLBACK_COMPLETE" => "as it was before the import",
        "IMPORT_ROLLBACK_FAILED" => "stuck half way back from an import",
        _ => match State::of(status) {
            State::Busy => "being worked on",
            _ => "in a state that this tool does not know",
        },
    }
}

#[cfg(test)]
mod tests {
    use aws_sdk_cloudformation::types::StackStatus;

    use super::*;

    #[test]
    fn every_status_of_the_api_has_a_meaning() {
        for status in StackStatus::values() {
            assert!(STATES.iter().any(|(known, _)| known == status), "{status}");
        }
        assert_eq!(STATES.len(), StackStatus::values().len());
    }

    #[test]
    fn every_status_is_said_in_words() {
        for (status, state) in STATES {
            let known = in_words(status) != "in a state that this tool does not know";
            assert!(known, "{status} ({state:?})");
        }
    }

    #[test]
    fn everything_in_progress_but_a_review_is_busy() {
        for (status, state) in STATES {
            let expected = status.ends_with("_IN_PROGRESS") && *status != "REVIEW_IN_PROGRESS";
            assert_eq!(*state == State::Busy, expected, "{status}");
        }
    }

    #[test]
    fn status_of_tomorrow_is_left_to_a_person() {
        assert_eq!(State::of("SOMETHING_NEW"), State::Unknown);
    }
}
