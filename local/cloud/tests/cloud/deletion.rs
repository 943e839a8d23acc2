//! Stacks that go.

use serde_json::json;

use crate::rig::{Rig, chain, first};

#[tokio::test]
async fn dependent_resources_go_first_and_the_stack_is_known_by_its_id() {
    let rig = Rig::new(&[]).await;
    rig.create(&chain(&["A", "B"])).await;
    let id = rig.id();
    assert_eq!(rig.delete(&[]).await, "DELETE_COMPLETE");
    let events = rig.events().await;
    assert_eq!(
        events[events.len() - 6..],
        [
            "s DELETE_IN_PROGRESS: User Initiated",
            "B DELETE_IN_PROGRESS",
            "B DELETE_COMPLETE",
            "A DELETE_IN_PROGRESS",
            "A DELETE_COMPLETE",
            "s DELETE_COMPLETE",
        ]
    );
    let refused = rig
        .call("DescribeStacks", &[("StackName", "s")])
        .await
        .error();
    assert_eq!(refused, "ValidationError: Stack with id s does not exist");
    let known = rig.ok("DescribeStacks", &[("StackName", &id)]).await;
    assert_eq!(known.first("StackStatus"), "DELETE_COMPLETE");
    let listed = rig
        .ok(
            "ListStacks",
            &[("StackStatusFilter.member.1", "DELETE_COMPLETE")],
        )
        .await;
    assert_eq!(listed.all("member").len(), 1);
    // A second deletion has nothing to do.
    rig.ok("DeleteStack", &[("StackName", "s")]).await;
}

#[tokio::test]
async fn bucket_that_is_not_empty_holds_the_deletion_up() {
    let rig = Rig::new(&[]).await;
    let template = json!({ "Resources": {
        "Bucket": { "Type": "AWS::S3::Bucket" },
        "Topic": { "Type": "AWS::SNS::Topic" },
    } });
    rig.create(&template).await;
    let bucket = rig.physical_id("Bucket").await;
    rig.buckets.filled.lock().unwrap().insert(bucket.clone());
    assert_eq!(rig.delete(&[]).await, "DELETE_FAILED");
    let events = rig.events().await;
    let text = "Bucket DELETE_FAILED: Resource handler returned message: \"The bucket you tried to delete is not empty (Service: S3, Status Code: 409";
    assert!(events.iter().any(|it| it.starts_with(text)), "{events:#?}");
    assert_eq!(rig.resources().await["Topic"], "DELETE_COMPLETE");

    rig.buckets.filled.lock().unwrap().clear();
    assert_eq!(rig.delete(&[]).await, "DELETE_COMPLETE");
    assert!(rig.buckets.names().is_empty());
}

#[tokio::test]
async fn stuck_resource_is_left_behind_by_name_or_by_force() {
    for more in [
        ("RetainResources.member.1", "A"),
        ("DeletionMode", "FORCE_DELETE_STACK"),
    ] {
        let rig = Rig::new(&["cfn:A=DELETE_FAILED:in use"]).await;
        rig.create(&chain(&["A", "B"])).await;
        let refused = rig
            .call("DeleteStack", &[("StackName", "s"), more])
            .await
            .error();
        assert!(
            refused.contains("only while the stack is DELETE_FAILED"),
            "{refused}"
        );
        assert_eq!(rig.delete(&[]).await, "DELETE_FAILED");
        assert_eq!(rig.delete(&[more]).await, "DELETE_COMPLETE");
        assert!(rig.events().await.contains(&"A DELETE_SKIPPED".to_owned()));
    }
}

#[tokio::test]
async fn retained_resources_stay() {
    let rig = Rig::new(&[]).await;
    let bucket = |policy: &str| json!({ "Type": "AWS::S3::Bucket", "DeletionPolicy": policy });
    let template = json!({ "Resources": {
        "Kept": bucket("Retain"), "AlsoKept": bucket("RetainExceptOnCreate"), "Gone": bucket("Delete"),
    } });
    rig.create(&template).await;
    assert_eq!(rig.delete(&[]).await, "DELETE_COMPLETE");
    assert_eq!(rig.buckets.names().len(), 2);
    // What stays is in nobody's way.
    assert_eq!(rig.create(&template).await, "CREATE_COMPLETE");
    assert_eq!(rig.buckets.names().len(), 5);
}

