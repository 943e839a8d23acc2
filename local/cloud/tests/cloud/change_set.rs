//! Change sets: what they show, and what is refused.

use serde_json::{Value as Json, json};

use crate::rig::{Rig, chain, first};

async fn changes(rig: &Rig) -> Vec<String> {
    let fields = [
        ("StackName", "s"),
        ("ChangeSetName", "c"),
        ("IncludePropertyValues", "true"),
    ];
    let answer = rig.ok("DescribeChangeSet", &fields).await;
    let changes = answer.all("ResourceChange").into_iter();
    let line = |it: String| {
        let fields = [
            "Action",
            "LogicalResourceId",
            "Replacement",
            "PolicyAction",
            "Path",
            "BeforeValue",
            "AfterValue",
            "RequiresRecreation",
            "Evaluation",
        ];
        let texts = fields.map(|name| first(&it, name));
        let texts: Vec<String> = texts.into_iter().filter(|it| !it.is_empty()).collect();
        texts.join(" ")
    };
    changes.map(line).collect()
}

#[tokio::test]
async fn change_set_says_what_is_replaced_and_by_which_property() {
    let rig = Rig::new(&[]).await;
    let template = |name: &str, shards: u32| {
        json!({ "Resources": {
            "Stream": { "Type": "AWS::Kinesis::Stream", "UpdateReplacePolicy": "Retain", "Properties": { "Name": name } },
            "Other": { "Type": "AWS::Kinesis::Stream", "Properties": { "ShardCount": shards } },
            "Gone": { "Type": "AWS::SNS::Topic" },
        } })
    };
    rig.create(&template("one", 1)).await;
    let mut after = template("two", 2);
    after["Resources"].as_object_mut().unwrap().remove("Gone");
    after["Resources"]["New"] = json!({ "Type": "AWS::SNS::Topic" });
    rig.ok(
        "DeleteChangeSet",
        &[("StackName", "s"), ("ChangeSetName", "c")],
    )
    .await;
    rig.propose("UPDATE", &after, &[]).await;
    let mut lines = changes(&rig).await;
    lines.sort();
    assert_eq!(
        lines,
        [
            "Add New",
            "Modify Other False /Properties/ShardCount 1 2 Never Static",
            "Modify Stream True ReplaceAndRetain /Properties/Name one two Always Static",
            "Remove Gone Delete",
        ]
    );
}

#[tokio::test]
async fn change_that_changes_nothing_fails_in_the_words_of_aws() {
    let rig = Rig::new(&[]).await;
    rig.create(&chain(&["A"])).await;
    rig.ok(
        "DeleteChangeSet",
        &[("StackName", "s"), ("ChangeSetName", "c")],
    )
    .await;
    let (status, reason) = rig.propose("UPDATE", &chain(&["A"]), &[]).await;
    assert_eq!(status, "FAILED");
    assert_eq!(
        reason,
        "The submitted information didn't contain changes. Submit different information to create a change set."
    );
    rig.ok(
        "DeleteChangeSet",
        &[("StackName", "s"), ("ChangeSetName", "c")],
    )
    .await;
    let mut described = chain(&["A"]);
    described["Description"] = json!("only words");
    let (status, reason) = rig.propose("UPDATE", &described, &[]).await;
    assert_eq!(
        (&*status, &*reason),
        ("FAILED", "No updates are to be performed.")
    );
    let refused = rig
        .call(
            "ExecuteChangeSet",
            &[("StackName", "s"), ("ChangeSetName", "c")],
        )
        .await
        .error();
    assert!(refused.starts_with("InvalidChangeSetStatus: "), "{refused}");
}

