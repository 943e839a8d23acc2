//! Who may come in: IAM sign-in at the TLS front of a cache, and what they may do inside.
//! (Amazon ElastiCache User Guide: "Authenticating with IAM", "Role-Based Access Control (RBAC)".)
//!
//! The front reads what a client says first. A token that is right, in time, of a session of this run, and
//! of a role that may `elasticache:Connect` to cache and user opens the connection; then the server itself
//! knows the client as that user, with the access string of the template as its rules.
//!
//! # Differs from AWS
//! - A second `AUTH` on an open connection does not reach the front, so it cannot prolong the connection.
//! - Users without IAM are not let in: passwords of templates are not known here.
//! - The server's `default` user is open to tools on this machine, by the server's own port without TLS.
//! - A server of `--redis` is not ours: whoever has signed in at the front is its default user there,
//!   whatever the access string says.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::SystemTime;

use anyhow::{Context, bail};
use bytes::{Buf, BytesMut};
use sign_in::{Presented, SignIn};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use uuid::Uuid;

use crate::sessions::Sessions;

/// What AWS answers, whatever the reason.
const REFUSED: &[u8] = b"-WRONGPASS invalid username-password pair or user is disabled.\r\n";
const NOT_SIGNED_IN: &[u8] = b"-NOAUTH Authentication required.\r\n";
const HELLO_FIRST: &[u8] = b"-NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO <proto> AUTH <user> <pass> option can be used to authenticate the client and select the RESP protocol version at the same time\r\n";

/// Redis's own limits for who has not signed in.
const MAX_WORDS: usize = 10;
const MAX_WORD: usize = 16_384;

/// Who may sign in to a cache, from its `UserGroupIds`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Guard {
    /// ID of the replication group, which tokens name.
    pub cache: String,
    /// ARN of the replication group.
    pub cache_arn: String,
    /// Region.
    pub region: String,
    /// Users of the group that sign in with IAM.
    pub users: Vec<User>,
}

/// An `AWS::ElastiCache::User`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// Logical ID in the template.
    pub logical_id: String,
    /// `UserId`, and with IAM `UserName` as well.
    pub id: String,
    /// ARN.
    pub arn: String,
    /// `AccessString`
    pub access_string: String,
}

/// The front of one cache.
#[derive(Debug)]
pub(super) struct Door {
    guard: Guard,
    sessions: Arc<Sessions>,
    /// What the users' password on our own server is; nothing for a server of somebody else.
    password: Option<String>,
    refusals: AtomicU64,
}

impl Door {
    pub(super) fn new(guard: Guard, sessions: Arc<Sessions>, server_is_ours: bool) -> Door {
        Door {
            guard,
            sessions,
            password: server_is_ours.then(|| Uuid::new_v4().simple().to_string()),
            refusals: AtomicU64::new(0),
        }
    }

    /// Makes the users on our own server, which has just started.
    ///
    /// # Errors
    /// The server does not understand an access string.
    pub(super) async fn furnish(&self, server: SocketAddr) -> anyhow::Result<()> {
        let Some(password) = &self.password else {
            return Ok(());
        };
        let client = redis::Client::open(format!("redis://{server}/"))?;
        let mut connection = client.get_multiplexed_async_connection().await?;
        for user in &self.guard.users {
            let mut command = redis::cmd("ACL");
            command.arg("SETUSER").arg(&user.id);
            // Redis 6.2 gives a new user all channels, and then refuses a single one as superfluous.
            command.arg("reset").arg("resetchannels");
            command.arg(format!(">{password}"));
            for rule in user.access_string.split_whitespace() {
                command.arg(rule);
            }
            let made: redis::RedisResult<()> = command.query_async(&mut connection).await;
            made.with_context(|| format!("{}: apply its AccessString", user.logical_id))?;
        }
        Ok(())
    }

