use std::fs;
use std::time::{Duration, UNIX_EPOCH};

use super::*;

/// 2026-11-28T12:00:00Z
fn now() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_795_867_200)
}

/// An environment of these variables, with a config and a credentials file in a home of its own.
struct Home(tempfile::TempDir);

impl Home {
    fn with(config: &str, credentials: &str) -> Home {
        let home = tempfile::tempdir().unwrap();
        let aws = home.path().join(".aws");
        fs::create_dir(&aws).unwrap();
        fs::write(aws.join("config"), config).unwrap();
        fs::write(aws.join("credentials"), credentials).unwrap();
        Home(home)
    }

    fn read(&self, variables: &[(&str, &str)]) -> Environment {
        let home = self.0.path().to_str().unwrap();
        let own = [("HOME", home), ("AWS_EC2_METADATA_DISABLED", "true")];
        let all = own.iter().chain(variables);
        let all = all.map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Environment::read(&all.collect(), now())
    }

    fn problems(&self, variables: &[(&str, &str)]) -> Vec<String> {
        let problems = self.read(variables).problems();
        problems.into_iter().map(|it| it.message).collect()
    }
}

const KEYS: [(&str, &str); 2] = [
    ("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE"),
    ("AWS_SECRET_ACCESS_KEY", "secret"),
];

#[test]
fn region_comes_from_the_first_source_that_names_one() {
    let home = Home::with(
        "[default]\nregion = eu-west-1\n[profile dev]\nregion = eu-north-1\n\
         [profile role]\nrole_arn = arn\nsource_profile = dev\n[profile none]\n",
        "",
    );
    for (variables, expected) in [
        (vec![], "eu-west-1 (from `region` of profile default)"),
        (
            vec![("AWS_REGION", ""), ("AWS_DEFAULT_REGION", "us-east-1")],
            "us-east-1 (from AWS_DEFAULT_REGION)",
        ),
        (
            vec![
                ("AWS_REGION", "us-west-2"),
                ("AWS_DEFAULT_REGION", "us-east-1"),
            ],
            "us-west-2 (from AWS_REGION)",
        ),
        (
            vec![("AWS_PROFILE", "dev")],
            "eu-north-1 (from `region` of profile dev)",
        ),
        (
            vec![("AWS_PROFILE", "role")],
            "eu-north-1 (from `region` of profile dev)",
        ),
    ] {
        let region = home.read(&variables).region.unwrap().unwrap();
        assert_eq!(region.to_string(), expected, "{variables:?}");
    }
    assert_eq!(home.read(&[("AWS_PROFILE", "none")]).region, Ok(None));
    for region in ["EU-WEST-1", "eu west", "eu_west_1", "-x", "x-", "a.b", "ü"] {
        let error = home.read(&[("AWS_REGION", region)]).region.unwrap_err();
        assert!(
            error.message.starts_with("invalid AWS_REGION \""),
            "{error}"
        );
    }
}

#[test]
fn endpoint_of_a_service_comes_from_the_strongest_source() {
    let home = Home::with(
        "[default]\nservices = here\nendpoint_url = http://profile/\n\
         [services here]\ns3 =\n  endpoint_url = http://section\nsts =\n  endpoint_url =\n\
         [profile broken]\nendpoint_url = nowhere\n[profile empty]\nendpoint_url =\n\
         [profile ignored]\nendpoint_url = nowhere\nignore_configured_endpoint_urls = true\n",
        "",
    );
    let of = |variables: &[(&str, &str)]| {
        let endpoints = home.read(variables).endpoints.unwrap();
        ["s3", "sts"].map(|service| endpoints.of(service).map(str::to_owned))
    };
    let urls = |s3: &str, sts: &str| [Some(s3.to_owned()), Some(sts.to_owned())];
    assert_eq!(of(&[]), urls("http://section", "http://profile"));
    let global = ("AWS_ENDPOINT_URL", "http://all");
    assert_eq!(of(&[global]), urls("http://all", "http://all"));
    let own = ("AWS_ENDPOINT_URL_S3", "http://own");
    assert_eq!(of(&[global, own]), urls("http://own", "http://all"));
    for variables in [
        [("AWS_PROFILE", "empty"), ("AWS_ENDPOINT_URL", "")],
        [("AWS_PROFILE", "ignored"), ("AWS_ENDPOINT_URL_S3", "")],
    ] {
        assert_eq!(of(&variables), [None, None]);
    }
    for (name, value) in [
        ("AWS_PROFILE", "broken"),
        ("AWS_ENDPOINT_URL", "here:1"),
        ("AWS_ENDPOINT_URL_CLOUDFORMATION", "here:1"),
    ] {
        let error = home.read(&[(name, value)]).endpoints.unwrap_err().message;
        let origin = match name {
            "AWS_PROFILE" => "`endpoint_url` of the profile",
            name => name,
        };
        assert!(
            error.starts_with(&format!("invalid {origin} \"")),
            "{error}"
        );
    }
}

