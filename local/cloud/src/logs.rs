//! CloudWatch Logs: what the running programs have logged.
//!
//! <https://docs.aws.amazon.com/AmazonCloudWatchLogs/latest/APIReference/API_FilterLogEvents.html>
//!
//! # Differs from AWS
//! - Filter patterns are not here; a call with one is refused.
//! - Groups are those of the stacks and those that the programs of a stack write to.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use axum::response::Response;
use futures_util::future::BoxFuture;
use serde::Deserialize;
use serde_json::{Value as Json, json};

use super::account::Account;
use super::call::{Call, Failure, Protocol, Service};
use super::service_quotas::json_1_1;

const GROUP: &str = "AWS::Logs::LogGroup";

/// Events of a page at most, as on AWS.
const PAGE: usize = 10_000;

/// The service.
#[derive(Debug)]
pub struct Logs {
    account: Arc<Account>,
}

/// A line of a stream's file.
#[derive(Debug, Deserialize)]
struct Event {
    timestamp: u64,
    message: String,
    #[serde(skip)]
    stream: String,
}

impl Logs {
    /// The service of an account.
    pub fn new(account: &Arc<Account>) -> Logs {
        Logs {
            account: Arc::clone(account),
        }
    }

    async fn call(&self, call: &Call) -> Result<Json, Failure> {
        let asked: Json = serde_json::from_slice(&call.body)
            .map_err(|error| Failure::new("InvalidParameterException", error.to_string()))?;
        let groups = self.groups(&call.region).await;
        match call.operation().as_str() {
            "DescribeLogGroups" => {
                let prefix = asked["logGroupNamePrefix"].as_str().unwrap_or_default();
                let groups = groups
                    .into_iter()
                    .filter(|(name, _)| name.starts_with(prefix));
                let groups: Vec<Json> = groups
                    .map(|(name, _)| json!({ "logGroupName": name, "storedBytes": 0 }))
                    .collect();
                Ok(json!({ "logGroups": groups }))
            }
            "DescribeLogStreams" => {
                let folders = folders(&groups, &asked)?;
                let mut names: Vec<String> = files(&folders)
                    .into_iter()
                    .map(|(stream, _)| stream)
                    .collect();
                names.sort();
                let streams: Vec<Json> = names
                    .iter()
                    .map(|name| json!({ "logStreamName": name }))
                    .collect();
                Ok(json!({ "logStreams": streams }))
            }
            "FilterLogEvents" => {
                let folders = folders(&groups, &asked)?;
                if asked["filterPattern"]
                    .as_str()
                    .is_some_and(|it| !it.is_empty())
                {
                    return Err(Failure::not_here(
                        "logs",
                        "FilterLogEvents with filterPattern",
                    ));
                }
                let page = tokio::task::spawn_blocking(move || events(&folders, &asked));
                page.await
                    .map_err(|error| Failure::new("ServiceUnavailableException", error.to_string()))
            }
            other => Err(Failure::not_here("logs", other)),
        }
    }

    /// Names of the groups, and in which folders their streams may be.
    async fn groups(&self, region: &str) -> Vec<(String, Vec<PathBuf>)> {
        let mut folders = Vec::new();
        let mut names: Vec<String> = self
            .account
            .of_type(region, GROUP)
            .into_iter()
            .map(|it| it.physical_id)
            .collect();
        for running in self.account.pipelines(region) {
            if let Some(pipeline) = &*running.pipeline.read().await {
                folders.push(pipeline.logs().folder().to_owned());
                names.extend(pipeline.logs().groups());
            }
        }
        names.sort();
        names.dedup();
        names
            .into_iter()
            .map(|name| {
                let inside = |folder: &PathBuf| {
                    let parts = name.split('/').filter(|it| !it.is_empty());
                    parts.fold(folder.clone(), |path, part| path.join(part))
                };
                let folders = folders.iter().map(inside).collect();
                (name, folders)
            })
            .collect()
    }
}

fn folders(groups: &[(String, Vec<PathBuf>)], asked: &Json) -> Result<Vec<PathBuf>, Failure> {
    let name = asked["logGroupName"].as_str().unwrap_or_default();
    let found = groups.iter().find(|(group, _)| group == name);
    found.map(|(_, folders)| folders.clone()).ok_or_else(|| {
        Failure::new(
            "ResourceNotFoundException",
            "The specified log group does not exist.",
        )
    })
}