#[tokio::test]
async fn early_validation_tells_by_describe_events_only() {
    let rig = Rig::new(&[]).await;
    let template = json!({ "Resources": {
        "Stream": { "Type": "AWS::Kinesis::Stream", "Properties": { "ShardCuont": 1 } },
        "Function": { "Type": "AWS::Lambda::Function", "Properties": {
            "Role": "arn:aws:iam::000000000000:role/r",
            "Code": { "S3Bucket": "nowhere", "S3Key": "k" },
        } },
    } });
    let (status, reason) = rig.propose("CREATE", &template, &[]).await;
    assert_eq!(status, "FAILED");
    assert!(
        reason.contains("AWS::EarlyValidation::PropertyValidation"),
        "{reason}"
    );
    assert!(!reason.contains("ShardCuont"), "{reason}");
    let fields = [
        ("StackName", "s"),
        ("ChangeSetName", "c"),
        ("Filters.FailedEvents", "true"),
    ];
    let events = rig.ok("DescribeEvents", &fields).await;
    let paths: Vec<String> = events.all("ValidationPath");
    assert!(
        paths
            .iter()
            .any(|it| it == "/Resources/Stream/Properties/ShardCuont"),
        "{paths:?}"
    );
    assert!(
        paths
            .iter()
            .any(|it| it == "/Resources/Function/Properties/Code/S3Bucket"),
        "{paths:?}"
    );
    assert_eq!(events.first("EventType"), "VALIDATION_ERROR");
    let stack_events = rig.ok("DescribeStackEvents", &[("StackName", "s")]).await;
    assert!(!stack_events.body.contains("ShardCuont"));
}

#[tokio::test]
async fn what_is_wrong_with_a_request_is_said_at_once() {
    let rig = Rig::new(&[]).await;
    let role = json!({ "Resources": { "Role": { "Type": "AWS::IAM::Role", "Properties": {
        "AssumeRolePolicyDocument": {},
    } } } });
    let parameter = json!({ "Parameters": { "P": { "Type": "String" } }, "Resources": chain(&["A"])["Resources"] });
    let dangling = json!({ "Resources": { "A": { "Type": "AWS::SNS::Topic", "Properties": { "DisplayName": { "Ref": "Nobody" } } } } });
    let long =
        json!({ "Description": "x".repeat(51_200), "Resources": chain(&["A"])["Resources"] });
    let rows: [(&Json, &str); 4] = [
        (
            &role,
            "InsufficientCapabilitiesException: Requires capabilities : [CAPABILITY_IAM]",
        ),
        (
            &parameter,
            "ValidationError: Parameters: [P] must have values",
        ),
        (
            &dangling,
            "ValidationError: Template error: A.Properties.DisplayName.Ref: `Nobody` is neither",
        ),
        (&long, "ValidationError: 1 validation error detected: Value"),
    ];
    for (template, expected) in rows {
        let text = template.to_string();
        let fields = [
            ("StackName", "s"),
            ("ChangeSetName", "c"),
            ("ChangeSetType", "CREATE"),
            ("TemplateBody", &*text),
        ];
        let refused = rig.call("CreateChangeSet", &fields).await.error();
        assert!(refused.starts_with(expected), "{refused}");
    }
    // None of them has left a stack behind.
    let refused = rig
        .call("DescribeStacks", &[("StackName", "s")])
        .await
        .error();
    assert_eq!(refused, "ValidationError: Stack with id s does not exist");
    let broken = [
        ("StackName", "s"),
        ("ChangeSetName", "c"),
        ("ChangeSetType", "CREATE"),
        ("TemplateBody", "{"),
    ];
    let refused = rig.call("CreateChangeSet", &broken).await.error();
    assert!(
        refused.starts_with("ValidationError: Template format error: EOF"),
        "{refused}"
    );
}

