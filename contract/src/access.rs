//! Rights of the programs in the cache, as the access strings of their users.
//!
//! The template gives each program its own user with these rights. Tests of the programs check them with a
//! real server and against the commands that the programs send.
//!
//! An access string cannot restrict which script `EVALSHA` runs and `SCRIPT LOAD` loads. With the
//! function's credentials another script can run, but every script is limited to the user's commands and
//! keys.
//! Syntax: <https://valkey.io/topics/acl/>, as accepted by ElastiCache ("Role-Based Access Control" in its
//! user guide). Everything here exists since Redis 6.2.

use std::fmt;

use crate::redis::{CHANNEL, KEYS};

/// Rights of one user. Its `Display` is the access string.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Access {
    /// Allowed commands, in lower case; `command|subcommand` allows one subcommand.
    pub commands: &'static [&'static str],
}

/// The function runs its script, and the script runs these commands.
pub const FUNCTION: Access = Access {
    commands: &[
        "evalsha",
        "script|load",
        "del",
        "get",
        "hget",
        "hkeys",
        "hmget",
        "hset",
        "hstrlen",
        "mget",
        "mset",
        "publish",
        "set",
        "zadd",
        "zcard",
        "zpopmin",
    ],
};

/// The web UI reads and subscribes.
pub const WEBUI: Access = Access {
    commands: &[
        "exec",
        "get",
        "hmget",
        "mget",
        "multi",
        "ping",
        "subscribe",
        "zrange",
    ],
};

/// Resets channels first: a server can be configured to allow all channels by default
/// (`acl-pubsub-default`), and then rejects a single one as redundant.
impl fmt::Display for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "on ~{KEYS} resetchannels &{CHANNEL} -@all")?;
        for command in self.commands {
            write!(f, " +{command}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn access_strings_name_keys_channel_and_commands() {
        let access = Access {
            commands: &["get", "script|load"],
        };
        assert_eq!(
            access.to_string(),
            "on ~sensor* resetchannels &sensors -@all +get +script|load"
        );
    }
}
