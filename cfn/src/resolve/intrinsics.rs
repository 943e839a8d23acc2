//! Evaluation of intrinsic functions, conditions and resources.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value as Json};

use super::cidr::Block;
use super::{Context, Naming, Problem, ResolvedResource, text};
use crate::arn::{self, Identity};
use crate::document::{Document, Resource};

/// Why an evaluation has no result.
#[derive(Debug)]
pub(super) enum Stop {
    /// `AWS::NoValue`: the property or item is left out.
    NoValue,
    /// A problem is recorded.
    Failed,
}

type Result<T> = std::result::Result<T, Stop>;

pub(super) struct Resolver<'a> {
    document: &'a Document,
    context: &'a Context,
    pub(super) parameters: BTreeMap<String, Json>,
    pub(super) problems: Vec<Problem>,
    conditions: BTreeMap<&'a str, Option<bool>>,
    identities: BTreeMap<&'a str, Identity>,
    /// Conditions and identities under evaluation, to detect cycles.
    pending: Vec<String>,
    /// Current location: logical ID or section, then the path in it.
    place: (String, Vec<String>),
    /// Resources referred to since it was last cleared, in order.
    references: Vec<String>,
    /// Whether it evaluates `Conditions`, which cannot refer to resources or attributes.
    in_condition: bool,
}

