//! Values in an evaluation.

use std::{borrow::Cow, collections::HashMap, sync::Arc};

use crate::number::Number;

/// A value. Cheap to clone: text is borrowed from the payload, structures are shared.
#[derive(Clone, Debug)]
pub(crate) enum Value<'a> {
    /// "Not a value": an absent member, or the result of a function for invalid arguments.
    Undefined,
    Null,
    Bool(bool),
    Number(Number),
    String(Cow<'a, str>),
    Array(Arc<Array<'a>>),
    Object(Arc<Object<'a>>),
}

/// Elements in order. An Undefined among them keeps its index and is left out of JSON.
#[derive(Clone, Debug, Default)]
pub(crate) struct Array<'a> {
    items: Vec<Value<'a>>,
    depth: u32,
}

/// Members in the order of their first appearance, each name once.
#[derive(Clone, Debug, Default)]
pub(crate) struct Object<'a> {
    members: Vec<(Cow<'a, str>, Value<'a>)>,
    depth: u32,
}

impl<'a> Value<'a> {
    pub(crate) fn int(value: impl Into<i128>) -> Self {
        Self::Number(Number::from_int(value.into()))
    }

    /// Number of levels of arrays and objects.
    pub(crate) fn depth(&self) -> u32 {
        match self {
            Self::Array(array) => array.depth,
            Self::Object(object) => object.depth,
            _ => 0,
        }
    }

    pub(crate) fn is_undefined(&self) -> bool {
        matches!(self, Self::Undefined)
    }

    /// A member of an object, or Undefined.
    pub(crate) fn member(&self, name: &str) -> &Self {
        match self {
            Self::Object(object) => object.get(name).unwrap_or(&Self::Undefined),
            _ => &Self::Undefined,
        }
    }

    /// The member at a path of names.
    pub(crate) fn follow(&self, names: &[Box<str>]) -> &Self {
        names.iter().fold(self, |value, name| value.member(name))
    }

    /// Borrows the text.
    pub(crate) fn borrowed<'b>(&'b self) -> Value<'b> {
        match self {
            Self::String(text) => Value::String(Cow::Borrowed(text)),
            other => other.clone(),
        }
    }

    /// Copies borrowed text.
    pub(crate) fn into_owned(self) -> Value<'static> {
        match self {
            Self::Undefined => Value::Undefined,
            Self::Null => Value::Null,
            Self::Bool(bool) => Value::Bool(bool),
            Self::Number(number) => Value::Number(number),
            Self::String(text) => Value::String(Cow::Owned(text.into_owned())),
            Self::Array(array) => array
                .items
                .iter()
                .map(|item| item.clone().into_owned())
                .collect::<Array<'_>>()
                .into(),
            Self::Object(object) => {
                let owned = |(name, value): &(Cow<'a, str>, Self)| {
                    (
                        Cow::Owned(name.clone().into_owned()),
                        value.clone().into_owned(),
                    )
                };
                let members = object.members.iter().map(owned).collect();
                Object {
                    members,
                    depth: object.depth,
                }
                .into()
            }
        }
    }
}

impl<'a> From<Array<'a>> for Value<'a> {
    fn from(array: Array<'a>) -> Self {
        Self::Array(Arc::new(array))
    }
}

impl<'a> From<Object<'a>> for Value<'a> {
    fn from(object: Object<'a>) -> Self {
        Self::Object(Arc::new(object))
    }
}

impl<'a> From<Option<Number>> for Value<'a> {
    fn from(number: Option<Number>) -> Self {
        number.map_or(Self::Undefined, Self::Number)
    }
}

impl<'a> From<Option<bool>> for Value<'a> {
    fn from(bool: Option<bool>) -> Self {
        bool.map_or(Self::Undefined, Self::Bool)
    }
}

impl<'a> Array<'a> {
    pub(crate) fn push(&mut self, item: Value<'a>) {
        self.depth = self.depth.max(item.depth() + 1);
        self.items.push(item);
    }

    pub(crate) fn items(&self) -> &[Value<'a>] {
        &self.items
    }
}

impl<'a> FromIterator<Value<'a>> for Array<'a> {
    fn from_iter<I: IntoIterator<Item = Value<'a>>>(items: I) -> Self {
        let mut array = Self {
            items: Vec::new(),
            depth: 1,
        };
        for item in items {
            array.push(item);
        }
        array
    }
}

