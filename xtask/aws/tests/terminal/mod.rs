//! What a person sees and types: the program on a pseudo-terminal.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

use super::*;

/// What a person types, each after the program has asked so.
type Typed = &'static [(&'static str, &'static str)];

/// A silent program is taken for one that hangs.
const PATIENCE: Timespec = Timespec {
    tv_sec: 60,
    tv_nsec: 0,
};

/// The two ends of a terminal of so many columns.
fn terminal(columns: u16) -> Result<(File, OwnedFd), Anything> {
    let person = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY)?;
    grantpt(&person)?;
    unlockpt(&person)?;
    let size = Winsize {
        ws_row: 24,
        ws_col: columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    tcsetwinsize(&person, size)?;
    let program = rustix::fs::open(
        ptsname(&person, Vec::new())?,
        OFlags::RDWR | OFlags::NOCTTY,
        Mode::empty(),
    )?;
    Ok((person.into(), program))
}

/// Runs a program on a terminal and returns everything that was written there.
fn run_on_terminal(mut command: Command, columns: u16, typed: Typed) -> Result<String, String> {
    let said = |error: &dyn std::fmt::Display| error.to_string();
    let (mut person, program) = terminal(columns).map_err(|error| said(&error))?;
    let end = || program.try_clone().map(Stdio::from);
    let ends = [end(), end(), end()];
    let [stdin, stdout, stderr] = ends.map(|end| end.map_err(|error| said(&error)));
    command.stdin(stdin?).stdout(stdout?).stderr(stderr?);
    let mut child = command.spawn().map_err(|error| said(&error))?;
    // Once the program ends nobody holds its side of the terminal any more.
    drop((command, program));
    let mut written = Vec::new();
    let mut typed = typed.iter().peekable();
    let mut answered = 0;
    loop {
        let mut ready = [PollFd::new(&person, PollFlags::IN)];
        if poll(&mut ready, Some(&PATIENCE)) == Ok(0) {
            let _ = child.kill();
            return Err(format!("hangs after {}", String::from_utf8_lossy(&written)));
        }
        let mut bytes = [0; 4096];
        match person.read(&mut bytes) {
            Ok(0) => break,
            Ok(count) => written.extend(&bytes[..count]),
            Err(error) if error.raw_os_error() == Some(Errno::IO.raw_os_error()) => break,
            Err(error) => return Err(said(&error)),
        }
        let text = String::from_utf8_lossy(&written[answered..]);
        if let Some((_, answer)) = typed.next_if(|(question, _)| text.contains(question)) {
            answered = written.len();
            writeln!(person, "{answer}").map_err(|error| said(&error))?;
        }
    }
    let status = child.wait().map_err(|error| said(&error))?;
    let code = status.code().ok_or("ended by a signal")?;
    let written = String::from_utf8_lossy(&written).replace("\r\n", "\n");
    Ok(format!("{written}exit code {code}\n"))
}

impl Account {
    /// The program with a terminal, as a shell would start it.
    async fn on_terminal(
        &self,
        arguments: Vec<String>,
        columns: u16,
        typed: Typed,
        variables: &[(&str, &str)],
    ) -> Result<String, Anything> {
        let mut command = self.command(&arguments);
        command.envs(variables.iter().copied()).env("TERM", "xterm");
        let command = std::mem::replace(command.as_std_mut(), Command::new("true"));
        let written =
            tokio::task::spawn_blocking(move || run_on_terminal(command, columns, typed)).await?;
        Ok(written?)
    }
}

/// Arguments that leave the decision to a person.
fn asking(arguments: Vec<String>) -> Vec<String> {
    arguments.into_iter().filter(|it| it != "--yes").collect()
}

/// What is left on the screen, and how it looked before each time that the block was drawn over.
fn screens(written: &str) -> Vec<String> {
    let mut lines = vec![String::new()];
    let mut screens = Vec::new();
    let mut rest = written;
    while let Some(character) = rest.chars().next() {
        rest = &rest[character.len_utf8()..];
        match character {
            '\n' => lines.push(String::new()),
            '\x1b' => {
                let end = rest.find(|it: char| it.is_ascii_alphabetic()).unwrap_or(0);
                let (sequence, after) = rest.split_at(end + 1);
                rest = after;
                if let Some(up) = sequence
                    .strip_prefix('[')
                    .and_then(|it| it.strip_suffix('A'))
                {
                    screens.push(lines.join("\n"));
                    let up: usize = up.parse().unwrap_or(0);
                    lines.truncate(lines.len().saturating_sub(up + 1));
                    lines.push(String::new());
                }
            }
            other => lines.last_mut().unwrap_or(&mut String::new()).push(other),
        }
    }
    screens.push(lines.join("\n"));
    screens
}