    /// Talks to a client until it has signed in; then what it is to tell the server first.
    /// Nothing if it went away.
    ///
    /// # Errors
    /// The connection broke, or the client speaks no Redis.
    pub(super) async fn admit<C>(&self, client: &mut C) -> anyhow::Result<Option<Admitted>>
    where
        C: AsyncRead + AsyncWrite + Unpin,
    {
        let mut buffer = BytesMut::new();
        loop {
            while let Some((words, length)) = command(&buffer)? {
                buffer.advance(length);
                match self.answer(&words) {
                    Answer::Refuse(answer) => client.write_all(answer).await?,
                    Answer::Leave => {
                        client.write_all(b"+OK\r\n").await?;
                        return Ok(None);
                    }
                    Answer::Admit {
                        to_client,
                        mut to_server,
                    } => {
                        client.write_all(to_client).await?;
                        to_server.extend_from_slice(&buffer);
                        return Ok(Some(Admitted { to_server }));
                    }
                }
                client.flush().await?;
            }
            if client.read_buf(&mut buffer).await? == 0 {
                return Ok(None);
            }
        }
    }

    fn answer(&self, words: &[Vec<u8>]) -> Answer {
        let Some((name, arguments)) = words.split_first() else {
            return Answer::Refuse(b"");
        };
        match (name.to_ascii_uppercase().as_slice(), arguments) {
            (b"AUTH", [user, token]) => self.authenticate(user, token, None),
            (b"AUTH", [_]) => Answer::Refuse(REFUSED),
            (b"HELLO", [version, rest @ ..]) => {
                let auth = rest
                    .iter()
                    .position(|word| word.eq_ignore_ascii_case(b"AUTH"));
                match auth.and_then(|at| rest.get(at + 1..at + 3)) {
                    Some([user, token]) => self.authenticate(user, token, Some(version)),
                    _ => Answer::Refuse(HELLO_FIRST),
                }
            }
            (b"HELLO", []) => Answer::Refuse(HELLO_FIRST),
            (b"QUIT", _) => Answer::Leave,
            _ => Answer::Refuse(NOT_SIGNED_IN),
        }
    }

    /// `version`: of `HELLO`, if that is how the client signs in.
    fn authenticate(&self, user: &[u8], token: &[u8], version: Option<&Vec<u8>>) -> Answer {
        let (Ok(user), Ok(token)) = (str::from_utf8(user), str::from_utf8(token)) else {
            return Answer::Refuse(REFUSED);
        };
        if let Err(reason) = self.verify(user, token) {
            let times = self.refusals.fetch_add(1, Relaxed) + 1;
            // Every one would drown everything else.
            if times.is_power_of_two() {
                let cache = &self.guard.cache;
                tracing::error!(cache, times, "sign-in as {user:?} refused: {reason}");
            }
            return Answer::Refuse(REFUSED);
        }
        let (mut to_client, mut to_server): (&[u8], _) = (b"", Vec::new());
        match (version, &self.password) {
            (None, Some(password)) => {
                resp(
                    &mut to_server,
                    &[b"AUTH", user.as_bytes(), password.as_bytes()],
                );
            }
            (None, None) => to_client = b"+OK\r\n",
            (Some(version), Some(password)) => {
                let words = [
                    b"HELLO",
                    &version[..],
                    b"AUTH",
                    user.as_bytes(),
                    password.as_bytes(),
                ];
                resp(&mut to_server, &words);
            }
            (Some(version), None) => resp(&mut to_server, &[b"HELLO", &version[..]]),
        }
        Answer::Admit {
            to_client,
            to_server,
        }
    }

    fn verify(&self, name: &str, token: &str) -> Result<(), String> {
        let guard = &self.guard;
        let Some(user) = guard.users.iter().find(|user| user.id == name) else {
            return Err(
                "the cache's user group has no such user that signs in with IAM".to_owned(),
            );
        };
        let presented = Presented::parse(token).map_err(|refusal| refusal.to_string())?;
        let Some(session) = self.sessions.find(&presented.access_key_id) else {
            return Err(format!(
                "access key {} is of no role of this run",
                presented.access_key_id
            ));
        };
        let expected = SignIn {
            user: user.id.clone(),
            cache: guard.cache.clone(),
        };
        presented
            .verify(
                &expected,
                &guard.region,
                &session.credentials,
                SystemTime::now(),
            )
            .map_err(|refusal| refusal.to_string())?;
        for arn in [&guard.cache_arn, &user.arn] {
            session
                .authorizer
                .authorize("elasticache:Connect", arn)
                .map_err(|denied| denied.to_string())?;
        }
        Ok(())
    }
}

/// A client that has signed in.
pub(super) struct Admitted {
    /// What the server is told before the client's own words.
    pub(super) to_server: Vec<u8>,
}

