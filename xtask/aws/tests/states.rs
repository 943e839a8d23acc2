//! Every state that a stack can be in and every fault on the way, with the words that a person sees.
//!
//! The program itself runs, against a scripted CloudFormation.

mod cloudformation;

use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;

use axum::http::StatusCode;
use cloudformation::*;
use tokio::process::Command;

macro_rules! assert_said {
    ($name:literal, $said:expr) => {
        let said = $said;
        insta::with_settings!({
            prepend_module_to_snapshot => false,
            omit_expression => true,
            filters => [
                // What is in the stack is somebody else's snapshot.
                (r"(  \+ +\d+ × \S+\n)+", "  + RESOURCES\n"),
                (r"\d+ resources, \d+ permissions, \d+ network", "N resources, N permissions, N network"),
                (r"usually done in .*", "usually done in TIME; critical path: CHAIN"),
                (r"deploy-[0-9a-f]+-[0-9a-f]+", "deploy-NAME"),
                (r"in \d+\.\d s", "in N s"),
                (r"127\.0\.0\.1:\d+", "ADDRESS"),
                (r"[a-z]+/[0-9a-f]{32}", "HASH"),
                (r"(defined at \S+):\d+", "$1:LINE"),
            ],
        }, { insta::assert_snapshot!($name, said) });
    };
}

#[cfg(unix)]
mod terminal;

/// A scripted account and a folder with programs to deploy.
struct Account {
    script: Arc<Script>,
    endpoint: String,
    folder: tempfile::TempDir,
}

type Anything = Box<dyn std::error::Error>;

impl Account {
    async fn new() -> Result<Account, Anything> {
        let account = Account::without_keys().await?;
        if ARTIFACT_KEYS.get().is_none() {
            let said = account.run(&account.deploy(&["--json"])).await?;
            let keys: Vec<String> = said
                .lines()
                .filter_map(|line| line.split_once("\"artifact\":\""))
                .filter_map(|(_, rest)| Some(rest.split('"').next()?.to_owned()))
                .collect();
            let keys = keys.try_into().map_err(|_| format!("no keys in {said}"))?;
            let _ = ARTIFACT_KEYS.set(keys);
        }
        Account::without_keys().await
    }

