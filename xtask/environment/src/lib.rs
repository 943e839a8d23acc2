//! Region, endpoints and credentials that the environment names, read once and without the AWS SDK.
//!
//! `cargo xtask` checks them before it compiles the SDK; the program that calls AWS and the local run read
//! them from here, too. Only the shape is checked: whether AWS accepts the credentials, only AWS can say.
//! No value of a credential is part of an error or of a `Debug` output.
//!
//! An empty variable is an absent one, and so is an empty `endpoint_url` of a profile.
//!
//! Layout: here what is read, and from where; [`profiles`] parses the two shared files, [`credentials`]
//! decides where credentials come from, `sso` looks at the token cache, [`endpoint`] checks URLs,
//! [`metadata`] asks the instance metadata service.
//!
//! Rules: AWS SDKs and Tools Reference Guide, "Settings reference" and "Shared config and credentials
//! files".

pub mod credentials;
pub mod endpoint;
pub mod metadata;
pub mod profiles;
mod sso;

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use credentials::Credentials;
use endpoint::Endpoints;
use profiles::Profiles;

/// The variables that are read, by name. Empty ones are left out.
#[derive(Clone, Default)]
pub struct Variables(BTreeMap<String, String>);

impl Variables {
    /// From this process's environment: `HOME` and what starts with `AWS_`.
    pub fn of_process() -> Variables {
        std::env::vars_os()
            .filter_map(|(name, value)| {
                let name = name.into_string().ok()?;
                // What is not UTF-8 is refused by the checks below, by the character put in its place.
                let value = value.to_string_lossy().into_owned();
                (name == "HOME" || name.starts_with("AWS_")).then_some((name, value))
            })
            .collect()
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    fn is_true(&self, name: &str) -> bool {
        self.get(name)
            .is_some_and(|value| value.eq_ignore_ascii_case("true"))
    }
}

impl FromIterator<(String, String)> for Variables {
    fn from_iter<T: IntoIterator<Item = (String, String)>>(variables: T) -> Variables {
        let variables = variables.into_iter();
        Variables(
            variables
                .filter(|(_, value)| !value.trim().is_empty())
                .collect(),
        )
    }
}

impl fmt::Debug for Variables {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_list().entries(self.0.keys()).finish()
    }
}

/// Names of this process's `AWS_` variables that are set and empty. The SDK takes some of them for
/// values, so a program that uses it is run without them.
pub fn empty_variables() -> Vec<String> {
    std::env::vars_os()
        .filter_map(|(name, value)| {
            let name = name.into_string().ok()?;
            let is_empty = value.to_string_lossy().trim().is_empty();
            (name.starts_with("AWS_") && is_empty).then_some(name)
        })
        .collect()
}

/// What the environment names.
#[derive(Debug)]
pub struct Environment {
    /// The profile in use.
    pub profile: Profile,
    /// The region; `None`: the environment names none.
    pub region: Result<Option<Region>, Problem>,
    /// Endpoints that are not Amazon's own.
    pub endpoints: Result<Endpoints, Problem>,
    /// Where credentials come from.
    pub credentials: Result<Credentials, Problem>,
    /// Both shared files.
    pub profiles: Result<Profiles, Problem>,
    metadata: metadata::Service,
}

/// Name of the profile in use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Profile {
    /// The name.
    pub name: String,
    /// Whether `AWS_PROFILE` names it; otherwise it is `default`.
    pub is_named: bool,
}

/// A region, and what named it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Region {
    /// The name, for example `eu-central-1`.
    pub name: String,
    /// What named it.
    pub origin: String,
}

impl fmt::Display for Region {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} (from {})", self.name, self.origin)
    }
}

/// Something that stops every call to AWS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The part of the environment that has it.
    pub part: Part,
    /// What is wrong, and how to fix it.
    pub message: String,
}

/// Parts of the environment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// `AWS_PROFILE` and the shared files.
    Profile,
    /// The region.
    Region,
    /// Endpoint URLs.
    Endpoints,
    /// The credentials.
    Credentials,
}

impl Part {
    /// Name in the output of `doctor`.
    pub const fn name(self) -> &'static str {
        match self {
            Part::Profile => "profile",
            Part::Region => "region",
            Part::Endpoints => "endpoints",
            Part::Credentials => "credentials",
        }
    }

    fn problem(self, message: impl Into<String>) -> Problem {
        Problem {
            part: self,
            message: message.into(),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.message)
    }
}

impl std::error::Error for Problem {}

impl Environment {
    /// Reads this process's environment and the shared files that it names.
    pub fn of_process() -> Environment {
        Environment::read(&Variables::of_process(), SystemTime::now())
    }

