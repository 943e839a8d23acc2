//! `logs`: log lines of the function, the web UI, the rules and the archive, merged by time.
//!
//! The groups are those of the stage's stacks, and those that Beanstalk makes for the environment.
//! <https://docs.aws.amazon.com/AmazonCloudWatchLogs/latest/APIReference/API_FilterLogEvents.html>

use std::collections::HashSet;
use std::io::IsTerminal;
use std::time::Duration;

use anyhow::bail;
use futures_util::future::try_join_all;
use jiff::Timestamp;
use serde_json::json;

use crate::arguments::Logs;
use crate::aws::{CallFailed, Cloud, failed};
use crate::message::now_ms;
use crate::outputs;
use crate::stack::call;

/// Maximum delay of a line in CloudWatch for which `--follow` still shows it.
const LATE_MS: i64 = 60_000;

/// Colours of the sources in turn, as ANSI has them: green, blue, magenta, cyan, yellow.
const COLOURS: [u8; 5] = [32, 34, 35, 36, 33];

/// A log group and its short name.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Group {
    source: String,
    name: String,
}

/// A logged line.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Line {
    /// Milliseconds since the Unix epoch.
    at: i64,
    id: String,
    /// Index of its group.
    group: usize,
    text: String,
}

pub(crate) async fn run(arguments: Logs) -> anyhow::Result<()> {
    let cloud = Cloud::connect(Duration::from_secs(2)).await?;
    let stack = outputs::deployed(&cloud, arguments.stage).await?;
    let groups = groups(&cloud, &stack.id).await?;
    if groups.is_empty() {
        bail!("`{}` has no log groups", stack.name);
    }
    let writer = Writer::new(&groups, arguments.json);
    let back = i64::try_from(arguments.since.as_millis()).unwrap_or(i64::MAX);
    let mut from = now().saturating_sub(back).max(0);
    let mut seen: HashSet<String> = HashSet::new();
    loop {
        let asked_at = now();
        let mut lines = read(&cloud, &groups, from).await?;
        lines.retain(|line| seen.insert(line.id.clone()));
        for line in &lines {
            writer.write(line);
        }
        if !arguments.follow {
            if lines.is_empty() {
                eprintln!("nothing was logged in this time: look further back by --since");
            }
            return Ok(());
        }
        // What comes late is looked for again, and shown once.
        from = from.max(asked_at - LATE_MS);
        tokio::time::sleep(cloud.poll).await;
    }
}

fn now() -> i64 {
    i64::try_from(now_ms()).unwrap_or(i64::MAX)
}

/// The stage's log groups: the stack's, and Beanstalk's of its environment.
async fn groups(cloud: &Cloud, stack: &str) -> anyhow::Result<Vec<Group>> {
    let resources = call::resources(cloud, stack).await?;
    let of_type = |r#type: &'static str| {
        resources
            .iter()
            .filter(move |it| it.resource_type() == Some(r#type))
            .filter_map(|it| Some((it.logical_resource_id()?, it.physical_resource_id()?)))
    };
    let mut groups: Vec<Group> = of_type("AWS::Logs::LogGroup")
        .map(|(logical_id, name)| Group {
            source: source(logical_id),
            name: name.to_owned(),
        })
        .collect();
    for (_, environment) in of_type("AWS::ElasticBeanstalk::Environment") {
        groups.extend(environment_groups(cloud, environment).await?);
    }
    Ok(groups)
}

/// Short name of a log group of the stack.
fn source(logical_id: &str) -> String {
    match logical_id {
        "FunctionLogs" => "function",
        "RuleErrors" => "rule errors",
        "ArchiveErrors" => "archive",
        other => other,
    }
    .to_owned()
}

/// Beanstalk streams an environment's files into groups of their own.
///
/// <https://docs.aws.amazon.com/elasticbeanstalk/latest/dg/AWSHowTo.cloudwatchlogs.html>
async fn environment_groups(cloud: &Cloud, environment: &str) -> Result<Vec<Group>, CallFailed> {
    let prefix = format!("/aws/elasticbeanstalk/{environment}/");
    let mut groups = Vec::new();
    let mut next = None;
    loop {
        let page = cloud
            .logs
            .describe_log_groups()
            .log_group_name_prefix(&prefix)
            .set_next_token(next)
            .send()
            .await
            .map_err(|error| failed("list the web UI's log groups", error))?;
        groups.extend(page.log_groups().iter().filter_map(|group| {
            let name = group.log_group_name()?;
            Some(Group {
                source: environment_source(name),
                name: name.to_owned(),
            })
        }));
        next = page.next_token;
        if next.is_none() {
            return Ok(groups);
        }
    }
}

/// Short name of the instance's file that a group holds.
fn environment_source(name: &str) -> String {
    let file = name.rsplit('/').next().unwrap_or(name);
    match file.strip_suffix(".log").unwrap_or(file) {
        "web.stdout" | "web" => "web UI".to_owned(),
        other => format!("web UI {other}"),
    }
}

/// Lines of all groups since a time, the oldest first.
async fn read(cloud: &Cloud, groups: &[Group], from: i64) -> anyhow::Result<Vec<Line>> {
    let groups = groups.iter().enumerate();
    let reads = groups.map(|(place, group)| read_group(cloud, place, group, from));
    let mut lines: Vec<Line> = try_join_all(reads).await?.into_iter().flatten().collect();
    lines.sort();
    Ok(lines)
}

async fn read_group(
    cloud: &Cloud,
    place: usize,
    group: &Group,
    from: i64,
) -> Result<Vec<Line>, CallFailed> {
    let mut lines = Vec::new();
    let mut next = None;
    loop {
        let page = cloud
            .logs
            .filter_log_events()
            .log_group_name(&group.name)
            .start_time(from)
            .set_next_token(next)
            .send()
            .await;
        let page = match page.map_err(|error| failed("read the logs", error)) {
            Ok(page) => page,
            // Gone with its environment between two calls.
            Err(error) if error.code.as_deref() == Some("ResourceNotFoundException") => {
                return Ok(lines);
            }
            Err(error) => return Err(error),
        };
        for event in page.events() {
            lines.push(Line {
                at: event.timestamp().unwrap_or(0),
                id: event.event_id().unwrap_or_default().to_owned(),
                group: place,
                text: event.message().unwrap_or_default().trim_end().to_owned(),
            });
        }
        next = page.next_token;
        if next.is_none() {
            return Ok(lines);
        }
    }
}

/// Format of the lines.
struct Writer<'a> {
    groups: &'a [Group],
    json: bool,
    coloured: bool,
    width: usize,
}

