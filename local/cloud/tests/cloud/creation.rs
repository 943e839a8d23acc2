//! Stacks that come to be, and those that do not.

use serde_json::json;

use crate::rig::{Rig, chain};

#[tokio::test]
async fn resources_are_created_in_the_order_of_their_dependencies() {
    let rig = Rig::new(&[]).await;
    let mut template = chain(&["A", "B"]);
    template["Outputs"] =
        json!({ "Topic": { "Value": { "Ref": "B" }, "Export": { "Name": "topic" } } });
    assert_eq!(rig.create(&template).await, "CREATE_COMPLETE");
    assert_eq!(
        rig.events().await,
        [
            "s REVIEW_IN_PROGRESS: User Initiated",
            "s CREATE_IN_PROGRESS: User Initiated",
            "A CREATE_IN_PROGRESS",
            "A CREATE_IN_PROGRESS: Resource creation Initiated",
            "A CREATE_COMPLETE",
            "B CREATE_IN_PROGRESS",
            "B CREATE_IN_PROGRESS: Resource creation Initiated",
            "B CREATE_COMPLETE",
            "s CREATE_COMPLETE",
        ]
    );
    let stack = rig.ok("DescribeStacks", &[("StackName", "s")]).await;
    assert_eq!(stack.first("OutputKey"), "Topic");
    assert_eq!(stack.first("OutputValue"), rig.physical_id("B").await);
    let exports = rig.ok("ListExports", &[]).await;
    assert_eq!(exports.first("Name"), "topic");
    let text = rig
        .ok("GetTemplate", &[("StackName", "s")])
        .await
        .first("TemplateBody");
    assert_eq!(text, template.to_string());
}

#[tokio::test]
async fn failed_creation_is_rolled_back() {
    let rig = Rig::new(&["cfn:B=CREATE_FAILED:no capacity@once"]).await;
    let template = chain(&["A", "B", "C"]);
    assert_eq!(rig.create(&template).await, "ROLLBACK_COMPLETE");
    let events = rig.events().await;
    let from = events
        .iter()
        .position(|it| it == "B CREATE_FAILED: no capacity")
        .unwrap();
    assert_eq!(
        events[from..],
        [
            "B CREATE_FAILED: no capacity",
            "s ROLLBACK_IN_PROGRESS: The following resource(s) failed to create: [B]. Rollback requested by user.",
            "B DELETE_IN_PROGRESS",
            "B DELETE_COMPLETE",
            "A DELETE_IN_PROGRESS",
            "A DELETE_COMPLETE",
            "s ROLLBACK_COMPLETE",
        ]
    );
    // Nothing but a deletion is admitted.
    let text = template.to_string();
    let fields = [
        ("StackName", "s"),
        ("ChangeSetName", "d"),
        ("TemplateBody", &*text),
    ];
    let refused = rig.call("CreateChangeSet", &fields).await.error();
    assert!(
        refused.contains("is in ROLLBACK_COMPLETE state and can not be updated."),
        "{refused}"
    );
    assert_eq!(rig.delete(&[]).await, "DELETE_COMPLETE");
    // Meant for one time.
    assert_eq!(rig.create(&template).await, "CREATE_COMPLETE");
}

#[tokio::test]
async fn siblings_of_a_failure_are_cancelled() {
    let rig = Rig::new(&["cfn:Topic=CREATE_FAILED:no capacity"]).await;
    rig.buckets.held.send_replace(true);
    let template = json!({ "Resources": {
        "Bucket": { "Type": "AWS::S3::Bucket" },
        "Topic": { "Type": "AWS::SNS::Topic" },
    } });
    assert_eq!(rig.create(&template).await, "ROLLBACK_COMPLETE");
    let events = rig.events().await;
    let cancelled = "Bucket CREATE_FAILED: Resource creation cancelled";
    assert!(events.iter().any(|it| it == cancelled), "{events:#?}");
    let reason = "failed to create: [Topic, Bucket]";
    assert!(events.iter().any(|it| it.contains(reason)), "{events:#?}");
}

#[tokio::test]
async fn rollback_that_fails_leaves_what_it_could_not_delete() {
    let faults = ["cfn:B=CREATE_FAILED:x", "cfn:A=DELETE_FAILED:in use@once"];
    let rig = Rig::new(&faults).await;
    assert_eq!(rig.create(&chain(&["A", "B"])).await, "ROLLBACK_FAILED");
    assert_eq!(rig.resources().await["A"], "DELETE_FAILED");
    let events = rig.events().await;
    let last = "s ROLLBACK_FAILED: The following resource(s) failed to delete: [A]. ";
    assert_eq!(events.last().map(String::as_str), Some(last));
    assert_eq!(rig.delete(&[]).await, "DELETE_COMPLETE");
}

#[tokio::test]
async fn creation_without_rollback_stays_and_is_rolled_back_later() {
    let rig = Rig::new(&["cfn:B=CREATE_FAILED:x"]).await;
    rig.propose("CREATE", &chain(&["A", "B"]), &[]).await;
    assert_eq!(
        rig.execute(&[("DisableRollback", "true")]).await,
        "CREATE_FAILED"
    );
    assert_eq!(rig.resources().await["A"], "CREATE_COMPLETE");
    rig.ok("RollbackStack", &[("StackName", "s")]).await;
    assert_eq!(rig.settled().await, "ROLLBACK_COMPLETE");
}

