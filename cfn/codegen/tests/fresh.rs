//! The committed code is what the committed input gives.

use std::path::Path;

#[test]
fn generated_resource_types_are_up_to_date() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    if let Err(error) = cfn_codegen::run(&root, true) {
        panic!("{error:#}");
    }
}