#[tokio::test]
async fn protected_stack_is_not_deleted() {
    let rig = Rig::new(&[]).await;
    rig.create(&chain(&["A"])).await;
    let protect = |value| [("StackName", "s"), ("EnableTerminationProtection", value)];
    rig.ok("UpdateTerminationProtection", &protect("true"))
        .await;
    let refused = rig.call("DeleteStack", &[("StackName", "s")]).await.error();
    assert_eq!(
        refused,
        "ValidationError: Stack [s] cannot be deleted while TerminationProtection is enabled"
    );
    rig.ok("UpdateTerminationProtection", &protect("false"))
        .await;
    assert_eq!(rig.delete(&[]).await, "DELETE_COMPLETE");
}

#[tokio::test]
async fn creation_under_way_can_be_deleted() {
    let rig = Rig::new(&[]).await;
    rig.buckets.held.send_replace(true);
    let template = json!({ "Resources": { "Bucket": { "Type": "AWS::S3::Bucket" } } });
    rig.propose("CREATE", &template, &[]).await;
    rig.ok(
        "ExecuteChangeSet",
        &[("StackName", "s"), ("ChangeSetName", "c")],
    )
    .await;
    assert_eq!(rig.delete(&[]).await, "DELETE_COMPLETE");
}

#[tokio::test]
async fn stack_under_review_is_deleted_at_once() {
    let rig = Rig::new(&[]).await;
    rig.propose("CREATE", &chain(&["A"]), &[]).await;
    let stack = rig.ok("DescribeStacks", &[("StackName", "s")]).await;
    assert_eq!(first(&stack.body, "StackStatus"), "REVIEW_IN_PROGRESS");
    assert_eq!(rig.delete(&[]).await, "DELETE_COMPLETE");
}

#[tokio::test]
async fn cache_whose_policy_wants_one_leaves_a_snapshot() {
    let rig = Rig::new(&[]).await;
    let mut template = json!({ "Resources": { "Cache": {
        "Type": "AWS::ElastiCache::ReplicationGroup",
        "DeletionPolicy": "Snapshot",
        "Properties": { "ReplicationGroupDescription": "a cache" },
    } } });
    rig.create(&template).await;
    let kept = rig.physical_id("Cache").await;
    let snapshots = [("ReplicationGroupId", kept.as_str())];
    let answer = rig
        .ask("elasticache", "DescribeSnapshots", &snapshots)
        .await;
    assert_eq!((answer.status, answer.all("Snapshot").len()), (200, 0));
    rig.delete(&[]).await;
    let answer = rig
        .ask("elasticache", "DescribeSnapshots", &snapshots)
        .await;
    let name = answer.first("SnapshotName");
    assert!(name.starts_with("s-cache-snapshot-"), "{}", answer.body);

    // It outlives a restart, until somebody deletes it.
    let rig = rig.restart().await;
    let answer = rig.ask("elasticache", "DescribeSnapshots", &[]).await;
    assert_eq!(answer.first("SnapshotName"), name);
    let deleted = [("SnapshotName", name.as_str())];
    let answer = rig.ask("elasticache", "DeleteSnapshot", &deleted).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    let answer = rig
        .ask("elasticache", "DescribeSnapshots", &snapshots)
        .await;
    assert!(
        answer.error().starts_with("ReplicationGroupNotFoundFault"),
        "{}",
        answer.body
    );

    // Without the policy nothing is left.
    let resource = &mut template["Resources"]["Cache"];
    resource["DeletionPolicy"] = json!("Delete");
    rig.create(&template).await;
    rig.delete(&[]).await;
    let answer = rig.ask("elasticache", "DescribeSnapshots", &[]).await;
    assert_eq!(answer.all("Snapshot").len(), 0, "{}", answer.body);
}