#[tokio::test]
async fn creation_without_rollback_can_be_finished() {
    let rig = Rig::new(&["cfn:B=CREATE_FAILED:x@once"]).await;
    let template = chain(&["A", "B", "C"]);
    rig.propose("CREATE", &template, &[]).await;
    assert_eq!(
        rig.execute(&[("DisableRollback", "true")]).await,
        "CREATE_FAILED"
    );
    assert_eq!(rig.update(&template).await, "UPDATE_COMPLETE");
    let statuses: Vec<String> = rig.resources().await.into_values().collect();
    assert_eq!(statuses, ["CREATE_COMPLETE"; 3]);
}

#[tokio::test]
async fn failed_creation_can_delete_the_stack() {
    let rig = Rig::new(&["cfn:A=CREATE_FAILED:x"]).await;
    rig.propose("CREATE", &chain(&["A"]), &[("OnStackFailure", "DELETE")])
        .await;
    assert_eq!(rig.execute(&[]).await, "DELETE_COMPLETE");
}

#[tokio::test]
async fn policies_decide_what_a_failed_creation_leaves() {
    let rig = Rig::new(&["cfn:Last=CREATE_FAILED:x"]).await;
    let bucket = |policy: &str| json!({ "Type": "AWS::S3::Bucket", "DeletionPolicy": policy });
    let template = json!({ "Resources": {
        "Kept": bucket("Retain"),
        "Gone": bucket("RetainExceptOnCreate"),
        "Last": { "Type": "AWS::SNS::Topic", "DependsOn": ["Kept", "Gone"] },
    } });
    assert_eq!(rig.create(&template).await, "ROLLBACK_COMPLETE");
    let events = rig.events().await;
    assert!(
        events.contains(&"Kept DELETE_SKIPPED".to_owned()),
        "{events:#?}"
    );
    assert_eq!(rig.buckets.names(), [rig.physical_id("Kept").await]);
}

#[tokio::test]
async fn imported_bucket_belongs_to_the_stack_without_being_made() {
    let rig = Rig::new(&[]).await;
    rig.buckets.there.lock().unwrap().insert("mine".to_owned());
    let template = json!({ "Resources": { "Bucket": {
        "Type": "AWS::S3::Bucket", "DeletionPolicy": "Retain", "Properties": { "BucketName": "mine" },
    } } });
    let imported = [
        ("ResourcesToImport.member.1.ResourceType", "AWS::S3::Bucket"),
        ("ResourcesToImport.member.1.LogicalResourceId", "Bucket"),
        (
            "ResourcesToImport.member.1.ResourceIdentifier.entry.1.key",
            "BucketName",
        ),
        (
            "ResourcesToImport.member.1.ResourceIdentifier.entry.1.value",
            "mine",
        ),
    ];
    let made = rig.propose("IMPORT", &template, &imported).await;
    assert_eq!(made.0, "CREATE_COMPLETE", "{}", made.1);
    assert_eq!(rig.execute(&[]).await, "IMPORT_COMPLETE");
    assert_eq!(rig.physical_id("Bucket").await, "mine");
}

#[tokio::test]
async fn failed_import_is_rolled_back_or_stuck() {
    let stuck = ["cfn:A=CREATE_FAILED:x", "cfn:A=DELETE_FAILED:y"];
    for (faults, expected) in [
        (&stuck[..1], "IMPORT_ROLLBACK_COMPLETE"),
        (&stuck[..], "IMPORT_ROLLBACK_FAILED"),
    ] {
        let rig = Rig::new(faults).await;
        let imported = [
            ("ResourcesToImport.member.1.LogicalResourceId", "A"),
            (
                "ResourcesToImport.member.1.ResourceIdentifier.entry.1.value",
                "arn",
            ),
        ];
        rig.propose("IMPORT", &chain(&["A"]), &imported).await;
        assert_eq!(rig.execute(&[]).await, expected);
    }
}

#[tokio::test]
async fn nodes_of_a_cache_tell_the_engine_version_that_they_run() {
    let rig = Rig::new(&[]).await;
    let template = json!({ "Resources": { "Cache": {
        "Type": "AWS::ElastiCache::ReplicationGroup",
        "Properties": {
            "ReplicationGroupDescription": "a cache",
            "Engine": "valkey",
            "EngineVersion": "8.0",
            "NumCacheClusters": 2,
        },
    } } });
    rig.create(&template).await;
    let group = rig.physical_id("Cache").await;
    let answer = rig.ask("elasticache", "DescribeCacheClusters", &[]).await;
    let expected = [format!("{group}-001"), format!("{group}-002")];
    assert_eq!(answer.all("CacheClusterId"), expected, "{}", answer.body);
    assert_eq!(answer.all("EngineVersion"), ["8.0.0", "8.0.0"]);
    assert_eq!(answer.first("ReplicationGroupId"), group);
    let missing = [("CacheClusterId", "other-001")];
    let answer = rig
        .ask("elasticache", "DescribeCacheClusters", &missing)
        .await;
    assert!(
        answer.error().starts_with("CacheClusterNotFound"),
        "{}",
        answer.body
    );
}

#[tokio::test]
async fn one_platform_version_is_recommended() {
    let rig = Rig::new(&[]).await;
    let list = "ListPlatformVersions";
    let all = rig.ask("elasticbeanstalk", list, &[]).await;
    assert!(all.all("PlatformArn").len() > 1, "{}", all.body);
    let recommended = [
        ("Filters.member.1.Type", "PlatformLifecycleState"),
        ("Filters.member.1.Operator", "="),
        ("Filters.member.1.Values.member.1", "recommended"),
    ];
    let answer = rig.ask("elasticbeanstalk", list, &recommended).await;
    assert_eq!(answer.all("PlatformArn").len(), 1, "{}", answer.body);
}
