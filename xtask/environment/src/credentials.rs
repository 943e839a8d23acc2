//! Where credentials come from, in the order of the SDK's default chain: variables, profile, web identity,
//! container, instance metadata.
//!
//! AWS SDKs and Tools Reference Guide, "Standardized credential providers".

use std::time::SystemTime;

use crate::profiles::{Profiles, Section};
use crate::sso::{self, Token};
use crate::{Files, Part, Problem, Profile, Variables};

const ACCESS_KEY: &str = "AWS_ACCESS_KEY_ID";
const SECRET_KEY: &str = "AWS_SECRET_ACCESS_KEY";

/// Where credentials come from. None of their values is here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Credentials {
    /// `AWS_ACCESS_KEY_ID` and `AWS_SECRET_ACCESS_KEY`.
    Variables,
    /// A profile, which has or gets them.
    Profile(String),
    /// `AWS_WEB_IDENTITY_TOKEN_FILE` and `AWS_ROLE_ARN`.
    WebIdentity,
    /// The container's credentials provider.
    Container,
    /// Nothing names any; an instance may have them.
    None {
        /// What to do where it has none either.
        advice: String,
    },
}

pub(crate) fn find(
    variables: &Variables,
    profiles: Option<&Profiles>,
    profile: &Profile,
    files: &Files,
    now: SystemTime,
) -> Result<Credentials, Problem> {
    let names = [ACCESS_KEY, SECRET_KEY, "AWS_SESSION_TOKEN"];
    for name in names {
        if let Some(value) = variables.get(name) {
            check_value(value, name)?;
        }
    }
    let [access_key, secret_key, _] = names.map(|name| variables.get(name).is_some());
    if access_key && secret_key {
        return Ok(Credentials::Variables);
    }
    let chain = Chain {
        profiles,
        files,
        now,
    };
    if let Some(section) = profiles.and_then(|it| it.profile(&profile.name))
        && chain.has_credentials(&profile.name, section)?
    {
        return Ok(Credentials::Profile(profile.name.clone()));
    }
    if variables.get("AWS_WEB_IDENTITY_TOKEN_FILE").is_some() {
        return match variables.get("AWS_ROLE_ARN") {
            Some(_) => Ok(Credentials::WebIdentity),
            None => Err(Part::Credentials
                .problem("AWS_WEB_IDENTITY_TOKEN_FILE is set without AWS_ROLE_ARN; fix: set both")),
        };
    }
    let container = [
        "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
        "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    ];
    if container.iter().any(|name| variables.get(name).is_some()) {
        return Ok(Credentials::Container);
    }
    let (is_set, is_missing) = match (access_key, secret_key) {
        (true, false) => (ACCESS_KEY, SECRET_KEY),
        (false, true) => (SECRET_KEY, ACCESS_KEY),
        _ => {
            return Ok(Credentials::None {
                advice: advice(profiles, profile),
            });
        }
    };
    Err(Part::Credentials.problem(format!(
        "{is_set} is set without {is_missing}; fix: set both, or unset {is_set}"
    )))
}

/// What to do where there are no credentials.
fn advice(profiles: Option<&Profiles>, profile: &Profile) -> String {
    let found = match profile.is_named {
        true => format!("profile {} names no AWS credentials", profile.name),
        false => "no AWS credentials are set".to_owned(),
    };
    let others: Vec<&str> = profiles
        .map(|it| it.names().filter(|name| *name != profile.name).collect())
        .unwrap_or_default();
    let choose = match others[..] {
        [] => "`aws configure sso` and `export AWS_PROFILE=NAME`".to_owned(),
        _ => format!(
            "`export AWS_PROFILE=NAME` with one of {}",
            others.join(", ")
        ),
    };
    format!("{found}; fix: {choose}, or export {ACCESS_KEY} and {SECRET_KEY}")
}

/// A value becomes part of a header.
fn check_value(value: &str, origin: &str) -> Result<(), Problem> {
    let is_good = value.bytes().all(|byte| byte.is_ascii_graphic());
    match is_good {
        true => Ok(()),
        false => Err(Part::Credentials.problem(format!(
            "invalid {origin}: it has a blank, a line end or another character that no credential has; fix: set it again"
        ))),
    }
}

/// Profiles that take credentials from each other.
struct Chain<'a> {
    profiles: Option<&'a Profiles>,
    files: &'a Files,
    now: SystemTime,
}

