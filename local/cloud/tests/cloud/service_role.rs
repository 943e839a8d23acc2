//! Stacks that CloudFormation operates by a service role.

use serde_json::json;

use crate::rig::{Rig, chain};

#[tokio::test]
async fn service_role_must_be_there_at_every_operation() {
    let rig = Rig::new(&[]).await;
    let role = |service: &str| {
        json!({ "Type": "AWS::IAM::Role", "Properties": { "AssumeRolePolicyDocument": {
            "Version": "2012-10-17",
            "Statement": [{
                "Effect": "Allow", "Action": "sts:AssumeRole", "Principal": { "Service": service },
            }],
        } } })
    };
    let roles = json!({ "Resources": {
        "Deploys": role("cloudformation.amazonaws.com"),
        "Runs": role("lambda.amazonaws.com"),
    } });
    assert_eq!(rig.create(&roles).await, "CREATE_COMPLETE");
    let deploys = rig.physical_id("Deploys").await;
    let runs = rig.physical_id("Runs").await;
    let template = chain(&["A"]).to_string();
    let arn = |name: &str| format!("arn:aws:iam::000000000000:role/{name}");
    let fields = |role: &str| {
        [
            ("StackName", "other".to_owned()),
            ("ChangeSetName", "c".to_owned()),
            ("ChangeSetType", "CREATE".to_owned()),
            ("TemplateBody", template.clone()),
            ("RoleARN", arn(role)),
        ]
    };
    for unfit in ["nobody", runs.as_str()] {
        let fields = fields(unfit);
        let fields: Vec<(&str, &str)> = fields.iter().map(|(n, v)| (*n, v.as_str())).collect();
        let refused = rig.call("CreateChangeSet", &fields).await.error();
        assert_eq!(
            refused,
            format!(
                "ValidationError: Role {} is invalid or cannot be assumed",
                arn(unfit)
            )
        );
    }
    let fields = fields(&deploys);
    let fields: Vec<(&str, &str)> = fields.iter().map(|(n, v)| (*n, v.as_str())).collect();
    rig.ok("CreateChangeSet", &fields).await;
    let change_set = [("StackName", "other"), ("ChangeSetName", "c")];
    while rig
        .ok("DescribeChangeSet", &change_set)
        .await
        .first("Status")
        == "CREATE_IN_PROGRESS"
    {
        tokio::task::yield_now().await;
    }
    rig.ok("ExecuteChangeSet", &change_set).await;
    let stack = rig.ok("DescribeStacks", &[("StackName", "other")]).await;
    assert_eq!(stack.first("RoleARN"), arn(&deploys));

    let first = [("StackName", "s")];
    rig.ok("DeleteStack", &first).await;
    while rig.call("DescribeStacks", &first).await.status == 200 {
        tokio::task::yield_now().await;
    }
    let refused = rig
        .call("DeleteStack", &[("StackName", "other")])
        .await
        .error();
    assert!(refused.contains("cannot be assumed"), "{refused}");
}
