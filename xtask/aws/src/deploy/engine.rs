//! Which engine version the cache gets: the template's, or the one that runs where that is higher.
//!
//! ElastiCache upgrades minor versions by itself (`AutoMinorVersionUpgrade`) and refuses a lower version than
//! the one that runs, so a deployment that sent one would be rolled back.

use crate::aws::elasticache::version;

/// The version to deploy, in major and minor; ElastiCache takes no patch version from Valkey 7.2 on.
pub(crate) fn resolve(wanted: &str, running: Option<&str>) -> String {
    let running = running.map(major_and_minor);
    match running.filter(|running| version(running) > version(wanted)) {
        Some(running) => running,
        None => wanted.to_owned(),
    }
}

fn major_and_minor(text: &str) -> String {
    let parts: Vec<&str> = text.split('.').take(2).collect();
    parts.join(".")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn running_version_is_never_lowered() {
        let table = [
            ("8.0", None, "8.0"),
            ("8.0", Some("8.0.1"), "8.0"),
            ("8.0", Some("8.1.0"), "8.1"),
            ("8.9", Some("8.10.2"), "8.10"),
            ("8.1", Some("8.0.4"), "8.1"),
            ("8.1", Some("7.2.6"), "8.1"),
            ("8.0", Some("9.0.0"), "9.0"),
            ("8.0", Some("?"), "8.0"),
        ];
        for (wanted, running, expected) in table {
            assert_eq!(resolve(wanted, running), expected, "{running:?}");
        }
    }
}