    async fn without_keys() -> Result<Account, Anything> {
        let script = Script::new();
        script.on(MAIN, "DescribeStacks", [missing()]);
        let endpoint = format!("http://{}", script.serve().await?);
        let folder = tempfile::tempdir()?;
        for program in ["function", "webui"] {
            std::fs::write(folder.path().join(program), program)?;
        }
        let lock = format!("{{\"eu-west-1\": \"{PLATFORM}\"}}");
        std::fs::write(folder.path().join("lock.json"), lock)?;
        Ok(Account {
            script,
            endpoint,
            folder,
        })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn deploy(&self, more: &[&str]) -> Vec<String> {
        let path = |name| self.path(name).display().to_string();
        let mut arguments = ["deploy", "--yes", "--no-smoke"]
            .map(str::to_owned)
            .to_vec();
        arguments.extend(["--poll".to_owned(), "5".to_owned()]);
        arguments.extend(["--lock".to_owned(), path("lock.json")]);
        arguments.extend(["--function".to_owned(), path("function")]);
        arguments.extend(["--webui".to_owned(), path("webui")]);
        arguments.extend(more.iter().map(|it| (*it).to_owned()));
        arguments
    }

    fn destroy(&self, more: &[&str]) -> Vec<String> {
        let arguments = ["destroy", "--yes", "--poll", "5"];
        arguments
            .iter()
            .chain(more)
            .map(|it| (*it).to_owned())
            .collect()
    }

    fn command(&self, arguments: &[String]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_xtask-aws"));
        command
            .args(arguments)
            .env_clear()
            .env("AWS_ENDPOINT_URL", &self.endpoint)
            .env("AWS_ACCESS_KEY_ID", "test")
            .env("AWS_SECRET_ACCESS_KEY", "test")
            .env("AWS_REGION", "eu-west-1")
            .env("AWS_EC2_METADATA_DISABLED", "true")
            .env("HOME", self.folder.path())
            .stdin(Stdio::null())
            .kill_on_drop(true);
        command
    }

    /// Everything that the program says, and how it ends.
    async fn run(&self, arguments: &[String]) -> Result<String, Anything> {
        say(&mut self.command(arguments)).await
    }
}

async fn say(command: &mut Command) -> Result<String, Anything> {
    let output = command.output().await?;
    Ok(format!(
        "{}{}exit code {}\n",
        String::from_utf8(output.stdout)?,
        String::from_utf8(output.stderr)?,
        output.status.code().ok_or("ended by a signal")?
    ))
}

const CACHE: &str = "AWS::ElastiCache::ReplicationGroup";
const FUNCTION: &str = "AWS::Lambda::Function";
const STACK: &str = "AWS::CloudFormation::Stack";

/// Answers for a deployment that creates the main stack and ends in a status.
fn creates(script: &Script, status: &str, happened: &[Event<'_>]) {
    let shell = [(0, MAIN, STACK, "REVIEW_IN_PROGRESS", "User Initiated")];
    let all: Vec<Event<'_>> = shell.iter().chain(happened).copied().collect();
    script.on(MAIN, "CreateChangeSet", [change_set_made()]);
    script.on(
        MAIN,
        "DescribeChangeSet",
        [
            change_set("CREATE_IN_PROGRESS", "UNAVAILABLE", "", ""),
            change_set("CREATE_COMPLETE", "AVAILABLE", "", ""),
        ],
    );
    script.on(MAIN, "ExecuteChangeSet", [xml("")]);
    script.on(
        MAIN,
        "DescribeStackEvents",
        [
            events(MAIN, &shell),
            events(MAIN, &all[..all.len() - 1]),
            events(MAIN, &all),
        ],
    );
    script.on(
        MAIN,
        "DescribeStacks",
        [
            missing(),
            described(MAIN, "CREATE_IN_PROGRESS"),
            described(MAIN, status),
        ],
    );
}

const CREATED: [Event<'_>; 4] = [
    (1, MAIN, STACK, "CREATE_IN_PROGRESS", "User Initiated"),
    (2, "Cache", CACHE, "CREATE_IN_PROGRESS", ""),
    (700, "Cache", CACHE, "CREATE_COMPLETE", ""),
    (701, MAIN, STACK, "CREATE_COMPLETE", ""),
];

#[tokio::test]
async fn new_stack_is_created() -> Result<(), Anything> {
    let account = Account::new().await?;
    creates(&account.script, "CREATE_COMPLETE", &CREATED);
    let said = account.run(&account.deploy(&[])).await?;
    assert_said!("created", said);
    assert_eq!(
        account.script.changes(),
        ["CreateChangeSet", "ExecuteChangeSet"]
    );
    Ok(())
}

#[tokio::test]
async fn no_change_is_said_without_a_change_set() -> Result<(), Anything> {
    let account = Account::new().await?;
    let ready = described(MAIN, "UPDATE_COMPLETE");
    account.script.on(MAIN, "DescribeStacks", [ready]);
    assert_said!("no_change", account.run(&account.deploy(&[])).await?);
    assert!(account.script.changes().is_empty());
    Ok(())
}

#[tokio::test]
async fn change_set_without_changes_is_no_change() -> Result<(), Anything> {
    let account = Account::new().await?;
    let script = &account.script;
    script.on(MAIN, "DescribeStacks", [described(MAIN, "UPDATE_COMPLETE")]);
    script.on(MAIN, "CreateChangeSet", [change_set_made()]);
    script.on(MAIN, "DeleteChangeSet", [xml("")]);
    let reason = "The submitted information didn't contain changes. Submit different information to create a change set.";
    let empty = change_set("FAILED", "UNAVAILABLE", reason, "");
    script.on(MAIN, "DescribeChangeSet", [empty]);
    let said = account
        .run(&account.deploy(&["--alarm-email", "a@example.com"]))
        .await?;
    assert_said!("change_set_without_changes", said);
    assert_eq!(script.changes(), ["CreateChangeSet", "DeleteChangeSet"]);
    Ok(())
}

#[tokio::test]
async fn refused_change_set_is_explained_by_the_validation() -> Result<(), Anything> {
    let account = Account::new().await?;
    let script = &account.script;
    script.on(MAIN, "DescribeStacks", [described(MAIN, "UPDATE_COMPLETE")]);
    script.on(MAIN, "CreateChangeSet", [change_set_made()]);
    script.on(MAIN, "DeleteChangeSet", [xml("")]);
    let failed = change_set("FAILED", "UNAVAILABLE", "validation failed", "");
    script.on(MAIN, "DescribeChangeSet", [failed]);
    script.on(MAIN, "DescribeEvents", [xml("<OperationEvents><member><EventId>1</EventId><EventType>VALIDATION_ERROR</EventType><LogicalResourceId>Cache</LogicalResourceId><ValidationName>PROPERTY_VALIDATION</ValidationName><ValidationStatusReason>unsupported property</ValidationStatusReason><ValidationPath>/Resources/Cache/Properties/Colour</ValidationPath></member></OperationEvents>")]);
    let said = account
        .run(&account.deploy(&["--alarm-email", "a@example.com"]))
        .await?;
    assert_said!("refused_change_set", said);
    Ok(())
}

#[tokio::test]
async fn changed_parameter_is_shown_before_it_is_deployed() -> Result<(), Anything> {
    let account = Account::new().await?;
    let script = &account.script;
    creates(
        script,
        "UPDATE_COMPLETE",
        &[
            (1, MAIN, STACK, "UPDATE_IN_PROGRESS", "User Initiated"),
            (2, "AlarmTopic", "AWS::SNS::Topic", "UPDATE_IN_PROGRESS", ""),
            (5, "AlarmTopic", "AWS::SNS::Topic", "UPDATE_COMPLETE", ""),
            (6, MAIN, STACK, "UPDATE_COMPLETE", ""),
        ],
    );
    script.on(
        MAIN,
        "DescribeStacks",
        [
            described(MAIN, "CREATE_COMPLETE"),
            described(MAIN, "UPDATE_COMPLETE"),
        ],
    );
    let changes = "<member><Type>Resource</Type><ResourceChange><Action>Modify</Action><LogicalResourceId>Cache</LogicalResourceId><ResourceType>AWS::ElastiCache::ReplicationGroup</ResourceType><Replacement>Conditional</Replacement></ResourceChange></member>";
    let ready = change_set("CREATE_COMPLETE", "AVAILABLE", "", changes);
    script.on(MAIN, "DescribeChangeSet", [ready]);
    let said = account
        .run(&account.deploy(&["--alarm-email", "a@example.com"]))
        .await?;
    assert_said!("changed_parameter", said);
    Ok(())
}

#[tokio::test]
async fn first_real_cause_of_a_failed_creation_is_on_top() -> Result<(), Anything> {
    let account = Account::new().await?;
    creates(
        &account.script,
        "ROLLBACK_COMPLETE",
        &[
            (1, MAIN, STACK, "CREATE_IN_PROGRESS", "User Initiated"),
            (2, "Cache", CACHE, "CREATE_IN_PROGRESS", ""),
            (3, "SensorFunction", FUNCTION, "CREATE_IN_PROGRESS", ""),
            (
                90,
                "Cache",
                CACHE,
                "CREATE_FAILED",
                "no capacity for cache.t4g.micro in eu-west-1a",
            ),
            (
                91,
                "SensorFunction",
                FUNCTION,
                "CREATE_FAILED",
                "Resource creation cancelled",
            ),
            (
                92,
                MAIN,
                STACK,
                "ROLLBACK_IN_PROGRESS",
                "The following resource(s) failed to create: [Cache, SensorFunction]. Rollback requested by user.",
            ),
            (93, "Cache", CACHE, "DELETE_IN_PROGRESS", ""),
            (120, "Cache", CACHE, "DELETE_COMPLETE", ""),
            (121, MAIN, STACK, "ROLLBACK_COMPLETE", ""),
        ],
    );
    assert_said!("failed_creation", account.run(&account.deploy(&[])).await?);
    Ok(())
}

#[tokio::test]
async fn failed_environment_is_explained_by_beanstalk() -> Result<(), Anything> {
    let account = Account::new().await?;
    let environment = "AWS::ElasticBeanstalk::Environment";
    let script = &account.script;
    creates(
        script,
        "UPDATE_ROLLBACK_COMPLETE",
        &[
            (1, MAIN, STACK, "UPDATE_IN_PROGRESS", "User Initiated"),
            (
                2,
                "DashboardEnvironment",
                environment,
                "UPDATE_IN_PROGRESS",
                "",
            ),
            (
                400,
                "DashboardEnvironment",
                environment,
                "UPDATE_FAILED",
                "Environment failed to become healthy",
            ),
            (401, MAIN, STACK, "UPDATE_ROLLBACK_COMPLETE", ""),
        ],
    );
    let before = described(MAIN, "CREATE_COMPLETE");
    let after = described(MAIN, "UPDATE_ROLLBACK_COMPLETE");
    script.on(MAIN, "DescribeStacks", [before, after]);
    script.on(
        "",
        "DescribeEnvironmentHealth",
        [xml(
            "<Causes><member>100.0 % of the requests are failing with HTTP 5xx.</member></Causes>",
        )],
    );
    script.on("", "DescribeEvents", [xml("<Events><member><Message>Process web has exited with status 1</Message></member></Events>")]);
    let said = account
        .run(&account.deploy(&["--alarm-email", "a@example.com"]))
        .await?;
    assert_said!("failed_environment", said);
    Ok(())
}

#[tokio::test]
async fn stack_that_was_never_created_is_removed_and_created() -> Result<(), Anything> {
    for status in ["ROLLBACK_COMPLETE", "ROLLBACK_FAILED", "CREATE_FAILED"] {
        let account = Account::new().await?;
        let script = &account.script;
        creates(script, "CREATE_COMPLETE", &CREATED);
        let earlier = [
            (0, "Cache", CACHE, "CREATE_FAILED", "no capacity"),
            (1, MAIN, STACK, status, ""),
        ];
        let gone = [
            earlier[0],
            earlier[1],
            (2, MAIN, STACK, "DELETE_COMPLETE", ""),
        ];
        let created: Vec<Event<'_>> = gone.iter().chain(&CREATED).copied().collect();
        script.on(
            MAIN,
            "DescribeStackEvents",
            [
                events(MAIN, &earlier),
                events(MAIN, &earlier),
                events(MAIN, &gone),
                events(MAIN, &gone),
                events(MAIN, &created),
            ],
        );
        script.on(MAIN, "DeleteStack", [xml("")]);
        script.on(
            MAIN,
            "DescribeStacks",
            [
                // Looked at once beside the other stack, and once to bring it in order.
                described(MAIN, status),
                described(MAIN, status),
                described(MAIN, "DELETE_COMPLETE"),
                missing(),
                described(MAIN, "CREATE_COMPLETE"),
            ],
        );
        let said = account.run(&account.deploy(&[])).await?;
        match status {
            "ROLLBACK_COMPLETE" => {
                assert_said!("never_created", said.clone());
            }
            "ROLLBACK_FAILED" => {
                assert_said!("never_created_nor_removed", said.clone());
            }
            _ => {
                assert_said!("never_created_nor_rolled_back", said.clone());
            }
        }
        assert_eq!(
            script.changes(),
            ["DeleteStack", "CreateChangeSet", "ExecuteChangeSet"],
            "{status}: {said}"
        );
    }
    Ok(())
}

#[tokio::test]
async fn shell_of_an_earlier_change_set_is_created() -> Result<(), Anything> {
    let account = Account::new().await?;
    creates(&account.script, "CREATE_COMPLETE", &CREATED);
    account.script.on(
        MAIN,
        "DescribeStacks",
        [
            described(MAIN, "REVIEW_IN_PROGRESS"),
            described(MAIN, "REVIEW_IN_PROGRESS"),
            described(MAIN, "CREATE_COMPLETE"),
        ],
    );
    let said = account.run(&account.deploy(&[])).await?;
    assert_said!("shell_of_a_change_set", said);
    assert_eq!(
        account.script.changes(),
        ["CreateChangeSet", "ExecuteChangeSet"]
    );
    Ok(())
}

#[tokio::test]
async fn shell_of_a_change_set_is_not_deployed_to_whoever_asks() -> Result<(), Anything> {
    let account = Account::new().await?;
    let shell = described(MAIN, "REVIEW_IN_PROGRESS");
    account.script.on(MAIN, "DescribeStacks", [shell]);
    let mut said = String::new();
    for command in ["outputs", "open", "smoke", "logs"] {
        said.push_str(&format!("$ {command}\n"));
        said.push_str(&account.run(&[command.to_owned()]).await?);
    }
    assert_said!("not_deployed_yet", said);
    let said = account.run(&["diff".to_owned()]).await?;
    assert!(said.contains("`sensors-dev` is new:"), "{said}");
    assert!(said.ends_with("exit code 0\n"), "{said}");
    Ok(())
}

#[tokio::test]
async fn plan_mends_no_stack() -> Result<(), Anything> {
    for status in ["ROLLBACK_COMPLETE", "UPDATE_FAILED"] {
        let account = Account::new().await?;
        let stack = described(MAIN, status);
        account.script.on(MAIN, "DescribeStacks", [stack]);
        let said = account.run(&account.deploy(&["--plan"])).await?;
        if status == "ROLLBACK_COMPLETE" {
            assert_said!("nothing_to_plan_on", said);
        }
        assert!(account.script.changes().is_empty(), "{status}");
    }
    Ok(())
}

#[tokio::test]
async fn failure_is_told_to_a_machine_too() -> Result<(), Anything> {
    let account = Account::new().await?;
    let half = described(MAIN, "DELETE_FAILED");
    account.script.on(MAIN, "DescribeStacks", [half]);
    let said = account.run(&account.deploy(&["--json"])).await?;
    let result = said.lines().find(|line| line.contains("\"result\""));
    let result: serde_json::Value = serde_json::from_str(result.ok_or(said.clone())?)?;
    assert_eq!(result["result"], "failed");
    let error = result["error"].as_str().unwrap_or_default();
    assert!(error.contains("DELETE_FAILED"), "{said}");
    Ok(())
}

#[tokio::test]
async fn stuck_rollback_is_continued() -> Result<(), Anything> {
    let account = Account::new().await?;
    let script = &account.script;
    let stuck = described(MAIN, "UPDATE_ROLLBACK_FAILED");
    let back = described(MAIN, "UPDATE_ROLLBACK_COMPLETE");
    script.on(MAIN, "DescribeStacks", [stuck.clone(), stuck, back]);
    script.on(MAIN, "ContinueUpdateRollback", [xml("")]);
    script.on(MAIN, "DescribeStackEvents", [events(MAIN, &[])]);
    assert_said!(
        "stuck_rollback_goes_on",
        account.run(&account.deploy(&[])).await?
    );
    assert_eq!(script.changes(), ["ContinueUpdateRollback"]);
    Ok(())
}

#[tokio::test]
async fn rollback_that_stays_stuck_says_how_to_skip() -> Result<(), Anything> {
    let account = Account::new().await?;
    let script = &account.script;
    script.on(
        MAIN,
        "DescribeStacks",
        [described(MAIN, "UPDATE_ROLLBACK_FAILED")],
    );
    script.on(MAIN, "ContinueUpdateRollback", [xml("")]);
    let failed = (
        9,
        "Cache",
        CACHE,
        "UPDATE_FAILED",
        "the parameter group is gone",
    );
    script.on(
        MAIN,
        "DescribeStackEvents",
        [events(MAIN, &[]), events(MAIN, &[failed])],
    );
    assert_said!("stuck_rollback", account.run(&account.deploy(&[])).await?);
    Ok(())
}

#[tokio::test]
async fn half_updated_stack_is_taken_back_first() -> Result<(), Anything> {
    let account = Account::new().await?;
    let script = &account.script;
    let half = described(MAIN, "UPDATE_FAILED");
    let back = described(MAIN, "UPDATE_ROLLBACK_COMPLETE");
    script.on(MAIN, "DescribeStacks", [half.clone(), half, back]);
    script.on(MAIN, "RollbackStack", [xml("")]);
    script.on(MAIN, "DescribeStackEvents", [events(MAIN, &[])]);
    assert_said!("half_updated", account.run(&account.deploy(&[])).await?);
    assert_eq!(script.changes(), ["RollbackStack"]);
    Ok(())
}

#[tokio::test]
async fn half_deleted_stack_is_not_deployed_to() -> Result<(), Anything> {
    let account = Account::new().await?;
    let half = described(MAIN, "DELETE_FAILED");
    account.script.on(MAIN, "DescribeStacks", [half]);
    assert_said!("half_deleted", account.run(&account.deploy(&[])).await?);
    assert!(account.script.changes().is_empty());
    Ok(())
}

#[tokio::test]
async fn state_of_tomorrow_is_left_to_a_person() -> Result<(), Anything> {
    let account = Account::new().await?;
    let strange = described(MAIN, "FROZEN");
    account.script.on(MAIN, "DescribeStacks", [strange]);
    assert_said!("unknown_state", account.run(&account.deploy(&[])).await?);
    let stuck = described(MAIN, "IMPORT_ROLLBACK_FAILED");
    account.script.on(MAIN, "DescribeStacks", [stuck]);
    assert_said!("stuck_import", account.run(&account.deploy(&[])).await?);
    Ok(())
}

#[tokio::test]
async fn other_operation_is_waited_for() -> Result<(), Anything> {
    let account = Account::new().await?;
    let script = &account.script;
    let busy = described(MAIN, "UPDATE_IN_PROGRESS");
    let ready = described(MAIN, "UPDATE_COMPLETE");
    script.on(MAIN, "DescribeStacks", [busy.clone(), busy, ready]);
    let happened = [
        (
            1,
            "Cache",
            CACHE,
            "CREATE_COMPLETE",
            "of an earlier operation",
        ),
        (60, MAIN, STACK, "UPDATE_IN_PROGRESS", "User Initiated"),
        (62, "Cache", CACHE, "UPDATE_IN_PROGRESS", ""),
        (90, "Cache", CACHE, "UPDATE_COMPLETE", ""),
    ];
    script.on(
        MAIN,
        "DescribeStackEvents",
        [events(MAIN, &happened[..3]), events(MAIN, &happened)],
    );
    assert_said!("other_operation", account.run(&account.deploy(&[])).await?);
    Ok(())
}

#[tokio::test]
async fn stack_deleted_by_hand_meanwhile_is_said() -> Result<(), Anything> {
    let account = Account::new().await?;
    creates(&account.script, "CREATE_COMPLETE", &CREATED);
    account.script.on(
        MAIN,
        "DescribeStacks",
        [missing(), described(MAIN, "CREATE_IN_PROGRESS"), missing()],
    );
    assert_said!("deleted_by_hand", account.run(&account.deploy(&[])).await?);
    Ok(())
}

#[tokio::test]
async fn stack_that_is_still_found_by_its_id_is_deleted_all_the_same() -> Result<(), Anything> {
    let account = Account::new().await?;
    creates(&account.script, "DELETE_COMPLETE", &CREATED);
    let said = account.run(&account.deploy(&[])).await?;
    assert!(
        said.contains("`sensors-dev` was deleted by somebody else meanwhile"),
        "{said}"
    );
    assert!(said.ends_with("exit code 1\n"), "{said}");
    Ok(())
}

#[tokio::test]
async fn answer_from_before_the_change_is_no_end() -> Result<(), Anything> {
    let account = Account::new().await?;
    let script = &account.script;
    creates(
        script,
        "UPDATE_COMPLETE",
        &[
            (1, MAIN, STACK, "UPDATE_IN_PROGRESS", "User Initiated"),
            (2, "AlarmTopic", "AWS::SNS::Topic", "UPDATE_FAILED", "no"),
            (6, MAIN, STACK, "UPDATE_ROLLBACK_COMPLETE", ""),
        ],
    );
    let before = described(MAIN, "CREATE_COMPLETE");
    script.on(
        MAIN,
        "DescribeStacks",
        [
            before.clone(),
            // Two that are behind.
            before.clone(),
            before,
            described(MAIN, "UPDATE_ROLLBACK_COMPLETE"),
        ],
    );
    let shell = [(0, MAIN, STACK, "CREATE_COMPLETE", "")];
    let all = [
        shell[0],
        (1, MAIN, STACK, "UPDATE_IN_PROGRESS", "User Initiated"),
        (2, "AlarmTopic", "AWS::SNS::Topic", "UPDATE_FAILED", "no"),
        (6, MAIN, STACK, "UPDATE_ROLLBACK_COMPLETE", ""),
    ];
    script.on(
        MAIN,
        "DescribeStackEvents",
        [
            events(MAIN, &shell),
            events(MAIN, &shell),
            events(MAIN, &shell),
            events(MAIN, &all),
        ],
    );
    let changes = "<member><Type>Resource</Type><ResourceChange><Action>Modify</Action><LogicalResourceId>Cache</LogicalResourceId><ResourceType>AWS::ElastiCache::ReplicationGroup</ResourceType><Replacement>False</Replacement></ResourceChange></member>";
    let ready = change_set("CREATE_COMPLETE", "AVAILABLE", "", changes);
    script.on(MAIN, "DescribeChangeSet", [ready]);
    let said = account
        .run(&account.deploy(&["--alarm-email", "a@example.com"]))
        .await?;
    assert!(
        said.contains("`sensors-dev` could not be updated"),
        "{said}"
    );
    assert!(said.ends_with("exit code 1\n"), "{said}");
    Ok(())
}

#[tokio::test]
async fn throttling_is_ridden_out() -> Result<(), Anything> {
    let account = Account::new().await?;
    let ready = described(MAIN, "UPDATE_COMPLETE");
    let throttled = error("Throttling", "Rate exceeded");
    account.script.on(
        MAIN,
        "DescribeStacks",
        [throttled.clone(), throttled, ready],
    );
    let said = account.run(&account.deploy(&[])).await?;
    assert!(said.ends_with("exit code 0\n"), "{said}");
    Ok(())
}

#[tokio::test]
async fn credentials_that_expire_on_the_way_are_explained() -> Result<(), Anything> {
    let account = Account::new().await?;
    creates(&account.script, "CREATE_COMPLETE", &CREATED);
    let expired = error(
        "ExpiredToken",
        "The security token included in the request is expired",
    );
    account.script.on(
        MAIN,
        "DescribeStacks",
        [missing(), described(MAIN, "CREATE_IN_PROGRESS"), expired],
    );
    assert_said!(
        "expired_credentials",
        account.run(&account.deploy(&[])).await?
    );
    Ok(())
}

#[tokio::test]
async fn missing_credentials_are_explained() -> Result<(), Anything> {
    let account = Account::new().await?;
    let mut command = account.command(&account.deploy(&[]));
    command
        .env_remove("AWS_ACCESS_KEY_ID")
        .env_remove("AWS_SECRET_ACCESS_KEY");
    assert_said!("no_credentials", say(&mut command).await?);
    Ok(())
}

#[tokio::test]
async fn missing_region_is_explained() -> Result<(), Anything> {
    let account = Account::new().await?;
    let mut command = account.command(&account.deploy(&[]));
    assert_said!("no_region", say(command.env_remove("AWS_REGION")).await?);
    let empty = say(command.env("AWS_REGION", "")).await?;
    assert!(empty.contains("no region is set"), "{empty}");
    Ok(())
}

#[tokio::test]
async fn unreachable_endpoint_is_explained() -> Result<(), Anything> {
    let account = Account::new().await?;
    // Nobody listens where somebody has just stopped listening.
    let free = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let mut command = account.command(&account.deploy(&[]));
    command.env("AWS_ENDPOINT_URL", format!("http://{free}"));
    assert_said!("unreachable", say(&mut command).await?);
    Ok(())
}

#[tokio::test]
async fn thousand_events_are_told_once_each_and_in_order() -> Result<(), Anything> {
    const COUNT: u32 = 1_234;
    let account = Account::new().await?;
    creates(&account.script, "CREATE_COMPLETE", &CREATED);
    let names: Vec<String> = (0..COUNT).map(|number| format!("R{number}")).collect();
    let all: Vec<Event<'_>> = names
        .iter()
        .map(|name| (1, name.as_str(), "AWS::SNS::Topic", "CREATE_COMPLETE", ""))
        .collect();
    // Each page begins with the last event of the one before, as when an event arrives in between.
    let mut pages = vec![events(
        MAIN,
        &[(0, MAIN, STACK, "REVIEW_IN_PROGRESS", "User Initiated")],
    )];
    let mut end = all.len();
    while end > 0 {
        let start = end.saturating_sub(100);
        let overlap = (end + 1).min(all.len());
        let next = (start > 0).then_some("more");
        pages.push(events_page(MAIN, &all[start..overlap], next));
        end = start;
    }
    pages.push(events(MAIN, &all[all.len() - 50..]));
    account.script.on(MAIN, "DescribeStackEvents", pages);
    let said = account.run(&account.deploy(&["--json"])).await?;
    let told: Vec<&str> = said
        .lines()
        .filter_map(|line| line.split_once("\"resource\":\""))
        .filter_map(|(_, rest)| rest.split('"').next())
        .collect();
    assert_eq!(told, names);
    Ok(())
}

#[tokio::test]
async fn plan_that_has_become_old_is_refused() -> Result<(), Anything> {
    let account = Account::new().await?;
    let script = &account.script;
    script.on(MAIN, "DescribeStacks", [described(MAIN, "UPDATE_COMPLETE")]);
    let old = change_set("CREATE_COMPLETE", "OBSOLETE", "", "");
    script.on(MAIN, "DescribeChangeSet", [old]);
    let said = account.run(&account.deploy(&["--plan", "mine"])).await?;
    assert_said!("old_plan", said);
    Ok(())
}

#[tokio::test]
async fn nothing_is_there_to_destroy() -> Result<(), Anything> {
    let account = Account::new().await?;
    let none = error(
        "ValidationError",
        "Stack with id sensors-dev-artifacts does not exist",
    );
    account.script.on(ARTIFACTS, "DescribeStacks", [none]);
    assert_said!(
        "nothing_to_destroy",
        account.run(&account.destroy(&[])).await?
    );
    assert!(account.script.changes().is_empty());
    Ok(())
}

#[tokio::test]
async fn protected_stack_is_not_destroyed_unasked() -> Result<(), Anything> {
    let account = Account::new().await?;
    let protection = "<EnableTerminationProtection>true</EnableTerminationProtection>";
    let protected = described_with(MAIN, "CREATE_COMPLETE", protection);
    account.script.on(MAIN, "DescribeStacks", [protected]);
    assert_said!("protected", account.run(&account.destroy(&[])).await?);
    assert!(account.script.changes().is_empty());
    Ok(())
}

const PROTECTED: &str = "<EnableTerminationProtection>true</EnableTerminationProtection>";

/// Answers for the deletion of both stacks, which are protected.
fn destroys_protected(script: &Script) {
    for stack in [MAIN, ARTIFACTS] {
        let ready = described_with(stack, "CREATE_COMPLETE", PROTECTED);
        let gone = described(stack, "DELETE_COMPLETE");
        let answers = match stack {
            // Once more, to be looked at before it is deleted.
            MAIN => vec![ready.clone(), ready, gone, missing()],
            _ => vec![ready, gone, missing()],
        };
        script.on(stack, "DescribeStacks", answers);
        script.on(stack, "UpdateTerminationProtection", [xml("")]);
        script.on(stack, "DeleteStack", [xml("")]);
        script.on(stack, "DescribeStackEvents", [events(stack, &[])]);
    }
}

#[tokio::test]
async fn protection_is_lifted_by_a_flag_where_nobody_is_asked() -> Result<(), Anything> {
    let account = Account::new().await?;
    destroys_protected(&account.script);
    let said = account
        .run(&account.destroy(&["--lift-protection"]))
        .await?;
    assert!(said.ends_with("exit code 0\n"), "{said}");
    let lift = "UpdateTerminationProtection";
    assert_eq!(
        account.script.changes(),
        [lift, lift, "DeleteStack", "DeleteStack"]
    );
    Ok(())
}

#[tokio::test]
async fn deployment_protects_both_stacks_where_that_is_wanted() -> Result<(), Anything> {
    let account = Account::new().await?;
    let script = &account.script;
    creates(script, "CREATE_COMPLETE", &CREATED);
    for stack in [MAIN, ARTIFACTS] {
        script.on(stack, "UpdateTerminationProtection", [xml("")]);
    }
    let said = account.run(&account.deploy(&["--protect"])).await?;
    assert_said!("protects", said);
    let protect = "UpdateTerminationProtection";
    assert_eq!(
        script.changes(),
        ["CreateChangeSet", "ExecuteChangeSet", protect, protect]
    );
    Ok(())
}

#[tokio::test]
async fn protection_is_caught_up_on_without_a_change() -> Result<(), Anything> {
    let account = Account::new().await?;
    let script = &account.script;
    let ready = described_with(MAIN, "UPDATE_COMPLETE", PROTECTED);
    script.on(MAIN, "DescribeStacks", [ready]);
    script.on(ARTIFACTS, "UpdateTerminationProtection", [xml("")]);
    let said = account.run(&account.deploy(&["--protect"])).await?;
    assert!(said.contains("`sensors-dev`: no change"), "{said}");
    // The main stack is protected already.
    assert_eq!(script.changes(), ["UpdateTerminationProtection"]);
    Ok(())
}

#[tokio::test]
async fn protection_without_permission_is_a_warning() -> Result<(), Anything> {
    let account = Account::new().await?;
    let script = &account.script;
    script.on(MAIN, "DescribeStacks", [described(MAIN, "UPDATE_COMPLETE")]);
    for stack in [MAIN, ARTIFACTS] {
        let denied = error("AccessDenied", "not yours");
        script.on(stack, "UpdateTerminationProtection", [denied]);
    }
    let said = account.run(&account.deploy(&["--protect"])).await?;
    let warning =
        "`sensors-dev` is not protected from deletion: cannot change the termination protection: ";
    assert!(said.contains(warning), "{said}");
    assert!(said.ends_with("exit code 0\n"), "{said}");
    Ok(())
}

#[tokio::test]
async fn deletion_that_fails_says_how_to_leave_something_behind() -> Result<(), Anything> {
    let account = Account::new().await?;
    let script = &account.script;
    script.on(
        MAIN,
        "DescribeStacks",
        [
            described(MAIN, "CREATE_COMPLETE"),
            described(MAIN, "DELETE_FAILED"),
        ],
    );
    script.on(MAIN, "DeleteStack", [xml("")]);
    let happened = [
        (1, MAIN, STACK, "DELETE_IN_PROGRESS", "User Initiated"),
        (
            2,
            "CacheSecurityGroup",
            "AWS::EC2::SecurityGroup",
            "DELETE_IN_PROGRESS",
            "",
        ),
        (
            9,
            "CacheSecurityGroup",
            "AWS::EC2::SecurityGroup",
            "DELETE_FAILED",
            "resource sg-1 has a dependent object",
        ),
        (
            10,
            MAIN,
            STACK,
            "DELETE_FAILED",
            "The following resource(s) failed to delete: [CacheSecurityGroup].",
        ),
    ];
    script.on(
        MAIN,
        "DescribeStackEvents",
        [events(MAIN, &[]), events(MAIN, &happened)],
    );
    assert_said!("failed_deletion", account.run(&account.destroy(&[])).await?);
    Ok(())
}

#[tokio::test]
async fn stack_in_any_state_is_destroyed() -> Result<(), Anything> {
    let mut all = String::new();
    for status in [
        "CREATE_FAILED",
        "ROLLBACK_COMPLETE",
        "ROLLBACK_FAILED",
        "UPDATE_FAILED",
        "UPDATE_ROLLBACK_FAILED",
        "UPDATE_ROLLBACK_COMPLETE",
        "DELETE_FAILED",
        "REVIEW_IN_PROGRESS",
        "IMPORT_ROLLBACK_FAILED",
        "UPDATE_IN_PROGRESS",
        "DELETE_IN_PROGRESS",
    ] {
        let account = Account::new().await?;
        let script = &account.script;
        let mut answers = vec![described(MAIN, status)];
        match status {
            // At its end, and once more to be looked at.
            "UPDATE_IN_PROGRESS" => {
                let ended = described(MAIN, "UPDATE_COMPLETE");
                answers.extend([ended.clone(), ended]);
            }
            "DELETE_IN_PROGRESS" => {}
            // Once more, to be looked at before it is deleted.
            _ => answers.push(described(MAIN, status)),
        }
        answers.extend([described(MAIN, "DELETE_COMPLETE"), missing()]);
        script.on(MAIN, "DescribeStacks", answers);
        script.on(
            ARTIFACTS,
            "DescribeStacks",
            [
                described(ARTIFACTS, "CREATE_COMPLETE"),
                described(ARTIFACTS, "DELETE_COMPLETE"),
                missing(),
            ],
        );
        for stack in [MAIN, ARTIFACTS] {
            script.on(stack, "DeleteStack", [xml("")]);
            script.on(stack, "DescribeStackEvents", [events(stack, &[])]);
        }
        let said = account.run(&account.destroy(&[])).await?;
        let deleted = script.changes();
        let expected: &[&str] = match status {
            "DELETE_IN_PROGRESS" => &["DeleteStack"],
            _ => &["DeleteStack", "DeleteStack"],
        };
        assert_eq!(deleted, expected, "{status}: {said}");
        // Other services are somebody else's test.
        let said: Vec<&str> = said
            .lines()
            .filter(|line| !line.starts_with("could not look for"))
            .collect();
        all.push_str(&format!("== {status}\n{}\n", said.join("\n")));
    }
    assert_said!("destroyed_from_any_state", all);
    Ok(())
}

const FIREHOSE: &str = "AWS::KinesisFirehose::DeliveryStream";

/// A creation that fails as it does when Firehose does not know a new role yet.
const RACED: [Event<'_>; 4] = [
    (1, MAIN, STACK, "CREATE_IN_PROGRESS", "User Initiated"),
    (2, "ArchiveStream", FIREHOSE, "CREATE_IN_PROGRESS", ""),
    (
        9,
        "ArchiveStream",
        FIREHOSE,
        "CREATE_FAILED",
        "The security token included in the request is invalid.",
    ),
    (20, MAIN, STACK, "ROLLBACK_COMPLETE", ""),
];

/// Answers for two deployments after each other, of which the first fails in passing.
fn races(script: &Script, second: &[Event<'_>], status: &str) {
    creates(script, status, second);
    let gone = (21, MAIN, STACK, "DELETE_COMPLETE", "");
    let first: Vec<Event<'_>> = RACED.to_vec();
    let deleted: Vec<Event<'_>> = first.iter().copied().chain([gone]).collect();
    let all: Vec<Event<'_>> = deleted.iter().chain(second).copied().collect();
    let shell = [(0, MAIN, STACK, "REVIEW_IN_PROGRESS", "User Initiated")];
    script.on(
        MAIN,
        "DescribeStackEvents",
        [
            events(MAIN, &shell),
            events(MAIN, &first),
            // Its history, for the cause; before its deletion; its deletion; before the second try.
            events(MAIN, &first),
            events(MAIN, &first),
            events(MAIN, &deleted),
            events(MAIN, &deleted),
            events(MAIN, &all),
        ],
    );
    script.on(MAIN, "DeleteStack", [xml("")]);
    script.on(
        MAIN,
        "DescribeStacks",
        [
            missing(),
            described(MAIN, "ROLLBACK_COMPLETE"),
            described(MAIN, "ROLLBACK_COMPLETE"),
            described(MAIN, "DELETE_COMPLETE"),
            missing(),
            described(MAIN, status),
        ],
    );
}

#[tokio::test]
async fn failure_that_passes_is_tried_once_more() -> Result<(), Anything> {
    let account = Account::new().await?;
    races(&account.script, &CREATED, "CREATE_COMPLETE");
    assert_said!("passing_failure", account.run(&account.deploy(&[])).await?);
    let tried = ["CreateChangeSet", "ExecuteChangeSet"];
    assert_eq!(
        account.script.changes(),
        [&tried[..], &["DeleteStack"], &tried[..]].concat()
    );
    Ok(())
}

#[tokio::test]
async fn failure_that_does_not_pass_is_not_tried_a_third_time() -> Result<(), Anything> {
    let account = Account::new().await?;
    let later = RACED
        .map(|(second, id, r#type, status, reason)| (second + 100, id, r#type, status, reason));
    races(&account.script, &later, "ROLLBACK_COMPLETE");
    assert_said!("failure_again", account.run(&account.deploy(&[])).await?);
    let executed = account.script.changes();
    let executed = executed.iter().filter(|it| *it == "ExecuteChangeSet");
    assert_eq!(executed.count(), 2);
    Ok(())
}

#[tokio::test]
async fn bucket_name_that_is_taken_is_said() -> Result<(), Anything> {
    let account = Account::new().await?;
    let bucket = "AWS::S3::Bucket";
    creates(
        &account.script,
        "ROLLBACK_COMPLETE",
        &[
            (1, MAIN, STACK, "CREATE_IN_PROGRESS", "User Initiated"),
            (2, "ArchiveBucket", bucket, "CREATE_IN_PROGRESS", ""),
            (
                3,
                "ArchiveBucket",
                bucket,
                "CREATE_FAILED",
                "sensors-dev-archive already exists (Service: S3, Status Code: 409)",
            ),
            (4, MAIN, STACK, "ROLLBACK_COMPLETE", ""),
        ],
    );
    assert_said!("bucket_taken", account.run(&account.deploy(&[])).await?);
    Ok(())
}

/// DescribeEnvironments' answer: the stage's environment in a status.
fn environment(status: &str) -> Answer {
    xml(&format!(
        "<Environments><member><EnvironmentName>e-1</EnvironmentName><Status>{status}</Status></member></Environments>"
    ))
}

const ENVIRONMENT_LISTED: &str = "<StackResourceSummaries><member><LogicalResourceId>DashboardEnvironment</LogicalResourceId><PhysicalResourceId>e-1</PhysicalResourceId><ResourceType>AWS::ElasticBeanstalk::Environment</ResourceType><ResourceStatus>UPDATE_COMPLETE</ResourceStatus></member></StackResourceSummaries>";

/// Answers for a deployment that changes the environment.
fn changes_the_environment(script: &Script) {
    creates(
        script,
        "UPDATE_COMPLETE",
        &[
            (1, MAIN, STACK, "UPDATE_IN_PROGRESS", "User Initiated"),
            (6, MAIN, STACK, "UPDATE_COMPLETE", ""),
        ],
    );
    let before = described(MAIN, "CREATE_COMPLETE");
    let after = described(MAIN, "UPDATE_COMPLETE");
    script.on(MAIN, "DescribeStacks", [before, after]);
    let change = "<member><Type>Resource</Type><ResourceChange><Action>Modify</Action><LogicalResourceId>DashboardEnvironment</LogicalResourceId><PhysicalResourceId>e-1</PhysicalResourceId><ResourceType>AWS::ElasticBeanstalk::Environment</ResourceType><Replacement>False</Replacement></ResourceChange></member>";
    let ready = change_set("CREATE_COMPLETE", "AVAILABLE", "", change);
    script.on(MAIN, "DescribeChangeSet", [ready]);
}

#[tokio::test]
async fn environment_that_is_busy_is_waited_for_before_it_is_changed() -> Result<(), Anything> {
    let account = Account::new().await?;
    changes_the_environment(&account.script);
    let answers = ["Updating", "Updating", "Ready"].map(environment);
    account.script.on("", "DescribeEnvironments", answers);
    let said = account
        .run(&account.deploy(&["--alarm-email", "a@example.com"]))
        .await?;
    assert_said!("busy_environment", said);
    assert_eq!(
        account.script.changes(),
        ["CreateChangeSet", "ExecuteChangeSet"]
    );
    Ok(())
}

#[tokio::test]
async fn environment_that_stays_busy_is_not_changed() -> Result<(), Anything> {
    for status in [
        "Updating",
        "Launching",
        "Aborting",
        "LinkingFrom",
        "Terminating",
    ] {
        let account = Account::new().await?;
        changes_the_environment(&account.script);
        let busy = environment(status);
        account.script.on("", "DescribeEnvironments", [busy]);
        let mut arguments = account.deploy(&["--alarm-email", "a@example.com"]);
        for argument in &mut arguments {
            if argument == "5" {
                "0".clone_into(argument);
            }
        }
        let said = account.run(&arguments).await?;
        let end = format!("error: environment `e-1` is still {status} after 0 min");
        assert!(said.contains(&end), "{said}");
        assert!(said.contains("fix: "), "{said}");
        assert_eq!(account.script.changes(), ["CreateChangeSet"]);
    }
    Ok(())
}

#[tokio::test]
async fn environment_that_is_gone_is_not_waited_for() -> Result<(), Anything> {
    let gone = xml("<Environments/>");
    for answer in [environment("Terminated"), gone] {
        let account = Account::new().await?;
        changes_the_environment(&account.script);
        account.script.on("", "DescribeEnvironments", [answer]);
        let said = account
            .run(&account.deploy(&["--alarm-email", "a@example.com"]))
            .await?;
        assert!(!said.contains("waiting until"), "{said}");
        assert!(said.ends_with("exit code 0\n"), "{said}");
    }
    Ok(())
}

#[tokio::test]
async fn environment_that_is_busy_is_waited_for_before_it_is_destroyed() -> Result<(), Anything> {
    let account = Account::new().await?;
    let script = &account.script;
    let ready = described(MAIN, "UPDATE_COMPLETE");
    let gone = described(MAIN, "DELETE_COMPLETE");
    script.on(
        MAIN,
        "DescribeStacks",
        [ready.clone(), ready, gone, missing()],
    );
    script.on(MAIN, "ListStackResources", [xml(ENVIRONMENT_LISTED)]);
    script.on(
        ARTIFACTS,
        "DescribeStacks",
        [
            described(ARTIFACTS, "CREATE_COMPLETE"),
            described(ARTIFACTS, "DELETE_COMPLETE"),
            missing(),
        ],
    );
    for stack in [MAIN, ARTIFACTS] {
        script.on(stack, "DeleteStack", [xml("")]);
        script.on(stack, "DescribeStackEvents", [events(stack, &[])]);
    }
    let answers = ["Updating", "Updating", "Ready"].map(environment);
    script.on("", "DescribeEnvironments", answers);
    let said = account.run(&account.destroy(&[])).await?;
    let waited = "environment `e-1` is Updating: waiting until it is Ready";
    let (before, after) = said.split_once(waited).ok_or(said.clone())?;
    assert!(!before.contains("is gone"), "{said}");
    assert!(after.contains("environment `e-1` is Ready\n"), "{said}");
    assert!(after.contains("`sensors-dev` is gone"), "{said}");
    assert_eq!(script.changes(), ["DeleteStack", "DeleteStack"], "{said}");
    Ok(())
}

#[tokio::test]
async fn destroy_goes_on_where_it_may_not_look_at_the_environment() -> Result<(), Anything> {
    let account = Account::new().await?;
    let script = &account.script;
    script.on(MAIN, "ListStackResources", [xml(ENVIRONMENT_LISTED)]);
    let ready = described(MAIN, "UPDATE_COMPLETE");
    script.on(MAIN, "DescribeStacks", [ready.clone(), ready, missing()]);
    script.on(MAIN, "DeleteStack", [xml("")]);
    script.on(MAIN, "DescribeStackEvents", [events(MAIN, &[])]);
    let denied = error("AccessDenied", "not yours");
    script.on("", "DescribeEnvironments", [denied]);
    let said = account.run(&account.destroy(&[])).await?;
    assert!(
        said.contains("cannot wait until environment `e-1` is Ready: "),
        "{said}"
    );
    assert!(
        script.changes().contains(&"DeleteStack".to_owned()),
        "{said}"
    );
    Ok(())
}

/// A stage whose environment runs on a platform.
fn runs_on(script: &Script, platform: &str) {
    script.on(MAIN, "DescribeStacks", [described(MAIN, "UPDATE_COMPLETE")]);
    script.on(MAIN, "ListStackResources", [xml(ENVIRONMENT_LISTED)]);
    script.on(
        "",
        "DescribeEnvironments",
        [xml(&format!(
            "<Environments><member><EnvironmentName>e-1</EnvironmentName><PlatformArn>{platform}</PlatformArn><Status>Ready</Status></member></Environments>"
        ))],
    );
    script.on(MAIN, "CreateChangeSet", [change_set_made()]);
    let ready = change_set("CREATE_COMPLETE", "AVAILABLE", "", "");
    script.on(MAIN, "DescribeChangeSet", [ready]);
}

const NEWER: &str = "arn:aws:elasticbeanstalk:eu-west-1::platform/Go 1/4.10.0";

#[tokio::test]
async fn newer_platform_set_by_managed_updates_is_kept() -> Result<(), Anything> {
    let account = Account::new().await?;
    runs_on(&account.script, NEWER);
    let said = account.run(&account.deploy(&["--plan"])).await?;
    let lock = std::fs::read_to_string(account.path("lock.json"))?;
    assert!(lock.contains(NEWER), "{lock}");
    let folder = account.folder.path().display().to_string();
    assert_said!("newer_platform", said.replace(&folder, "FOLDER"));
    Ok(())
}

const CACHE_LISTED: &str = "<StackResourceSummaries><member><LogicalResourceId>Cache</LogicalResourceId><PhysicalResourceId>group-1</PhysicalResourceId><ResourceType>AWS::ElastiCache::ReplicationGroup</ResourceType><ResourceStatus>UPDATE_COMPLETE</ResourceStatus></member></StackResourceSummaries>";

/// DescribeCacheClusters' answer: of one node of a group each, its engine version.
fn nodes(of: &[(&str, &str)]) -> Answer {
    let nodes = of.iter().map(|(group, version)| {
        format!(
            "<CacheCluster><ReplicationGroupId>{group}</ReplicationGroupId><EngineVersion>{version}</EngineVersion></CacheCluster>"
        )
    });
    let nodes: String = nodes.collect();
    xml(&format!("<CacheClusters>{nodes}</CacheClusters>"))
}

#[tokio::test]
async fn engine_version_that_runs_is_kept() -> Result<(), Anything> {
    // What runs, what is said, and how many change sets there are.
    let table = [
        (nodes(&[("group-1", "8.0.1"), ("other", "9.1.0")]), "", 0),
        (
            nodes(&[("group-1", "8.1.0"), ("group-1", "8.1.0")]),
            "the cache already runs engine version 8.1, which is kept",
            1,
        ),
        // A lower one is upgraded to the template's, which the stack has asked for already.
        (nodes(&[("group-1", "7.2.6")]), "", 0),
        (
            error("AccessDenied", "not yours"),
            "the engine version of the last deployment is kept",
            0,
        ),
    ];
    for (answer, expected, changes) in table {
        let account = Account::new().await?;
        runs_on(&account.script, PLATFORM);
        let script = &account.script;
        script.on(MAIN, "ListStackResources", [xml(CACHE_LISTED)]);
        script.on("", "DescribeCacheClusters", [answer]);
        let said = account.run(&account.deploy(&["--plan"])).await?;
        assert!(said.contains(expected), "{said}");
        assert!(said.ends_with("exit code 0\n"), "{said}");
        let is_changed = said.contains("EngineVersion: 8.0 → 8.1");
        assert_eq!(is_changed, changes == 1, "{said}");
        assert_eq!(script.changes().len(), changes, "{said}");
    }
    Ok(())
}

#[tokio::test]
async fn platform_changes_only_when_it_is_asked_for() -> Result<(), Anything> {
    let account = Account::new().await?;
    runs_on(&account.script, PLATFORM);
    account
        .script
        .on("", "ListPlatformVersions", [platforms(NEWER)]);
    let said = account.run(&account.deploy(&["--plan"])).await?;
    assert!(said.contains("no change"), "{said}");
    let said = account
        .run(&account.deploy(&["--plan", "--update-platform"]))
        .await?;
    let lock = std::fs::read_to_string(account.path("lock.json"))?;
    assert!(lock.contains(NEWER), "{lock}");
    let folder = account.folder.path().display().to_string();
    assert_said!("updated_platform", said.replace(&folder, "FOLDER"));
    Ok(())
}

#[tokio::test]
async fn certificate_changes_the_bundle_and_its_absence_changes_it_back() -> Result<(), Anything> {
    let account = Account::new().await?;
    runs_on(&account.script, PLATFORM);
    let bundle = |said: &str| {
        let keys = said
            .lines()
            .filter_map(|line| line.split_once("\"artifact\":\"webui/"));
        keys.map(|(_, rest)| rest.to_owned()).next()
    };
    let plain = account.run(&account.deploy(&["--json", "--plan"])).await?;
    let certificate = "arn:aws:acm:eu-west-1:123456789012:certificate/1";
    let arguments = account.deploy(&["--json", "--plan", "--certificate", certificate]);
    let secure = account.run(&arguments).await?;
    assert!(bundle(&plain).is_some(), "{plain}");
    assert_ne!(bundle(&plain), bundle(&secure), "{secure}");
    let arguments = account.deploy(&["--json", "--plan", "--certificate", ""]);
    assert_eq!(bundle(&plain), bundle(&account.run(&arguments).await?));
    Ok(())
}

#[tokio::test]
async fn account_without_room_stops_before_anything_is_begun() -> Result<(), Anything> {
    let account = Account::new().await?;
    let none = xml(r#"{"Quota": {"Value": 0.0}}"#);
    account.script.on("", "GetServiceQuota", [none]);
    assert_said!("no_room", account.run(&account.deploy(&[])).await?);
    assert!(account.script.changes().is_empty());
    Ok(())
}

#[tokio::test]
async fn check_without_permission_is_a_warning() -> Result<(), Anything> {
    let account = Account::new().await?;
    creates(&account.script, "CREATE_COMPLETE", &CREATED);
    let denied = error("AccessDeniedException", "not yours");
    account.script.on("", "GetServiceQuota", [denied]);
    assert_said!("unknown_room", account.run(&account.deploy(&[])).await?);
    Ok(())
}

#[tokio::test]
async fn answer_that_is_not_understood_is_a_warning_with_its_first_line() -> Result<(), Anything> {
    let account = Account::new().await?;
    creates(&account.script, "CREATE_COMPLETE", &CREATED);
    let page = "\n<html>no such service</html>\n<p>more</p>".to_owned();
    let answer = Answer::Error(StatusCode::NOT_FOUND, "", page);
    account.script.on("", "GetServiceQuota", [answer]);
    assert_said!("not_understood", account.run(&account.deploy(&[])).await?);
    Ok(())
}

#[tokio::test]
async fn empty_variables_and_endpoints_are_absent_ones() -> Result<(), Anything> {
    let account = Account::new().await?;
    let ready = described(MAIN, "UPDATE_COMPLETE");
    account.script.on(MAIN, "DescribeStacks", [ready]);
    std::fs::create_dir(account.path(".aws"))?;
    let config =
        "[default]\nendpoint_url =\nservices = here\n[services here]\nsts =\n  endpoint_url =\n";
    std::fs::write(account.path(".aws/config"), config)?;
    let mut command = account.command(&account.deploy(&[]));
    for name in ["AWS_ENDPOINT_URL_STS", "AWS_PROFILE", "AWS_DEFAULT_REGION"] {
        command.env(name, "");
    }
    let said = say(&mut command).await?;
    assert!(said.contains("`sensors-dev`: no change"), "{said}");
    // Without the endpoint there is only the empty one: nothing is called, and nothing panics.
    let mut command = account.command(&account.deploy(&[]));
    command.env("AWS_ENDPOINT_URL", "").env_remove("AWS_REGION");
    let said = say(&mut command).await?;
    assert!(said.starts_with("error: no region is set"), "{said}");
    Ok(())
}

#[tokio::test]
async fn failure_is_json_in_the_shape_of_every_command() -> Result<(), Anything> {
    let account = Account::new().await?;
    let mut command = account.command(&["status".to_owned(), "--json".to_owned()]);
    let said = say(command.env_remove("AWS_REGION")).await?;
    let failure = r#"{"error":"no region is set; fix: `export AWS_REGION=eu-central-1`, or `aws configure set region eu-central-1`","exitCode":1,"result":"failed"}"#;
    assert!(said.starts_with(failure), "{said}");
    let wrong = ["status", "--json", "--stage", "x"].map(str::to_owned);
    let said = account.run(&wrong).await?;
    assert!(
        said.contains(r#""exitCode":2,"result":"failed"}"#),
        "{said}"
    );
    Ok(())
}

#[tokio::test]
async fn platform_that_is_gone_is_found_before_anything_is_begun() -> Result<(), Anything> {
    let account = Account::new().await?;
    account
        .script
        .on("", "ListPlatformVersions", [platforms(NEWER)]);
    assert_said!("platform_gone", account.run(&account.deploy(&[])).await?);
    assert!(account.script.changes().is_empty());
    Ok(())
}

#[tokio::test]
async fn program_of_another_architecture_is_not_uploaded() -> Result<(), Anything> {
    let account = Account::new().await?;
    // The first bytes of a program for x86_64.
    let mut program = b"\x7fELF".to_vec();
    program.resize(18, 0);
    program.extend([62, 0]);
    std::fs::write(account.path("webui"), program)?;
    assert_said!(
        "other_architecture",
        account.run(&account.deploy(&[])).await?
    );
    assert!(account.script.changes().is_empty());
    Ok(())
}

#[tokio::test]
async fn wrong_flags_are_explained() -> Result<(), Anything> {
    let account = Account::without_keys().await?;
    let mut said = String::new();
    for arguments in [
        &["deploy", "--stage", "test"][..],
        &["deploy", "--function", "x"],
        &["deploy", "--poll", "soon"],
        &["logs", "--since", "10"],
        &["logs", "--since", "ten minutes"],
        &[
            "simulate",
            "--stage",
            "dev",
            "--devices",
            "0",
            "--rate",
            "1",
        ],
        &[
            "simulate",
            "--stage",
            "dev",
            "--devices",
            "1",
            "--rate",
            "-1",
        ],
        &["publish", "hello"],
    ] {
        let arguments: Vec<String> = arguments.iter().map(|it| (*it).to_owned()).collect();
        said += &format!(
            "$ {}\n{}\n",
            arguments.join(" "),
            account.run(&arguments).await?
        );
    }
    assert_said!("wrong_flags", said);
    Ok(())
}

/// What CloudFormation says of a stack that a service role has made.
fn by_role() -> String {
    format!("<RoleARN>{SERVICE_ROLE}</RoleARN>")
}

fn by_service_role(action: &str) -> String {
    format!("{action} by {SERVICE_ROLE}")
}

#[tokio::test]
async fn bootstrapped_account_is_deployed_to_by_its_service_role() -> Result<(), Anything> {
    let account = Account::new().await?;
    let script = &account.script;
    script.bootstrap();
    creates(script, "CREATE_COMPLETE", &CREATED);
    let said = account.run(&account.deploy(&[])).await?;
    assert_said!("created_by_service_role", said);
    assert_eq!(script.roles(), [by_service_role("CreateChangeSet")]);
    let boundary = script.parameter("PermissionsBoundary");
    assert_eq!(boundary.as_deref(), Some(BOUNDARY));
    Ok(())
}

#[tokio::test]
async fn without_bootstrap_no_role_is_passed() -> Result<(), Anything> {
    let account = Account::new().await?;
    creates(&account.script, "CREATE_COMPLETE", &CREATED);
    account.run(&account.deploy(&[])).await?;
    assert_eq!(account.script.roles(), ["CreateChangeSet by no role"]);
    assert_eq!(account.script.parameter("PermissionsBoundary"), None);
    // Who may not look for it goes on with their own rights.
    let denied = error("AccessDenied", "not authorized to perform: DescribeStacks");
    account.script.on(BOOTSTRAP, "DescribeStacks", [denied]);
    account
        .script
        .on(MAIN, "DescribeStacks", [described(MAIN, "CREATE_COMPLETE")]);
    let said = account.run(&account.deploy(&[])).await?;
    assert!(
        said.contains("cannot look whether the account is bootstrapped"),
        "{said}"
    );
    assert!(said.contains("exit code 0"), "{said}");
    Ok(())
}

#[tokio::test]
async fn service_role_takes_stacks_back_and_down() -> Result<(), Anything> {
    for (status, action) in [
        ("UPDATE_ROLLBACK_FAILED", "ContinueUpdateRollback"),
        ("UPDATE_FAILED", "RollbackStack"),
    ] {
        let account = Account::new().await?;
        let script = &account.script;
        script.bootstrap();
        let stuck = described_with(MAIN, status, &by_role());
        let back = described_with(MAIN, "UPDATE_ROLLBACK_COMPLETE", &by_role());
        script.on(MAIN, "DescribeStacks", [stuck.clone(), stuck, back]);
        script.on(MAIN, action, [xml("")]);
        script.on(MAIN, "DescribeStackEvents", [events(MAIN, &[])]);
        account.run(&account.deploy(&[])).await?;
        assert_eq!(script.roles()[0], by_service_role(action), "{status}");
    }
    // A stage from before the bootstrap has roles without its boundary: it goes as it came.
    for (more, expected) in [
        (by_role(), by_service_role("DeleteStack")),
        (String::new(), "DeleteStack by no role".to_owned()),
    ] {
        let account = Account::new().await?;
        let script = &account.script;
        script.bootstrap();
        for stack in [MAIN, ARTIFACTS] {
            let there = described_with(stack, "CREATE_COMPLETE", &more);
            let gone = described(stack, "DELETE_COMPLETE");
            script.on(stack, "DescribeStacks", [there, gone, missing()]);
            script.on(stack, "DeleteStack", [xml("")]);
            script.on(stack, "DescribeStackEvents", [events(stack, &[])]);
        }
        account.run(&account.destroy(&[])).await?;
        assert_eq!(script.roles(), [expected.clone(), expected]);
    }
    Ok(())
}

#[tokio::test]
async fn service_role_that_went_with_its_bootstrap_is_found_before_anything_is_begun()
-> Result<(), Anything> {
    let account = Account::new().await?;
    let script = &account.script;
    let orphaned = described_with(MAIN, "CREATE_COMPLETE", &by_role());
    script.on(MAIN, "DescribeStacks", [orphaned]);
    let deploy = account.run(&account.deploy(&[])).await?;
    let destroy = account.run(&account.destroy(&[])).await?;
    assert_said!("service_role_is_gone", format!("{deploy}{destroy}"));
    assert!(script.changes().is_empty());
    Ok(())
}

#[tokio::test]
async fn service_role_that_cannot_be_assumed_is_explained() -> Result<(), Anything> {
    let account = Account::new().await?;
    let script = &account.script;
    script.bootstrap();
    creates(script, "CREATE_COMPLETE", &CREATED);
    let refused = format!("Role {SERVICE_ROLE} is invalid or cannot be assumed");
    script.on(
        MAIN,
        "CreateChangeSet",
        [error("ValidationError", &refused)],
    );
    let said = account.run(&account.deploy(&[])).await?;
    assert!(
        said.contains("`cargo xtask bootstrap` creates it if it is missing"),
        "{said}"
    );
    Ok(())
}

/// An answer about the main stack as one about the bootstrap.
fn of_bootstrap(answer: Answer) -> Answer {
    match answer {
        Answer::Xml(text) => Answer::Xml(text.replace(&id(MAIN), &id(BOOTSTRAP))),
        other => other,
    }
}

#[tokio::test]
async fn account_is_bootstrapped() -> Result<(), Anything> {
    let account = Account::new().await?;
    let script = &account.script;
    script.on(
        BOOTSTRAP,
        "CreateChangeSet",
        [of_bootstrap(change_set_made())],
    );
    let made = change_set("CREATE_COMPLETE", "AVAILABLE", "", "");
    script.on(BOOTSTRAP, "DescribeChangeSet", [of_bootstrap(made)]);
    script.on(BOOTSTRAP, "ExecuteChangeSet", [xml("")]);
    script.on(BOOTSTRAP, "UpdateTerminationProtection", [xml("")]);
    let role = "AWS::IAM::Role";
    let happened = [
        (1, BOOTSTRAP, STACK, "CREATE_IN_PROGRESS", "User Initiated"),
        (2, "ServiceRole", role, "CREATE_COMPLETE", ""),
        (3, BOOTSTRAP, STACK, "CREATE_COMPLETE", ""),
    ];
    script.on(
        BOOTSTRAP,
        "DescribeStackEvents",
        [events(BOOTSTRAP, &[]), events(BOOTSTRAP, &happened)],
    );
    script.on(
        BOOTSTRAP,
        "DescribeStacks",
        [missing(), bootstrapped("CREATE_COMPLETE")],
    );
    let subject = "repo:octo-org@1/octo-repo@2:environment:production";
    let arguments = [
        "bootstrap",
        "--yes",
        "--poll",
        "5",
        "--github-subject",
        subject,
    ];
    let said = account.run(&arguments.map(str::to_owned)).await?;
    assert_said!("bootstrapped", said);
    assert_eq!(
        script.changes(),
        [
            "CreateChangeSet",
            "ExecuteChangeSet",
            "UpdateTerminationProtection"
        ]
    );
    assert_eq!(script.roles(), ["CreateChangeSet by no role"]);
    assert_eq!(script.parameter("GitHubSubject").as_deref(), Some(subject));
    Ok(())
}

#[tokio::test]
async fn bootstrap_is_not_removed_while_a_stage_uses_it() -> Result<(), Anything> {
    let account = Account::new().await?;
    let script = &account.script;
    script.bootstrap();
    let role = by_role();
    script.on(
        MAIN,
        "DescribeStacks",
        [described_with(MAIN, "CREATE_COMPLETE", &role)],
    );
    for stack in ["sensors-prod", "sensors-prod-artifacts"] {
        script.on(stack, "DescribeStacks", [missing()]);
    }
    let remove = ["bootstrap", "--remove", "--yes", "--poll", "5"].map(str::to_owned);
    let refused = account.run(&remove).await?;
    assert!(script.changes().is_empty());
    script.on(MAIN, "DescribeStacks", [missing()]);
    script.on(
        BOOTSTRAP,
        "DescribeStacks",
        [bootstrapped("CREATE_COMPLETE"), missing()],
    );
    script.on(BOOTSTRAP, "DeleteStack", [xml("")]);
    script.on(BOOTSTRAP, "DescribeStackEvents", [events(BOOTSTRAP, &[])]);
    let removed = account.run(&remove).await?;
    let nothing = account.run(&remove).await?;
    assert_said!("bootstrap_removed", format!("{refused}{removed}{nothing}"));
    assert_eq!(script.changes(), ["DeleteStack"]);
    Ok(())
}

#[tokio::test]
async fn subject_that_names_no_environment_says_how_to_print_it() -> Result<(), Anything> {
    let account = Account::new().await?;
    let arguments = ["bootstrap", "--github-subject", "octo-org/octo-repo"];
    let said = account.run(&arguments.map(str::to_owned)).await?;
    assert_said!("wrong_subject", said);
    Ok(())
}

#[tokio::test]
async fn role_policy_is_small_with_bootstrap_and_administration_without() -> Result<(), Anything> {
    let account = Account::new().await?;
    let arguments = ["deploy", "--role-policy"].map(str::to_owned);
    let full = account.run(&arguments).await?;
    assert!(full.contains("This policy equals administration"), "{full}");
    assert!(full.contains("\"iam:CreateRole\""), "{full}");
    account.script.bootstrap();
    let small = account.run(&arguments).await?;
    assert!(!small.contains("\"iam:CreateRole\""), "{small}");
    assert!(!small.contains("kinesis:CreateStream"), "{small}");
    assert!(small.contains(&format!("\"{SERVICE_ROLE}\"")), "{small}");
    assert!(small.contains("arn:aws:cloudformation:eu-west-1:123456789012:stack/sensors-dev/*"));
    // Without an account the policy is for any.
    let mut command = account.command(&arguments);
    command.env_remove("AWS_REGION");
    let any = say(&mut command).await?;
    assert!(
        any.contains("cannot look whether the account is bootstrapped"),
        "{any}"
    );
    assert!(any.contains("exit code 0"), "{any}");
    Ok(())
}
