//! Stacks that change.

use serde_json::{Value as Json, json};

use crate::rig::{Rig, chain};

fn stream(shards: u32, name: Option<&str>) -> Json {
    let mut properties = json!({ "ShardCount": shards });
    if let Some(name) = name {
        properties["Name"] = json!(name);
    }
    json!({ "Type": "AWS::Kinesis::Stream", "Properties": properties })
}

#[tokio::test]
async fn change_in_place_keeps_the_physical_resource() {
    let rig = Rig::new(&[]).await;
    rig.create(&json!({ "Resources": { "Stream": stream(1, None) } }))
        .await;
    let before = rig.physical_id("Stream").await;
    let after = json!({ "Resources": { "Stream": stream(2, None) } });
    assert_eq!(rig.update(&after).await, "UPDATE_COMPLETE");
    assert_eq!(rig.physical_id("Stream").await, before);
    let events = rig.events().await;
    assert_eq!(
        events[events.len() - 5..],
        [
            "s UPDATE_IN_PROGRESS: User Initiated",
            "Stream UPDATE_IN_PROGRESS",
            "Stream UPDATE_COMPLETE",
            "s UPDATE_COMPLETE_CLEANUP_IN_PROGRESS",
            "s UPDATE_COMPLETE",
        ]
    );
}

#[tokio::test]
async fn replacement_creates_the_new_one_before_it_deletes_the_old() {
    let rig = Rig::new(&[]).await;
    rig.create(&json!({ "Resources": { "Stream": stream(1, Some("one")) } }))
        .await;
    let after = json!({ "Resources": { "Stream": stream(1, Some("two")) } });
    assert_eq!(rig.update(&after).await, "UPDATE_COMPLETE");
    assert_eq!(rig.physical_id("Stream").await, "two");
    let events = rig.events().await;
    assert_eq!(
        events[events.len() - 8..],
        [
            "s UPDATE_IN_PROGRESS: User Initiated",
            "Stream UPDATE_IN_PROGRESS: Requested update requires the creation of a new physical resource; hence creating one.",
            "Stream UPDATE_IN_PROGRESS: Resource creation Initiated",
            "Stream UPDATE_COMPLETE",
            "s UPDATE_COMPLETE_CLEANUP_IN_PROGRESS",
            "Stream DELETE_IN_PROGRESS",
            "Stream DELETE_COMPLETE",
            "s UPDATE_COMPLETE",
        ]
    );
}

#[tokio::test]
async fn replaced_resource_with_a_retain_policy_stays() {
    let rig = Rig::new(&[]).await;
    let bucket = |name: &str| {
        json!({ "Resources": { "Bucket": {
            "Type": "AWS::S3::Bucket", "UpdateReplacePolicy": "Retain", "Properties": { "BucketName": name },
        } } })
    };
    rig.create(&bucket("one")).await;
    assert_eq!(rig.update(&bucket("two")).await, "UPDATE_COMPLETE");
    assert_eq!(rig.buckets.names(), ["one", "two"]);
    assert!(
        rig.events()
            .await
            .contains(&"Bucket DELETE_SKIPPED".to_owned())
    );
}

#[tokio::test]
async fn custom_name_stands_in_the_way_of_a_replacement() {
    let rig = Rig::new(&[]).await;
    let cache = |encrypted: bool| {
        json!({ "Resources": { "Cache": { "Type": "AWS::ElastiCache::ReplicationGroup", "Properties": {
            "ReplicationGroupId": "mine", "ReplicationGroupDescription": "d", "AtRestEncryptionEnabled": encrypted,
        } } } })
    };
    rig.create(&cache(false)).await;
    assert_eq!(rig.update(&cache(true)).await, "UPDATE_ROLLBACK_COMPLETE");
    let events = rig.events().await;
    let reason = "Cache UPDATE_FAILED: CloudFormation cannot update a stack when a custom-named resource requires replacing. Rename mine and update the stack again.";
    assert!(events.iter().any(|it| it == reason), "{events:#?}");
}

#[tokio::test]
async fn added_and_removed_resources_come_and_go() {
    let rig = Rig::new(&[]).await;
    rig.create(&chain(&["A", "B"])).await;
    assert_eq!(rig.update(&chain(&["B", "C"])).await, "UPDATE_COMPLETE");
    let resources = rig.resources().await;
    assert_eq!(resources.keys().collect::<Vec<_>>(), ["B", "C"]);
    assert!(rig.events().await.contains(&"A DELETE_COMPLETE".to_owned()));
}

