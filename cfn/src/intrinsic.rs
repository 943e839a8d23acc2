//! Intrinsic functions and pseudo parameters.
//!
//! Their values are documented in "Intrinsic function reference" of the CloudFormation template reference.
//! References (`Ref`, `Fn::GetAtt`) are methods of handles, see [`crate::reference::Attribute`].

use serde::Serialize;
use serde_json::{Value as Json, json};

use crate::reference::{Accepts, Attribute, Kind, Literal};
use crate::template::Condition;
use crate::value::{Intrinsic, List, Value};

fn call<T>(name: &str, argument: Json) -> Value<T> {
    Value::Intrinsic(Intrinsic(json!({ name: argument })))
}

fn call_list<T>(name: &str, argument: Json) -> List<T> {
    List::Intrinsic(Intrinsic(json!({ name: argument })))
}

/// Values of a template are JSON by construction.
pub(crate) fn to_json(value: &impl Serialize) -> Json {
    serde_json::to_value(value).expect("template values have text keys and finite numbers")
}

/// `Fn::If`: one of two values of the same kind.
pub fn either<T: Serialize>(
    condition: Condition,
    then: impl Into<Value<T>>,
    otherwise: impl Into<Value<T>>,
) -> Value<T> {
    call(
        "Fn::If",
        json!([
            condition.name(),
            to_json(&then.into()),
            to_json(&otherwise.into())
        ]),
    )
}

/// `Fn::If` with `AWS::NoValue`: the value, or no property.
pub fn only_if<T: Serialize>(condition: Condition, then: impl Into<Value<T>>) -> Value<T> {
    call(
        "Fn::If",
        json!([condition.name(), to_json(&then.into()), { "Ref": "AWS::NoValue" }]),
    )
}

/// `Fn::If` over whole lists.
pub fn either_list<T: Serialize>(
    condition: Condition,
    then: impl Into<List<T>>,
    otherwise: impl Into<List<T>>,
) -> List<T> {
    call_list(
        "Fn::If",
        json!([
            condition.name(),
            to_json(&then.into()),
            to_json(&otherwise.into())
        ]),
    )
}

/// `Fn::Join`: the items with the delimiter between them.
pub fn join<T: Serialize>(delimiter: &str, items: impl Into<List<T>>) -> Value<String> {
    call("Fn::Join", json!([delimiter, to_json(&items.into())]))
}

/// `Fn::Split`: the parts between the delimiters.
pub fn split(delimiter: &str, text: impl Into<Value<String>>) -> List<String> {
    call_list("Fn::Split", json!([delimiter, to_json(&text.into())]))
}

/// `Fn::Select`: the item at an index that starts at 0.
pub fn select<T: Serialize>(index: u32, items: impl Into<List<T>>) -> Value<T> {
    call(
        "Fn::Select",
        json!([index.to_string(), to_json(&items.into())]),
    )
}

/// `Fn::GetAZs`: names of the availability zones of the stack's region that have a default subnet.
pub fn availability_zones() -> List<String> {
    call_list("Fn::GetAZs", json!(""))
}

/// `Fn::Cidr`: `count` (1–256) blocks of a range, each with `bits` host bits.
pub fn cidr(block: impl Into<Value<String>>, count: u8, bits: u8) -> List<String> {
    call_list(
        "Fn::Cidr",
        json!([to_json(&block.into()), count, bits.to_string()]),
    )
}

/// `Fn::Base64`.
pub fn base64(text: impl Into<Value<String>>) -> Value<String> {
    call("Fn::Base64", to_json(&text.into()))
}

/// `Fn::FindInMap`: the value under two keys of a mapping that the template declares.
pub fn find_in_map<T>(
    mapping: crate::template::Mapping,
    first: impl Into<Value<String>>,
    second: impl Into<Value<String>>,
) -> Value<T> {
    call(
        "Fn::FindInMap",
        json!([
            mapping.name(),
            to_json(&first.into()),
            to_json(&second.into())
        ]),
    )
}

