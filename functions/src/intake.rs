//! The event, read before the Lambda runtime reads it.
//!
//! The runtime's own way from body to event has no raw text to lend and copies the name of every field,
//! so a type that wants neither has to scan the body twice.
//! A layer around it sees the body first, reads it once, and passes `null` on.

use std::cell::Cell;
use std::task::{Context, Poll};

use lambda_runtime::LambdaInvocation;
use lambda_runtime::tower::{Layer, Service};

use crate::batch::Batch;

/// Where the batch waits from the layer to the handler; one process serves one invocation at a time.
pub type Place = Cell<Option<Batch>>;

/// The layer.
#[derive(Clone, Copy)]
pub struct Intake<'a> {
    /// Where the handler takes the batch from.
    pub place: &'a Place,
}

/// The layer around a service.
#[derive(Clone)]
pub struct Reading<'a, S> {
    place: &'a Place,
    inner: S,
}

impl<'a, S> Layer<S> for Intake<'a> {
    type Service = Reading<'a, S>;

    fn layer(&self, inner: S) -> Self::Service {
        Reading {
            place: self.place,
            inner,
        }
    }
}

impl<S: Service<LambdaInvocation>> Service<LambdaInvocation> for Reading<'_, S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut invocation: LambdaInvocation) -> S::Future {
        let batch = str::from_utf8(&invocation.body)
            .ok()
            .and_then(|event| Batch::parse(event).ok());
        // What is no Kinesis event goes on as it came: telling Lambda about it is the runtime's part.
        if batch.is_some() {
            invocation.body = b"null".as_slice().into();
        }
        self.place.set(batch);
        self.inner.call(invocation)
    }
}
