//! The SQL versions.

use std::{fmt, str::FromStr};

/// Version of the SQL rules engine: `AwsIotSqlVersion` of a topic rule (AWS IoT developer guide,
/// "SQL versions").
///
/// CloudFormation and the API use `2015-10-08` if a rule has none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SqlVersion {
    /// The first version, and AWS's default.
    #[default]
    V20151008,
    /// The recommended version.
    V20160323,
}

impl SqlVersion {
    /// The version's name, as `sql_version()` returns it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::V20151008 => "2015-10-08",
            Self::V20160323 => "2016-03-23",
        }
    }
}

impl fmt::Display for SqlVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// An unknown version.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "invalid SQL version \"{0}\": expected 2016-03-23 (recommended), 2015-10-08 (AWS's default) or beta"
)]
pub struct UnknownVersion(pub String);

impl FromStr for SqlVersion {
    type Err = UnknownVersion;

    /// `beta` is "the most recent beta"; AWS documents no difference from `2016-03-23`, so it is parsed as that.
    fn from_str(name: &str) -> Result<Self, UnknownVersion> {
        match name {
            "2015-10-08" => Ok(Self::V20151008),
            "2016-03-23" | "beta" => Ok(Self::V20160323),
            _ => Err(UnknownVersion(name.to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_parsed_as_they_are_written() {
        for version in [SqlVersion::V20151008, SqlVersion::V20160323] {
            assert_eq!(version.to_string().parse(), Ok(version));
        }
        assert_eq!("beta".parse(), Ok(SqlVersion::V20160323));
        assert!("2016-03-24".parse::<SqlVersion>().is_err());
    }
}
