//! The evaluation of a compiled statement for one message.

use std::{
    borrow::Cow,
    cell::{Cell, OnceCell, RefCell},
};

use base64::prelude::{BASE64_STANDARD, Engine};

use crate::{
    Context, EvaluationError, Message, SqlVersion, Variables, conversion,
    expression::{Case, Expression, Item, Projection, Select},
    function::Call,
    json, operator,
    value::{Array, Object, ObjectBuilder, Value},
};

/// Most steps of an evaluation: many times those for a payload of 128 KB.
const MAX_STEPS: u64 = 4_000_000;
/// Most levels of arrays and objects in a value.
const MAX_DEPTH: u32 = 2 * json::MAX_DEPTH;
/// Key of a payload that is not an object when something is added to it. AWS does not document one.
const PAYLOAD: &str = "payload";

/// State of an evaluation.
pub(crate) struct Evaluation<'e> {
    pub(crate) message: Message<'e>,
    pub(crate) context: &'e dyn Context,
    pub(crate) version: SqlVersion,
    /// The payload, parsed on first use; the inner `None` means that it is not JSON.
    payload: OnceCell<Option<Value<'e>>>,
    /// Variables of SET, as far as they are evaluated.
    variables: RefCell<Vec<Value<'e>>>,
    steps: Cell<u64>,
}

impl<'e> Evaluation<'e> {
    pub(crate) fn new(message: Message<'e>, context: &'e dyn Context, version: SqlVersion) -> Self {
        Self {
            message,
            context,
            version,
            payload: OnceCell::new(),
            variables: RefCell::default(),
            steps: Cell::new(0),
        }
    }

    /// Sets the next variable of SET.
    pub(crate) fn set(&self, value: Value<'e>) {
        self.variables.borrow_mut().push(value);
    }

    /// The variables, for use after the evaluation.
    pub(crate) fn variables(&self) -> Variables {
        let variables = self.variables.borrow();
        Variables(
            variables
                .iter()
                .map(|value| value.clone().into_owned())
                .collect(),
        )
    }

    /// Counts steps.
    ///
    /// # Errors
    /// There are too many.
    pub(crate) fn spend(&self, steps: u64) -> Result<(), EvaluationError> {
        let spent = self.steps.get().saturating_add(steps);
        self.steps.set(spent);
        if spent > MAX_STEPS {
            Err(EvaluationError::TooMuchWork(MAX_STEPS))
        } else {
            Ok(())
        }
    }