impl<'a> Resolver<'a> {
    pub(super) fn new(document: &'a Document, context: &'a Context) -> Resolver<'a> {
        Resolver {
            document,
            context,
            parameters: BTreeMap::new(),
            problems: Vec::new(),
            conditions: BTreeMap::new(),
            identities: BTreeMap::new(),
            pending: Vec::new(),
            place: Default::default(),
            references: Vec::new(),
            in_condition: false,
        }
    }

    /// Sets the location of the next problems.
    pub(super) fn enter(&mut self, owner: &str, path: &str) {
        self.place = (owner.to_owned(), Vec::new());
        if !path.is_empty() {
            self.place.1.push(path.to_owned());
        }
    }

    fn fail<T>(&mut self, message: impl Into<String>) -> Result<T> {
        let (owner, path) = &self.place;
        self.problems
            .push(Problem::at(owner, path.join("."), message));
        Err(Stop::Failed)
    }

    fn at<T>(
        &mut self,
        step: impl Into<String>,
        work: impl FnOnce(&mut Self) -> Result<T>,
    ) -> Result<T> {
        self.place.1.push(step.into());
        let result = work(self);
        self.place.1.pop();
        result
    }

    /// Evaluates to text at the current location.
    pub(super) fn text_at(&mut self, step: &str, value: &'a Json) -> Option<String> {
        self.at(step, |it| {
            let value = it.value(value)?;
            it.scalar(&value)
        })
        .ok()
    }

    fn scalar(&mut self, value: &Json) -> Result<String> {
        match text(value) {
            Some(text) => Ok(text),
            None => self.fail(format!("got {}, expected text", kind(value))),
        }
    }

    // Resources

    pub(super) fn resource(
        &mut self,
        logical_id: &'a str,
        resource: &'a Resource,
    ) -> Option<ResolvedResource> {
        if !self.exists(logical_id, resource)? {
            return None;
        }
        self.enter(logical_id, "Properties");
        self.references.clear();
        let properties = match self.value(&resource.properties) {
            Ok(properties) => properties,
            Err(_) => Json::Null,
        };
        let references = std::mem::take(&mut self.references);
        self.enter(logical_id, "");
        let mut depends_on = Vec::new();
        let mut seen = BTreeSet::from([logical_id.to_owned()]);
        for id in &resource.depends_on {
            match self.document.resources.get(id) {
                None => {
                    let _ = self.at("DependsOn", |it| {
                        it.fail::<()>(format!("there is no resource `{id}`"))
                    });
                }
                // CloudFormation ignores a dependency on a resource whose condition is false.
                Some(other) if self.exists(id, other) != Some(true) => {}
                Some(_) => depends_on.push(id.clone()),
            }
        }
        depends_on.extend(references);
        depends_on.retain(|id| seen.insert(id.clone()));
        self.enter(logical_id, "");
        let identity = self.identity(logical_id).ok()?;
        let mut attributes = BTreeMap::new();
        for name in arn::attributes(&resource.r#type) {
            if let Some(value) = self.derived(logical_id, resource, &identity, name) {
                attributes.insert((*name).to_owned(), value);
            }
        }
        if let Some(arn) = arn::arn(&resource.r#type, &identity, self.context, &mut |property| {
            properties.get(property).and_then(text)
        }) {
            attributes
                .entry("Arn".to_owned())
                .or_insert(Json::String(arn));
        }
        if let Some(known) = self.context.overrides.get(logical_id) {
            attributes.extend(known.attributes.clone());
        }
        Some(ResolvedResource {
            logical_id: logical_id.to_owned(),
            r#type: resource.r#type.clone(),
            name: identity.name,
            physical_id: identity.physical_id,
            properties,
            attributes,
            depends_on,
            deletion_policy: resource.deletion_policy.clone(),
            update_replace_policy: resource.update_replace_policy.clone(),
            metadata: resource.metadata.clone(),
        })
    }

    fn exists(&mut self, logical_id: &str, resource: &'a Resource) -> Option<bool> {
        match &resource.condition {
            None => Some(true),
            Some(condition) => {
                let place = std::mem::replace(
                    &mut self.place,
                    (logical_id.to_owned(), vec!["Condition".to_owned()]),
                );
                let exists = self.condition(condition);
                self.place = place;
                exists
            }
        }
    }

    /// The resource of a reference; a problem if it is not defined or its condition is false.
    fn referred(&mut self, logical_id: &str) -> Result<(&'a str, &'a Resource)> {
        if self.in_condition {
            return self.fail(format!(
                "`{logical_id}` is no parameter: conditions can only refer to parameters, mappings and other conditions"
            ));
        }
        let document = self.document;
        let Some((id, resource)) = document.resources.get_key_value(logical_id) else {
            return self.fail(format!(
                "`{logical_id}` is neither a resource nor a parameter of this template{}",
                near(
                    logical_id,
                    document.resources.keys().chain(document.parameters.keys())
                )
            ));
        };
        match self.exists(id, resource) {
            Some(true) => {}
            Some(false) => {
                let condition = resource.condition.as_deref().unwrap_or_default();
                return self.fail(format!(
                    "`{logical_id}` does not exist, because its condition `{condition}` is false: refer to it only under Fn::If with that condition"
                ));
            }
            None => return Err(Stop::Failed),
        }
        self.references.push(logical_id.to_owned());
        Ok((id, resource))
    }

    fn identity(&mut self, logical_id: &str) -> Result<Identity> {
        let document = self.document;
        let Some((logical_id, resource)) = document.resources.get_key_value(logical_id) else {
            return Err(Stop::Failed);
        };
        if let Some(identity) = self.identities.get(logical_id.as_str()) {
            return Ok(identity.clone());
        }
        let given = match arn::name_property(&resource.r#type) {
            Some(property) => self.property(logical_id, resource, property)?,
            None => None,
        };
        let known = self.context.overrides.get(logical_id.as_str());
        let known = known.and_then(|it| it.physical_id.clone());
        let context = self.context;
        let identity = arn::identity(
            &resource.r#type,
            logical_id,
            given,
            known,
            context,
            &mut |name| self.property(logical_id, resource, name).ok().flatten(),
        );
        self.identities.insert(logical_id, identity.clone());
        Ok(identity)
    }

    /// A property of a resource as text, for its name and attributes, without resolving the others.
    fn property(
        &mut self,
        logical_id: &str,
        resource: &'a Resource,
        property: &str,
    ) -> Result<Option<String>> {
        let Some(value) = resource.properties.get(property) else {
            return Ok(None);
        };
        let key = format!("{logical_id}.{property}");
        if self.pending.contains(&key) {
            return self.fail(format!("`{key}` refers to itself"));
        }
        self.pending.push(key);
        let place = std::mem::replace(
            &mut self.place,
            (
                logical_id.to_owned(),
                vec!["Properties".to_owned(), property.to_owned()],
            ),
        );
        // References of the name are dependencies of the named resource, not of the referring one.
        let references = std::mem::take(&mut self.references);
        let result = self.value(value);
        self.references = references;
        self.place = place;
        self.pending.pop();
        match result {
            Ok(value) => Ok(text(&value)),
            Err(Stop::NoValue) => Ok(None),
            Err(Stop::Failed) => Err(Stop::Failed),
        }
    }

    fn derived(
        &mut self,
        logical_id: &str,
        resource: &'a Resource,
        identity: &Identity,
        attribute: &str,
    ) -> Option<Json> {
        let context = self.context;
        arn::attribute(
            &resource.r#type,
            identity,
            attribute,
            context,
            &mut |name| self.property(logical_id, resource, name).ok().flatten(),
        )
    }

    fn get_att(&mut self, logical_id: &str, attribute: &str) -> Result<Json> {
        let (logical_id, resource) = self.referred(logical_id)?;
        let known = self.context.overrides.get(logical_id);
        if let Some(value) = known.and_then(|it| it.attributes.get(attribute)) {
            return Ok(value.clone());
        }
        let identity = self.identity(logical_id)?;
        if let Some(value) = self.derived(logical_id, resource, &identity, attribute) {
            return Ok(value);
        }
        if self.context.naming == Naming::Logical {
            return Ok(Json::String(format!("{{{logical_id}.{attribute}}}")));
        }
        let attributes = arn::attributes(&resource.r#type);
        if attributes.is_empty() {
            return self.fail(format!(
                "cannot derive attribute `{attribute}` of `{logical_id}`, whose type {} is not known here: pass it as an override",
                resource.r#type
            ));
        }
        self.fail(format!(
            "`{logical_id}` of type {} has no attribute `{attribute}`: it has {}",
            resource.r#type,
            attributes.join(", ")
        ))
    }

    // Values

    pub(super) fn value(&mut self, value: &'a Json) -> Result<Json> {
        match value {
            Json::Array(items) => {
                let mut failed = false;
                let mut result = Vec::with_capacity(items.len());
                for (index, item) in items.iter().enumerate() {
                    match self.at(index.to_string(), |it| it.value(item)) {
                        Ok(item) => result.push(item),
                        Err(Stop::NoValue) => {}
                        Err(Stop::Failed) => failed = true,
                    }
                }
                if failed {
                    Err(Stop::Failed)
                } else {
                    Ok(Json::Array(result))
                }
            }
            Json::Object(members) => {
                if let Some(name) = members.keys().find(|key| is_intrinsic(key)) {
                    if members.len() == 1 {
                        return self.intrinsic(name, &members[name]);
                    }
                    if name != "Ref" {
                        return self
                            .fail(format!("`{name}` must be the only member of its object"));
                    }
                }
                let mut failed = false;
                let mut result = Map::new();
                for (key, member) in members {
                    match self.at(key.as_str(), |it| it.value(member)) {
                        Ok(member) => {
                            result.insert(key.clone(), member);
                        }
                        Err(Stop::NoValue) => {}
                        Err(Stop::Failed) => failed = true,
                    }
                }
                if failed {
                    Err(Stop::Failed)
                } else {
                    Ok(Json::Object(result))
                }
            }
            scalar => Ok(scalar.clone()),
        }
    }

    fn intrinsic(&mut self, name: &'a str, argument: &'a Json) -> Result<Json> {
        self.at(name, |it| match name {
            "Ref" => match argument.as_str() {
                Some(name) => it.reference(name),
                None => it.fail(format!("got {}, expected a name", kind(argument))),
            },
            "Fn::GetAtt" => it.get_att_argument(argument),
            "Fn::Sub" => it.sub(argument),
            "Fn::Join" => it.join(argument),
            "Fn::Select" => it.select(argument),
            "Fn::Split" => it.split(argument),
            "Fn::GetAZs" => it.zones(argument),
            "Fn::If" => it.choose(argument),
            "Fn::FindInMap" => it.find_in_map(argument),
            "Fn::Base64" => {
                let text = it.text(argument)?;
                Ok(Json::String(base64(text.as_bytes())))
            }
            "Fn::Cidr" => it.cidr(argument),
            "Fn::ImportValue" => it.import(argument),
            "Fn::Equals" | "Fn::And" | "Fn::Or" | "Fn::Not" => {
                it.fail("stands outside of Conditions: declare a condition and use Fn::If")
            }
            _ => it.fail(
                "is not supported: only CloudFormation's own functions without Transform are",
            ),
        })
    }

    fn reference(&mut self, name: &str) -> Result<Json> {
        if let Some(value) = self.parameters.get(name) {
            return Ok(value.clone());
        }
        if self.document.parameters.contains_key(name) {
            // Its problem is recorded already.
            return Err(Stop::Failed);
        }
        if name.starts_with("AWS::") {
            let context = self.context;
            return Ok(Json::String(match name {
                "AWS::NoValue" => return Err(Stop::NoValue),
                "AWS::NotificationARNs" => {
                    return Ok(context
                        .notification_arns
                        .iter()
                        .cloned()
                        .map(Json::String)
                        .collect());
                }
                "AWS::AccountId" => context.account_id.clone(),
                "AWS::Region" => context.region.clone(),
                "AWS::Partition" => context.partition.clone(),
                "AWS::URLSuffix" => context.url_suffix.clone(),
                "AWS::StackName" => context.stack_name.clone(),
                "AWS::StackId" => context.stack_id.clone(),
                _ => return self.fail(format!("there is no pseudo parameter `{name}`")),
            }));
        }
        let (id, _) = self.referred(name)?;
        Ok(Json::String(self.identity(id)?.physical_id))
    }

    fn get_att_argument(&mut self, argument: &'a Json) -> Result<Json> {
        match argument {
            Json::String(dotted) => match dotted.split_once('.') {
                Some((id, attribute)) => self.get_att(id, attribute),
                None => self.fail(format!("got `{dotted}`, expected `LogicalId.Attribute`")),
            },
            Json::Array(parts) => match parts.as_slice() {
                [Json::String(id), attribute] => {
                    let attribute = self.text(attribute)?;
                    self.get_att(id, &attribute)
                }
                _ => self.fail("expected [logical ID, attribute]"),
            },
            _ => self.fail(format!(
                "got {}, expected [logical ID, attribute]",
                kind(argument)
            )),
        }
    }

    fn text(&mut self, value: &'a Json) -> Result<String> {
        let value = self.value(value)?;
        self.scalar(&value)
    }

    fn list(&mut self, value: &'a Json) -> Result<Vec<Json>> {
        match self.value(value)? {
            Json::Array(items) => Ok(items),
            other => self.fail(format!("got {}, expected a list", kind(&other))),
        }
    }

    fn arguments<const N: usize>(
        &mut self,
        argument: &'a Json,
        form: &str,
    ) -> Result<&'a [Json; N]> {
        match argument
            .as_array()
            .and_then(|it| it.as_slice().try_into().ok())
        {
            Some(arguments) => Ok(arguments),
            None => self.fail(format!("expected {form}")),
        }
    }

    fn sub(&mut self, argument: &'a Json) -> Result<Json> {
        let (template, variables) = match argument {
            Json::String(template) => (template, None),
            Json::Array(parts) => match parts.as_slice() {
                [Json::String(template), Json::Object(variables)] => (template, Some(variables)),
                _ => return self.fail("expected a text or [text, {name: value}]"),
            },
            _ => return self.fail(format!("got {}, expected a text", kind(argument))),
        };
        let mut result = String::with_capacity(template.len());
        let mut rest = template.as_str();
        let mut failed = false;
        while let Some(start) = rest.find("${") {
            result.push_str(&rest[..start]);
            let Some(length) = rest[start..].find('}') else {
                return self.fail("`${` has no closing brace: write `${!` for a literal one");
            };
            let name = &rest[start + 2..start + length];
            rest = &rest[start + length + 1..];
            if let Some(literal) = name.strip_prefix('!') {
                result.push_str(&format!("${{{literal}}}"));
                continue;
            }
            let name = name.trim();
            let value = match variables.and_then(|it| it.get(name)) {
                Some(value) => self.at(name, |it| it.value(value)),
                None => match name.split_once('.') {
                    Some((id, attribute)) => self.get_att(id, attribute),
                    None => self.reference(name),
                },
            };
            match value.and_then(|value| self.scalar(&value)) {
                Ok(text) => result.push_str(&text),
                Err(Stop::Failed) => failed = true,
                Err(Stop::NoValue) => {
                    return self.fail("AWS::NoValue cannot be part of a text");
                }
            }
        }
        result.push_str(rest);
        if failed {
            Err(Stop::Failed)
        } else {
            Ok(Json::String(result))
        }
    }

    fn join(&mut self, argument: &'a Json) -> Result<Json> {
        let [delimiter, items] = self.arguments(argument, "[delimiter, list]")?;
        let delimiter = self.text(delimiter)?;
        let items = self.list(items)?;
        let mut texts = Vec::with_capacity(items.len());
        for item in &items {
            texts.push(self.scalar(item)?);
        }
        Ok(Json::String(texts.join(&delimiter)))
    }

    fn select(&mut self, argument: &'a Json) -> Result<Json> {
        let [index, items] = self.arguments(argument, "[index, list]")?;
        let index = self.text(index)?;
        let items = self.list(items)?;
        match index
            .parse::<usize>()
            .ok()
            .and_then(|index| items.get(index))
        {
            Some(item) => Ok(item.clone()),
            None => self.fail(format!(
                "index `{index}` is not in a list of {} items",
                items.len()
            )),
        }
    }

    fn split(&mut self, argument: &'a Json) -> Result<Json> {
        let [delimiter, source] = self.arguments(argument, "[delimiter, text]")?;
        let delimiter = self.text(delimiter)?;
        if delimiter.is_empty() {
            return self.fail("the delimiter must not be empty");
        }
        let source = self.text(source)?;
        Ok(source.split(delimiter.as_str()).collect())
    }

    fn zones(&mut self, argument: &'a Json) -> Result<Json> {
        let region = self.text(argument)?;
        if !region.is_empty() && region != self.context.region {
            return self.fail(format!(
                "asks for the zones of `{region}`, only those of `{}` are known",
                self.context.region
            ));
        }
        Ok(self
            .context
            .availability_zones
            .iter()
            .cloned()
            .map(Json::String)
            .collect())
    }

    fn choose(&mut self, argument: &'a Json) -> Result<Json> {
        let [condition, then, otherwise] =
            self.arguments(argument, "[condition, value if true, value if false]")?;
        let Some(name) = condition.as_str() else {
            return self.fail("expected a condition's name first");
        };
        // Only the selected branch is evaluated: the other may refer to resources that do not exist.
        match self.condition(name) {
            Some(true) => self.at("1", |it| it.value(then)),
            Some(false) => self.at("2", |it| it.value(otherwise)),
            None => Err(Stop::Failed),
        }
    }

    fn find_in_map(&mut self, argument: &'a Json) -> Result<Json> {
        let form = "[mapping, top-level key, second-level key]";
        let (keys, default) = match argument.as_array().map(Vec::as_slice) {
            Some(keys @ [_, _, _]) => (keys, None),
            Some([keys @ .., Json::Object(options)]) if keys.len() == 3 => {
                (keys, options.get("DefaultValue"))
            }
            _ => return self.fail(format!("expected {form}")),
        };
        let mut names = Vec::with_capacity(3);
        for key in keys {
            names.push(self.text(key)?);
        }
        let document = self.document;
        let found = document
            .mappings
            .get(&names[0])
            .and_then(|mapping| mapping.get(&names[1]))
            .and_then(|keys| keys.get(&names[2]));
        match (found, default) {
            (Some(value), _) => Ok(value.clone()),
            (None, Some(default)) => self.at("DefaultValue", |it| it.value(default)),
            (None, None) => self.fail(format!("no mapping holds {}", names.join(" → "))),
        }
    }

    fn cidr(&mut self, argument: &'a Json) -> Result<Json> {
        let Some([block, count, rest @ ..]) = argument.as_array().map(Vec::as_slice) else {
            return self.fail("expected [block, count, host bits]");
        };
        let block_text = self.text(block)?;
        let count_text = self.text(count)?;
        let Some(block) = Block::parse(&block_text) else {
            return self.fail(format!(
                "`{block_text}` is no address block such as 10.0.0.0/16"
            ));
        };
        let count = match count_text.parse::<u32>() {
            Ok(count @ 1..=256) => count,
            _ => {
                return self.fail(format!(
                    "`{count_text}` blocks were asked for: 1 to 256 can be"
                ));
            }
        };
        let bits = match rest {
            [] => 8,
            [bits] => {
                let text = self.text(bits)?;
                match text.parse() {
                    Ok(bits) => bits,
                    Err(_) => return self.fail(format!("`{text}` is no number of host bits")),
                }
            }
            _ => return self.fail("expected [block, count, host bits]"),
        };
        match block.subnets(count, bits) {
            Ok(blocks) => Ok(blocks.into_iter().map(Json::String).collect()),
            Err(message) => self.fail(message),
        }
    }

    fn import(&mut self, argument: &'a Json) -> Result<Json> {
        let name = self.text(argument)?;
        match self.context.imports.get(&name) {
            Some(value) => Ok(Json::String(value.clone())),
            None if self.context.naming == Naming::Logical => {
                Ok(Json::String(format!("{{{name}}}")))
            }
            None => self.fail(format!(
                "no stack exports `{name}`: pass its value as an import"
            )),
        }
    }

    // Conditions

    /// A condition's value; `None` if a problem of it is recorded.
    pub(super) fn condition(&mut self, name: &str) -> Option<bool> {
        let document = self.document;
        let Some((name, expression)) = document.conditions.get_key_value(name) else {
            let _ = self.fail::<()>(format!(
                "there is no condition `{name}`{}",
                near(name, document.conditions.keys())
            ));
            return None;
        };
        if let Some(value) = self.conditions.get(name.as_str()) {
            return *value;
        }
        let key = format!("Conditions.{name}");
        if self.pending.contains(&key) {
            let _ = self.fail::<()>(format!("condition `{name}` refers to itself"));
            return None;
        }
        self.pending.push(key);
        let place = std::mem::replace(
            &mut self.place,
            ("Conditions".to_owned(), vec![name.clone()]),
        );
        let nested = std::mem::replace(&mut self.in_condition, true);
        let value = self.test(expression).ok();
        self.in_condition = nested;
        self.place = place;
        self.pending.pop();
        self.conditions.insert(name, value);
        value
    }

    fn test(&mut self, expression: &'a Json) -> Result<bool> {
        let single = expression.as_object().filter(|it| it.len() == 1);
        let Some((name, argument)) = single.and_then(|it| it.iter().next()) else {
            return self.fail("expected one of Fn::Equals, Fn::And, Fn::Or, Fn::Not and Condition");
        };
        self.at(name.as_str(), |it| match name.as_str() {
            "Fn::Equals" => {
                let [left, right] = it.arguments(argument, "[value, value]")?;
                let (left, right) = (it.value(left)?, it.value(right)?);
                Ok(match (text(&left), text(&right)) {
                    (Some(left), Some(right)) => left == right,
                    _ => left == right,
                })
            }
            "Fn::Not" => {
                let [inner] = it.arguments(argument, "[condition]")?;
                Ok(!it.test(inner)?)
            }
            "Fn::And" | "Fn::Or" => {
                let Some(inner @ [_, _, ..]) = argument.as_array().map(Vec::as_slice) else {
                    return it.fail("expected a list of 2 to 10 conditions");
                };
                if inner.len() > 10 {
                    return it.fail(format!("got {} conditions, at most 10 can be", inner.len()));
                }
                let mut values = Vec::with_capacity(inner.len());
                for (index, inner) in inner.iter().enumerate() {
                    values.push(it.at(index.to_string(), |it| it.test(inner))?);
                }
                Ok(match name.as_str() {
                    "Fn::And" => values.into_iter().all(|it| it),
                    _ => values.into_iter().any(|it| it),
                })
            }
            "Condition" => match argument.as_str().map(|name| it.condition(name)) {
                Some(Some(value)) => Ok(value),
                Some(None) => Err(Stop::Failed),
                None => it.fail("expected a condition's name"),
            },
            _ => it.fail("expected one of Fn::Equals, Fn::And, Fn::Or, Fn::Not and Condition"),
        })
    }
}

