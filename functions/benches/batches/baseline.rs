//! The designs to compare with, as Lambda functions in Rust. They are roles of the bench's program, so that
//! they are built with the same compiler, options and libraries.

use aws_lambda_events::event::kinesis::KinesisEvent;
use aws_lambda_events::event::streams::KinesisEventResponse;
use lambda_runtime::tower::util::MapRequestLayer;
use lambda_runtime::{Error, LambdaEvent, LambdaInvocation, Runtime, service_fn};
use redis::aio::MultiplexedConnection;
use redis::{AsyncCommands as _, AsyncConnectionConfig, Client, IntoConnectionInfo as _};
use tokio::sync::Mutex;

/// The original system's design: a new connection per invocation, two round trips per record.
pub(crate) fn original() -> Result<(), Error> {
    let client = client()?;
    let handle = async |event: LambdaEvent<KinesisEvent>| -> Result<KinesisEventResponse, Error> {
        let mut redis = connect(&client).await?;
        let mut latest = String::new();
        for record in event.payload.records {
            latest = String::from_utf8(record.kinesis.data.0)?;
            let () = redis.set("sensorLatest", &latest).await?;
            let () = redis.incr("sensorCount", 1).await?;
        }
        let () = redis.publish("sensors", latest).await?;
        Ok(KinesisEventResponse::default())
    };
    block_on(Runtime::new(service_fn(handle)).run())
}

/// The plain handler: the same commands in one transaction, on a kept connection.
pub(crate) fn plain() -> Result<(), Error> {
    let client = client()?;
    let kept: Mutex<Option<MultiplexedConnection>> = Mutex::default();
    let handle = async |event: LambdaEvent<KinesisEvent>| -> Result<KinesisEventResponse, Error> {
        let mut kept = kept.lock().await;
        let redis = match &mut *kept {
            Some(redis) => redis,
            none => none.insert(connect(&client).await?),
        };
        let mut pipe = redis::pipe();
        pipe.atomic();
        let mut latest = String::new();
        for record in event.payload.records {
            latest = String::from_utf8(record.kinesis.data.0)?;
            pipe.set("sensorLatest", &latest).ignore();
            pipe.incr("sensorCount", 1).ignore();
        }
        pipe.publish("sensors", latest).ignore();
        let () = pipe.query_async(redis).await?;
        Ok(KinesisEventResponse::default())
    };
    block_on(Runtime::new(service_fn(handle)).run())
}

/// The least that a handler can cost: it parses no record and sends Redis one `PING`.
pub(crate) fn idle() -> Result<(), Error> {
    let client = client()?;
    let kept: Mutex<Option<MultiplexedConnection>> = Mutex::default();
    let handle = async |_: LambdaEvent<()>| -> Result<KinesisEventResponse, Error> {
        let mut kept = kept.lock().await;
        let redis = match &mut *kept {
            Some(redis) => redis,
            none => none.insert(connect(&client).await?),
        };
        let () = redis.ping().await?;
        Ok(KinesisEventResponse::default())
    };
    let unread = MapRequestLayer::new(|mut invocation: LambdaInvocation| {
        invocation.body = b"null".as_slice().into();
        invocation
    });
    block_on(Runtime::new(service_fn(handle)).layer(unread).run())
}

fn block_on(run: impl Future<Output = Result<(), Error>>) -> Result<(), Error> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(run)
}

fn client() -> Result<Client, Error> {
    let info = std::env::var("REDIS_URL")?.into_connection_info()?;
    // As the function: without it a large command's last piece waits for an acknowledgement.
    let tcp = info.tcp_settings().clone().set_nodelay(true);
    Ok(Client::open(info.set_tcp_settings(tcp))?)
}

async fn connect(client: &Client) -> Result<MultiplexedConnection, Error> {
    // The client's own limit of half a second is too short for a large transaction on a busy machine.
    let config = AsyncConnectionConfig::new().set_response_timeout(None);
    Ok(client
        .get_multiplexed_async_connection_with_config(&config)
        .await?)
}
