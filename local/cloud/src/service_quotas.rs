//! Service Quotas: how much of something an account may have in a region.
//!
//! <https://docs.aws.amazon.com/servicequotas/2019-06-24/apireference/API_GetServiceQuota.html>
//!
//! # Differs from AWS
//! - Only the quotas are here that bear on a network: each is AWS's default, and none is enforced.

use axum::body::Body;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use futures_util::future::BoxFuture;
use serde_json::{Value as Json, json};

use super::call::{Call, Failure, Protocol, Service};

/// Service, code, name and AWS's default value.
const QUOTAS: [(&str, &str, &str, f64); 4] = [
    ("vpc", "L-F678F1CE", "VPCs per Region", 5.0),
    (
        "vpc",
        "L-FE5A380F",
        "NAT gateways per Availability Zone",
        5.0,
    ),
    ("vpc", "L-A4707A72", "Internet gateways per Region", 5.0),
    ("ec2", "L-0263D0A3", "EC2-VPC Elastic IPs", 5.0),
];

/// The service.
#[derive(Debug)]
pub struct ServiceQuotas;

impl Service for ServiceQuotas {
    fn names(&self) -> &'static [&'static str] {
        &["servicequotas"]
    }

    fn protocol(&self) -> Protocol {
        Protocol::Json
    }

    fn answer(&self, call: Call) -> BoxFuture<'_, Response> {
        let answer = quota(&call);
        Box::pin(async move {
            match answer {
                Ok(answer) => json_1_1(&answer),
                Err(failure) => failure.response(Protocol::Json),
            }
        })
    }
}

fn quota(call: &Call) -> Result<Json, Failure> {
    let action = call.operation();
    if !matches!(
        action.as_str(),
        "GetServiceQuota" | "GetAWSDefaultServiceQuota"
    ) {
        return Err(Failure::not_here("servicequotas", &action));
    }
    let asked: Json = serde_json::from_slice(&call.body)
        .map_err(|error| Failure::new("IllegalArgumentException", error.to_string()))?;
    let (service, code) = (&asked["ServiceCode"], &asked["QuotaCode"]);
    let found = QUOTAS
        .iter()
        .find(|(its_service, its_code, ..)| service == its_service && code == its_code);
    let (service, code, name, value) = found.ok_or_else(|| {
        Failure::new(
            "NoSuchResourceException",
            format!("The request failed because the specified service or quota does not exist: {service} {code}"),
        )
    })?;
    Ok(json!({ "Quota": {
        "ServiceCode": service, "QuotaCode": code, "QuotaName": name, "Value": value,
        "Unit": "None", "Adjustable": true, "GlobalQuota": false,
    }}))
}

/// An answer in JSON 1.1.
pub(super) fn json_1_1(answer: &Json) -> Response {
    let content_type = [(header::CONTENT_TYPE, "application/x-amz-json-1.1")];
    (content_type, Body::from(answer.to_string())).into_response()
}
