//! A parsed statement, with names resolved and patterns compiled.

use crate::{conversion::Type, function::Call, operator::Operator, value::Value};

/// An expression.
#[derive(Debug)]
pub(crate) enum Expression {
    Constant(Value<'static>),
    /// `a.b` of the payload, or of the element in a nested SELECT.
    Path(Box<[Box<str>]>),
    /// `*` as a value.
    Payload,
    /// `@name`, by its index in SET.
    Variable(usize),
    Member(Box<Expression>, Box<[Box<str>]>),
    /// Operators of one precedence, from left to right, so that a long chain does not recurse.
    Chain(Box<Expression>, Box<[(Operator, Expression)]>),
    Not(Box<Expression>),
    Negate(Box<Expression>),
    Case(Box<Case>),
    Array(Box<[Expression]>),
    Object(Box<[(Box<str>, Expression)]>),
    Select(Box<Select>),
    Cast(Box<Expression>, Type),
    Call(Box<Call>),
}

/// `CASE subject WHEN … THEN … ELSE … END`.
#[derive(Debug)]
pub(crate) struct Case {
    pub(crate) subject: Expression,
    pub(crate) branches: Vec<(Expression, Expression)>,
    /// Undefined if there is no ELSE.
    pub(crate) otherwise: Expression,
}

/// `(SELECT … FROM … WHERE …)` over an array or object.
#[derive(Debug)]
pub(crate) struct Select {
    pub(crate) projection: Projection,
    pub(crate) from: Expression,
    pub(crate) filter: Option<Expression>,
}

/// The part between SELECT and FROM.
#[derive(Debug)]
pub(crate) enum Projection {
    /// `*` alone: the unchanged payload.
    Everything,
    /// `VALUE expression`.
    Value(Expression),
    Items(Vec<Item>),
}

/// One selected item.
#[derive(Debug)]
pub(crate) enum Item {
    /// `*`: all members.
    Everything,
    /// An object literal without alias: its members.
    Members(Expression),
    /// `expression AS a.b`.
    Named(Box<[Box<str>]>, Expression),
}

impl Expression {
    pub(crate) fn is_constant(&self) -> bool {
        matches!(self, Self::Constant(_))
    }
}