/// Names and files of all streams in folders.
fn files(folders: &[PathBuf]) -> Vec<(String, PathBuf)> {
    let mut found = Vec::new();
    for folder in folders {
        let mut open = vec![folder.clone()];
        while let Some(inside) = open.pop() {
            // A group without events has no folder.
            for entry in std::fs::read_dir(&inside).into_iter().flatten().flatten() {
                let path = entry.path();
                if path.is_dir() {
                    open.push(path);
                } else if let Some(name) = stream_name(folder, &path) {
                    found.push((name, path));
                }
            }
        }
    }
    found
}

fn stream_name(folder: &Path, file: &Path) -> Option<String> {
    let name = file.strip_prefix(folder).ok()?.to_str()?;
    name.strip_suffix(".log").map(str::to_owned)
}

/// A page of events in order of their time; the token is how many were read before.
fn events(folders: &[PathBuf], asked: &Json) -> Json {
    let from = asked["startTime"].as_u64().unwrap_or(0);
    let to = asked["endTime"].as_u64().unwrap_or(u64::MAX);
    let limit = asked["limit"].as_u64().map_or(PAGE, |it| it as usize);
    let limit = limit.clamp(1, PAGE);
    let skipped: usize = asked["nextToken"]
        .as_str()
        .and_then(|it| it.parse().ok())
        .unwrap_or(0);
    let mut events: Vec<Event> = files(folders)
        .into_iter()
        .flat_map(|(stream, file)| read(&stream, &file))
        .filter(|it| (from..=to).contains(&it.timestamp))
        .collect();
    events.sort_by_key(|it| it.timestamp);
    let count = events.len();
    let page: Vec<Json> = events
        .iter()
        .enumerate()
        .skip(skipped)
        .take(limit)
        .map(|(index, event)| {
            json!({
                "eventId": format!("{}-{}-{index}", event.timestamp, event.stream),
                "timestamp": event.timestamp,
                "ingestionTime": event.timestamp,
                "logStreamName": event.stream,
                "message": event.message,
            })
        })
        .collect();
    let read = skipped + page.len();
    let mut answer = json!({ "events": page, "searchedLogStreams": [] });
    if read < count {
        answer["nextToken"] = json!(read.to_string());
    }
    answer
}

fn read(stream: &str, file: &Path) -> Vec<Event> {
    let Ok(file) = File::open(file) else {
        return Vec::new();
    };
    let lines = BufReader::new(file).lines().map_while(Result::ok);
    lines
        // The last one may be half written.
        .filter_map(|line| serde_json::from_str::<Event>(&line).ok())
        .map(|event| Event {
            stream: stream.to_owned(),
            ..event
        })
        .collect()
}

impl Service for Logs {
    fn names(&self) -> &'static [&'static str] {
        &["logs"]
    }

    fn protocol(&self) -> Protocol {
        Protocol::Json
    }

    fn answer(&self, call: Call) -> BoxFuture<'_, Response> {
        Box::pin(async move {
            match self.call(&call).await {
                Ok(answer) => json_1_1(&answer),
                Err(failure) => failure.response(Protocol::Json),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_of_several_streams_come_by_their_time_and_in_pages() {
        let folder = tempfile::tempdir().unwrap();
        let line = |at: u64, text: &str| json!({ "timestamp": at, "message": text }).to_string();
        std::fs::create_dir_all(folder.path().join("2026/11")).unwrap();
        std::fs::write(
            folder.path().join("2026/11/a.log"),
            format!("{}\n{}\n{{\"timest", line(1, "one"), line(3, "three")),
        )
        .unwrap();
        std::fs::write(folder.path().join("b.log"), line(2, "two")).unwrap();
        let folders = [folder.path().to_owned()];
        let messages = |answer: &Json| -> Vec<String> {
            let events = answer["events"].as_array().unwrap().iter();
            events
                .map(|it| it["message"].as_str().unwrap().to_owned())
                .collect()
        };
        let first = events(&folders, &json!({ "limit": 2 }));
        assert_eq!(messages(&first), ["one", "two"]);
        assert_eq!(first["events"][0]["logStreamName"], "2026/11/a");
        let next = events(
            &folders,
            &json!({ "limit": 2, "nextToken": first["nextToken"] }),
        );
        assert_eq!(messages(&next), ["three"]);
        assert!(next.get("nextToken").is_none());
        let late = events(&folders, &json!({ "startTime": 2 }));
        assert_eq!(messages(&late), ["two", "three"]);
    }
}