#[tokio::test]
async fn names_and_tokens_are_used_once() {
    let rig = Rig::new(&[]).await;
    let text = chain(&["A"]).to_string();
    let fields = |token| {
        [
            ("StackName", "s"),
            ("ChangeSetName", "c"),
            ("ChangeSetType", "CREATE"),
            ("TemplateBody", text.as_str()),
            ("ClientToken", token),
        ]
    };
    let first = rig.ok("CreateChangeSet", &fields("t")).await.first("Id");
    assert_eq!(
        rig.ok("CreateChangeSet", &fields("t")).await.first("Id"),
        first
    );
    let refused = rig.call("CreateChangeSet", &fields("u")).await.error();
    assert!(refused.starts_with("AlreadyExistsException: "), "{refused}");
    rig.described().await;
    let execute = [
        ("StackName", "s"),
        ("ChangeSetName", "c"),
        ("ClientRequestToken", "x"),
    ];
    rig.ok("ExecuteChangeSet", &execute).await;
    rig.ok("ExecuteChangeSet", &execute).await;
    assert_eq!(rig.settled().await, "CREATE_COMPLETE");
    let refused = rig
        .call(
            "DeleteStack",
            &[("StackName", "s"), ("ClientRequestToken", "x")],
        )
        .await
        .error();
    assert!(
        refused.starts_with("TokenAlreadyExistsException: "),
        "{refused}"
    );
    let refused = rig
        .call(
            "DescribeChangeSet",
            &[("StackName", "s"), ("ChangeSetName", "other")],
        )
        .await
        .error();
    assert!(refused.starts_with("ChangeSetNotFound: "), "{refused}");
}

#[tokio::test]
async fn hidden_parameter_is_shown_nowhere() {
    let rig = Rig::new(&[]).await;
    let mut template = chain(&["A"]);
    template["Parameters"] = json!({ "Secret": { "Type": "String", "NoEcho": true } });
    template["Resources"]["A"]["Properties"]["DisplayName"] = json!({ "Ref": "Secret" });
    let value = |value| {
        [
            ("Parameters.member.1.ParameterKey", "Secret"),
            ("Parameters.member.1.ParameterValue", value),
        ]
    };
    rig.propose("CREATE", &template, &value("hunter2")).await;
    assert_eq!(rig.execute(&[]).await, "CREATE_COMPLETE");
    rig.ok(
        "DeleteChangeSet",
        &[("StackName", "s"), ("ChangeSetName", "c")],
    )
    .await;
    rig.propose("UPDATE", &template, &value("hunter3")).await;
    assert_eq!(
        changes(&rig).await,
        ["Modify A False /Properties/DisplayName **** **** Never Static"]
    );
    let stack = rig.ok("DescribeStacks", &[("StackName", "s")]).await;
    assert_eq!(stack.first("ParameterValue"), "****");
    // The value of before is still there.
    rig.ok(
        "DeleteChangeSet",
        &[("StackName", "s"), ("ChangeSetName", "c")],
    )
    .await;
    let previous = [
        ("Parameters.member.1.ParameterKey", "Secret"),
        ("Parameters.member.1.UsePreviousValue", "true"),
    ];
    let (_, reason) = rig.propose("UPDATE", &template, &previous).await;
    assert!(reason.contains("didn't contain changes"), "{reason}");
}

#[tokio::test]
async fn many_changes_come_in_pages() {
    let rig = Rig::new(&[]).await;
    let topics = (0..150).map(|it| (format!("T{it:03}"), json!({ "Type": "AWS::SNS::Topic" })));
    let resources: serde_json::Map<String, Json> = topics.collect();
    rig.propose("CREATE", &json!({ "Resources": resources }), &[])
        .await;
    let page = |next| {
        [
            ("StackName", "s"),
            ("ChangeSetName", "c"),
            ("NextToken", next),
        ]
    };
    let first = rig.ok("DescribeChangeSet", &page("")).await;
    assert_eq!(first.all("ResourceChange").len(), 100);
    let second = rig
        .ok("DescribeChangeSet", &page(&first.first("NextToken")))
        .await;
    assert_eq!(second.all("ResourceChange").len(), 50);
    assert_eq!(second.first("NextToken"), "");
}
