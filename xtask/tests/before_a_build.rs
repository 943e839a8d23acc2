//! What can be known before a build is answered before a build: the real program, in an environment of the
//! test's own, with a cargo that builds nothing.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use serde_json::Value as Json;
use tempfile::TempDir;

/// An answer takes no longer.
const PATIENCE: Duration = Duration::from_secs(2);

/// A home folder, with a PATH of stand-ins and a target folder in it.
struct Home(TempDir);

impl Home {
    fn new() -> Home {
        let home = Home(tempfile::tempdir().unwrap());
        fs::create_dir(home.path().join("bin")).unwrap();
        // The target's library is "/", which is a folder; nothing else answers.
        home.script("rustc", "echo /");
        home.script("cargo", "echo \"cargo $*\" >> \"$HOME/built\"; exit 1");
        home
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn script(&self, name: &str, body: &str) {
        let path = self.path().join("bin").join(name);
        fs::write(&path, format!("#!/bin/sh\n{body}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn output(&self, variables: &[(&str, &str)], arguments: &[&str]) -> Output {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        Command::new(env!("CARGO_BIN_EXE_xtask"))
            .args(arguments)
            .current_dir(root)
            .env_clear()
            .env("HOME", self.path())
            .env("PATH", self.path().join("bin"))
            .env("CARGO", self.path().join("bin/cargo"))
            .env("CARGO_TARGET_DIR", self.path().join("target"))
            .env("AWS_EC2_METADATA_DISABLED", "true")
            .envs(variables.iter().copied())
            .output()
            .unwrap()
    }

    /// The command as typed, everything that it prints, and how it ends.
    ///
    /// # Panics
    /// It builds something, or takes too long three times: the machine may be busy.
    fn run(&self, variables: &[(&str, &str)], line: &str) -> String {
        let words: Vec<&str> = line.split(' ').collect();
        let mut fastest = Duration::MAX;
        let mut output = None;
        for _ in 0..3 {
            let started = Instant::now();
            output = Some(self.output(variables, &words));
            fastest = fastest.min(started.elapsed());
            if fastest < PATIENCE {
                break;
            }
        }
        assert!(fastest < PATIENCE, "{line} takes {fastest:?}");
        let built = self.path().join("built");
        assert!(
            !built.exists(),
            "{line}: {}",
            fs::read_to_string(built).unwrap()
        );
        let output = output.unwrap();
        let set: String = variables
            .iter()
            .map(|(name, value)| format!("{name}='{}' ", value.escape_debug()))
            .collect();
        let text = format!(
            "$ {set}cargo xtask {line}\n{}{}exit code {}\n",
            String::from_utf8(output.stdout).unwrap(),
            String::from_utf8(output.stderr).unwrap(),
            output.status.code().unwrap(),
        );
        text.replace(self.path().to_str().unwrap(), "~")
    }

    fn runs(&self, runs: &[(&[(&str, &str)], &str)]) -> String {
        let runs = runs
            .iter()
            .map(|(variables, line)| self.run(variables, line));
        runs.collect::<Vec<_>>().join("\n")
    }
}

macro_rules! assert_answers {
    ($name:literal, $answers:expr) => {
        insta::with_settings!({
            prepend_module_to_snapshot => false,
            omit_expression => true,
            filters => [
                (r"127\.0\.0\.1:[1-6]\d{4}", "127.0.0.1:PORT"),
                (r"os error \d+", "os error N"),
                (r"possible values: [^\]]*", "possible values: STEPS"),
            ],
        }, { insta::assert_snapshot!($name, $answers) });
    };
}

const REGION: (&str, &str) = ("AWS_REGION", "eu-west-1");
const ACCESS_KEY: (&str, &str) = ("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE");
const SECRET_KEY: (&str, &str) = ("AWS_SECRET_ACCESS_KEY", "hidden");

#[test]
fn nothing_set_is_answered_with_what_to_set() {
    let home = Home::new();
    assert_answers!(
        "nothing_set",
        home.runs(&[
            (&[], "doctor"),
            (&[], "doctor --json"),
            (&[], "deploy"),
            (&[], "status"),
            (&[], "status --json"),
            (&[REGION], "status"),
            (&[ACCESS_KEY, SECRET_KEY], "status"),
            (&[], "publish --stage dev hello"),
            (&[], "simulate --stage dev --devices 1 --rate 1 --json"),
        ])
    );
}

#[test]
fn broken_variable_is_named() {
    let home = Home::new();
    let broken = |name, value| {
        let others = [REGION, ACCESS_KEY, SECRET_KEY].into_iter();
        let mut variables: Vec<_> = others.filter(|(other, _)| *other != name).collect();
        variables.push((name, value));
        variables
    };
    let answers = home.runs(&[
        (&broken("AWS_REGION", "eu_west_1"), "doctor"),
        (&broken("AWS_ENDPOINT_URL", "localhost:4566"), "doctor"),
        (&broken("AWS_ENDPOINT_URL", "localhost:4566"), "deploy"),
        (
            &broken("AWS_ENDPOINT_URL_CLOUDFORMATION", "http://"),
            "status",
        ),
        (
            &broken("AWS_ENDPOINT_URL_STS", "http://host:port"),
            "status",
        ),
        (&broken("AWS_SECRET_ACCESS_KEY", "hidden\n"), "status"),
        (&broken("AWS_SECRET_ACCESS_KEY", ""), "status"),
        (&broken("AWS_CONFIG_FILE", "/"), "status"),
        // Empty is absent: each of these is nothing that could be wrong.
        (
            &[
                ("AWS_ENDPOINT_URL", ""),
                ("AWS_ENDPOINT_URL_STS", ""),
                ("AWS_PROFILE", ""),
                ("AWS_REGION", ""),
            ],
            "status",
        ),
    ]);
    assert!(
        !answers.replace("='hidden", "").contains("hidden"),
        "{answers}"
    );
    assert_answers!("broken_variables", answers);
}

#[test]
fn empty_endpoints_do_not_stop_a_command() {
    let home = Home::new();
    home.write(
        ".aws/config",
        "[profile dev]\nregion = eu-west-1\nendpoint_url =\nservices = here\n\
         [services here]\nsts =\n  endpoint_url =\n",
    );
    let variables = [
        ACCESS_KEY,
        SECRET_KEY,
        ("AWS_PROFILE", "dev"),
        ("AWS_ENDPOINT_URL", ""),
        ("AWS_ENDPOINT_URL_CLOUDFORMATION", ""),
    ];
    let output = home.output(&variables, &["status"]);
    let error = String::from_utf8(output.stderr).unwrap();
    let built = fs::read_to_string(home.path().join("built")).unwrap();
    assert!(built.contains("--bin xtask-aws"), "{built}{error}");
}

#[test]
fn profile_that_does_not_exist_is_named_with_those_that_do() {
    let home = Home::new();
    let nope = ("AWS_PROFILE", "nope");
    let none = home.runs(&[(&[nope], "status")]);
    home.write(
        ".aws/config",
        "[default]\nregion = eu-west-1\n[profile dev]\n",
    );
    home.write(
        ".aws/credentials",
        "[ci]\naws_access_key_id = A\naws_secret_access_key = hidden\n",
    );
    let answers = home.runs(&[
        (&[nope], "doctor"),
        (&[nope, REGION], "deploy"),
        (&[nope], "status --json"),
        (&[("AWS_PROFILE", "dev")], "doctor"),
        (&[("AWS_PROFILE", "ci")], "status"),
    ]);
    assert_answers!("missing_profile", format!("{none}\n{answers}"));
}

#[test]
fn sso_session_that_has_ended_names_its_login() {
    let home = Home::new();
    home.write(
        ".aws/config",
        "[profile dev]\nregion = eu-west-1\nsso_session = corp\nsso_account_id = 1\nsso_role_name = r\n\
         [sso-session corp]\nsso_start_url = https://corp.awsapps.com/start\nsso_region = eu-west-1\n",
    );
    let dev = ("AWS_PROFILE", "dev");
    let missing = home.runs(&[(&[dev], "doctor"), (&[dev], "status")]);
    // `printf %s corp | sha1sum`
    home.write(
        ".aws/sso/cache/ee0bfd2552fbd840c02cc48b6e823320543c450f.json",
        r#"{"accessToken": "hidden", "expiresAt": "2020-01-01T00:00:00Z"}"#,
    );
    let expired = home.runs(&[(&[dev], "deploy"), (&[dev], "status --json")]);
    assert_answers!("sso", format!("{missing}\n{expired}"));
}

#[test]
fn wrong_flags_of_a_run_are_answered_without_a_build() {
    let home = Home::new();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap();
    let free = "--mqtt 127.0.0.1:0 --dashboard 127.0.0.1:0";
    home.write("file", "");
    home.write("bad.json", "{");
    home.write(
        "mapping.json",
        r#"{"Mappings": {"Regions": {"mars-1": {"Name": "x"}}}, "Resources": {"Topic": {"Type": "AWS::SNS::Topic",
            "Properties": {"TopicName": {"Fn::FindInMap": ["Regions", {"Ref": "AWS::Region"}, "Name"]}}}}}"#,
    );
    let folder = home.path().display().to_string();
    let region = ("AWS_DEFAULT_REGION", "eu-north-1");
    let lines = [
        "local --fault foo".to_owned(),
        "local --fault function:crash@5".to_owned(),
        "local --mqtt nonsense".to_owned(),
        format!("local --mqtt {taken}"),
        format!("local --mqtt 127.0.0.1:0 --dashboard {taken} --json"),
        "local --template none.json".to_owned(),
        format!("local --template {folder}/bad.json"),
        format!("local --template {folder}/mapping.json"),
        format!("local {free} --data {folder}/file"),
        format!("local {free} --redis http://user:secret@host"),
        format!("local {free} --redis redis://user:secret@127.0.0.1:1"),
        "rehearse --fault s3:broken".to_owned(),
        format!("rehearse --data {folder}"),
        "device add a/b".to_owned(),
        "publish --local 127.0.0.1:1 hello".to_owned(),
        "publish --topic a/# hello".to_owned(),
        "simulate --local 127.0.0.1:1 --devices 1 --rate 1 --faults spikes,typo".to_owned(),
        "simulate --local 127.0.0.1:1 --devices 0 --rate 1".to_owned(),
        "soak --minutes 0".to_owned(),
        "test --only everything".to_owned(),
        format!("deploy --function {folder}/none --webui {folder}/file"),
    ];
    let answers: Vec<String> = lines.iter().map(|line| home.run(&[region], line)).collect();
    assert_answers!("wrong_flags", answers.join("\n"));
}

