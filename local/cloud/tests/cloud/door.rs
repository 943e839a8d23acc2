//! The server in front of the services.

use serde_json::Value as Json;

use crate::rig::{Answer, Rig, chain, request};

#[tokio::test]
async fn unsigned_requests_are_refused() {
    let rig = Rig::new(&[]).await;
    let answer = request(rig.address(), "POST", "/", "", "Action=DescribeStacks").await;
    assert_eq!(answer.status, 403);
    assert_eq!(
        answer.error(),
        "MissingAuthenticationToken: Missing Authentication Token"
    );
}

#[tokio::test]
async fn service_that_is_not_there_is_refused_by_name_in_the_callers_protocol() {
    let rig = Rig::new(&[]).await;
    let refused = async |service: &str, headers: &str, body: &str| {
        let scope = format!("A/20261123/eu-central-1/{service}/aws4_request");
        let headers =
            format!("Authorization: AWS4-HMAC-SHA256 Credential={scope}\r\n{headers}\r\n");
        let answer = request(rig.address(), "POST", "/x", &headers, body).await;
        assert_eq!(answer.status, 501);
        answer
    };
    let told = |operation: &str, service: &str| {
        format!(
            "local-cloud does not answer `{operation}` of the service `{service}`: only what our own deployment calls"
        )
    };
    let json = |answer: &Answer| serde_json::from_str::<Json>(&answer.body).unwrap();

    let target = "X-Amz-Target: DynamoDB_20120810.ListTables";
    let answer = json(&refused("dynamodb", target, "{}").await);
    assert_eq!(answer["__type"], "NotImplemented");
    assert_eq!(answer["message"], told("ListTables", "dynamodb"));

    let content = "Content-Type: application/json";
    let answer = json(&refused("batch", content, "{}").await);
    assert_eq!(answer["message"], told("POST /x", "batch"));

    let content = "Content-Type: application/x-www-form-urlencoded";
    let answer = refused("rds", content, "Action=DescribeDBInstances").await;
    let expected = format!("NotImplemented: {}", told("DescribeDBInstances", "rds"));
    assert_eq!(answer.error(), expected);
}

#[tokio::test]
async fn operation_that_is_not_there_is_named() {
    let rig = Rig::new(&[]).await;
    let answer = rig.call("CreateStackSet", &[]).await;
    assert_eq!(answer.status, 501);
    assert!(
        answer.error().contains("`CreateStackSet`"),
        "{}",
        answer.body
    );
}

#[tokio::test]
async fn calls_are_throttled_as_often_as_asked_for() {
    let rig = Rig::new(&["cfn:throttle@40%"]).await;
    let mut throttled = 0;
    for _ in 0..100 {
        let answer = rig.call("ListStacks", &[]).await;
        if answer.status != 200 {
            assert_eq!(answer.error(), "Throttling: Rate exceeded");
            throttled += 1;
        }
    }
    assert!((25..55).contains(&throttled), "{throttled}");
}

#[tokio::test]
async fn access_key_that_has_run_out_is_refused() {
    let rig = Rig::new(&["cfn:token-expired@0s"]).await;
    let answer = rig.call("ListStacks", &[]).await;
    assert_eq!(
        answer.error(),
        "ExpiredToken: The security token included in the request is expired"
    );
}

#[tokio::test]
async fn regions_do_not_see_one_another() {
    let rig = Rig::new(&[]).await;
    assert_eq!(rig.create(&chain(&["A"])).await, "CREATE_COMPLETE");
    let headers = "Authorization: AWS4-HMAC-SHA256 Credential=A/20261123/eu-west-1/cloudformation/aws4_request\r\n";
    let body = "Action=DescribeStacks&StackName=s";
    let answer = request(rig.address(), "POST", "/", headers, body).await;
    assert_eq!(
        answer.error(),
        "ValidationError: Stack with id s does not exist"
    );
}
