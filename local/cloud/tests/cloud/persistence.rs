//! What outlives the cloud's process, and histories that are long.

use std::collections::BTreeSet;

use serde_json::{Value as Json, json};

use crate::rig::{Rig, chain};

#[tokio::test]
async fn cloud_that_was_killed_brings_an_operation_to_its_end() {
    let rig = Rig::new(&[]).await;
    rig.buckets.held.send_replace(true);
    let mut template = chain(&["A"]);
    template["Resources"]["Bucket"] = json!({ "Type": "AWS::S3::Bucket", "DependsOn": "A" });
    template["Resources"]["Last"] = json!({ "Type": "AWS::SNS::Topic", "DependsOn": "Bucket" });
    rig.propose("CREATE", &template, &[]).await;
    rig.ok(
        "ExecuteChangeSet",
        &[("StackName", "s"), ("ChangeSetName", "c")],
    )
    .await;
    let began = "Bucket CREATE_IN_PROGRESS: Resource creation Initiated".to_owned();
    while !rig.events().await.contains(&began) {
        tokio::task::yield_now().await;
    }
    let rig = rig.restart().await;
    assert!(!rig.resources().await.contains_key("Last"));
    rig.buckets.held.send_replace(false);
    assert_eq!(rig.settled().await, "CREATE_COMPLETE");
    let events = rig.events().await;
    let last = ["Last CREATE_COMPLETE", "s CREATE_COMPLETE"];
    assert_eq!(events[events.len() - 2..], last);
    let unique: BTreeSet<&String> = events.iter().collect();
    assert_eq!(unique.len(), events.len(), "{events:#?}");
}

#[tokio::test]
async fn bucket_that_was_made_just_before_a_kill_is_the_stacks_own() {
    let rig = Rig::new(&[]).await;
    rig.buckets.held.send_replace(true);
    let template = json!({ "Resources": { "Bucket": { "Type": "AWS::S3::Bucket" } } });
    rig.propose("CREATE", &template, &[]).await;
    rig.ok(
        "ExecuteChangeSet",
        &[("StackName", "s"), ("ChangeSetName", "c")],
    )
    .await;
    // Somebody waits for the bucket: it has been asked for.
    while rig.buckets.held.receiver_count() == 0 {
        tokio::task::yield_now().await;
    }
    let bucket = rig.physical_id("Bucket").await;
    let rig = rig.restart().await;
    rig.buckets.there.lock().unwrap().insert(bucket.clone());
    rig.buckets.held.send_replace(false);
    assert_eq!(rig.settled().await, "CREATE_COMPLETE");
    assert_eq!(rig.buckets.names(), [bucket]);
}

#[tokio::test]
async fn deletion_goes_on_after_a_restart() {
    let rig = Rig::new(&["cfn:A=DELETE_FAILED:in use@once"]).await;
    rig.create(&chain(&["A", "B"])).await;
    assert_eq!(rig.delete(&[]).await, "DELETE_FAILED");
    let rig = rig.restart().await;
    assert_eq!(rig.settled().await, "DELETE_FAILED");
    // The fault is as new as the cloud.
    assert_eq!(rig.delete(&[]).await, "DELETE_FAILED");
    assert_eq!(rig.delete(&[]).await, "DELETE_COMPLETE");
}

#[tokio::test]
async fn stack_is_the_same_after_a_restart() {
    let rig = Rig::new(&[]).await;
    rig.create(&chain(&["A", "B"])).await;
    let before = (rig.events().await, rig.physical_id("A").await);
    let rig = rig.restart().await;
    assert_eq!((rig.events().await, rig.physical_id("A").await), before);
    assert_eq!(rig.update(&chain(&["A"])).await, "UPDATE_COMPLETE");
}

#[tokio::test]
async fn more_than_a_thousand_events_are_read_page_by_page() {
    let rig = Rig::new(&[]).await;
    let topics = (0..350).map(|it| (format!("T{it}"), json!({ "Type": "AWS::SNS::Topic" })));
    let resources: serde_json::Map<String, Json> = topics.collect();
    assert_eq!(
        rig.create(&json!({ "Resources": resources })).await,
        "CREATE_COMPLETE"
    );
    let events = rig.events().await;
    assert_eq!(events.len(), 350 * 3 + 3);
    let unique: BTreeSet<&String> = events.iter().collect();
    assert_eq!(unique.len(), events.len());
    assert_eq!(events.last().map(String::as_str), Some("s CREATE_COMPLETE"));
    let refused = rig
        .call(
            "DescribeStackEvents",
            &[("StackName", "s"), ("NextToken", "x")],
        )
        .await
        .error();
    assert!(refused.contains("NextToken"), "{refused}");
}
