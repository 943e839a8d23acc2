//! The shared config and credentials files.
//!
//! Their format is that of no INI crate: sections of several kinds with names, properties with nested
//! properties, and other rules for either file. It is described in "Shared config and credentials files";
//! where that page is silent, this follows the SDK for Rust.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use crate::{Files, Part, Problem};

/// Both files, merged: what the credentials file says of a profile wins.
#[derive(Default)]
pub struct Profiles {
    profiles: BTreeMap<String, Section>,
    sso_sessions: BTreeMap<String, Section>,
    services: BTreeMap<String, Section>,
    /// Contents of the config file without empty endpoints, for the SDK.
    config: String,
    /// The same of the credentials file.
    credentials: String,
    /// Both paths as a person types them, and whether there is such a file.
    paths: [(String, bool); 2],
}

impl fmt::Debug for Profiles {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_list()
            .entries(self.profiles.keys())
            .finish()
    }
}

/// Properties of a section by name, in lower case.
#[derive(Clone, Default)]
pub(crate) struct Section(BTreeMap<String, Property>);

#[derive(Clone, Default)]
struct Property {
    value: String,
    nested: BTreeMap<String, String>,
}

impl Section {
    /// A property's value; an empty one is absent.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        let value = self.0.get(name).map(|it| it.value.as_str());
        value.filter(|value| !value.is_empty())
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Config,
    Credentials,
}

impl Profiles {
    /// Reads both files; one that does not exist is an empty one.
    pub(crate) fn read(files: &Files) -> Result<Profiles, Problem> {
        let mut profiles = Profiles::default();
        let config = profiles.take(&files.config, Kind::Config, files)?;
        let credentials = profiles.take(&files.credentials, Kind::Credentials, files)?;
        profiles.paths = [config, credentials];
        Ok(profiles)
    }

    fn take(&mut self, path: &Path, kind: Kind, files: &Files) -> Result<(String, bool), Problem> {
        let shown = files.shown(path);
        let variable = match kind {
            Kind::Config => "AWS_CONFIG_FILE",
            Kind::Credentials => "AWS_SHARED_CREDENTIALS_FILE",
        };
        let text = match fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok((shown, false)),
            Err(error) => {
                return Err(Part::Profile.problem(format!(
                    "cannot read {shown}: {error}; fix the file, or name another one by {variable}"
                )));
            }
        };
        let parsed = parse(&text).map_err(|(line, what)| {
            Part::Profile.problem(format!("cannot parse {shown}, line {line}: {what}"))
        })?;
        self.merge(parsed.sections, kind);
        match kind {
            Kind::Config => self.config = parsed.contents,
            Kind::Credentials => self.credentials = parsed.contents,
        }
        Ok((shown, true))
    }

    fn merge(&mut self, sections: Vec<(String, Section)>, kind: Kind) {
        // `[profile default]` replaces `[default]`.
        let has_prefixed_default = sections
            .iter()
            .any(|(name, _)| words(name) == (Some("profile"), "default"));
        for (name, section) in sections {
            let target = match (kind, words(&name)) {
                (Kind::Config, (None, "default")) if !has_prefixed_default => {
                    self.profiles.entry("default".to_owned())
                }
                (Kind::Config, (Some("profile"), name)) | (Kind::Credentials, (None, name)) => {
                    self.profiles.entry(name.to_owned())
                }
                (Kind::Config, (Some("sso-session"), name)) => {
                    self.sso_sessions.entry(name.to_owned())
                }
                (Kind::Config, (Some("services"), name)) => self.services.entry(name.to_owned()),
                // Ignored by the SDK as well.
                _ => continue,
            };
            target.or_default().0.extend(section.0);
        }
    }

    /// The properties of a profile.
    pub(crate) fn profile(&self, name: &str) -> Option<&Section> {
        self.profiles.get(name)
    }

    /// The properties of an SSO session.
    pub(crate) fn sso_session(&self, name: &str) -> Option<&Section> {
        self.sso_sessions.get(name)
    }

    /// Service and endpoint URL of a services section.
    pub(crate) fn endpoints<'a>(
        &'a self,
        section: &str,
    ) -> impl Iterator<Item = (&'a str, &'a str)> {
        let properties = self.services.get(section).map(|it| it.0.iter());
        properties.into_iter().flatten().filter_map(|(name, it)| {
            let url = it.nested.get("endpoint_url")?;
            (!url.is_empty()).then_some((name.as_str(), url.as_str()))
        })
    }

    /// A profile and those that it takes credentials from, each once.
    pub(crate) fn chain<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        let mut seen = vec![];
        let mut next = Some(name);
        std::iter::from_fn(move || {
            let name = next.filter(|name| !seen.contains(name))?;
            seen.push(name);
            next = self.profile(name).and_then(|it| it.get("source_profile"));
            Some(name)
        })
    }

    /// Names of all profiles.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.profiles.keys().map(String::as_str)
    }

    /// The config file's contents without empty endpoints, which the SDK takes for URLs.
    pub fn config(&self) -> &str {
        &self.config
    }

    /// The same of the credentials file.
    pub fn credentials(&self) -> &str {
        &self.credentials
    }

    /// What to say of a profile that does not exist.
    pub(crate) fn missing(&self, origin: &str, name: &str) -> String {
        let names: Vec<&str> = self.names().collect();
        let mut message = format!("invalid {origin} \"{}\": ", name.escape_debug());
        let [(config, has_config), (credentials, has_credentials)] = &self.paths;
        if !has_config && !has_credentials {
            let _ = write!(
                message,
                "there are no profiles: neither {config} nor {credentials} exists; fix: `aws configure sso --profile {name}`, or unset AWS_PROFILE"
            );
        } else if names.is_empty() {
            let _ = write!(
                message,
                "there are no profiles in {config} and {credentials}; fix: `aws configure sso --profile {name}`, or unset AWS_PROFILE"
            );
        } else {
            let _ = write!(
                message,
                "no such profile in {config} or {credentials}; expected one of {}",
                names.join(", ")
            );
        }
        message
    }
}