impl Writer<'_> {
    fn new(groups: &[Group], json: bool) -> Writer<'_> {
        let is_wanted = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        Writer {
            groups,
            json,
            coloured: is_wanted && std::io::stdout().is_terminal(),
            width: groups.iter().map(|it| it.source.len()).max().unwrap_or(0),
        }
    }

    fn write(&self, line: &Line) {
        println!("{}", self.shown(line));
    }

    fn shown(&self, line: &Line) -> String {
        let source = &self.groups[line.group].source;
        let at = Timestamp::from_millisecond(line.at).unwrap_or(Timestamp::UNIX_EPOCH);
        if self.json {
            return json!({ "at": at.to_string(), "source": source, "message": line.text })
                .to_string();
        }
        let at = at.strftime("%Y-%m-%d %H:%M:%S%.3fZ");
        let source = format!("{source:width$}", width = self.width);
        let source = match COLOURS.get(line.group % COLOURS.len()) {
            Some(colour) if self.coloured => format!("\x1b[{colour}m{source}\x1b[0m"),
            _ => source,
        };
        format!("{at}  {source}  {}", line.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(at: i64, group: usize, text: &str) -> Line {
        Line {
            at,
            id: format!("{at}-{text}"),
            group,
            text: text.to_owned(),
        }
    }

    #[test]
    fn sources_have_names_that_a_person_knows() {
        assert_eq!(source("FunctionLogs"), "function");
        let of =
            |file: &str| environment_source(&format!("/aws/elasticbeanstalk/e-1/var/log/{file}"));
        assert_eq!(of("web.stdout.log"), "web UI");
        assert_eq!(of("nginx/error.log"), "web UI error");
    }

    #[test]
    fn lines_stand_under_each_other_and_are_coloured_only_on_a_terminal() {
        let groups = ["function", "web UI"].map(|source| Group {
            source: source.to_owned(),
            name: String::new(),
        });
        let mut writer = Writer::new(&groups, false);
        writer.coloured = false;
        let shown = writer.shown(&line(1_795_478_399_123, 1, "hello"));
        assert_eq!(shown, "2026-11-23 23:59:59.123Z  web UI    hello");
        writer.coloured = true;
        assert!(
            writer
                .shown(&line(0, 1, "hello"))
                .contains("\x1b[34mweb UI  \x1b[0m")
        );
        writer.json = true;
        let shown = writer.shown(&line(1_795_478_399_123, 0, "hello"));
        assert_eq!(
            shown,
            r#"{"at":"2026-11-23T23:59:59.123Z","message":"hello","source":"function"}"#
        );
    }
}
