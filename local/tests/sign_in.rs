//! Signing in to a cache at its front, with a real server behind it.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use local::elasticache::sign_in::{Guard, User};
use local::elasticache::{Cache, Config};
use local::permission::Authorizer;
use local::sessions::Sessions;
use local::status::Status;
use local::tls::Authority;
use redis::{AsyncTypedCommands, Client, ErrorKind, IntoConnectionInfo, TlsCertificates};
use sign_in::{Credentials, SignIn, token};
use tempfile::TempDir;

const REGION: &str = "eu-central-1";
const CACHE_ARN: &str = "arn:aws:elasticache:eu-central-1:000000000000:replicationgroup:cache";

fn user(id: &str, access_string: &str) -> User {
    User {
        logical_id: format!("{id}User"),
        id: id.to_owned(),
        arn: format!("arn:aws:elasticache:eu-central-1:000000000000:user:{id}"),
        access_string: access_string.to_owned(),
    }
}

struct Fixture {
    folder: TempDir,
    cache: Cache,
    sessions: Arc<Sessions>,
    status: Arc<Status>,
}

impl Fixture {
    async fn start() -> Fixture {
        Fixture::with(None).await.unwrap()
    }

    async fn with(url: Option<String>) -> anyhow::Result<Fixture> {
        let users = vec![
            user("writer", "on ~mine:* &mine -@all +set +get +publish"),
            user("reader", "on ~mine:* -@all +get"),
        ];
        let folder = tempfile::tempdir()?;
        let sessions = Arc::new(Sessions::default());
        let cache = start(folder.path(), &sessions, url, users).await?;
        Ok(Fixture {
            folder,
            cache,
            sessions,
            status: Status::new(),
        })
    }

    /// Credentials of somebody who may sign in to the cache as these users.
    fn session(&self, users: &'static [&'static str]) -> Credentials {
        let status = Arc::clone(&self.status);
        let authorizer = Authorizer::new("Program", status, move |action, resource| {
            assert_eq!(action, "elasticache:Connect");
            let user = |user: &&str| resource.ends_with(&format!(":user:{user}"));
            match resource == CACHE_ARN && !users.is_empty() || users.iter().any(user) {
                true => Ok(()),
                false => Err(format!("nobody allows {action} on {resource}")),
            }
        });
        self.sessions.open(authorizer)
    }

    fn client(&self, login: Option<(&str, &str)>, query: &str) -> Client {
        let certificates = TlsCertificates {
            client_tls: None,
            root_cert: Some(std::fs::read(self.folder.path().join("tls/ca.pem")).unwrap()),
        };
        let url = format!("rediss://{}/{query}", self.cache.endpoint());
        let mut info = url.as_str().into_connection_info().unwrap();
        if let Some((user, token)) = login {
            let settings = info.redis_settings().clone();
            info = info.set_redis_settings(settings.set_username(user).set_password(token));
        }
        Client::build_with_tls(info, certificates).unwrap()
    }

    async fn try_in(&self, user: &str, token: &str) -> Result<impl AsyncTypedCommands, ErrorKind> {
        let client = self.client(Some((user, token)), "");
        let connection = client.get_multiplexed_async_connection().await;
        connection.map_err(|error| error.kind())
    }
}

async fn start(
    folder: &Path,
    sessions: &Arc<Sessions>,
    url: Option<String>,
    users: Vec<User>,
) -> anyhow::Result<Cache> {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let authority = Authority::open(&folder.join("tls"))?;
    let config = Config {
        logical_id: "Cache".to_owned(),
        port: 6379,
        maxmemory_policy: None,
        url,
        tls: true,
        guard: Some(Guard {
            cache: "cache".to_owned(),
            cache_arn: CACHE_ARN.to_owned(),
            region: REGION.to_owned(),
            users,
        }),
        folder: folder.join("cache"),
    };
    Cache::start(config, &authority, sessions).await
}

fn sign(credentials: &Credentials, user: &str, cache: &str, ago: u64) -> String {
    let sign_in = SignIn {
        user: user.to_owned(),
        cache: cache.to_owned(),
    };
    let at = SystemTime::now() - Duration::from_secs(ago);
    token(&sign_in, REGION, credentials, at)
}

