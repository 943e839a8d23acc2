//! A required property that is not there.

use cfn::resources::lambda::Function;

fn mistake() -> Function {
    Function { ..Default::default() }
}

fn main() {}
