//! Reading a function's answer ("Configuring partial batch response with Kinesis Data Streams").

use std::sync::Arc;

use serde_json::Value;

use crate::kinesis::Record;

/// What an answer without an error means for its batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// All is done.
    Done,
    /// Records before this index are done; it and all later ones are to be sent again.
    RetryFrom(usize),
    /// The whole batch is to be sent again.
    RetryAll,
}

/// Reads an answer of a mapping with `ReportBatchItemFailures`.
pub(super) fn verdict(response: &[u8], records: &[Arc<Record>]) -> Verdict {
    if response.is_empty() {
        return Verdict::Done;
    }
    let failures = match serde_json::from_slice(response) {
        Ok(Value::Null) => return Verdict::Done,
        Ok(Value::Object(mut answer)) => match answer.remove("batchItemFailures") {
            None | Some(Value::Null) => return Verdict::Done,
            Some(Value::Array(failures)) => failures,
            Some(_) => return Verdict::RetryAll,
        },
        _ => return Verdict::RetryAll,
    };
    let mut lowest = records.len();
    for failure in &failures {
        let identifier = failure.get("itemIdentifier").and_then(Value::as_str);
        let identifier = identifier.filter(|identifier| !identifier.is_empty());
        let index = identifier.and_then(|it| {
            records
                .iter()
                .position(|record| record.sequence_number.to_string() == it)
        });
        match index {
            Some(index) => lowest = lowest.min(index),
            None => return Verdict::RetryAll,
        }
    }
    if lowest == records.len() {
        Verdict::Done
    } else {
        Verdict::RetryFrom(lowest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event_source_mapping::tests::record;

    #[test]
    fn answers_mean_what_aws_documents() {
        let records: Vec<_> = (1..=5).map(|n| record(n, "a", b"x")).collect();
        let item = |index: usize| {
            format!(
                r#"{{"itemIdentifier":"{}"}}"#,
                records[index].sequence_number
            )
        };
        let list = |items: &[String]| format!(r#"{{"batchItemFailures":[{}]}}"#, items.join(","));
        for (answer, expected) in [
            (String::new(), Verdict::Done),
            ("null".to_owned(), Verdict::Done),
            ("{}".to_owned(), Verdict::Done),
            (r#"{"other":1}"#.to_owned(), Verdict::Done),
            (r#"{"batchItemFailures":null}"#.to_owned(), Verdict::Done),
            (list(&[]), Verdict::Done),
            (list(&[item(3)]), Verdict::RetryFrom(3)),
            (list(&[item(4), item(1), item(3)]), Verdict::RetryFrom(1)),
            (list(&[item(0)]), Verdict::RetryFrom(0)),
            (
                list(&[r#"{"itemIdentifier":""}"#.to_owned()]),
                Verdict::RetryAll,
            ),
            (
                list(&[r#"{"itemIdentifier":null}"#.to_owned()]),
                Verdict::RetryAll,
            ),
            (list(&[r#"{"wrong":"1"}"#.to_owned()]), Verdict::RetryAll),
            (
                list(&[item(3), r#"{"itemIdentifier":"12"}"#.to_owned()]),
                Verdict::RetryAll,
            ),
            (r#"{"batchItemFailures":7}"#.to_owned(), Verdict::RetryAll),
            ("[1]".to_owned(), Verdict::RetryAll),
            ("no json".to_owned(), Verdict::RetryAll),
        ] {
            assert_eq!(verdict(answer.as_bytes(), &records), expected, "{answer}");
        }
    }
}