#[tokio::test]
async fn who_signs_in_does_what_the_access_string_says() {
    let fixture = Fixture::start().await;
    let credentials = fixture.session(&["writer", "reader"]);
    // With the older and the newer way to say hello.
    for query in ["", "?protocol=resp3"] {
        let token = sign(&credentials, "writer", "cache", 0);
        let client = fixture.client(Some(("writer", &token)), query);
        let mut writer = client.get_multiplexed_async_connection().await.unwrap();
        writer.set("mine:a", vec![b'x'; 1 << 20]).await.unwrap();
        assert_eq!(writer.publish("mine", "x").await.unwrap(), 0);
        assert!(writer.publish("other", "x").await.is_err());
        assert!(writer.set("other", 1).await.is_err());
        assert!(writer.keys("*").await.is_err());

        let token = sign(&credentials, "reader", "cache", 0);
        let mut reader = fixture.try_in("reader", &token).await.ok().unwrap();
        assert_eq!(reader.get("mine:a").await.unwrap().unwrap().len(), 1 << 20);
        assert!(reader.set("mine:a", 1).await.is_err());
        assert!(reader.publish("mine", "x").await.is_err());
    }
    // The server as such stays open to tools here.
    let tools = Client::open(fixture.cache.url()).unwrap();
    let mut tools = tools.get_multiplexed_async_connection().await.unwrap();
    assert_eq!(tools.strlen("mine:a").await.unwrap(), 1 << 20);
}

#[tokio::test]
async fn nobody_else_comes_in() {
    let fixture = Fixture::start().await;
    let writer = fixture.session(&["writer"]);
    let nobody = fixture.session(&[]);
    let elsewhere = Sessions::default().open(Authorizer::new("x", Status::new(), |_, _| Ok(())));
    let right = sign(&writer, "writer", "cache", 0);
    assert!(fixture.try_in("writer", &right).await.is_ok());
    for (what, user, token) in [
        ("no token", "writer", "password".to_owned()),
        (
            "a token of another cache",
            "writer",
            sign(&writer, "writer", "other", 0),
        ),
        (
            "a token of another user",
            "writer",
            sign(&writer, "reader", "cache", 0),
        ),
        (
            "an unknown user",
            "default",
            sign(&writer, "default", "cache", 0),
        ),
        (
            "an old token",
            "writer",
            sign(&writer, "writer", "cache", 910),
        ),
        (
            "a changed token",
            "writer",
            right.replace("X-Amz-Signature=", "X-Amz-Signature=00"),
        ),
        (
            "credentials from elsewhere",
            "writer",
            sign(&elsewhere, "writer", "cache", 0),
        ),
        (
            "a role that may not",
            "writer",
            sign(&nobody, "writer", "cache", 0),
        ),
        (
            "a role that may be another user",
            "reader",
            sign(&writer, "reader", "cache", 0),
        ),
    ] {
        let refused = fixture.try_in(user, &token).await.err();
        assert_eq!(refused, Some(ErrorKind::AuthenticationFailed), "{what}");
    }
    assert_eq!(fixture.status.denials.get(), 2);
    let client = fixture.client(None, "");
    let mut silent = client.get_multiplexed_async_connection().await.unwrap();
    let error = silent.get("mine:a").await.unwrap_err().to_string();
    assert!(error.contains("Authentication required"), "{error}");
}

#[tokio::test]
async fn a_server_of_somebody_else_is_entered_at_the_front_only() {
    let server = Fixture::start().await;
    let url = server.cache.url().to_owned();
    let fixture = Fixture::with(Some(url)).await.unwrap();
    let credentials = fixture.session(&["reader"]);
    for query in ["", "?protocol=resp3"] {
        let token = sign(&credentials, "reader", "cache", 0);
        let client = fixture.client(Some(("reader", &token)), query);
        let mut reader = client.get_multiplexed_async_connection().await.unwrap();
        reader.set("anything", 1).await.unwrap();
    }
    let refused = fixture.try_in("reader", "password").await.err();
    assert_eq!(refused, Some(ErrorKind::AuthenticationFailed));
}

#[tokio::test]
async fn an_access_string_that_makes_no_sense_stops_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let users = vec![user("writer", "on ~* +get +nonsense")];
    let started = start(folder.path(), &Arc::default(), None, users).await;
    let error = format!("{:#}", started.err().unwrap());
    for part in ["Cache", "writerUser: apply its AccessString", "nonsense"] {
        assert!(error.contains(part), "{error}");
    }
}
