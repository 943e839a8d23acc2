//! Kinds of references (resource type and attribute), each with one name.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value as Json;

use crate::name;
use crate::schema::{Input, Schema, texts};

/// The names of all kinds.
#[derive(Debug)]
pub struct Kinds {
    /// `AWS::EC2::SecurityGroup.GroupId` → `AWS::EC2::SecurityGroup.Id`
    aliases: BTreeMap<String, String>,
}

impl Kinds {
    /// Collects the aliases of the overlays.
    pub fn new(input: &Input) -> Kinds {
        let aliases = input
            .overlays
            .iter()
            .filter_map(|overlay| {
                let alias = overlay.alias.as_ref()?;
                Some((
                    format!("{}.{}", overlay.r#type, alias.attribute),
                    format!("{}.{}", overlay.r#type, alias.is),
                ))
            })
            .collect();
        Kinds { aliases }
    }

    /// The canonical name of a kind: `AWS::S3::Bucket.BucketName` is `AWS::S3::Bucket.Name`.
    pub fn canonical(&self, kind: &str) -> String {
        let (r#type, attribute) = kind.split_once('.').unwrap_or((kind, ""));
        let resource = name::resource(r#type);
        let plain = match attribute.get(..resource.len()) {
            Some(prefix)
                if prefix.eq_ignore_ascii_case(resource) && attribute.len() > resource.len() =>
            {
                &attribute[resource.len()..]
            }
            _ => attribute,
        };
        let kind = format!("{type}.{plain}");
        self.aliases
            .get(&kind)
            .or_else(|| self.aliases.get(&format!("{type}.{attribute}")))
            .cloned()
            .unwrap_or(kind)
    }

    /// Kinds that a property accepts, by the schema, the published relations and the overlays.
    ///
    /// `path` is `Property` at the top and `Definition.Property` below it.
    pub fn accepted(
        &self,
        schema: &Schema,
        input: &Input,
        path: &str,
        node: &Json,
    ) -> BTreeSet<String> {
        let mut kinds = BTreeSet::new();
        self.collect(schema, node, &mut kinds, 0);
        if let Some(related) = input
            .relations
            .get(&schema.type_name)
            .and_then(|paths| paths.get(path))
        {
            kinds.extend(related.iter().map(|kind| self.canonical(kind)));
        }
        // A property that names the resource itself is any text, despite its format in the schema.
        let own = self.canonical(&format!("{}.{path}", schema.type_name));
        kinds.remove(&own);
        for overlay in input.overlays_of(&schema.type_name, path) {
            if overlay.rejects.iter().any(|kind| kind == "*") {
                kinds.clear();
            }
            for kind in &overlay.rejects {
                kinds.remove(&self.canonical(kind));
            }
            kinds.extend(overlay.accepts.iter().map(|kind| self.canonical(kind)));
        }
        kinds
    }

    fn collect(&self, schema: &Schema, node: &Json, kinds: &mut BTreeSet<String>, depth: u8) {
        if depth > 8 {
            return;
        }
        let (_, node) = schema.resolve(node);
        if let Some(format) = node.get("format").and_then(Json::as_str)
            && let Some(kind) = kind_of_format(format)
        {
            kinds.insert(self.canonical(&kind));
        }
        if let Some(reference) = node.get("relationshipRef") {
            let r#type = reference.get("typeName").and_then(Json::as_str);
            let attribute = reference.get("propertyPath").and_then(Json::as_str);
            if let (Some(r#type), Some(attribute)) = (r#type, attribute) {
                let attribute = attribute.trim_start_matches("/properties/");
                let kind = format!("{type}.{}", attribute.replace('/', "."));
                kinds.insert(self.canonical(&kind));
            }
        }
        for keyword in ["anyOf", "oneOf"] {
            for alternative in node
                .get(keyword)
                .and_then(Json::as_array)
                .into_iter()
                .flatten()
            {
                self.collect(schema, alternative, kinds, depth + 1);
            }
        }
        if let Some(items) = node.get("items") {
            self.collect(schema, items, kinds, depth + 1);
        }
    }

    /// The kind of an attribute: its format if that is a kind, or its own.
    pub fn of_attribute(&self, schema: &Schema, path: &str, node: &Json) -> String {
        let (_, node) = schema.resolve(node);
        node.get("format")
            .and_then(Json::as_str)
            .and_then(kind_of_format)
            .map_or_else(
                || self.canonical(&format!("{}.{path}", schema.type_name)),
                |kind| self.canonical(&kind),
            )
    }

    /// The kind of `Ref`: from an overlay, or the single primary identifier.
    pub fn of_ref(&self, schema: &Schema, input: &Input) -> Option<String> {
        for overlay in input
            .overlays
            .iter()
            .filter(|overlay| overlay.r#type == schema.type_name)
        {
            if let Some(attribute) = &overlay.r#ref {
                return Some(self.canonical(&format!("{}.{attribute}", schema.type_name)));
            }
        }
        match texts(&schema.json["primaryIdentifier"]).as_slice() {
            [single] => {
                let path = single.trim_start_matches("/properties/");
                let node = schema.json.pointer(single).unwrap_or(&Json::Null);
                Some(self.of_attribute(schema, &path.replace('/', "."), node))
            }
            _ => None,
        }
    }
}

/// `AWS::EC2::Subnet.Ids` → `AWS::EC2::Subnet.Id`; `None` for formats such as `date-time`.
fn kind_of_format(format: &str) -> Option<String> {
    if !format.starts_with("AWS::") {
        return None;
    }
    Some(
        match format
            .strip_suffix("Ids")
            .or_else(|| format.strip_suffix("Names"))
        {
            Some(stem) => format!(
                "{stem}{}",
                if format.ends_with("Ids") {
                    "Id"
                } else {
                    "Name"
                }
            ),
            None => format.to_owned(),
        },
    )
}

/// `AWS::Kinesis::Stream.Arn` → (`kinesis`, `StreamArn`)
pub fn rust_name(kind: &str) -> (String, String) {
    let (r#type, attribute) = kind.split_once('.').unwrap_or((kind, ""));
    let attribute = attribute.replace('.', "");
    (
        name::service_module(r#type),
        format!(
            "{}{}",
            name::camel(name::resource(r#type)),
            name::camel(&attribute)
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_kind_has_one_name() {
        let kinds = Kinds {
            aliases: BTreeMap::from([(
                "AWS::EC2::SecurityGroup.GroupId".into(),
                "AWS::EC2::SecurityGroup.Id".into(),
            )]),
        };
        for (kind, expected) in [
            ("AWS::S3::Bucket.BucketName", "AWS::S3::Bucket.Name"),
            ("AWS::EC2::VPC.VpcId", "AWS::EC2::VPC.Id"),
            ("AWS::Kinesis::Stream.Arn", "AWS::Kinesis::Stream.Arn"),
            (
                "AWS::EC2::SecurityGroup.GroupId",
                "AWS::EC2::SecurityGroup.Id",
            ),
        ] {
            assert_eq!(kinds.canonical(kind), expected);
        }
    }

    #[test]
    fn plural_formats_are_lists_of_the_singular() {
        assert_eq!(
            kind_of_format("AWS::EC2::Subnet.Ids").as_deref(),
            Some("AWS::EC2::Subnet.Id")
        );
        assert_eq!(kind_of_format("date-time"), None);
    }
}