const SITE: &str = "AWS::ElasticBeanstalk::Environment";

/// A creation of two resources, one after the other, which takes a while.
fn creates_slowly(script: &Script) {
    creates(script, "CREATE_COMPLETE", &CREATED);
    let added = |id: &str, r#type: &str| {
        format!(
            "<member><Type>Resource</Type><ResourceChange><Action>Add</Action><LogicalResourceId>{id}</LogicalResourceId><ResourceType>{type}</ResourceType></ResourceChange></member>"
        )
    };
    let changes = added("Cache", CACHE) + &added("DashboardEnvironment", SITE);
    let ready = change_set("CREATE_COMPLETE", "AVAILABLE", "", &changes);
    script.on(MAIN, "DescribeChangeSet", [ready]);
    let happened = [
        (0, MAIN, STACK, "REVIEW_IN_PROGRESS", "User Initiated"),
        (1, MAIN, STACK, "CREATE_IN_PROGRESS", "User Initiated"),
        (2, "Cache", CACHE, "CREATE_IN_PROGRESS", ""),
        (700, "Cache", CACHE, "CREATE_COMPLETE", ""),
        (701, "DashboardEnvironment", SITE, "CREATE_IN_PROGRESS", ""),
        (950, "DashboardEnvironment", SITE, "CREATE_COMPLETE", ""),
        (951, MAIN, STACK, "CREATE_COMPLETE", ""),
    ];
    let pages = [1, 3, 5, 7].map(|count| events(MAIN, &happened[..count]));
    script.on(MAIN, "DescribeStackEvents", pages);
    let busy = described(MAIN, "CREATE_IN_PROGRESS");
    let done = described(MAIN, "CREATE_COMPLETE");
    script.on(
        MAIN,
        "DescribeStacks",
        [missing(), busy.clone(), busy, done],
    );
}

const DEPLOY_QUESTION: &str = "deploy this to stage dev? [y/N] ";
const DESTROY_QUESTION: &str = "type the stage's name to destroy it: ";

