//! Typed references: the kind of an attribute decides which properties accept it.
//!
//! A [`Kind`] is one attribute of one resource type, such as the ARN of a Kinesis stream.
//! A property names the kinds that it [`Accepts`]; anything else does not compile.

use std::borrow::Cow;
use std::marker::PhantomData;

use serde_json::json;

use crate::value::Intrinsic;

/// Kind of a text: an attribute of a resource type, or any text.
pub trait Kind {
    /// `AWS::Kinesis::Stream.Arn`, or a description.
    const NAME: &'static str;
}

/// Implemented by a property's type for each kind that it accepts.
#[diagnostic::on_unimplemented(
    message = "`{K}` does not belong where `{Self}` is expected",
    label = "this refers to `{K}`",
    note = "the property accepts `{Self}`: refer to an attribute of that kind, or give a literal by its `literal` function"
)]
pub trait Accepts<K> {}

/// All kinds can be used as text.
impl<K: Kind> Accepts<K> for String {}
impl Kind for String {
    const NAME: &'static str = "text";
}
impl Kind for i64 {
    const NAME: &'static str = "whole number";
}
impl Kind for f64 {
    const NAME: &'static str = "number";
}
impl Kind for bool {
    const NAME: &'static str = "true or false";
}
impl Accepts<i64> for i64 {}
impl Accepts<f64> for f64 {}
impl Accepts<bool> for bool {}

/// A reference whose value is known at deployment: `Ref` or `Fn::GetAtt`.
pub struct Attribute<K> {
    pub(crate) logical_id: &'static str,
    /// `None` for `Ref`.
    pub(crate) attribute: Option<&'static str>,
    kind: PhantomData<fn() -> K>,
}

impl<K> Clone for Attribute<K> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<K> Copy for Attribute<K> {}

impl<K> Attribute<K> {
    pub(crate) const fn reference(logical_id: &'static str) -> Self {
        Attribute {
            logical_id,
            attribute: None,
            kind: PhantomData,
        }
    }

    pub(crate) const fn get_att(logical_id: &'static str, attribute: &'static str) -> Self {
        Attribute {
            logical_id,
            attribute: Some(attribute),
            kind: PhantomData,
        }
    }

    pub(crate) fn intrinsic(self) -> Intrinsic {
        Intrinsic(match self.attribute {
            None => json!({ "Ref": self.logical_id }),
            Some(attribute) => json!({ "Fn::GetAtt": [self.logical_id, attribute] }),
        })
    }
}

/// Text of a kind that is not in this template, such as an imported ARN or the alias of an AWS-managed key.
#[derive(Clone, Debug)]
pub struct Literal<K> {
    pub(crate) text: Cow<'static, str>,
    kind: PhantomData<fn() -> K>,
}

impl<K> Literal<K> {
    /// Declares that the text is of this kind.
    pub fn new(text: impl Into<Cow<'static, str>>) -> Self {
        Literal {
            text: text.into(),
            kind: PhantomData,
        }
    }
}

/// A type with the text of a reference.
pub trait FromText {
    /// Wraps the text unchecked.
    fn from_text(text: Cow<'static, str>) -> Self;
}

impl FromText for String {
    fn from_text(text: Cow<'static, str>) -> Self {
        text.into_owned()
    }
}

/// Defines kinds: newtypes of the text that refers to one attribute of one resource type.
macro_rules! kinds {
    ($($(#[$doc:meta])* $name:ident = $kind:literal),* $(,)?) => {$(
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, ::serde::Serialize, ::serde::Deserialize)]
        #[serde(transparent)]
        pub struct $name(::std::borrow::Cow<'static, str>);

        impl $name {
            /// Text of this kind that is not in the template.
            pub fn literal(text: impl Into<::std::borrow::Cow<'static, str>>) -> $crate::reference::Literal<$name> {
                $crate::reference::Literal::new(text)
            }

            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl $crate::reference::Kind for $name {
            const NAME: &'static str = $kind;
        }
        impl $crate::reference::Accepts<$name> for $name {}
        impl $crate::reference::FromText for $name {
            fn from_text(text: ::std::borrow::Cow<'static, str>) -> Self {
                $name(text)
            }
        }
        $crate::value::literals!($name);
    )*};
}
pub(crate) use kinds;