#[test]
fn profile_that_does_not_exist_is_the_only_problem_and_the_others_are_listed() {
    let home = Home::with("[default]\n[profile dev]\n", "[ci]\n");
    let expected = "invalid AWS_PROFILE \"nope\": no such profile in ~/.aws/config or ~/.aws/credentials; expected one of ci, default, dev";
    let named = ("AWS_PROFILE", "nope");
    for variables in [vec![named], vec![named, ("AWS_REGION", "eu-west-1")]] {
        assert_eq!(home.problems(&variables), [expected]);
    }
    let elsewhere = [
        named,
        ("AWS_CONFIG_FILE", "/none/a"),
        ("AWS_SHARED_CREDENTIALS_FILE", "~/b"),
    ];
    assert_eq!(
        home.problems(&elsewhere),
        [
            "invalid AWS_PROFILE \"nope\": there are no profiles: neither /none/a nor ~/b exists; fix: `aws configure sso --profile nope`, or unset AWS_PROFILE"
        ]
    );
}

#[test]
fn file_that_cannot_be_read_is_named() {
    let home = Home::with("[default]\nregion\n", "");
    assert_eq!(
        home.problems(&[]),
        ["cannot parse ~/.aws/config, line 2: expected NAME = VALUE"]
    );
    let folder = ("AWS_CONFIG_FILE", "~/.aws");
    let problems = home.problems(&[folder]);
    assert!(
        problems[0].starts_with("cannot read ~/.aws: "),
        "{problems:?}"
    );
}

#[test]
fn credentials_come_from_the_first_source_that_names_some() {
    let home = Home::with(
        "[profile process]\ncredential_process = x\n\
         [profile role]\nrole_arn = arn\nsource_profile = keys\n\
         [profile own]\nrole_arn = arn\nsource_profile = own\naws_access_key_id = A\naws_secret_access_key = S\n\
         [profile instance]\nrole_arn = arn\ncredential_source = Ec2InstanceMetadata\n",
        "[keys]\naws_access_key_id = A\naws_secret_access_key = S\n",
    );
    let of = |variables: &[(&str, &str)]| home.read(variables).credentials.unwrap();
    assert_eq!(of(&KEYS), Credentials::Variables);
    for profile in ["process", "role", "own", "instance", "keys"] {
        assert_eq!(
            of(&[("AWS_PROFILE", profile)]),
            Credentials::Profile(profile.to_owned())
        );
    }
    let web = [
        ("AWS_WEB_IDENTITY_TOKEN_FILE", "/token"),
        ("AWS_ROLE_ARN", "arn"),
    ];
    assert_eq!(of(&web), Credentials::WebIdentity);
    let container = [("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://here")];
    assert_eq!(of(&container), Credentials::Container);
    assert!(matches!(of(&[]), Credentials::None { .. }));
}

