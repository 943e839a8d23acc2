//! A scripted CloudFormation, with just as much of S3, STS and Elastic Beanstalk as `deploy` asks for
//! on the way: query protocol in, XML out, each answer written down by the test.
//!
//! Answers are per action and stack, given in order; the last one is given again and again. An action
//! that the test has not written down is answered by an error that names it.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use stack::Stage;

pub(crate) const MAIN: &str = "sensors-dev";
pub(crate) const ARTIFACTS: &str = "sensors-dev-artifacts";
pub(crate) const BOOTSTRAP: &str = "sensors-bootstrap";
pub(crate) const SERVICE_ROLE: &str =
    "arn:aws:iam::123456789012:role/sensors-bootstrap-ServiceRole-1A2B3C4D5E6F";
pub(crate) const BOUNDARY: &str =
    "arn:aws:iam::123456789012:policy/sensors-bootstrap-PermissionsBoundary-1A2B3C4D5E6F";

/// One answer.
#[derive(Clone, Debug)]
pub(crate) enum Answer {
    /// 200 with the inside of the result element.
    Xml(String),
    /// An error of the service.
    Error(StatusCode, &'static str, String),
}

/// What is answered, and what was asked.
#[derive(Default)]
pub(crate) struct Script {
    answers: Mutex<BTreeMap<(String, String), VecDeque<Answer>>>,
    asked: Mutex<Vec<String>>,
    forms: Mutex<Vec<BTreeMap<String, String>>>,
}

impl Script {
    /// A stage whose artifacts are all there: only the main stack is left to the test.
    pub(crate) fn new() -> Arc<Script> {
        let script = Script::default();
        let stacks = stack::synth(Stage::Dev).expect("the stage synthesises");
        script.on(
            ARTIFACTS,
            "DescribeStacks",
            [described(ARTIFACTS, "CREATE_COMPLETE")],
        );
        script.on(ARTIFACTS, "GetTemplate", [template(&stacks[0].template)]);
        script.on(
            ARTIFACTS,
            "ListStackResources",
            [xml("<StackResourceSummaries/>")],
        );
        script.on(BOOTSTRAP, "DescribeStacks", [missing()]);
        script.on(MAIN, "GetTemplate", [template(&stacks[1].template)]);
        script.on(
            MAIN,
            "ListStackResources",
            [xml("<StackResourceSummaries/>")],
        );
        script.on(
            "",
            "GetCallerIdentity",
            [xml(
                "<Account>123456789012</Account><Arn>arn:aws:iam::123456789012:user/you</Arn>",
            )],
        );
        script.on("", "ListPlatformVersions", [platforms(PLATFORM)]);
        // EC2 has its own way to wrap answers: this one lists no networks.
        script.on("", "DescribeVpcs", [xml("")]);
        Arc::new(script)
    }

    /// Writes answers down for an action on a stack; `""` is for actions without one.
    pub(crate) fn on(&self, stack: &str, action: &str, answers: impl IntoIterator<Item = Answer>) {
        let key = (stack.to_owned(), action.to_owned());
        self.answers
            .lock()
            .expect("no panic")
            .insert(key, answers.into_iter().collect());
    }

    /// Actions on the main stack that change something, in order.
    pub(crate) fn changes(&self) -> Vec<String> {
        let asked = self.asked.lock().expect("no panic");
        let reads = ["Describe", "Get", "List"];
        asked
            .iter()
            .filter(|action| !reads.iter().any(|read| action.starts_with(read)))
            .cloned()
            .collect()
    }

    /// The calls that change stacks, each with the service role that it was given, in order.
    pub(crate) fn roles(&self) -> Vec<String> {
        let forms = self.forms.lock().expect("no panic");
        let taking = [
            "CreateChangeSet",
            "DeleteStack",
            "ContinueUpdateRollback",
            "RollbackStack",
        ];
        forms
            .iter()
            .filter(|form| taking.contains(&form["Action"].as_str()))
            .map(|form| {
                let role = form.get("RoleARN").map_or("no role", String::as_str);
                format!("{} by {role}", form["Action"])
            })
            .collect()
    }

