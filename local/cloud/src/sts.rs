//! STS: whose credentials these are.
//!
//! <https://docs.aws.amazon.com/STS/latest/APIReference/API_GetCallerIdentity.html>
//!
//! # Differs from AWS
//! - Everybody is the account's root user: signatures are not verified, so a key says nothing.
//! - Roles cannot be assumed.

use std::sync::Arc;

use axum::response::Response;
use futures_util::future::BoxFuture;

use super::account::Account;
use super::call::{Call, Failure, Protocol, Service, query_response};

const NAMESPACE: &str = "https://sts.amazonaws.com/doc/2011-06-15/";

/// The service.
#[derive(Debug)]
pub struct Sts {
    account: Arc<Account>,
}

impl Sts {
    /// The service of an account.
    pub fn new(account: &Arc<Account>) -> Sts {
        Sts {
            account: Arc::clone(account),
        }
    }
}

impl Service for Sts {
    fn names(&self) -> &'static [&'static str] {
        &["sts"]
    }

    fn protocol(&self) -> Protocol {
        Protocol::Query
    }

    fn answer(&self, call: Call) -> BoxFuture<'_, Response> {
        let action = call.operation();
        Box::pin(async move {
            if action != "GetCallerIdentity" {
                return Failure::not_here("sts", &action).response(Protocol::Query);
            }
            let id = &self.account.id;
            query_response(NAMESPACE, &action, |xml| {
                xml.text("Arn", &format!("arn:aws:iam::{id}:root"))
                    .text("UserId", id)
                    .text("Account", id);
            })
        })
    }
}
