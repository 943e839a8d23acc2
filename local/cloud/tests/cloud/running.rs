//! What is deployed runs, from the artifacts that were uploaded.

use std::io::{Cursor, Write};
use std::net::SocketAddr;

use bytes::Bytes;
use serde_json::{Value as Json, json};
use tokio::net::TcpStream;
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

use crate::rig::{Rig, request};

/// A web UI: Python's own server in the bundle's folder. (Debian: `apt-get install python3`.)
const SERVER: &str = "web: python3 -m http.server $PORT --bind $INTERFACE --protocol HTTP/1.1\n";

fn zip(files: &[(&str, &str)]) -> Bytes {
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, contents) in files {
        let options = SimpleFileOptions::default().unix_permissions(0o755);
        writer.start_file(*name, options).unwrap();
        writer.write_all(contents.as_bytes()).unwrap();
    }
    writer.finish().unwrap().into_inner().into()
}

/// A stage with a web UI and a rule, whose bundle is the object of this key.
fn template(key: &str, sql: &str) -> Json {
    json!({
        "Resources": {
            "Application": { "Type": "AWS::ElasticBeanstalk::Application" },
            "Version": { "Type": "AWS::ElasticBeanstalk::ApplicationVersion", "Properties": {
                "ApplicationName": { "Ref": "Application" },
                "SourceBundle": { "S3Bucket": "artifacts", "S3Key": key },
            } },
            "Environment": { "Type": "AWS::ElasticBeanstalk::Environment", "Properties": {
                "ApplicationName": { "Ref": "Application" },
                "VersionLabel": { "Ref": "Version" },
            } },
            "Stream": { "Type": "AWS::Kinesis::Stream", "Properties": { "ShardCount": 1 } },
            "Role": { "Type": "AWS::IAM::Role", "Properties": {
                "AssumeRolePolicyDocument": { "Version": "2012-10-17", "Statement": [{
                    "Effect": "Allow", "Action": "sts:AssumeRole",
                    "Principal": { "Service": "iot.amazonaws.com" },
                }] },
                "Policies": [{ "PolicyName": "p", "PolicyDocument": {
                    "Version": "2012-10-17",
                    "Statement": [{
                        "Effect": "Allow", "Action": "kinesis:PutRecord",
                        "Resource": { "Fn::GetAtt": ["Stream", "Arn"] },
                    }],
                } }],
            } },
            "Rule": { "Type": "AWS::IoT::TopicRule", "Properties": { "TopicRulePayload": {
                "Sql": sql, "AwsIotSqlVersion": "2016-03-23",
                "Actions": [{ "Kinesis": {
                    "StreamName": { "Ref": "Stream" }, "PartitionKey": "k",
                    "RoleArn": { "Fn::GetAtt": ["Role", "Arn"] },
                } }],
            } } },
        },
        "Outputs": { "Url": { "Value": { "Fn::Sub": "http://${Environment.EndpointURL}/" } } },
    })
}

async fn dashboard(rig: &Rig) -> SocketAddr {
    let stack = rig.ok("DescribeStacks", &[("StackName", "s")]).await;
    let url = stack.first("OutputValue");
    let address = url
        .strip_prefix("http://")
        .and_then(|it| it.strip_suffix('/'));
    address
        .expect("a URL")
        .parse()
        .expect("an address of this machine")
}

async fn page(address: SocketAddr) -> String {
    request(address, "GET", "/index.html", "", "").await.body
}

async fn rig() -> Rig {
    let rig = Rig::running().await;
    rig.buckets
        .there
        .lock()
        .unwrap()
        .insert("artifacts".to_owned());
    let bundles = [
        ("one", zip(&[("Procfile", SERVER), ("index.html", "first")])),
        (
            "two",
            zip(&[("Procfile", SERVER), ("index.html", "second")]),
        ),
        ("bad", zip(&[("Procfile", "web: sh -c 'exit 3'\n")])),
        ("text", Bytes::from_static(b"no archive")),
    ];
    let mut objects = rig.buckets.objects.lock().unwrap();
    objects.extend(bundles.map(|(key, bundle)| (key.to_owned(), bundle)));
    drop(objects);
    rig
}