    /// The payload as JSON; `None` if it is not.
    fn payload(&self) -> Option<&Value<'e>> {
        self.payload
            .get_or_init(|| json::read(self.message.payload, self.version))
            .as_ref()
    }

    /// `*` as a value: JSON, or a base64 String of other bytes.
    fn payload_value(&self) -> Value<'e> {
        match self.payload() {
            Some(value) => value.clone(),
            None if self.message.payload.is_empty() => Value::Undefined,
            None => Value::String(Cow::Owned(BASE64_STANDARD.encode(self.message.payload))),
        }
    }

    /// Evaluates an expression; names are members of `current`, or of the payload if there is none.
    pub(crate) fn value(
        &self,
        expression: &'e Expression,
        current: Option<&Value<'e>>,
    ) -> Result<Value<'e>, EvaluationError> {
        self.spend(1)?;
        Ok(match expression {
            Expression::Constant(value) => value.borrowed(),
            Expression::Path(names) => match current.or_else(|| self.payload()) {
                Some(root) => root.follow(names).clone(),
                None => Value::Undefined,
            },
            Expression::Payload => current.cloned().unwrap_or_else(|| self.payload_value()),
            Expression::Variable(index) => self
                .variables
                .borrow()
                .get(*index)
                .cloned()
                .unwrap_or(Value::Undefined),
            Expression::Member(base, names) => self.value(base, current)?.follow(names).clone(),
            Expression::Chain(first, rest) => {
                let mut left = self.value(first, current)?;
                for (operator, operand) in rest {
                    left = operator.apply(&left, &self.value(operand, current)?)?;
                }
                left
            }
            Expression::Not(operand) => operator::not(&self.value(operand, current)?),
            Expression::Negate(operand) => operator::negate(&self.value(operand, current)?),
            Expression::Case(case) => return self.case(case, current),
            Expression::Array(items) => {
                let items: Result<Array<'e>, _> =
                    items.iter().map(|item| self.value(item, current)).collect();
                return self.bounded(items?);
            }
            Expression::Object(members) => return self.object(members, current),
            Expression::Select(select) => return self.select(select, current),
            Expression::Cast(operand, target) => {
                conversion::cast(&self.value(operand, current)?, *target, self.version)?
            }
            Expression::Call(call) => return self.call(call, current),
        })
    }

    /// Limits nesting, because writing and comparing recurse.
    ///
    /// # Errors
    /// The value is nested too deep.
    pub(crate) fn bounded(
        &self,
        value: impl Into<Value<'e>>,
    ) -> Result<Value<'e>, EvaluationError> {
        let value = value.into();
        if value.depth() > MAX_DEPTH {
            Err(EvaluationError::TooDeep(MAX_DEPTH))
        } else {
            Ok(value)
        }
    }

    fn case(
        &self,
        case: &'e Case,
        current: Option<&Value<'e>>,
    ) -> Result<Value<'e>, EvaluationError> {
        let subject = self.value(&case.subject, current)?;
        if subject.is_undefined() {
            return Ok(Value::Undefined);
        }
        for (test, result) in &case.branches {
            if operator::equal(&subject, &self.value(test, current)?) == Some(true) {
                return self.value(result, current);
            }
        }
        self.value(&case.otherwise, current)
    }

    fn object(
        &self,
        members: &'e [(Box<str>, Expression)],
        current: Option<&Value<'e>>,
    ) -> Result<Value<'e>, EvaluationError> {
        let mut object = ObjectBuilder::default();
        for (name, member) in members {
            object.insert(Cow::Borrowed(name), self.value(member, current)?);
        }
        self.bounded(object.finish())
    }

    fn call(
        &self,
        call: &'e Call,
        current: Option<&Value<'e>>,
    ) -> Result<Value<'e>, EvaluationError> {
        match call.arguments() {
            [] => call.run(self, &[]),
            [one] => call.run(self, &[self.value(one, current)?]),
            [one, two] => call.run(
                self,
                &[self.value(one, current)?, self.value(two, current)?],
            ),
            arguments => {
                let values: Result<Vec<_>, _> = arguments
                    .iter()
                    .map(|argument| self.value(argument, current))
                    .collect();
                call.run(self, &values?)
            }
        }
    }

    fn select(
        &self,
        select: &'e Select,
        current: Option<&Value<'e>>,
    ) -> Result<Value<'e>, EvaluationError> {
        match self.value(&select.from, current)? {
            Value::Array(array) => {
                let mut rows = Array::default();
                for item in array.items() {
                    if let Some(row) = self.row(select, item)?
                        && !row.is_undefined()
                    {
                        rows.push(row);
                    }
                }
                self.bounded(rows)
            }
            value @ Value::Object(_) => Ok(self.row(select, &value)?.unwrap_or(Value::Undefined)),
            _ => Ok(Value::Undefined),
        }
    }

    /// Result of a nested SELECT for an element; `None` if its WHERE is not true.
    fn row(
        &self,
        select: &'e Select,
        item: &Value<'e>,
    ) -> Result<Option<Value<'e>>, EvaluationError> {
        self.spend(1)?;
        if let Some(filter) = &select.filter
            && !self.holds(filter, Some(item))?
        {
            return Ok(None);
        }
        self.project(&select.projection, Some(item)).map(Some)
    }

    /// Whether a WHERE is the Boolean `true`.
    pub(crate) fn holds(
        &self,
        filter: &'e Expression,
        current: Option<&Value<'e>>,
    ) -> Result<bool, EvaluationError> {
        Ok(matches!(self.value(filter, current)?, Value::Bool(true)))
    }

    /// Result of SELECT for `current`, or for the payload if there is none.
    pub(crate) fn project(
        &self,
        projection: &'e Projection,
        current: Option<&Value<'e>>,
    ) -> Result<Value<'e>, EvaluationError> {
        let items = match projection {
            Projection::Everything => {
                return Ok(current.cloned().unwrap_or_else(|| self.payload_value()));
            }
            Projection::Value(value) => return self.value(value, current),
            Projection::Items(items) => items,
        };
        let mut object = Object::default();
        for item in items {
            match item {
                Item::Everything => {
                    let everything = current.cloned().unwrap_or_else(|| self.payload_value());
                    self.add_members(&mut object, everything)?;
                }
                Item::Members(value) => {
                    let value = self.value(value, current)?;
                    self.add_members(&mut object, value)?;
                }
                Item::Named(path, value) => {
                    let value = self.value(value, current)?;
                    self.spend(object.members().len() as u64 / 16)?;
                    object.insert_at(path, value);
                }
            }
        }
        self.bounded(object)
    }

    fn add_members(
        &self,
        object: &mut Object<'e>,
        value: Value<'e>,
    ) -> Result<(), EvaluationError> {
        match value {
            Value::Object(members) if object.members().is_empty() => *object = (*members).clone(),
            Value::Object(members) => object.extend(&members),
            Value::Undefined => {}
            other => object.insert(Cow::Borrowed(PAYLOAD), other),
        }
        self.spend(object.members().len() as u64)
    }
}