#[tokio::test(flavor = "multi_thread")]
async fn deploy_goes_on_after_a_typed_yes_and_draws_what_is_under_way() -> Result<(), Anything> {
    let account = Account::new().await?;
    creates_slowly(&account.script);
    let typed: Typed = &[(DEPLOY_QUESTION, "y")];
    let written = account
        .on_terminal(asking(account.deploy(&[])), 80, typed, &[])
        .await?;
    let changes = account.script.changes();
    assert_eq!(
        changes,
        ["CreateChangeSet", "ExecuteChangeSet"],
        "{written}"
    );
    // Bold is the critical path.
    assert!(written.contains("\x1b[1m"), "{written}");
    let screens = screens(&written);
    let block = |screen: &String| {
        let (_, block) = screen.split_once("? [y/N] y\n")?;
        Some(block.to_owned())
    };
    let mut blocks: Vec<String> = screens.iter().filter_map(block).collect();
    blocks.dedup();
    // A loaded machine may show a second more.
    insta::with_settings!({
        prepend_module_to_snapshot => false,
        omit_expression => true,
        filters => [(r" \d:\d\d", " TIME"), (r"in \d+\.\d s", "in N s")],
    }, { insta::assert_snapshot!("terminal_deploy", blocks.join("\n--- later:\n")) });
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn any_other_answer_deploys_nothing_and_leaves_no_plan() -> Result<(), Anything> {
    for answer in ["", "n", "Yes please"] {
        let account = Account::new().await?;
        let script = &account.script;
        script.on(MAIN, "DescribeStacks", [described(MAIN, "UPDATE_COMPLETE")]);
        script.on(MAIN, "CreateChangeSet", [change_set_made()]);
        script.on(MAIN, "DeleteChangeSet", [xml("")]);
        let ready = change_set("CREATE_COMPLETE", "AVAILABLE", "", "");
        script.on(MAIN, "DescribeChangeSet", [ready]);
        let typed: Typed = match answer {
            "" => &[(DEPLOY_QUESTION, "")],
            "n" => &[(DEPLOY_QUESTION, "n")],
            _ => &[(DEPLOY_QUESTION, "Yes please")],
        };
        let arguments = asking(account.deploy(&["--alarm-email", "a@example.com"]));
        let written = account.on_terminal(arguments, 80, typed, &[]).await?;
        let end = format!(
            "{DEPLOY_QUESTION}{answer}\nerror: nothing was deployed: the answer was no\nexit code 1\n"
        );
        assert!(written.ends_with(&end), "{written}");
        assert_eq!(script.changes(), ["CreateChangeSet", "DeleteChangeSet"]);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn destroy_wants_the_name_of_the_stage() -> Result<(), Anything> {
    let account = Account::new().await?;
    let ready = described(MAIN, "UPDATE_COMPLETE");
    account.script.on(MAIN, "DescribeStacks", [ready]);
    let typed: Typed = &[(DESTROY_QUESTION, "prod")];
    let arguments = asking(account.destroy(&[]));
    let written = account.on_terminal(arguments, 80, typed, &[]).await?;
    let end = format!(
        "{DESTROY_QUESTION}prod\nerror: nothing was destroyed: the answer was not `dev`\nexit code 1\n"
    );
    assert!(written.ends_with(&end), "{written}");
    assert!(account.script.changes().is_empty());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn typed_name_of_the_stage_lifts_the_protection() -> Result<(), Anything> {
    let lift = "UpdateTerminationProtection";
    let cases: [(Typed, &[&str]); 2] = [
        (&[(DESTROY_QUESTION, "no")], &[]),
        (
            &[(DESTROY_QUESTION, "dev")],
            &[lift, lift, "DeleteStack", "DeleteStack"],
        ),
    ];
    for (typed, changes) in cases {
        let account = Account::new().await?;
        destroys_protected(&account.script);
        let arguments = asking(account.destroy(&[]));
        let written = account.on_terminal(arguments, 80, typed, &[]).await?;
        let told = "  `sensors-dev` is protected from deletion; that is lifted first";
        let (before, _) = written
            .split_once(DESTROY_QUESTION)
            .ok_or(written.clone())?;
        assert!(before.contains(told), "{written}");
        assert_eq!(account.script.changes(), changes, "{written}");
    }
    Ok(())
}

#[tokio::test]
async fn without_a_terminal_both_say_which_flag_answers() -> Result<(), Anything> {
    let account = Account::new().await?;
    let script = &account.script;
    creates(script, "CREATE_COMPLETE", &CREATED);
    script.on(MAIN, "DeleteChangeSet", [xml("")]);
    script.on(MAIN, "DeleteStack", [xml("")]);
    let deploy = account.run(&asking(account.deploy(&[]))).await?;
    assert_said!("nobody_to_ask_deploy", deploy);
    // Neither the plan stays nor the empty stack that it stood in.
    let undone = ["CreateChangeSet", "DeleteChangeSet", "DeleteStack"];
    assert_eq!(script.changes(), undone);
    script.on(MAIN, "DescribeStacks", [described(MAIN, "CREATE_COMPLETE")]);
    let destroy = account.run(&asking(account.destroy(&[]))).await?;
    assert_said!("nobody_to_ask_destroy", destroy);
    assert_eq!(script.changes(), undone);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn failures_are_red_unless_nobody_wants_colours() -> Result<(), Anything> {
    let failed = [
        (1, MAIN, STACK, "CREATE_IN_PROGRESS", "User Initiated"),
        (2, "Cache", CACHE, "CREATE_IN_PROGRESS", ""),
        (9, "Cache", CACHE, "CREATE_FAILED", "no capacity"),
        (10, MAIN, STACK, "ROLLBACK_COMPLETE", ""),
    ];
    let red = "\x1b[31m     8 s  Cache: could not be created in 7 s: no capacity\x1b[0m";
    for (variables, is_red) in [(&[][..], true), (&[("NO_COLOR", "1")][..], false)] {
        let account = Account::new().await?;
        creates(&account.script, "ROLLBACK_COMPLETE", &failed);
        let arguments = account.deploy(&[]);
        let written = account.on_terminal(arguments, 120, &[], variables).await?;
        assert_eq!(written.contains(red), is_red, "{written}");
        // Nothing else sets colours either: every such sequence ends in `m`.
        let is_coloured = written.split('\x1b').skip(1).any(|it| {
            it.trim_start_matches(|it: char| !it.is_ascii_alphabetic())
                .starts_with('m')
        });
        assert_eq!(is_coloured, is_red, "{written}");
        assert!(written.ends_with("exit code 1\n"), "{written}");
    }
    Ok(())
}
