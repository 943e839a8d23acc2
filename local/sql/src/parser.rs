//! Parses tokens into expressions, by recursive descent.
//!
//! Precedence from loose to tight: OR, AND, NOT, comparisons, `+ -`, `* / %`, the sign `-`, `.`; operators of equal
//! precedence from left to right.

use crate::{
    Error, SqlVersion, TopicFilter,
    conversion::Type,
    expression::{Case, Expression, Item, Projection, Select},
    fold::fold,
    function,
    lexer::{Kind, Lexer, Token},
    number::Number,
    operator::Operator,
    value::Value,
};

/// Deepest nesting of parentheses, calls, literals, CASE and SELECT.
const MAX_DEPTH: u32 = 64;
/// Longest name of a variable ("SET clause").
const MAX_VARIABLE: usize = 64;

/// Words that cannot be a member's name at the start of an expression.
const RESERVED: &[&str] = &[
    "and", "as", "case", "else", "end", "from", "not", "or", "select", "then", "when", "where",
];

/// Operators of ANSI SQL that IoT SQL does not have, for the error message.
const ABSENT: &[&str] = &[
    "between", "exists", "group", "having", "in", "is", "join", "like", "limit", "order", "union",
];

/// Operators of equal precedence, from loose to tight; NOT is between the second and the third.
const LEVELS: &[&[(&str, Operator)]] = &[
    &[("or", Operator::Or)],
    &[("and", Operator::And)],
    &[
        ("=", Operator::Equal),
        ("<>", Operator::NotEqual),
        ("<", Operator::Less),
        ("<=", Operator::LessOrEqual),
        (">", Operator::Greater),
        (">=", Operator::GreaterOrEqual),
    ],
    &[("+", Operator::Add), ("-", Operator::Subtract)],
    &[
        ("*", Operator::Multiply),
        ("/", Operator::Divide),
        ("%", Operator::Remainder),
    ],
];
const NOT_LEVEL: usize = 2;

/// A statement.
#[derive(Debug)]
pub(crate) struct Statement {
    pub(crate) variables: Vec<(Box<str>, Expression)>,
    pub(crate) projection: Projection,
    pub(crate) topic_filter: Option<TopicFilter>,
    pub(crate) filter: Option<Expression>,
}

pub(crate) struct Parser<'t> {
    text: &'t str,
    lexer: Lexer<'t>,
    token: Token<'t>,
    version: SqlVersion,
    /// Names of the known variables.
    variables: Vec<Box<str>>,
    depth: u32,
}

/// Parses a statement.
pub(crate) fn statement(text: &str, version: SqlVersion) -> Result<Statement, Error> {
    let mut parser = Parser::new(text, 0, version, Vec::new())?;
    let variables = parser.set()?;
    parser.expect_word("select")?;
    let projection = parser.projection()?;
    let topic_filter = if parser.take_word("from")? {
        Some(parser.topic_filter()?)
    } else {
        None
    };
    let filter = if parser.take_word("where")? {
        Some(parser.expression()?)
    } else {
        None
    };
    if parser.token.kind != Kind::End {
        let expected = match (&topic_filter, &filter) {
            (_, Some(_)) => "an operator or the end of the statement",
            (Some(_), None) => "WHERE or the end of the statement",
            (None, None) => "`,`, AS, FROM, an operator or the end of the statement",
        };
        return Err(parser.unexpected(expected));
    }
    Ok(Statement {
        variables,
        projection,
        topic_filter,
        filter,
    })
}

impl<'t> Parser<'t> {
    /// Creates a parser that starts at byte `at` of `text`.
    pub(crate) fn new(
        text: &'t str,
        at: usize,
        version: SqlVersion,
        variables: Vec<Box<str>>,
    ) -> Result<Self, Error> {
        let mut lexer = Lexer::new(text, at);
        let token = lexer.next()?;
        Ok(Self {
            text,
            lexer,
            token,
            version,
            variables,
            depth: 0,
        })
    }