    /// The value that the last change set gave a parameter.
    pub(crate) fn parameter(&self, name: &str) -> Option<String> {
        let forms = self.forms.lock().expect("no panic");
        let form = forms
            .iter()
            .rfind(|form| form["Action"] == "CreateChangeSet")?;
        let (key, _) = form
            .iter()
            .find(|(key, value)| key.ends_with("ParameterKey") && *value == name)?;
        form.get(&key.replace("ParameterKey", "ParameterValue"))
            .cloned()
    }

    /// The account and region are bootstrapped.
    pub(crate) fn bootstrap(&self) {
        self.on(
            BOOTSTRAP,
            "DescribeStacks",
            [bootstrapped("CREATE_COMPLETE")],
        );
    }

    /// Serves the script on a free port.
    pub(crate) async fn serve(self: &Arc<Self>) -> std::io::Result<SocketAddr> {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let router = axum::Router::new()
            .fallback(answer)
            .with_state(self.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        Ok(address)
    }

    fn has(&self, stack: &str, action: &str) -> bool {
        let key = (stack.to_owned(), action.to_owned());
        self.answers.lock().expect("no panic").contains_key(&key)
    }

    fn next(&self, stack: &str, action: &str) -> Answer {
        let key = (stack.to_owned(), action.to_owned());
        let mut answers = self.answers.lock().expect("no panic");
        match answers.get_mut(&key) {
            Some(answers) if answers.len() > 1 => answers.pop_front(),
            Some(answers) => answers.front().cloned(),
            None => None,
        }
        .unwrap_or_else(|| {
            error(
                "NotWrittenDown",
                &format!("{action} of `{stack}` is not in the script"),
            )
        })
    }
}

async fn answer(
    State(script): State<Arc<Script>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    if let Some(target) = headers.get("x-amz-target") {
        return json(&script, &String::from_utf8_lossy(target.as_bytes()));
    }
    let body = String::from_utf8_lossy(&body);
    let form: BTreeMap<String, String> = body
        .split('&')
        .filter_map(|pair| pair.split_once('='))
        .map(|(name, value)| (decoded(name), decoded(value)))
        .collect();
    let Some(action) = form.get("Action") else {
        return s3(&method, &uri);
    };
    // An ID names the stack before its last part.
    let stack = form.get("StackName").cloned().unwrap_or_default();
    let stack = match stack.split_once(":stack/") {
        Some((_, rest)) => rest.split('/').next().unwrap_or_default().to_owned(),
        None => stack,
    };
    // Asked for by change set alone.
    let stack = if action == "DescribeEvents" && form.contains_key("ChangeSetName") {
        MAIN.to_owned()
    } else {
        stack
    };
    script.asked.lock().expect("no panic").push(action.clone());
    script.forms.lock().expect("no panic").push(form.clone());
    match script.next(&stack, action) {
        Answer::Xml(inside) => format!(
            "<{action}Response><{action}Result>{inside}</{action}Result></{action}Response>"
        )
        .into_response(),
        Answer::Error(status, code, message) => (
            status,
            format!(
                "<ErrorResponse><Error><Type>Sender</Type><Code>{code}</Code><Message>{message}</Message></Error></ErrorResponse>"
            ),
        )
            .into_response(),
    }
}

/// Services whose answers are JSON: the quotas. Five of everything, unless the script says otherwise.
fn json(script: &Script, target: &str) -> Response {
    let action = target.rsplit('.').next().unwrap_or_default();
    match (script.has("", action), action) {
        (false, "GetServiceQuota") => r#"{"Quota": {"Value": 5.0}}"#.into_response(),
        _ => match script.next("", action) {
            Answer::Xml(text) => text.into_response(),
            // Not an answer of the service: a proxy's, for example.
            Answer::Error(status, "", text) => (status, text).into_response(),
            Answer::Error(status, code, message) => {
                let text = format!(r#"{{"__type": "{code}", "message": "{message}"}}"#);
                (status, text).into_response()
            }
        },
    }
}

/// Every artifact is there, nothing is beside them, and no bucket outlived anything.
fn s3(method: &Method, uri: &Uri) -> Response {
    let is_list = uri
        .query()
        .is_some_and(|query| query.contains("list-type=2"));
    match (method, uri.path()) {
        (&Method::GET, _) if is_list => "<ListBucketResult/>".into_response(),
        (&Method::HEAD, _) => StatusCode::OK.into_response(),
        (&Method::GET, "/") => {
            "<ListAllMyBucketsResult><Buckets/></ListAllMyBucketsResult>".into_response()
        }
        _ => (
            StatusCode::NOT_FOUND,
            "<Error><Code>NoSuchBucket</Code><Message>no such bucket</Message></Error>",
        )
            .into_response(),
    }
}

fn decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let digits: Vec<u8> = rest.by_ref().take(2).collect();
                let digits = String::from_utf8_lossy(&digits).into_owned();
                u8::from_str_radix(&digits, 16).unwrap_or(b'?')
            }
            other => other,
        });
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

