//! Values of properties: a literal of the property's type, or an intrinsic function.

use std::fmt;

use indexmap::IndexMap;
use serde::de::{self, Deserializer, Visitor};
use serde::{Deserialize, Serialize, Serializer};
use serde_json::Value as Json;

use crate::reference::{Accepts, Attribute, FromText, Literal};

/// An intrinsic function call, in CloudFormation's JSON.
///
/// Created only by the functions in [`crate::intrinsic`] and by references of handles, so that its arguments are
/// type-checked.
#[derive(Clone, Debug, PartialEq)]
pub struct Intrinsic(pub(crate) Json);

impl Serialize for Intrinsic {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

/// A property's value: a literal `T`, or an intrinsic function that yields one.
#[derive(Clone, Debug, PartialEq)]
pub enum Value<T> {
    /// Known when the template is written.
    Literal(T),
    /// Known when CloudFormation deploys.
    Intrinsic(Intrinsic),
}

impl<T> Value<T> {
    /// The literal; `None` for an intrinsic function, which a resolved template does not have.
    pub fn literal(&self) -> Option<&T> {
        match self {
            Value::Literal(literal) => Some(literal),
            Value::Intrinsic(_) => None,
        }
    }

    /// `AWS::NoValue`: no property. For optional properties only; on a required one it is an error at synth.
    pub fn no_value() -> Self {
        Value::Intrinsic(Intrinsic(serde_json::json!({ "Ref": "AWS::NoValue" })))
    }
}

impl<T: Serialize> Serialize for Value<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Value::Literal(literal) => literal.serialize(serializer),
            Value::Intrinsic(intrinsic) => intrinsic.serialize(serializer),
        }
    }
}

/// Deserializes literals only, for resolved templates.
impl<'de, T: Lenient<'de>> Deserialize<'de> for Value<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        T::lenient(deserializer).map(Value::Literal)
    }
}

impl<T, K> From<Attribute<K>> for Value<T>
where
    T: Accepts<K>,
{
    fn from(attribute: Attribute<K>) -> Self {
        Value::Intrinsic(attribute.intrinsic())
    }
}

impl<T, K> From<Literal<K>> for Value<T>
where
    T: Accepts<K> + FromText,
{
    fn from(literal: Literal<K>) -> Self {
        Value::Literal(T::from_text(literal.text))
    }
}

macro_rules! literal_from {
    ($($from:ty => $to:ty),* $(,)?) => {$(
        impl From<$from> for Value<$to> {
            fn from(literal: $from) -> Self {
                Value::Literal(literal.into())
            }
        }
    )*};
}

literal_from! {
    &str => String, String => String,
    bool => bool,
    i32 => i64, i64 => i64, u16 => i64, u32 => i64,
    f64 => f64, i32 => f64,
    Json => Json,
}

/// A list property: its items, or an intrinsic function that yields the list.
#[derive(Clone, Debug, PartialEq)]
pub enum List<T> {
    /// The items, each a literal or an intrinsic function of its own.
    Items(Vec<Value<T>>),
    /// `Fn::GetAZs`, `Fn::Split`, `Fn::Cidr`, a list parameter, `Fn::If` …
    Intrinsic(Intrinsic),
}

impl<T> List<T> {
    /// The items; none for an intrinsic function, which a resolved template does not have.
    pub fn items(&self) -> &[Value<T>] {
        match self {
            List::Items(items) => items,
            List::Intrinsic(_) => &[],
        }
    }

    /// The literal items; all items of a resolved template.
    pub fn literals(&self) -> impl Iterator<Item = &T> {
        self.items().iter().filter_map(Value::literal)
    }
}

impl<T> Default for List<T> {
    fn default() -> Self {
        List::Items(Vec::new())
    }
}

impl<T, V: Into<Value<T>>> From<Vec<V>> for List<T> {
    fn from(items: Vec<V>) -> Self {
        items.into_iter().collect()
    }
}

impl<T, V: Into<Value<T>>, const N: usize> From<[V; N]> for List<T> {
    fn from(items: [V; N]) -> Self {
        items.into_iter().collect()
    }
}