enum Answer {
    Refuse(&'static [u8]),
    Leave,
    Admit {
        to_client: &'static [u8],
        to_server: Vec<u8>,
    },
}

/// The first whole command of a buffer with its length; nothing when more is to come.
/// ("Redis serialization protocol specification": an array of bulk strings, or words in one line.)
fn command(buffer: &[u8]) -> anyhow::Result<Option<(Vec<Vec<u8>>, usize)>> {
    let mut reader = Reader { buffer, at: 0 };
    let Some(line) = reader.line()? else {
        return Ok(None);
    };
    let Some(count) = line.strip_prefix(b"*") else {
        let words = line
            .split(|byte| *byte == b' ')
            .filter(|word| !word.is_empty());
        return Ok(Some((words.map(<[u8]>::to_vec).collect(), reader.at)));
    };
    let count = number(count, MAX_WORDS)?;
    let mut words = Vec::with_capacity(count);
    for _ in 0..count {
        let Some(line) = reader.line()? else {
            return Ok(None);
        };
        let Some(length) = line.strip_prefix(b"$") else {
            bail!("a client sent something other than a bulk string");
        };
        let length = number(length, MAX_WORD)?;
        let Some(word) = reader.word(length)? else {
            return Ok(None);
        };
        words.push(word.to_vec());
    }
    Ok(Some((words, reader.at)))
}

fn number(digits: &[u8], most: usize) -> anyhow::Result<usize> {
    let number = str::from_utf8(digits).ok().and_then(|it| it.parse().ok());
    let number = number.filter(|number| *number <= most);
    number.context("a client sent more than it may before it has signed in")
}

struct Reader<'b> {
    buffer: &'b [u8],
    at: usize,
}

impl<'b> Reader<'b> {
    fn line(&mut self) -> io::Result<Option<&'b [u8]>> {
        let rest = &self.buffer[self.at..];
        let Some(end) = rest.iter().position(|byte| *byte == b'\n') else {
            return match rest.len() > MAX_WORD {
                true => Err(io::Error::other("a client sent a line that does not end")),
                false => Ok(None),
            };
        };
        self.at += end + 1;
        let line = &rest[..end];
        Ok(Some(line.strip_suffix(b"\r").unwrap_or(line)))
    }

    fn word(&mut self, length: usize) -> io::Result<Option<&'b [u8]>> {
        let Some(word) = self.buffer[self.at..].get(..length + 2) else {
            return Ok(None);
        };
        self.at += length + 2;
        match word.strip_suffix(b"\r\n") {
            Some(word) => Ok(Some(word)),
            None => Err(io::Error::other(
                "a client sent a string longer than it said",
            )),
        }
    }
}

fn resp(buffer: &mut Vec<u8>, words: &[&[u8]]) {
    buffer.extend_from_slice(format!("*{}\r\n", words.len()).as_bytes());
    for word in words {
        buffer.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
        buffer.extend_from_slice(word);
        buffer.extend_from_slice(b"\r\n");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_read_in_any_pieces() {
        let bytes = b"*3\r\n$4\r\nAUTH\r\n$1\r\nu\r\n$3\r\na\r\n\r\nPING\r\n";
        let (first, second) = (bytes.len() - 6, 6);
        for end in 0..first {
            assert!(command(&bytes[..end]).unwrap().is_none(), "{end}");
        }
        let (words, length) = command(bytes).unwrap().unwrap();
        assert_eq!(words, [b"AUTH".to_vec(), b"u".to_vec(), b"a\r\n".to_vec()]);
        assert_eq!(length, first);
        let (words, length) = command(&bytes[first..]).unwrap().unwrap();
        assert_eq!((words, length), (vec![b"PING".to_vec()], second));
    }

    #[test]
    fn what_nobody_may_send_before_signing_in_is_refused() {
        let line = vec![b'x'; MAX_WORD + 1];
        for bytes in [
            &b"*11\r\n"[..],
            b"*-1\r\n",
            b"*x\r\n",
            b"*1\r\n$16385\r\n",
            b"*1\r\n+OK\r\n",
            b"*1\r\n$2\r\nabcd\r\n",
            &line,
        ] {
            assert!(
                command(bytes).is_err(),
                "{:.20}",
                String::from_utf8_lossy(bytes)
            );
        }
    }
}