#[test]
fn failure_is_json_in_one_shape_wherever_it_is_found() {
    let home = Home::new();
    for (line, code) in [
        ("status --json", 1),
        ("status --json --stage test", 2),
        ("outputs --json", 1),
        ("diff --json", 1),
        ("deploy --json", 1),
        ("destroy --json --yes", 1),
        ("smoke --json", 1),
        ("logs --json", 1),
        ("doctor --json", 1),
        ("local --json --template none.json", 1),
        ("local --json --mqtt nonsense", 2),
        ("rehearse --json --fault x", 2),
        ("synth --json --stage test", 2),
        (
            "simulate --json --local 127.0.0.1:1 --devices 1 --rate 1",
            1,
        ),
        ("nonsense --json", 2),
    ] {
        let words: Vec<&str> = line.split(' ').collect();
        let output = home.output(&[], &words);
        assert_eq!(output.status.code(), Some(code), "{line}");
        let text = String::from_utf8(output.stdout).unwrap();
        let failure: Json = serde_json::from_str(text.lines().last().unwrap_or_default())
            .unwrap_or_else(|error| panic!("{line}: {error}: {text}"));
        assert_eq!(failure["result"], "failed", "{line}: {text}");
        assert_eq!(failure["exitCode"], code, "{line}: {text}");
        let error = failure["error"].as_str().unwrap();
        assert!(
            !error.is_empty() && !error.contains("Usage:"),
            "{line}: {text}"
        );
    }
}

#[test]
fn help_of_a_command_is_the_same_either_way() {
    let home = Home::new();
    let help = |words: &[&str]| String::from_utf8(home.output(&[], words).stdout).unwrap();
    for command in ["status", "deploy", "local"] {
        let text = help(&["help", command]);
        assert!(text.contains(&format!("cargo xtask {command}")), "{text}");
        assert_eq!(text, help(&[command, "--help"]));
    }
    assert!(help(&["help"]).contains("completions"));
}

#[test]
fn completions_know_every_command() {
    let home = Home::new();
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let output = home.output(&[], &["completions", shell]);
        assert!(output.status.success(), "{shell}");
        let script = String::from_utf8(output.stdout).unwrap();
        for command in ["local", "rehearse", "doctor"] {
            assert!(script.contains(command), "{shell}: {command}");
        }
    }
}