impl<T, V: Into<Value<T>>> FromIterator<V> for List<T> {
    fn from_iter<I: IntoIterator<Item = V>>(items: I) -> Self {
        List::Items(items.into_iter().map(Into::into).collect())
    }
}

impl<T: Serialize> Serialize for List<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            List::Items(items) => items.serialize(serializer),
            List::Intrinsic(intrinsic) => intrinsic.serialize(serializer),
        }
    }
}

impl<'de, T: Lenient<'de>> Deserialize<'de> for List<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Vec::deserialize(deserializer).map(List::Items)
    }
}

/// A map property, such as a function's environment variables; keeps the order of insertion.
pub type Map<T> = IndexMap<String, Value<T>>;

/// Parses a literal as CloudFormation does: it converts `"5"` to a number and `true` to text if the property
/// requires it.
pub trait Lenient<'de>: Sized {
    /// Parses a literal.
    fn lenient<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error>;
}

macro_rules! lenient_scalar {
    ($type:ty, $expected:literal, $($method:ident($from:ty) => $convert:expr),* $(,)?) => {
        impl<'de> Lenient<'de> for $type {
            fn lenient<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Scalar;
                impl Visitor<'_> for Scalar {
                    type Value = $type;
                    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                        formatter.write_str($expected)
                    }
                    $(fn $method<E: de::Error>(self, got: $from) -> Result<$type, E> {
                        let convert: fn($from) -> Option<$type> = $convert;
                        convert(got).ok_or_else(|| E::custom(format_args!(
                            concat!("got `{}`, expected ", $expected), got
                        )))
                    })*
                }
                deserializer.deserialize_any(Scalar)
            }
        }
    };
}

lenient_scalar!(String, "text",
    visit_str(&str) => |got| Some(got.to_owned()),
    visit_bool(bool) => |got| Some(got.to_string()),
    visit_i64(i64) => |got| Some(got.to_string()),
    visit_u64(u64) => |got| Some(got.to_string()),
    visit_f64(f64) => |got| Some(got.to_string()),
);
lenient_scalar!(i64, "a whole number",
    visit_str(&str) => |got| got.parse().ok(),
    visit_i64(i64) => Some,
    visit_u64(u64) => |got| got.try_into().ok(),
    visit_f64(f64) => |got| (got.fract() == 0.0 && got.abs() < 9e15).then_some(got as i64),
);
lenient_scalar!(f64, "a number",
    visit_str(&str) => |got| got.parse().ok(),
    visit_i64(i64) => |got| Some(got as f64),
    visit_u64(u64) => |got| Some(got as f64),
    visit_f64(f64) => Some,
);
lenient_scalar!(bool, "true or false",
    visit_str(&str) => |got| got.parse().ok(),
    visit_bool(bool) => Some,
);

impl<'de> Lenient<'de> for Json {
    fn lenient<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Json::deserialize(deserializer)
    }
}

impl<'de, T: Lenient<'de>> Lenient<'de> for Box<T> {
    fn lenient<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        T::lenient(deserializer).map(Box::new)
    }
}

impl<'de, T: Lenient<'de>> Lenient<'de> for List<T> {
    fn lenient<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        List::deserialize(deserializer)
    }
}

/// Implements literals of a [`Value`] for serializable types.
macro_rules! literals {
    ($($type:ty),* $(,)?) => {$(
        impl From<$type> for $crate::value::Value<$type> {
            fn from(literal: $type) -> Self {
                $crate::value::Value::Literal(literal)
            }
        }
        impl<'de> $crate::value::Lenient<'de> for $type {
            fn lenient<D: ::serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                <$type as ::serde::Deserialize>::deserialize(deserializer)
            }
        }
    )*};
}
pub(crate) use literals;

/// Implements boxed literals, for recursive types.
macro_rules! boxed_literals {
    ($($type:ty),* $(,)?) => {$(
        impl From<$type> for $crate::value::Value<Box<$type>> {
            fn from(literal: $type) -> Self {
                $crate::value::Value::Literal(Box::new(literal))
            }
        }
    )*};
}
pub(crate) use boxed_literals;