#[test]
fn credentials_that_cannot_work_are_named_and_never_shown() {
    let home = Home::with(
        "[profile half]\naws_access_key_id = A\n\
         [profile blank]\naws_access_key_id = A\naws_secret_access_key = top secret\n\
         [profile role]\nrole_arn = arn\n\
         [profile lost]\nrole_arn = arn\nsource_profile = gone\n\
         [profile a]\nrole_arn = arn\nsource_profile = b\n[profile b]\nrole_arn = arn\nsource_profile = a\n\
         [profile poor]\nrole_arn = arn\nsource_profile = empty\n[profile empty]\n\
         [profile session]\nsso_session = gone\n\
         [profile part]\nsso_start_url = https://x\nsso_region = eu-west-1\nsso_account_id = 1\n\
         [profile login]\nlogin_session = arn\n",
        "",
    );
    let mut said = String::new();
    for profile in [
        "half", "blank", "role", "lost", "a", "poor", "session", "part", "login",
    ] {
        let error = home.read(&[("AWS_PROFILE", profile)]).credentials;
        let error = error.expect_err(profile).message;
        assert!(error.contains("; fix: "), "{error}");
        said.push_str(&error);
    }
    for variables in [
        vec![("AWS_ACCESS_KEY_ID", "top")],
        vec![("AWS_SECRET_ACCESS_KEY", "top")],
        vec![
            ("AWS_ACCESS_KEY_ID", "A"),
            ("AWS_SECRET_ACCESS_KEY", "top\n"),
        ],
        vec![("AWS_WEB_IDENTITY_TOKEN_FILE", "/token")],
    ] {
        let error = home.read(&variables).credentials.unwrap_err().message;
        assert!(error.contains("; fix: "), "{error}");
        said.push_str(&error);
    }
    assert!(!said.contains("top"), "{said}");
}

#[test]
fn sso_session_that_has_ended_names_the_command_that_renews_it() {
    let home = Home::with(
        "[profile dev]\nsso_session = corp\nsso_account_id = 1\nsso_role_name = r\n\
         [sso-session corp]\nsso_start_url = https://x\nsso_region = eu-west-1\n\
         [profile old]\nsso_start_url = https://x\nsso_region = eu-west-1\nsso_account_id = 1\nsso_role_name = r\n",
        "",
    );
    let of = |profile: &str| home.read(&[("AWS_PROFILE", profile)]).credentials;
    for profile in ["dev", "old"] {
        assert_eq!(
            of(profile).unwrap_err().message,
            format!(
                "profile {profile} has no SSO session; fix: `aws sso login --profile {profile}`"
            )
        );
    }
    for (key, profile) in [("corp", "dev"), ("https://x", "old")] {
        let file = sso::path(home.0.path(), key);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        let token = |at: &str| format!(r#"{{"accessToken": "secret", "expiresAt": "{at}"}}"#);
        fs::write(&file, token("2026-11-28T11:00:00Z")).unwrap();
        assert_eq!(
            of(profile).unwrap_err().message,
            format!(
                "the SSO session of profile {profile} expired at 2026-11-28T11:00:00Z; fix: `aws sso login --profile {profile}`"
            )
        );
        fs::write(&file, token("2026-11-28T13:00:00Z")).unwrap();
        assert_eq!(of(profile), Ok(Credentials::Profile(profile.to_owned())));
    }
}

#[test]
fn nothing_set_says_how_to_set_it() {
    let home = Home::with("", "");
    assert_eq!(
        home.problems(&[]),
        [
            "no region is set; fix: `export AWS_REGION=eu-central-1`, or `aws configure set region eu-central-1`",
            "no AWS credentials are set; fix: `aws configure sso` and `export AWS_PROFILE=NAME`, or export AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
        ]
    );
    let home = Home::with("[profile dev]\n[profile ci]\n", "");
    let problems = home.problems(&[("AWS_PROFILE", "dev")]);
    assert!(problems[0].contains("--profile dev"), "{problems:?}");
    assert!(
        problems[1].starts_with(
            "profile dev names no AWS credentials; fix: `export AWS_PROFILE=NAME` with one of ci"
        ),
        "{problems:?}"
    );
    assert_eq!(
        home.problems(&[&KEYS[..], &[("AWS_REGION", "eu-west-1")]].concat()),
        [""; 0]
    );
}

#[test]
fn debug_output_has_no_secret() {
    let home = Home::with(
        "",
        "[default]\naws_access_key_id = A\naws_secret_access_key = hidden\n",
    );
    let shown = format!("{:?}", home.read(&KEYS));
    assert!(
        !shown.contains("hidden") && !shown.contains("secret\""),
        "{shown}"
    );
}