    /// Reads an environment; `now` decides whether an SSO session has expired.
    pub fn read(variables: &Variables, now: SystemTime) -> Environment {
        let profile = Profile {
            name: variables.get("AWS_PROFILE").unwrap_or("default").to_owned(),
            is_named: variables.get("AWS_PROFILE").is_some(),
        };
        let files = Files::of(variables);
        let profiles = Profiles::read(&files).and_then(|profiles| {
            if profile.is_named && profiles.profile(&profile.name).is_none() {
                return Err(Part::Profile.problem(profiles.missing("AWS_PROFILE", &profile.name)));
            }
            Ok(profiles)
        });
        // What a broken profile would have said is not known; it is reported once, as the profile's.
        let known = profiles.as_ref().ok();
        Environment {
            region: region(variables, known, &profile),
            endpoints: Endpoints::read(variables, known, &profile.name),
            credentials: credentials::find(variables, known, &profile, &files, now),
            metadata: metadata::Service::of(variables),
            profile,
            profiles,
        }
    }

    /// Everything that stops a call to AWS, in the order of [`Part`].
    ///
    /// Where the environment names no region or no credentials, the instance metadata service is asked
    /// whether it is there: it would have them.
    pub fn problems(&self) -> Vec<Problem> {
        let mut problems: Vec<Problem> = [
            self.profiles.as_ref().err(),
            self.region.as_ref().err(),
            self.endpoints.as_ref().err(),
            self.credentials.as_ref().err(),
        ]
        .into_iter()
        .flatten()
        .cloned()
        .collect();
        // A profile that cannot be read may have had both.
        if self.profiles.is_err() {
            return problems;
        }
        let needs_region = matches!(self.region, Ok(None));
        let needs_credentials = matches!(self.credentials, Ok(Credentials::None { .. }));
        if (needs_region || needs_credentials) && !self.metadata.answers() {
            if needs_region {
                problems.push(Part::Region.problem(self.no_region()));
            }
            if let Ok(Credentials::None { advice }) = &self.credentials {
                problems.push(Part::Credentials.problem(advice.clone()));
            }
        }
        problems.sort_by_key(|problem| problem.part);
        problems
    }

    fn no_region(&self) -> String {
        let Profile { name, is_named } = &self.profile;
        let profile = if *is_named {
            format!(" --profile {name}")
        } else {
            String::new()
        };
        format!(
            "no region is set; fix: `export AWS_REGION=eu-central-1`, or `aws configure set region eu-central-1{profile}`"
        )
    }
}

/// The region by its sources, the first that names one.
fn region(
    variables: &Variables,
    profiles: Option<&Profiles>,
    profile: &Profile,
) -> Result<Option<Region>, Problem> {
    for variable in ["AWS_REGION", "AWS_DEFAULT_REGION"] {
        if let Some(name) = variables.get(variable) {
            return checked_region(name, variable.to_owned()).map(Some);
        }
    }
    let Some(profiles) = profiles else {
        return Ok(None);
    };
    // A profile that takes its credentials from another one takes its region, too, if it has none.
    let found = profiles
        .chain(&profile.name)
        .find_map(|name| Some((name, profiles.profile(name)?.get("region")?)));
    match found {
        Some((name, region)) => {
            let origin = format!("`region` of profile {name}");
            checked_region(region, origin).map(Some)
        }
        None => Ok(None),
    }
}

fn checked_region(name: &str, origin: String) -> Result<Region, Problem> {
    // The name becomes part of a host name.
    let is_label = (1..=63).contains(&name.len())
        && name.starts_with(|it: char| it.is_ascii_lowercase())
        && name.ends_with(|it: char| it.is_ascii_lowercase() || it.is_ascii_digit())
        && name
            .bytes()
            .all(|it| it.is_ascii_lowercase() || it.is_ascii_digit() || it == b'-');
    if !is_label {
        return Err(Part::Region.problem(format!(
            "invalid {origin} \"{}\": expected a region such as eu-central-1",
            name.escape_debug()
        )));
    }
    Ok(Region {
        name: name.to_owned(),
        origin,
    })
}

/// Paths of the shared files.
#[derive(Clone, Debug)]
pub(crate) struct Files {
    pub(crate) config: PathBuf,
    pub(crate) credentials: PathBuf,
    /// The home folder.
    pub(crate) home: Option<PathBuf>,
}

impl Files {
    fn of(variables: &Variables) -> Files {
        let home = variables.get("HOME").map(PathBuf::from);
        let path = |variable: &str, default: &str| {
            let path = variables.get(variable).unwrap_or(default);
            match (path.strip_prefix("~/"), &home) {
                (Some(rest), Some(home)) => home.join(rest),
                _ => PathBuf::from(path),
            }
        };
        Files {
            config: path("AWS_CONFIG_FILE", "~/.aws/config"),
            credentials: path("AWS_SHARED_CREDENTIALS_FILE", "~/.aws/credentials"),
            home,
        }
    }

    /// A path as a person types it: below the home folder with `~`.
    pub(crate) fn shown(&self, path: &Path) -> String {
        let below = self
            .home
            .as_deref()
            .and_then(|home| path.strip_prefix(home).ok());
        match below {
            Some(below) => format!("~/{}", below.display()),
            None => path.display().to_string(),
        }
    }
}

#[cfg(test)]
mod tests;