pub(crate) fn xml(inside: &str) -> Answer {
    Answer::Xml(inside.to_owned())
}

pub(crate) fn error(code: &'static str, message: &str) -> Answer {
    Answer::Error(StatusCode::BAD_REQUEST, code, message.to_owned())
}

pub(crate) fn missing() -> Answer {
    error(
        "ValidationError",
        "Stack with id sensors-dev does not exist",
    )
}

pub(crate) fn id(stack: &str) -> String {
    format!("arn:aws:cloudformation:eu-west-1:123456789012:stack/{stack}/1")
}

/// DescribeStacks' answer: a stack with the parameters that an unchanged deployment has.
pub(crate) fn described(stack: &str, status: &str) -> Answer {
    described_with(stack, status, "")
}

pub(crate) fn described_with(stack: &str, status: &str, more: &str) -> Answer {
    let parameters: String = parameters()
        .iter()
        .map(|(name, value)| {
            format!("<member><ParameterKey>{name}</ParameterKey><ParameterValue>{value}</ParameterValue></member>")
        })
        .collect();
    let output = if stack == ARTIFACTS {
        ("BucketName", "artifacts-bucket")
    } else {
        ("DashboardUrl", "http://dashboard.example")
    };
    Answer::Xml(format!(
        "<Stacks><member><StackName>{stack}</StackName><StackId>{}</StackId><StackStatus>{status}</StackStatus><Parameters>{parameters}</Parameters><Outputs><member><OutputKey>{}</OutputKey><OutputValue>{}</OutputValue></member></Outputs>{more}</member></Stacks>",
        id(stack),
        output.0,
        output.1
    ))
}

/// DescribeStacks' answer for the bootstrap.
pub(crate) fn bootstrapped(status: &str) -> Answer {
    let output = |name: &str, value: &str| {
        format!("<member><OutputKey>{name}</OutputKey><OutputValue>{value}</OutputValue></member>")
    };
    let policy = "arn:aws:iam::123456789012:policy/sensors-bootstrap-DeployerPolicy-1A2B3C4D5E6F";
    Answer::Xml(format!(
        "<Stacks><member><StackName>{BOOTSTRAP}</StackName><StackId>{}</StackId><StackStatus>{status}</StackStatus><Outputs>{}{}{}</Outputs></member></Stacks>",
        id(BOOTSTRAP),
        output("ServiceRoleArn", SERVICE_ROLE),
        output("PermissionsBoundaryArn", BOUNDARY),
        output("DeployerPolicyArn", policy),
    ))
}