#[tokio::test]
async fn failed_update_is_taken_back_with_what_it_added() {
    let rig = Rig::new(&["cfn:C=CREATE_FAILED:no capacity"]).await;
    let mut before = chain(&["A", "B"]);
    rig.create(&before).await;
    before["Resources"]["A"]["Properties"]["DisplayName"] = json!("other");
    before["Resources"]["C"] = json!({ "Type": "AWS::SNS::Topic", "DependsOn": "A" });
    assert_eq!(rig.update(&before).await, "UPDATE_ROLLBACK_COMPLETE");
    let events = rig.events().await;
    let from = events
        .iter()
        .position(|it| it.starts_with("C CREATE_FAILED"))
        .unwrap();
    assert_eq!(
        events[from..],
        [
            "C CREATE_FAILED: no capacity",
            "s UPDATE_ROLLBACK_IN_PROGRESS: The following resource(s) failed to create: [C]. ",
            "A UPDATE_IN_PROGRESS",
            "A UPDATE_COMPLETE",
            "s UPDATE_ROLLBACK_COMPLETE_CLEANUP_IN_PROGRESS",
            "C DELETE_IN_PROGRESS",
            "C DELETE_COMPLETE",
            "s UPDATE_ROLLBACK_COMPLETE",
        ]
    );
    assert_eq!(rig.resources().await.len(), 2);
    let text = rig
        .ok("GetTemplate", &[("StackName", "s")])
        .await
        .first("TemplateBody");
    assert_eq!(text, chain(&["A", "B"]).to_string());
}

#[tokio::test]
async fn rollback_of_an_update_that_is_stuck_goes_on_without_the_culprit() {
    let rig = Rig::new(&["cfn:A=UPDATE_FAILED:locked"]).await;
    let mut template = chain(&["A"]);
    rig.create(&template).await;
    template["Resources"]["A"]["Properties"]["DisplayName"] = json!("other");
    assert_eq!(rig.update(&template).await, "UPDATE_ROLLBACK_FAILED");
    rig.ok("ContinueUpdateRollback", &[("StackName", "s")])
        .await;
    assert_eq!(rig.settled().await, "UPDATE_ROLLBACK_FAILED");
    let skip = [("StackName", "s"), ("ResourcesToSkip.member.1", "A")];
    rig.ok("ContinueUpdateRollback", &skip).await;
    assert_eq!(rig.settled().await, "UPDATE_ROLLBACK_COMPLETE");
    let refused = rig
        .call("ContinueUpdateRollback", &[("StackName", "s")])
        .await
        .error();
    assert!(
        refused.contains("UPDATE_ROLLBACK_COMPLETE state and can not continue"),
        "{refused}"
    );
}

#[tokio::test]
async fn update_without_rollback_stays_half_done_until_taken_back() {
    let rig = Rig::new(&["cfn:B=UPDATE_FAILED:x@once"]).await;
    let mut template = chain(&["A", "B", "C"]);
    rig.create(&template).await;
    for id in ["A", "B", "C"] {
        template["Resources"][id]["Properties"]["DisplayName"] = json!("other");
    }
    rig.ok(
        "DeleteChangeSet",
        &[("StackName", "s"), ("ChangeSetName", "c")],
    )
    .await;
    rig.propose("UPDATE", &template, &[]).await;
    assert_eq!(
        rig.execute(&[("DisableRollback", "true")]).await,
        "UPDATE_FAILED"
    );
    rig.ok("RollbackStack", &[("StackName", "s")]).await;
    assert_eq!(rig.settled().await, "UPDATE_ROLLBACK_COMPLETE");
}

#[tokio::test]
async fn half_done_update_can_be_finished() {
    let rig = Rig::new(&["cfn:B=UPDATE_FAILED:x@once"]).await;
    let mut template = chain(&["A", "B", "C"]);
    rig.create(&template).await;
    for id in ["A", "B", "C"] {
        template["Resources"][id]["Properties"]["DisplayName"] = json!("other");
    }
    rig.ok(
        "DeleteChangeSet",
        &[("StackName", "s"), ("ChangeSetName", "c")],
    )
    .await;
    rig.propose("UPDATE", &template, &[]).await;
    assert_eq!(
        rig.execute(&[("DisableRollback", "true")]).await,
        "UPDATE_FAILED"
    );
    assert_eq!(rig.update(&template).await, "UPDATE_COMPLETE");
    let events = rig.events().await;
    let updated = |id: &str| {
        events
            .iter()
            .filter(|it| **it == format!("{id} UPDATE_COMPLETE"))
            .count()
    };
    assert_eq!(["A", "B", "C"].map(updated), [1, 1, 1]);
}

#[tokio::test]
async fn cancelled_update_is_taken_back() {
    let rig = Rig::new(&[]).await;
    rig.create(&chain(&["A"])).await;
    rig.buckets.held.send_replace(true);
    let mut template = chain(&["A"]);
    template["Resources"]["Bucket"] = json!({ "Type": "AWS::S3::Bucket" });
    rig.ok(
        "DeleteChangeSet",
        &[("StackName", "s"), ("ChangeSetName", "c")],
    )
    .await;
    rig.propose("UPDATE", &template, &[]).await;
    rig.ok(
        "ExecuteChangeSet",
        &[("StackName", "s"), ("ChangeSetName", "c")],
    )
    .await;
    rig.ok("CancelUpdateStack", &[("StackName", "s")]).await;
    assert_eq!(rig.settled().await, "UPDATE_ROLLBACK_COMPLETE");
    assert!(rig.buckets.names().is_empty());
    let refused = rig
        .call("CancelUpdateStack", &[("StackName", "s")])
        .await
        .error();
    assert!(
        refused.contains("cannot be called from current stack status"),
        "{refused}"
    );
}
