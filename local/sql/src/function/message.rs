//! Functions of the message and of the rule.

use std::borrow::Cow;

use base64::prelude::{BASE64_STANDARD, Engine};

use super::{Function, Run, text::argument};
use crate::{
    BasicIngest, conversion,
    value::{Array, Object, Value},
};

pub(super) const FUNCTIONS: &[Function] = &[
    Function::new("accountid", 0, 0, |evaluation, _, _| {
        let context = evaluation.context;
        Ok(Value::String(context.account_id().into()))
    })
    .impure(),
    Function::new("clientid", 0, 0, |evaluation, _, _| {
        Ok(Value::String(
            evaluation.message.client_id.unwrap_or("n/a").into(),
        ))
    })
    .impure(),
    Function::new("get_mqtt_property", 1, 1, GET_MQTT_PROPERTY).impure(),
    Function::new("get_user_properties", 0, 1, GET_USER_PROPERTIES).impure(),
    Function::new("newuuid", 0, 0, |evaluation, _, _| {
        Ok(Value::String(evaluation.context.new_uuid().into()))
    })
    .impure(),
    Function::new("principal", 0, 0, |evaluation, _, _| {
        Ok(optional(evaluation.message.principal))
    })
    .impure(),
    Function::new("sourceip", 0, 0, |evaluation, _, _| {
        Ok(optional(evaluation.message.source_ip))
    })
    .impure(),
    Function::new("sql_version", 0, 0, |evaluation, _, _| {
        Ok(Value::String(evaluation.version.as_str().into()))
    }),
    Function::new("timestamp", 0, 0, |evaluation, _, _| {
        Ok(Value::int(evaluation.message.timestamp_ms))
    })
    .impure(),
    Function::new("topic", 0, 1, TOPIC).impure(),
    Function::new("traceid", 0, 0, |evaluation, _, _| {
        Ok(optional(evaluation.message.trace_id))
    })
    .impure(),
];

fn optional(text: Option<&str>) -> Value<'_> {
    text.map_or(Value::Undefined, |text| Value::String(Cow::Borrowed(text)))
}

/// The topic without the prefix of Basic Ingest, or its n-th level, from 1.
const TOPIC: Run = |evaluation, _, values| {
    let whole = evaluation.message.topic;
    let topic = BasicIngest::parse(whole).map_or(whole, |ingest| ingest.topic);
    let Some(level) = values.first() else {
        return Ok(Value::String(Cow::Borrowed(topic)));
    };
    let level =
        conversion::index(level).and_then(|level| usize::try_from(level.checked_sub(1)?).ok());
    Ok(optional(
        level.and_then(|level| topic.split('/').nth(level)),
    ))
};

const GET_MQTT_PROPERTY: Run = |evaluation, _, values| {
    let Some(properties) = evaluation.message.mqtt else {
        return Ok(Value::Undefined);
    };
    let name = argument(evaluation, values, 0)?;
    Ok(match name.as_deref() {
        Some("content_type") => optional(properties.content_type),
        Some("response_topic") => optional(properties.response_topic),
        Some("format_indicator") => optional(Some(if properties.is_utf8 == Some(true) {
            "UTF8_DATA"
        } else {
            "UNSPECIFIED_BYTES"
        })),
        Some("correlation_data") => match properties.correlation_data {
            Some(data) => Value::String(Cow::Owned(BASE64_STANDARD.encode(data))),
            None => Value::Undefined,
        },
        _ => Value::Undefined,
    })
};

/// With a key, the array of its values, or Undefined if there are none. Without a key, an array of all pairs as
/// objects of one member.
const GET_USER_PROPERTIES: Run = |evaluation, _, values| {
    let Some(properties) = evaluation.message.mqtt else {
        return Ok(Value::Undefined);
    };
    let user = properties.user.iter().copied();
    let array: Array<'_> = if values.is_empty() {
        user.map(|(key, value)| {
            let mut pair = Object::default();
            pair.insert(Cow::Borrowed(key), Value::String(Cow::Borrowed(value)));
            pair.into()
        })
        .collect()
    } else {
        let Some(wanted) = argument(evaluation, values, 0)? else {
            return Ok(Value::Undefined);
        };
        user.filter(|(key, _)| *key == wanted)
            .map(|(_, value)| Value::String(Cow::Borrowed(value)))
            .collect()
    };
    Ok(if array.items().is_empty() {
        Value::Undefined
    } else {
        array.into()
    })
};