impl<'a> Object<'a> {
    pub(crate) fn members(&self) -> &[(Cow<'a, str>, Value<'a>)] {
        &self.members
    }

    pub(crate) fn get(&self, name: &str) -> Option<&Value<'a>> {
        self.members
            .iter()
            .find_map(|(key, value)| (key == name).then_some(value))
    }

    fn get_mut(&mut self, name: &str) -> Option<&mut Value<'a>> {
        self.members
            .iter_mut()
            .find_map(|(key, value)| (key == name).then_some(value))
    }

    /// Inserts a member; a later value replaces an earlier one in its position.
    pub(crate) fn insert(&mut self, name: Cow<'a, str>, value: Value<'a>) {
        self.depth = self.depth.max(value.depth() + 1);
        match self.get_mut(&name) {
            Some(present) => *present = value,
            None => self.members.push((name, value)),
        }
    }

    /// Inserts at a path of names (`AS bar.baz`), creating objects as needed.
    pub(crate) fn insert_at(&mut self, path: &'a [Box<str>], value: Value<'a>) {
        let Some((first, rest)) = path.split_first() else {
            return;
        };
        if rest.is_empty() {
            return self.insert(Cow::Borrowed(first), value);
        }
        let mut inner = match self.get(first) {
            Some(Value::Object(present)) => (**present).clone(),
            _ => Object::default(),
        };
        inner.insert_at(rest, value);
        self.insert(Cow::Borrowed(first), inner.into());
    }

    /// Inserts all members of another object, which replace those of the same name.
    pub(crate) fn extend(&mut self, other: &Self) {
        let mut builder = ObjectBuilder::from(std::mem::take(self));
        for (name, value) in &other.members {
            builder.insert(name.clone(), value.clone());
        }
        *self = builder.finish();
    }
}

/// Inserts many members in linear time.
#[derive(Default)]
pub(crate) struct ObjectBuilder<'a> {
    object: Object<'a>,
    /// Index of each name, once there are many.
    index: Option<HashMap<Cow<'a, str>, usize>>,
}

impl<'a> From<Object<'a>> for ObjectBuilder<'a> {
    fn from(object: Object<'a>) -> Self {
        Self {
            object,
            index: None,
        }
    }
}

impl<'a> ObjectBuilder<'a> {
    pub(crate) fn insert(&mut self, name: Cow<'a, str>, value: Value<'a>) {
        /// Number up to which a linear search is faster than hashing.
        const FEW: usize = 24;
        let object = &mut self.object;
        if object.members.len() < FEW {
            return object.insert(name, value);
        }
        let index = self.index.get_or_insert_with(|| {
            object
                .members
                .iter()
                .enumerate()
                .map(|(at, (name, _))| (name.clone(), at))
                .collect()
        });
        object.depth = object.depth.max(value.depth() + 1);
        match index.get(&name).and_then(|&at| object.members.get_mut(at)) {
            Some((_, present)) => *present = value,
            None => {
                index.insert(name.clone(), object.members.len());
                object.members.push((name, value));
            }
        }
    }

    pub(crate) fn finish(mut self) -> Object<'a> {
        self.object.depth = self.object.depth.max(1);
        self.object
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_later_member_replaces_an_earlier_one_in_its_place() {
        let mut builder = ObjectBuilder::default();
        for round in 0..2_i128 {
            for number in 0..100 {
                builder.insert(Cow::Owned(format!("k{number}")), Value::int(number + round));
            }
        }
        let object = builder.finish();
        assert_eq!(object.members().len(), 100);
        assert!(matches!(
            object.get("k99"),
            Some(Value::Number(Number::Int(100)))
        ));
        assert_eq!(object.members()[3].0, "k3");
    }

    #[test]
    fn a_path_makes_objects_and_keeps_what_is_there() {
        let (first, second) = (["a".into(), "b".into()], ["a".into(), "c".into()]);
        let mut object = Object::default();
        object.insert_at(&first, Value::Null);
        object.insert_at(&second, Value::Bool(true));
        assert!(
            matches!(object.get("a"), Some(Value::Object(inner)) if inner.members().len() == 2)
        );
        assert_eq!(Value::from(object).depth(), 2);
    }
}