/// Prefix and name of a section, for example `profile` and `dev`.
fn words(section: &str) -> (Option<&str>, &str) {
    match section.trim().split_once([' ', '\t']) {
        Some((prefix, name)) => (Some(prefix), name.trim()),
        None => (None, section.trim()),
    }
}

struct Parsed {
    /// In the order of the file; a name may come again.
    sections: Vec<(String, Section)>,
    contents: String,
}

/// Parses one file; an error is the line's number and what is wrong with it.
fn parse(text: &str) -> Result<Parsed, (usize, &'static str)> {
    let mut sections: Vec<(String, Section)> = Vec::new();
    let mut current: Option<String> = None;
    let mut contents = String::with_capacity(text.len());
    for (index, line) in text.lines().enumerate() {
        let wrong = |what| (index + 1, what);
        let is_nested = line.starts_with([' ', '\t']);
        let mut is_kept = true;
        if line.trim().is_empty() || line.starts_with(['#', ';']) {
            // Nothing.
        } else if line.starts_with('[') {
            let name = without_comment(line, false).strip_prefix('[');
            let name = name.and_then(|name| name.strip_suffix(']'));
            let name = name.ok_or(wrong("expected `]` at the end of the section's name"))?;
            sections.push((name.trim().to_owned(), Section::default()));
            current = None;
        } else {
            let Some((_, section)) = sections.last_mut() else {
                return Err(wrong("expected a section such as [profile dev] first"));
            };
            if is_nested {
                let property = current.as_ref().and_then(|name| section.0.get_mut(name));
                let property =
                    property.ok_or(wrong("expected a property before an indented line"))?;
                if property.value.is_empty() {
                    let (name, value) = property_of(line).map_err(wrong)?;
                    is_kept = !(name == "endpoint_url" && value.is_empty());
                    property.nested.insert(name, value);
                } else {
                    // The line goes on with the value before it.
                    property.value.push('\n');
                    property.value.push_str(line.trim());
                }
            } else {
                let (name, value) = property_of(line).map_err(wrong)?;
                is_kept = !(name == "endpoint_url" && value.is_empty());
                let property = Property {
                    value,
                    nested: BTreeMap::new(),
                };
                section.0.insert(name.clone(), property);
                current = Some(name);
            }
        }
        if is_kept {
            contents.push_str(line);
        }
        contents.push('\n');
    }
    Ok(Parsed { sections, contents })
}

