//! What must not compile: a reference where another kind belongs. The expected messages are beside
//! the cases; `TRYBUILD=overwrite cargo test -p cfn --test compile_fail` writes them anew.

#[test]
fn references_of_another_kind_do_not_compile() {
    trybuild::TestCases::new().compile_fail("tests/compile_fail/*.rs");
}