    fn advance(&mut self) -> Result<Token<'t>, Error> {
        let next = self.lexer.next()?;
        Ok(std::mem::replace(&mut self.token, next))
    }

    fn error(&self, at: usize, message: impl Into<String>) -> Error {
        Error::at(self.text, at, message)
    }

    fn unexpected(&self, expected: &str) -> Error {
        let got = &self.token.kind;
        let hint = match got {
            Kind::Word(word) if ABSENT.contains(&word.to_ascii_lowercase().as_str()) => {
                format!("; IoT SQL has no {}", word.to_ascii_uppercase())
            }
            Kind::Symbol("[") => "; to read an element write get(array, index)".to_owned(),
            _ => String::new(),
        };
        self.error(
            self.token.start,
            format!("got {got}, expected {expected}{hint}"),
        )
    }

    fn is_word(&self, expected: &str) -> bool {
        matches!(self.token.kind, Kind::Word(word) if word.eq_ignore_ascii_case(expected))
    }

    fn take_word(&mut self, expected: &str) -> Result<bool, Error> {
        let is = self.is_word(expected);
        if is {
            self.advance()?;
        }
        Ok(is)
    }

    fn expect_word(&mut self, expected: &str) -> Result<(), Error> {
        if self.take_word(expected)? {
            Ok(())
        } else {
            Err(self.unexpected(&expected.to_ascii_uppercase()))
        }
    }

    fn is_symbol(&self, expected: &str) -> bool {
        matches!(self.token.kind, Kind::Symbol(symbol) if symbol == expected)
    }

    fn take_symbol(&mut self, expected: &str) -> Result<bool, Error> {
        let is = self.is_symbol(expected);
        if is {
            self.advance()?;
        }
        Ok(is)
    }

    fn expect_symbol(&mut self, expected: &str, also: &str) -> Result<(), Error> {
        if self.take_symbol(expected)? {
            Ok(())
        } else {
            Err(self.unexpected(&format!("{also}`{expected}`")))
        }
    }

    fn need(&self, version: SqlVersion, at: usize, what: &str) -> Result<(), Error> {
        if self.version >= version {
            return Ok(());
        }
        let own = self.version;
        Err(self.error(
            at,
            format!(
                "{what} needs SQL version {version}, this rule has {own}: set AwsIotSqlVersion"
            ),
        ))
    }

    /// Enters a level of nesting; the caller leaves it.
    fn enter(&mut self) -> Result<(), Error> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(self.error(
                self.token.start,
                format!("expression is nested deeper than {MAX_DEPTH} levels"),
            ));
        }
        Ok(())
    }

    fn set(&mut self) -> Result<Vec<(Box<str>, Expression)>, Error> {
        let mut variables = Vec::new();
        if !self.take_word("set")? {
            return Ok(variables);
        }
        loop {
            let Kind::Variable(name) = self.token.kind else {
                return Err(self.unexpected("a variable such as `@name`"));
            };
            let at = self.token.start;
            if name.is_empty()
                || name.len() > MAX_VARIABLE
                || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
            {
                return Err(self.error(
                    at,
                    format!("the name of a variable is 1 to {MAX_VARIABLE} ASCII letters, digits and `_`"),
                ));
            }
            if self.variables.iter().any(|known| **known == *name) {
                return Err(self.error(
                    at,
                    format!("variable `@{name}` is set twice: a variable is assigned once"),
                ));
            }
            self.advance()?;
            self.expect_symbol("=", "")?;
            variables.push((name.into(), self.expression()?));
            // Added after its expression, which can use earlier variables only.
            self.variables.push(name.into());
            if !self.take_symbol(",")? {
                break;
            }
        }
        if self.is_word("set") {
            return Err(self.error(
                self.token.start,
                "SET stands once: separate variables by `,`",
            ));
        }
        Ok(variables)
    }

    fn topic_filter(&mut self) -> Result<TopicFilter, Error> {
        let Kind::Text(text) = &self.token.kind else {
            return Err(self.unexpected("a topic filter in single quotes"));
        };
        let filter = TopicFilter::parse(text)
            .map_err(|error| self.error(self.token.start, error.to_string()))?;
        self.advance()?;
        Ok(filter)
    }

    /// Whether VALUE is the keyword and not a member: an operand follows.
    fn takes_value_keyword(&self) -> Result<bool, Error> {
        if !self.is_word("value") {
            return Ok(false);
        }
        let begins_operand = |kind: &Kind<'_>| match kind {
            Kind::Word(word) => {
                let word = word.to_ascii_lowercase();
                matches!(word.as_str(), "not" | "case") || !RESERVED.contains(&word.as_str())
            }
            Kind::Variable(_) | Kind::Number(_) | Kind::Text(_) => true,
            Kind::Symbol(symbol) => matches!(*symbol, "(" | "[" | "{"),
            Kind::End => false,
        };
        let mut ahead = self.lexer.clone();
        Ok(match ahead.next()?.kind {
            // `VALUE * FROM` selects all; `value * 2` and `value * -2` are products.
            Kind::Symbol("*") => {
                let next = ahead.next()?.kind;
                !begins_operand(&next) && !matches!(next, Kind::Symbol("-" | "*"))
            }
            kind => begins_operand(&kind),
        })
    }

    fn projection(&mut self) -> Result<Projection, Error> {
        if self.takes_value_keyword()? {
            self.advance()?;
            let value = self.expression()?;
            if self.is_symbol(",") {
                return Err(self.error(
                    self.token.start,
                    "SELECT VALUE takes one expression: use an array or object",
                ));
            }
            return Ok(match value {
                Expression::Payload => Projection::Everything,
                value => Projection::Value(value),
            });
        }
        let mut items = Vec::new();
        loop {
            items.push(self.item()?);
            if !self.take_symbol(",")? {
                break;
            }
        }
        Ok(match items.as_slice() {
            [Item::Everything] => Projection::Everything,
            _ => Projection::Items(items),
        })
    }

    fn item(&mut self) -> Result<Item, Error> {
        let start = self.token.start;
        let value = self.expression()?;
        if self.take_word("as")? {
            let mut path = vec![self.name("a name, without quotes")?];
            while self.take_symbol(".")? {
                path.push(self.name("a name")?);
            }
            return Ok(Item::Named(path.into(), value));
        }
        Ok(match value {
            Expression::Payload => Item::Everything,
            Expression::Object(_) => Item::Members(value),
            value => {
                let name = self.default_name(&value, start);
                Item::Named([name].into(), value)
            }
        })
    }

    /// The key of an expression without alias: the last name of a path, the name of a function or variable, or its
    /// text.
    fn default_name(&self, value: &Expression, start: usize) -> Box<str> {
        match value {
            Expression::Path(names) | Expression::Member(_, names) => {
                names.last().cloned().unwrap_or_default()
            }
            Expression::Call(call) => call.name().into(),
            Expression::Variable(index) => self.variables.get(*index).cloned().unwrap_or_default(),
            _ => self
                .text
                .get(start..self.token.start)
                .unwrap_or_default()
                .trim()
                .into(),
        }
    }

    fn name(&mut self, expected: &str) -> Result<Box<str>, Error> {
        match self.token.kind {
            Kind::Word(name) => {
                self.advance()?;
                Ok(name.into())
            }
            _ => Err(self.unexpected(expected)),
        }
    }

    /// Parses an expression.
    pub(crate) fn expression(&mut self) -> Result<Expression, Error> {
        self.enter()?;
        let value = self.level(0)?;
        self.depth -= 1;
        Ok(value)
    }

    /// The position of the token after the expression, and whether it is `symbol`.
    pub(crate) fn ends_with(&self, symbol: &str) -> Result<usize, Error> {
        if self.is_symbol(symbol) {
            Ok(self.token.end)
        } else {
            Err(self.unexpected(&format!("an operator or `{symbol}`")))
        }
    }

    fn level(&mut self, level: usize) -> Result<Expression, Error> {
        if level == NOT_LEVEL && self.is_word("not") {
            self.advance()?;
            self.enter()?;
            let operand = self.level(level)?;
            self.depth -= 1;
            return Ok(self.folded(Expression::Not(operand.into())));
        }
        let Some(operators) = LEVELS.get(level) else {
            return self.sign();
        };
        let first = self.level(level + 1)?;
        let mut rest = Vec::new();
        while let Some(operator) = self.operator(operators) {
            self.advance()?;
            // NOT after a comparison needs parentheses.
            rest.push((operator, self.level(level + 1)?));
        }
        if rest.is_empty() {
            return Ok(first);
        }
        Ok(self.folded(Expression::Chain(first.into(), rest.into())))
    }

    fn operator(&self, operators: &[(&str, Operator)]) -> Option<Operator> {
        let text = match self.token.kind {
            Kind::Word(word) => word,
            Kind::Symbol(symbol) => symbol,
            _ => return None,
        };
        operators
            .iter()
            .find_map(|(name, operator)| name.eq_ignore_ascii_case(text).then_some(*operator))
    }

    fn sign(&mut self) -> Result<Expression, Error> {
        if !self.take_symbol("-")? {
            return self.postfix();
        }
        self.enter()?;
        let operand = self.sign()?;
        self.depth -= 1;
        Ok(self.folded(Expression::Negate(operand.into())))
    }

    fn folded(&self, expression: Expression) -> Expression {
        fold(expression, self.version)
    }

    fn postfix(&mut self) -> Result<Expression, Error> {
        let value = self.primary()?;
        let mut names = Vec::new();
        while self.take_symbol(".")? {
            names.push(self.name("the name of a member; others are read by get(object, 'name')")?);
        }
        if self.is_symbol("[") {
            return Err(self.unexpected("an operator"));
        }
        if names.is_empty() {
            return Ok(value);
        }
        Ok(match value {
            Expression::Path(first) => Expression::Path(first.into_iter().chain(names).collect()),
            value => self.folded(Expression::Member(value.into(), names.into())),
        })
    }

    fn primary(&mut self) -> Result<Expression, Error> {
        let start = self.token.start;
        match &self.token.kind {
            Kind::Number(text) => {
                let number = Number::parse(text)
                    .ok_or_else(|| self.error(start, "number is too large: at most 9.99E999"))?;
                self.advance()?;
                let number = if self.version == SqlVersion::V20151008 {
                    number
                } else {
                    number.whole_as_int()
                };
                Ok(Expression::Constant(Value::Number(number)))
            }
            Kind::Text(text) => {
                let text = text.clone().into_owned();
                self.advance()?;
                Ok(Expression::Constant(Value::String(text.into())))
            }
            Kind::Variable(name) => {
                let Some(index) = self.variables.iter().position(|known| **known == **name) else {
                    return Err(self.error(
                        start,
                        format!("variable `@{name}` is not set before: SET @{name} = …"),
                    ));
                };
                self.advance()?;
                Ok(Expression::Variable(index))
            }
            Kind::Symbol("(") => {
                self.advance()?;
                let value = if self.is_word("select") {
                    self.select(start)?
                } else {
                    self.expression()?
                };
                self.expect_symbol(")", "an operator or ")?;
                Ok(value)
            }
            Kind::Symbol("[") => self.array(start),
            Kind::Symbol("{") => self.object(start),
            Kind::Symbol("*") => {
                self.advance()?;
                Ok(Expression::Payload)
            }
            Kind::Word(word) => {
                let word = *word;
                self.word(word, start)
            }
            _ => Err(self.unexpected("an expression")),
        }
    }

    fn word(&mut self, word: &str, start: usize) -> Result<Expression, Error> {
        let lower = word.to_ascii_lowercase();
        let constant = match lower.as_str() {
            "true" => Some(Value::Bool(true)),
            "false" => Some(Value::Bool(false)),
            "null" => Some(Value::Null),
            _ => None,
        };
        if let Some(value) = constant {
            self.advance()?;
            return Ok(Expression::Constant(value));
        }
        match lower.as_str() {
            "case" => return self.case(),
            "select" => return Err(self.error(start, "a nested SELECT stands in parentheses")),
            word if RESERVED.contains(&word) => return Err(self.unexpected("an expression")),
            _ => {}
        }
        self.advance()?;
        if self.is_symbol("(") {
            self.enter()?;
            let call = if lower == "cast" {
                self.cast()?
            } else {
                self.call(&lower, start)?
            };
            self.depth -= 1;
            return Ok(self.folded(call));
        }
        Ok(Expression::Path([word.into()].into()))
    }

    fn case(&mut self) -> Result<Expression, Error> {
        self.enter()?;
        self.advance()?;
        let subject = self.expression()?;
        let mut branches = Vec::new();
        while self.take_word("when")? {
            let test = self.expression()?;
            self.expect_word("then")?;
            branches.push((test, self.expression()?));
        }
        if branches.is_empty() {
            return Err(self.unexpected("WHEN"));
        }
        let otherwise = if self.take_word("else")? {
            self.expression()?
        } else {
            Expression::Constant(Value::Undefined)
        };
        self.expect_word("end")?;
        self.depth -= 1;
        Ok(Expression::Case(
            Case {
                subject,
                branches,
                otherwise,
            }
            .into(),
        ))
    }

    fn array(&mut self, start: usize) -> Result<Expression, Error> {
        self.need(SqlVersion::V20160323, start, "an array literal")?;
        self.advance()?;
        let items = self.list("]", Self::expression)?;
        Ok(self.folded(Expression::Array(items.into())))
    }

    fn object(&mut self, start: usize) -> Result<Expression, Error> {
        self.need(SqlVersion::V20160323, start, "an object literal")?;
        self.advance()?;
        let mut members = Vec::new();
        // A trailing comma is allowed: AWS's samples have it.
        while !self.take_symbol("}")? {
            let Kind::Text(name) = &self.token.kind else {
                return Err(self.unexpected("a key in quotes or `}`"));
            };
            let name: Box<str> = name.clone().into();
            self.advance()?;
            self.expect_symbol(":", "")?;
            members.push((name, self.expression()?));
            if !self.take_symbol(",")? {
                self.expect_symbol("}", "an operator, `,` or ")?;
                break;
            }
        }
        Ok(Expression::Object(members.into()))
    }

    /// Parses items separated by commas, up to `close`.
    fn list<T>(
        &mut self,
        close: &str,
        mut one: impl FnMut(&mut Self) -> Result<T, Error>,
    ) -> Result<Vec<T>, Error> {
        let mut list = Vec::new();
        if self.take_symbol(close)? {
            return Ok(list);
        }
        loop {
            list.push(one(self)?);
            if !self.take_symbol(",")? {
                self.expect_symbol(close, "an operator, `,` or ")?;
                return Ok(list);
            }
        }
    }

    fn select(&mut self, start: usize) -> Result<Expression, Error> {
        self.need(SqlVersion::V20160323, start, "a nested SELECT")?;
        self.enter()?;
        self.expect_word("select")?;
        let projection = self.projection()?;
        self.expect_word("from")?;
        let from = self.postfix()?;
        let filter = if self.take_word("where")? {
            Some(self.expression()?)
        } else {
            None
        };
        self.depth -= 1;
        Ok(Expression::Select(
            Select {
                projection,
                from,
                filter,
            }
            .into(),
        ))
    }

    fn cast(&mut self) -> Result<Expression, Error> {
        self.advance()?;
        let value = self.expression()?;
        self.expect_word("as")?;
        let at = self.token.start;
        let keyword = self.name("a type")?.to_ascii_lowercase();
        let Some((_, target, since)) = Type::KEYWORDS.iter().find(|(name, ..)| *name == &*keyword)
        else {
            let known: Vec<_> = Type::KEYWORDS.iter().map(|(name, ..)| *name).collect();
            return Err(self.error(
                at,
                format!(
                    "unknown type `{keyword}`, expected one of {}",
                    known.join(", ")
                ),
            ));
        };
        self.need(*since, at, &format!("cast to `{keyword}`"))?;
        self.expect_symbol(")", "")?;
        Ok(Expression::Cast(value.into(), *target))
    }

    fn call(&mut self, name: &str, start: usize) -> Result<Expression, Error> {
        let function = function::find(name).map_err(|message| self.error(start, message))?;
        self.need(function.since, start, &format!("function `{name}`"))?;
        self.advance()?;
        let arguments = self.list(")", Self::expression)?;
        function::call(function, arguments).map_err(|message| self.error(start, message))
    }
}