fn property_of(line: &str) -> Result<(String, String), &'static str> {
    let line = without_comment(line, true);
    let (name, value) = line.split_once('=').ok_or("expected NAME = VALUE")?;
    let name = name.trim();
    if name.is_empty() {
        return Err("expected a name before `=`");
    }
    Ok((name.to_ascii_lowercase(), value.trim().to_owned()))
}

/// A line without the comment at its end; in a property, a comment needs a blank before it.
fn without_comment(line: &str, needs_blank: bool) -> &str {
    let mut is_after_blank = false;
    for (index, character) in line.char_indices() {
        if matches!(character, '#' | ';') && (is_after_blank || !needs_blank) {
            return line[..index].trim();
        }
        is_after_blank = character.is_whitespace();
    }
    line.trim()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(config: &str, credentials: &str) -> Profiles {
        let mut profiles = Profiles::default();
        for (text, kind) in [(config, Kind::Config), (credentials, Kind::Credentials)] {
            profiles.merge(parse(text).map_err(|it| it.1).unwrap().sections, kind);
        }
        profiles
    }

    #[test]
    fn properties_are_read_as_the_sdk_reads_them() {
        let profiles = of(
            "# first\n[default]\nRegion=eu-west-1\n\n[profile dev] ; ours\n\
             region = eu-north-1 # near\npassword = a#b;c\nempty =\n\
             [other]\nregion = nowhere\n[profile  spaced ]\nregion = us-east-1\n",
            "[dev]\nregion = us-west-2\n[profile lost]\nregion = nowhere\n",
        );
        let get = |profile: &str, name: &str| profiles.profile(profile)?.get(name);
        assert_eq!(get("default", "region"), Some("eu-west-1"));
        assert_eq!(get("dev", "region"), Some("us-west-2"));
        assert_eq!(get("dev", "password"), Some("a#b;c"));
        assert_eq!(get("dev", "empty"), None);
        let names: Vec<&str> = profiles.names().collect();
        assert_eq!(names, ["default", "dev", "spaced"]);
    }

    #[test]
    fn prefixed_default_replaces_the_other() {
        let profiles = of("[default]\na = 1\n[profile default]\nb = 2\n", "");
        let default = profiles.profile("default").unwrap();
        assert_eq!((default.get("a"), default.get("b")), (None, Some("2")));
    }

    #[test]
    fn services_have_nested_properties() {
        let profiles = of(
            "[profile dev]\nservices = local\n[services local]\ns3 =\n  endpoint_url = http://a:1\n\
             elastic_beanstalk =\n\tendpoint_url = http://b:2\nsts =\n  endpoint_url =\n",
            "",
        );
        let endpoints: Vec<_> = profiles.endpoints("local").collect();
        assert_eq!(
            endpoints,
            [("elastic_beanstalk", "http://b:2"), ("s3", "http://a:1")]
        );
        assert_eq!(profiles.endpoints("none").count(), 0);
    }

    #[test]
    fn empty_endpoints_are_kept_from_the_sdk() {
        let text = "[default]\nregion = a\nendpoint_url = \n[services x]\ns3 =\n  endpoint_url =\n";
        let parsed = parse(text).map_err(|it| it.1).unwrap();
        assert_eq!(
            parsed.contents,
            "[default]\nregion = a\n\n[services x]\ns3 =\n\n"
        );
    }

    #[test]
    fn chain_of_source_profiles_ends() {
        let profiles = of(
            "[profile a]\nsource_profile = b\n[profile b]\nsource_profile = a\n\
             [profile c]\nsource_profile = c\n",
            "",
        );
        assert_eq!(profiles.chain("a").collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(profiles.chain("c").collect::<Vec<_>>(), ["c"]);
    }

    #[test]
    fn broken_line_is_named() {
        for (text, line) in [
            ("region = x\n", 1),
            ("[default\n", 1),
            ("[default]\nregion\n", 2),
            ("[default]\n= x\n", 2),
            ("[default]\n  s3 = x\n", 2),
        ] {
            assert_eq!(parse(text).map(drop).unwrap_err().0, line, "{text:?}");
        }
    }
}