fn is_intrinsic(key: &str) -> bool {
    key == "Ref" || key.starts_with("Fn::")
}

fn kind(value: &Json) -> &'static str {
    match value {
        Json::Null => "null",
        Json::Bool(_) => "a boolean",
        Json::Number(_) => "a number",
        Json::String(_) => "a text",
        Json::Array(_) => "a list",
        Json::Object(_) => "an object",
    }
}

/// Suggests a name that differs only in case or by a trailing part.
fn near<'n>(name: &str, names: impl Iterator<Item = &'n String>) -> String {
    let lower = name.to_lowercase();
    let mut names: Vec<&String> = names
        .filter(|it| {
            let it = it.to_lowercase();
            it.starts_with(&lower) || lower.starts_with(&it)
        })
        .collect();
    names.sort_by_key(|it| it.len().abs_diff(name.len()));
    names
        .first()
        .map(|it| format!(": did you mean `{it}`"))
        .unwrap_or_default()
}

/// Encodes base64 of RFC 4648, with padding.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let group = chunk.iter().enumerate().fold(0u32, |group, (index, byte)| {
            group | u32::from(*byte) << (16 - 8 * index)
        });
        for index in 0..4 {
            if index <= chunk.len() {
                let digit = (group >> (18 - 6 * index)) & 63;
                text.push(char::from(DIGITS[digit as usize]));
            } else {
                text.push('=');
            }
        }
    }
    text
}