impl Chain<'_> {
    /// Whether a profile has credentials or says how to get them.
    fn has_credentials(&self, name: &str, section: &Section) -> Result<bool, Problem> {
        if let Some(role) = section.get("role_arn") {
            return self.has_role(name, section, role).map(|()| true);
        }
        self.has_own(name, section)
    }

    fn has_role(&self, name: &str, section: &Section, role: &str) -> Result<(), Problem> {
        let problem = |message: String| Err(Part::Credentials.problem(message));
        if section.get("web_identity_token_file").is_some()
            || section.get("credential_source").is_some()
        {
            return Ok(());
        }
        let Some(source) = section.get("source_profile") else {
            return problem(format!(
                "profile {name} has `role_arn` {role} and says not whose credentials assume it; fix: set `source_profile` in it"
            ));
        };
        let profiles = self.profiles;
        let Some(other) = profiles.and_then(|it| it.profile(source)) else {
            return problem(format!(
                "profile {name} has `source_profile` {source}, which does not exist; fix: set another one"
            ));
        };
        // A profile may be its own source: its keys assume its role.
        let is_own = source == name;
        let is_loop =
            !is_own && profiles.is_some_and(|it| it.chain(source).any(|other| other == name));
        if is_loop {
            return problem(format!(
                "profile {name} is its own `source_profile` by way of {source}; fix: give one of them credentials"
            ));
        }
        let has_credentials = match is_own {
            true => self.has_own(source, other)?,
            false => self.has_credentials(source, other)?,
        };
        match has_credentials {
            true => Ok(()),
            false => problem(format!(
                "profile {source}, the `source_profile` of {name}, has no credentials; fix: `aws configure --profile {source}`"
            )),
        }
    }

    fn has_own(&self, name: &str, section: &Section) -> Result<bool, Problem> {
        let get = |name: &str| section.get(name);
        if get("sso_session").is_some() || get("sso_start_url").is_some() {
            return self.has_session(name, section).map(|()| true);
        }
        if get("credential_process").is_some() {
            return Ok(true);
        }
        let keys = ["aws_access_key_id", "aws_secret_access_key"];
        match keys.map(|key| get(key).is_some()) {
            [true, true] => {
                for key in keys.iter().chain(&["aws_session_token"]) {
                    if let Some(value) = get(key) {
                        check_value(value, &format!("`{key}` of profile {name}"))?;
                    }
                }
                Ok(true)
            }
            [false, false] if get("login_session").is_some() => {
                Err(Part::Credentials.problem(format!(
                    "profile {name} signs in by `aws login`, which is not supported; fix: `eval \"$(aws configure export-credentials --profile {name} --format env)\"`"
                )))
            }
            [false, false] => Ok(false),
            [has_access_key, _] => {
                let (is_set, is_missing) = match has_access_key {
                    true => (keys[0], keys[1]),
                    false => (keys[1], keys[0]),
                };
                Err(Part::Credentials.problem(format!(
                    "profile {name} has `{is_set}` without `{is_missing}`; fix: `aws configure --profile {name}`"
                )))
            }
        }
    }

    /// Whether the SSO session of a profile lasts.
    fn has_session(&self, name: &str, section: &Section) -> Result<(), Problem> {
        let problem = |message: String| Err(Part::Credentials.problem(message));
        let session = match section.get("sso_session") {
            None => None,
            Some(session) => match self.profiles.and_then(|it| it.sso_session(session)) {
                Some(found) => Some((session, found)),
                None => {
                    return problem(format!(
                        "profile {name} has `sso_session` {session}, and there is no section [sso-session {session}]; fix: `aws configure sso --profile {name}`"
                    ));
                }
            },
        };
        let has = |property: &str| {
            section.get(property).is_some()
                || session.is_some_and(|(_, it)| it.get(property).is_some())
        };
        let needed = [
            "sso_start_url",
            "sso_region",
            "sso_account_id",
            "sso_role_name",
        ];
        if let Some(missing) = needed.iter().find(|property| !has(property)) {
            return problem(format!(
                "profile {name} signs in by SSO and has no `{missing}`; fix: `aws configure sso --profile {name}`"
            ));
        }
        let key = match session {
            Some((session, _)) => session,
            None => section.get("sso_start_url").unwrap_or_default(),
        };
        match sso::token(self.files.home.as_deref(), key, self.now) {
            Token::Good => Ok(()),
            Token::Missing => problem(format!(
                "profile {name} has no SSO session; fix: `aws sso login --profile {name}`"
            )),
            Token::Expired(at) => problem(format!(
                "the SSO session of profile {name} expired at {at}; fix: `aws sso login --profile {name}`"
            )),
        }
    }
}
