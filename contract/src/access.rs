//! What each program may do in the cache, as the access strings of its users.
//!
//! The template gives each program a user of its own with these rights; the tests of the programs hold
//! them against a real server, and against what the programs send.
//!
//! What an access string cannot say: which script `EVALSHA` runs and `SCRIPT LOAD` brings. Whoever is the
//! function may run another script, but no script does more than its user: the same commands on the
//! same keys.
//! Syntax: <https://valkey.io/topics/acl/>, as "Role-Based Access Control" of the ElastiCache user guide
//! takes it. All of it exists since Redis 6.2.

use std::fmt;

use crate::redis::{CHANNEL, KEYS};

/// Rights of one user. Shown, it is an access string.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Access {
    /// The commands, in lower case; `command|subcommand` for a part of one.
    pub commands: &'static [&'static str],
}

/// The function: its one script, and what the script calls.
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

/// The web UI: it reads and listens.
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

/// Channels are reset first, because a server may be set up to give every user all of them, and then
/// refuses a single one as superfluous (`acl-pubsub-default`).
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