const SQL: &str = "SELECT * FROM 'topic/+'";

#[tokio::test(flavor = "multi_thread")]
async fn stack_runs_from_create_to_delete_and_changes_in_place() {
    let rig = rig().await;
    assert_eq!(rig.create(&template("one", SQL)).await, "CREATE_COMPLETE");
    let address = dashboard(&rig).await;
    assert_eq!(page(address).await, "first");
    let running = rig.cloud.account().pipeline(&rig.id()).unwrap();
    let broker = running.pipeline.read().await.as_ref().unwrap().mqtt();
    let rule = rig.physical_id("Rule").await;
    let account = rig.cloud.account();
    assert!(
        account
            .resource("eu-central-1", "AWS::IoT::TopicRule", &rule)
            .is_some()
    );

    // Another bundle is another version, which the same environment runs at the same address.
    assert_eq!(rig.update(&template("two", SQL)).await, "UPDATE_COMPLETE");
    assert_eq!(dashboard(&rig).await, address);
    assert_eq!(page(address).await, "second");
    assert_eq!(
        rig.update(&template("two", "SELECT a FROM 'topic/+'"))
            .await,
        "UPDATE_COMPLETE"
    );
    assert_eq!(page(address).await, "second");

    let refused = rig.call("DescribeStacks", &[("StackName", "other")]).await;
    assert_ne!(refused.status, 200);
    assert_eq!(rig.delete(&[]).await, "DELETE_COMPLETE");
    for closed in [address, broker] {
        assert!(TcpStream::connect(closed).await.is_err(), "{closed}");
    }
    assert!(rig.cloud.account().pipeline(&rig.id()).is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn bundle_that_does_not_start_fails_its_environment_and_the_old_one_comes_back() {
    let rig = rig().await;
    rig.create(&template("one", SQL)).await;
    let address = dashboard(&rig).await;
    assert_eq!(
        rig.update(&template("bad", SQL)).await,
        "UPDATE_ROLLBACK_COMPLETE"
    );
    let events = rig.events().await;
    let failed = events
        .iter()
        .find(|it| it.starts_with("Environment UPDATE_FAILED"))
        .unwrap();
    assert!(failed.contains("ended at once: exit status 3"), "{failed}");
    assert_eq!(page(address).await, "first");
    let name = rig.physical_id("Environment").await;
    let told = rig.cloud.account().environment_events(&name);
    let error = told.iter().find(|it| it.severity == "ERROR").unwrap();
    assert!(error.message.contains("exit status 3"), "{}", error.message);
}

#[tokio::test(flavor = "multi_thread")]
async fn artifact_that_is_missing_or_no_archive_fails_whoever_needs_it() {
    let rig = rig().await;
    for (key, expected) in [
        ("nowhere", "S3 Error Code: NoSuchKey"),
        ("text", "Could not unzip uploaded file s3://artifacts/text"),
    ] {
        assert_eq!(rig.create(&template(key, SQL)).await, "ROLLBACK_COMPLETE");
        let events = rig.events().await;
        let failed = events
            .iter()
            .find(|it| it.starts_with("Environment CREATE_FAILED"))
            .unwrap();
        assert!(failed.contains(expected), "{failed}");
        rig.delete(&[]).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn stack_runs_again_when_the_cloud_is_started_again() {
    let rig = rig().await;
    rig.create(&template("one", SQL)).await;
    let rig = rig.restart().await;
    let id = rig.id();
    let address = loop {
        if let Some(running) = rig.cloud.account().pipeline(&id)
            && let Some(pipeline) = running.pipeline.read().await.as_ref()
            && let Some(address) = pipeline.dashboard()
        {
            break address;
        }
        tokio::task::yield_now().await;
    };
    assert_eq!(page(address).await, "first");
    assert_eq!(rig.delete(&[]).await, "DELETE_COMPLETE");
}