/// `Fn::ImportValue`: an output that another stack exports under a name.
/// Its kind is not checked: the caller states it by the type.
pub fn import_value<T>(name: impl Into<Value<String>>) -> Value<T> {
    call("Fn::ImportValue", to_json(&name.into()))
}

/// A dynamic reference to a plain-text parameter of Systems Manager: `{{resolve:ssm:name}}`.
pub fn ssm_parameter(name: &str) -> Value<String> {
    Value::Literal(format!("{{{{resolve:ssm:{name}}}}}"))
}

/// A dynamic reference to a secret's text: `{{resolve:secretsmanager:id:SecretString:key}}`.
/// CloudFormation reads it at deployment, so the template does not contain it.
pub fn secret(id: &str, key: &str) -> Value<String> {
    Value::Literal(format!(
        "{{{{resolve:secretsmanager:{id}:SecretString:{key}}}}}"
    ))
}

/// `Fn::Sub`, built from segments: text is escaped, so `${…}` in it is plain text.
///
/// ```
/// use cfn::intrinsic::{Sub, pseudo};
/// let arn = Sub::new().text("arn:aws:iot:").value(pseudo::region()).text(":rule/${topic}").build();
/// assert_eq!(
///     serde_json::to_string(&arn).unwrap(),
///     r#"{"Fn::Sub":"arn:aws:iot:${AWS::Region}:rule/${!topic}"}"#,
/// );
/// ```
#[derive(Clone, Debug, Default)]
pub struct Sub {
    template: String,
    substitutes: bool,
}

impl Sub {
    /// Creates one without segments.
    pub fn new() -> Sub {
        Sub::default()
    }

    /// Adds plain text.
    #[must_use]
    pub fn text(mut self, text: &str) -> Sub {
        self.template.push_str(&text.replace("${", "${!"));
        self
    }

    /// Adds the text of a reference.
    #[must_use]
    pub fn value<K>(mut self, attribute: Attribute<K>) -> Sub {
        self.substitutes = true;
        self.template.push_str("${");
        self.template.push_str(attribute.logical_id);
        if let Some(attribute) = attribute.attribute {
            self.template.push('.');
            self.template.push_str(attribute);
        }
        self.template.push('}');
        self
    }

    /// The composed text; a literal if it has no references.
    pub fn build(self) -> Value<String> {
        if self.substitutes {
            call("Fn::Sub", json!(self.template))
        } else {
            Value::Literal(self.template.replace("${!", "${"))
        }
    }

    /// The composed text as a kind, such as an ARN for which there is no attribute.
    pub fn build_as<K: Kind, T: Accepts<K> + crate::reference::FromText>(self) -> Value<T> {
        if self.substitutes {
            call("Fn::Sub", json!(self.template))
        } else {
            Literal::<K>::new(self.template.replace("${!", "${")).into()
        }
    }
}

/// Pseudo parameters: values of the stack.
pub mod pseudo {
    use crate::reference::Attribute;

    /// `AWS::AccountId`
    pub const fn account_id() -> Attribute<String> {
        Attribute::reference("AWS::AccountId")
    }
    /// `AWS::Region`
    pub const fn region() -> Attribute<String> {
        Attribute::reference("AWS::Region")
    }
    /// `AWS::Partition`: `aws`, `aws-cn`, `aws-us-gov`
    pub const fn partition() -> Attribute<String> {
        Attribute::reference("AWS::Partition")
    }
    /// `AWS::StackName`
    pub const fn stack_name() -> Attribute<String> {
        Attribute::reference("AWS::StackName")
    }
    /// `AWS::StackId`
    pub const fn stack_id() -> Attribute<String> {
        Attribute::reference("AWS::StackId")
    }
    /// `AWS::URLSuffix`: `amazonaws.com` in most partitions
    pub const fn url_suffix() -> Attribute<String> {
        Attribute::reference("AWS::URLSuffix")
    }
}