pub(crate) const PLATFORM: &str = "arn:aws:elasticbeanstalk:eu-west-1::platform/Go 1/4.9.1";

/// ListPlatformVersions' answer: one that is offered.
pub(crate) fn platforms(arn: &str) -> Answer {
    Answer::Xml(format!(
        "<PlatformSummaryList><member><PlatformArn>{arn}</PlatformArn><PlatformStatus>Ready</PlatformStatus></member></PlatformSummaryList>"
    ))
}

/// Parameters of an unchanged deployment, without those that depend on the artifacts.
fn parameters() -> [(&'static str, String); 5] {
    let unknown = [String::new(), String::new()];
    let keys = ARTIFACT_KEYS.get().unwrap_or(&unknown);
    [
        ("ArtifactsBucket", "artifacts-bucket".to_owned()),
        ("FunctionKey", keys[0].clone()),
        ("BundleKey", keys[1].clone()),
        ("PlatformArn", PLATFORM.to_owned()),
        (
            "CacheEngineVersion",
            stack::cache::ENGINE_VERSION.to_owned(),
        ),
    ]
}

/// Keys of the artifacts that the tests give, as `deploy` itself names them.
pub(crate) static ARTIFACT_KEYS: std::sync::OnceLock<[String; 2]> = std::sync::OnceLock::new();

pub(crate) fn template(text: &str) -> Answer {
    let escaped = text.replace('&', "&amp;").replace('<', "&lt;");
    Answer::Xml(format!("<TemplateBody>{escaped}</TemplateBody>"))
}

/// One event: seconds, logical ID, type, status, reason.
pub(crate) type Event<'a> = (u32, &'a str, &'a str, &'a str, &'a str);

/// DescribeStackEvents' answer, the newest first as CloudFormation has it; `events` are in order.
pub(crate) fn events(stack: &str, events: &[Event<'_>]) -> Answer {
    events_page(stack, events, None)
}

pub(crate) fn events_page(stack: &str, events: &[Event<'_>], next: Option<&str>) -> Answer {
    let members: String = events
        .iter()
        .rev()
        .map(|(second, logical_id, r#type, status, reason)| {
            let physical_id = if *logical_id == stack { id(stack) } else { format!("physical-{logical_id}") };
            format!(
                "<member><EventId>{logical_id}-{status}-{second}</EventId><StackId>{}</StackId><StackName>{stack}</StackName><LogicalResourceId>{logical_id}</LogicalResourceId><PhysicalResourceId>{physical_id}</PhysicalResourceId><ResourceType>{type}</ResourceType><ResourceStatus>{status}</ResourceStatus><ResourceStatusReason>{reason}</ResourceStatusReason><Timestamp>2026-11-23T10:{:02}:{:02}Z</Timestamp></member>",
                id(stack), second / 60, second % 60
            )
        })
        .collect();
    let next = next.map_or(String::new(), |next| {
        format!("<NextToken>{next}</NextToken>")
    });
    Answer::Xml(format!("<StackEvents>{members}</StackEvents>{next}"))
}

/// CreateChangeSet's answer.
pub(crate) fn change_set_made() -> Answer {
    Answer::Xml(format!(
        "<Id>arn:aws:cloudformation:eu-west-1:123456789012:changeSet/deploy/1</Id><StackId>{}</StackId>",
        id(MAIN)
    ))
}

/// DescribeChangeSet's answer.
pub(crate) fn change_set(status: &str, execution: &str, reason: &str, changes: &str) -> Answer {
    Answer::Xml(format!(
        "<ChangeSetId>arn:aws:cloudformation:eu-west-1:123456789012:changeSet/deploy/1</ChangeSetId><StackId>{}</StackId><Status>{status}</Status><StatusReason>{reason}</StatusReason><ExecutionStatus>{execution}</ExecutionStatus><Changes>{changes}</Changes>",
        id(MAIN)
    ))
}
