//! A cloud on a free port, a client for it, and buckets that a test can look into and hold up.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::http::StatusCode;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use local::events::Reporter;
use local_cloud::account::Buckets;
use local_cloud::fault::Faults;
use local_cloud::pace::Pace;
use local_cloud::{Cloud, Failure, Settings};
use serde_json::{Value as Json, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;

/// No operation of these tests takes so long.
const TOO_LONG: Duration = Duration::from_secs(60);

pub(crate) struct Rig {
    pub(crate) cloud: Cloud,
    pub(crate) buckets: Arc<Memory>,
    folder: Arc<tempfile::TempDir>,
    faults: Vec<String>,
    run: bool,
}

impl Rig {
    /// A cloud that is only there to be asked.
    pub(crate) async fn new(faults: &[&str]) -> Rig {
        Rig::start(faults, false).await
    }

    /// A cloud that runs what is deployed.
    pub(crate) async fn running() -> Rig {
        Rig::start(&[], true).await
    }

    async fn start(faults: &[&str], run: bool) -> Rig {
        let folder = Arc::new(tempfile::tempdir().unwrap());
        let faults: Vec<String> = faults.iter().map(|it| (*it).to_owned()).collect();
        let buckets = Arc::new(Memory::default());
        let cloud = start(folder.path(), &faults, &buckets, run).await;
        Rig {
            cloud,
            buckets,
            folder,
            faults,
            run,
        }
    }

    /// Kills the cloud, and starts another on the same folder.
    pub(crate) async fn restart(self) -> Rig {
        let Rig {
            cloud,
            buckets,
            folder,
            faults,
            run,
        } = self;
        drop(cloud);
        let cloud = start(folder.path(), &faults, &buckets, run).await;
        Rig {
            cloud,
            buckets,
            folder,
            faults,
            run,
        }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.cloud.address()
    }

    /// A call of CloudFormation; fields are `Name=value`.
    pub(crate) async fn call(&self, action: &str, fields: &[(&str, &str)]) -> Answer {
        self.ask("cloudformation", action, fields).await
    }

    /// A call of a service that speaks the query protocol.
    pub(crate) async fn ask(&self, service: &str, action: &str, fields: &[(&str, &str)]) -> Answer {
        let version = match service {
            "elasticache" => "2015-02-02",
            _ => "2010-05-15",
        };
        let mut form = form_urlencoded::Serializer::new(String::new());
        form.append_pair("Action", action)
            .append_pair("Version", version);
        for (name, value) in fields {
            form.append_pair(name, value);
        }
        let scope = format!("AKID/20261123/eu-central-1/{service}/aws4_request");
        let headers = format!(
            "Authorization: AWS4-HMAC-SHA256 Credential={scope}, SignedHeaders=host, Signature=0\r\nContent-Type: application/x-www-form-urlencoded\r\n"
        );
        request(self.address(), "POST", "/", &headers, &form.finish()).await
    }

    /// The answer of a call that succeeds.
    pub(crate) async fn ok(&self, action: &str, fields: &[(&str, &str)]) -> Answer {
        let answer = self.call(action, fields).await;
        assert_eq!(answer.status, 200, "{action}: {}", answer.body);
        answer
    }

    /// Makes a change set and waits for it; returns its status and reason.
    pub(crate) async fn propose(
        &self,
        kind: &str,
        template: &Json,
        more: &[(&str, &str)],
    ) -> (String, String) {
        let text = template.to_string();
        let mut fields = vec![
            ("StackName", "s"),
            ("ChangeSetName", "c"),
            ("ChangeSetType", kind),
            ("TemplateBody", text.as_str()),
            ("Capabilities.member.1", "CAPABILITY_NAMED_IAM"),
        ];
        fields.extend(more);
        self.ok("CreateChangeSet", &fields).await;
        self.described().await
    }

    /// Waits until the change set is made.
    pub(crate) async fn described(&self) -> (String, String) {
        let names = [("StackName", "s"), ("ChangeSetName", "c")];
        loop {
            let answer = self.ok("DescribeChangeSet", &names).await;
            let status = answer.first("Status");
            if !status.ends_with("_IN_PROGRESS") {
                return (status, answer.first("StatusReason"));
            }
            tokio::task::yield_now().await;
        }
    }

    /// Executes the change set and waits for the end; returns the stack's status.
    pub(crate) async fn execute(&self, more: &[(&str, &str)]) -> String {
        let mut fields = vec![("StackName", "s"), ("ChangeSetName", "c")];
        fields.extend(more);
        self.ok("ExecuteChangeSet", &fields).await;
        self.settled().await
    }

    pub(crate) async fn create(&self, template: &Json) -> String {
        let made = self.propose("CREATE", template, &[]).await;
        assert_eq!(made.0, "CREATE_COMPLETE", "{}", made.1);
        self.execute(&[]).await
    }

    pub(crate) async fn update(&self, template: &Json) -> String {
        self.ok(
            "DeleteChangeSet",
            &[("StackName", "s"), ("ChangeSetName", "c")],
        )
        .await;
        let made = self.propose("UPDATE", template, &[]).await;
        assert_eq!(made.0, "CREATE_COMPLETE", "{}", made.1);
        self.execute(&[]).await
    }

    /// Waits until nothing is under way; returns the status of the stack, by its ID.
    pub(crate) async fn settled(&self) -> String {
        let settled = async {
            loop {
                let answer = self
                    .ok("DescribeStacks", &[("StackName", &self.id())])
                    .await;
                let status = answer.first("StackStatus");
                if !status.ends_with("_IN_PROGRESS") {
                    return status;
                }
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        tokio::time::timeout(TOO_LONG, settled)
            .await
            .expect("the operation ends")
    }

    /// The ID of the newest stack.
    pub(crate) fn id(&self) -> String {
        let folder = self.folder.path().join("stacks");
        let mut newest: Option<(String, String)> = None;
        for entry in std::fs::read_dir(folder).unwrap() {
            let text = std::fs::read(entry.unwrap().path().join("stack.json")).unwrap();
            let stack: Json = serde_json::from_slice(&text).unwrap();
            let found = (
                stack["created_at"].as_str().unwrap().to_owned(),
                stack["id"].as_str().unwrap().to_owned(),
            );
            newest = newest.max(Some(found));
        }
        newest.expect("there is a stack").1
    }

    pub(crate) async fn delete(&self, more: &[(&str, &str)]) -> String {
        let mut fields = vec![("StackName", "s")];
        fields.extend(more);
        self.ok("DeleteStack", &fields).await;
        self.settled().await
    }

    /// The stack's events in order, each as `LogicalId STATUS` or `LogicalId STATUS: reason`.
    pub(crate) async fn events(&self) -> Vec<String> {
        let id = self.id();
        let mut events = Vec::new();
        let mut next = String::new();
        loop {
            let mut fields = vec![("StackName", id.as_str())];
            if !next.is_empty() {
                fields.push(("NextToken", &next));
            }
            let answer = self.ok("DescribeStackEvents", &fields).await;
            events.extend(answer.all("member").iter().map(|event| {
                let line = format!(
                    "{} {}",
                    first(event, "LogicalResourceId"),
                    first(event, "ResourceStatus")
                );
                match first(event, "ResourceStatusReason").as_str() {
                    "" => line,
                    reason => format!("{line}: {reason}"),
                }
            }));
            next = answer.first("NextToken");
            if next.is_empty() {
                break;
            }
        }
        events.reverse();
        events
    }

    /// Logical ID → status of the stack's resources.
    pub(crate) async fn resources(&self) -> BTreeMap<String, String> {
        let answer = self
            .ok("ListStackResources", &[("StackName", &self.id())])
            .await;
        let resources = answer.all("member").into_iter();
        resources
            .map(|it| {
                (
                    first(&it, "LogicalResourceId"),
                    first(&it, "ResourceStatus"),
                )
            })
            .collect()
    }

    pub(crate) async fn physical_id(&self, logical_id: &str) -> String {
        let id = self.id();
        let fields = [("StackName", &*id), ("LogicalResourceId", logical_id)];
        let answer = self.ok("DescribeStackResource", &fields).await;
        answer.first("PhysicalResourceId")
    }
}

async fn start(folder: &Path, faults: &[String], buckets: &Arc<Memory>, run: bool) -> Cloud {
    let faults = faults.iter().map(|it| it.parse().unwrap()).collect();
    let free = SocketAddr::from(([127, 0, 0, 1], 0));
    let cloud = Cloud::start_with(free, Some(buckets.clone()), |endpoint| Settings {
        data: folder.to_owned(),
        endpoint,
        mqtt: free,
        dashboard: free,
        redis: None,
        faults: Faults::new(faults),
        pace: Pace::Fast,
        run,
        reporter: Reporter::new(true),
    });
    cloud.await.unwrap()
}

pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: String,
}

impl Answer {
    /// The text of the first element of a name, unescaped; empty without one.
    pub(crate) fn first(&self, name: &str) -> String {
        first(&self.body, name)
    }

    /// The insides of the outermost elements of a name.
    pub(crate) fn all(&self, name: &str) -> Vec<String> {
        all(&self.body, name)
    }

    /// `Code: Message` of an error.
    pub(crate) fn error(&self) -> String {
        assert_ne!(self.status, 200, "{}", self.body);
        format!("{}: {}", self.first("Code"), self.first("Message"))
    }
}

pub(crate) fn first(xml: &str, name: &str) -> String {
    let found = all(xml, name).into_iter().next().unwrap_or_default();
    let found = found
        .replace("&lt;", "<")
        .replace("&gt;", ">")
        .replace("&quot;", "\"");
    found.replace("&amp;", "&")
}

pub(crate) fn all(xml: &str, name: &str) -> Vec<String> {
    let (open, close) = (format!("<{name}>"), format!("</{name}>"));
    let mut found = Vec::new();
    let mut rest = xml;
    while let Some(start) = rest.find(&open) {
        let inside = &rest[start + open.len()..];
        let (mut depth, mut at) = (1, 0);
        while depth > 0 {
            let next_close = inside[at..].find(&close).expect("elements are closed") + at;
            match inside[at..next_close].find(&open) {
                Some(nested) => {
                    depth += 1;
                    at += nested + open.len();
                }
                None => {
                    depth -= 1;
                    at = next_close + close.len();
                }
            }
        }
        found.push(inside[..at - close.len()].to_owned());
        rest = &inside[at..];
    }
    found
}

pub(crate) async fn request(
    address: SocketAddr,
    method: &str,
    path: &str,
    headers: &str,
    body: &str,
) -> Answer {
    let mut connection = TcpStream::connect(address).await.unwrap();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nContent-Length: {}\r\n{headers}\r\n{body}",
        body.len()
    );
    connection.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    connection.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Answer {
        status,
        body: body.to_owned(),
    }
}

/// Buckets in memory.
#[derive(Debug)]
pub(crate) struct Memory {
    pub(crate) there: Mutex<BTreeSet<String>>,
    pub(crate) filled: Mutex<BTreeSet<String>>,
    /// Objects by their keys, whatever the bucket.
    pub(crate) objects: Mutex<BTreeMap<String, Bytes>>,
    /// While it is true, making a bucket takes for ever.
    pub(crate) held: watch::Sender<bool>,
}

impl Default for Memory {
    fn default() -> Memory {
        Memory {
            there: Mutex::default(),
            filled: Mutex::default(),
            objects: Mutex::default(),
            held: watch::Sender::new(false),
        }
    }
}

impl Memory {
    pub(crate) fn names(&self) -> Vec<String> {
        self.there.lock().unwrap().iter().cloned().collect()
    }
}

impl Buckets for Memory {
    fn create<'a>(
        &'a self,
        _region: &'a str,
        bucket: &'a str,
        _properties: &'a Json,
    ) -> BoxFuture<'a, Result<(), Failure>> {
        Box::pin(async move {
            let mut held = self.held.subscribe();
            held.wait_for(|it| !it).await.unwrap();
            if !self.there.lock().unwrap().insert(bucket.to_owned()) {
                let code = "BucketAlreadyOwnedByYou";
                return Err(Failure::with(
                    StatusCode::CONFLICT,
                    code,
                    "it is yours already",
                ));
            }
            Ok(())
        })
    }

    fn configure<'a>(
        &'a self,
        _bucket: &'a str,
        _properties: &'a Json,
    ) -> BoxFuture<'a, Result<(), Failure>> {
        Box::pin(async { Ok(()) })
    }

    fn delete<'a>(&'a self, bucket: &'a str) -> BoxFuture<'a, Result<(), Failure>> {
        Box::pin(async move {
            if self.filled.lock().unwrap().contains(bucket) {
                return Err(Failure::with(StatusCode::CONFLICT, "BucketNotEmpty", ""));
            }
            self.there.lock().unwrap().remove(bucket);
            Ok(())
        })
    }

    fn exists<'a>(&'a self, bucket: &'a str) -> BoxFuture<'a, bool> {
        Box::pin(async move { self.there.lock().unwrap().contains(bucket) })
    }

    fn get<'a>(
        &'a self,
        _bucket: &'a str,
        key: &'a str,
        _version: Option<&'a str>,
    ) -> BoxFuture<'a, Result<Bytes, Failure>> {
        Box::pin(async move {
            if let Some(object) = self.objects.lock().unwrap().get(key) {
                return Ok(object.clone());
            }
            let message = "The specified key does not exist.";
            Err(Failure::with(StatusCode::NOT_FOUND, "NoSuchKey", message))
        })
    }
}

/// A template of topics, each needing the one before it: `First`, `Second` …
pub(crate) fn chain(names: &[&str]) -> Json {
    let mut resources = serde_json::Map::new();
    let mut before: Option<&str> = None;
    for name in names {
        let mut topic = json!({ "Type": "AWS::SNS::Topic", "Properties": { "DisplayName": name } });
        if let Some(before) = before {
            topic["DependsOn"] = json!(before);
        }
        resources.insert((*name).to_owned(), topic);
        before = Some(name);
    }
    json!({ "Resources": resources })
}
